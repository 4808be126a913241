//! The replication of `machine-runtime`, not a copy of it, on a network, disks and clocks that a seed
//! decides: whatever happens in a run happens again in the next run of that seed.
//!
//! # Layout
//!
//! * [`world`]: what a seed makes of a world, and what goes wrong in it;
//! * [`net`], [`disk`]: what it stands on, and [`wrong`] peers;
//! * [`nodes`], [`journal`], [`clients`]: the processes in it;
//! * [`checks`]: what has to hold, and what was seen;
//! * [`planted`]: bugs that the checks have to find;
//! * [`run`](mod@run), [`log`]: a run, and what happened in it.

pub mod checks;
pub mod clients;
pub mod disk;
mod frames;
pub mod journal;
pub mod log;
pub mod net;
pub mod nodes;
pub mod planted;
pub mod run;
mod talk;
pub mod world;
pub mod wrong;
