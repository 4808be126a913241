//! The feed: tables, the plan for slots and gates, and the replay on a machine.

mod day;
mod plan;
mod random;
mod tables;
