//! A root whose history outlives its process.
//!
//! A [`Store`] is the [`Journal`](crate::Journal) of an owner: all that a batch of jobs came to is
//! on disk before any of it is published or answered. Whatever is sent while a batch is written
//! makes the next one, so that the sync is paid for once a batch and not once a mutation.
//!
//! ```no_run
//! # use std::path::Path;
//! # use machine_runtime::durable::{Store, StoreOptions};
//! # use machine_runtime::{Basic, Owner, States, ViewOptions};
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = Path::new("/var/lib/flights");
//! let (store, recovered) = Store::open(dir, Basic::schema(), StoreOptions::default())?;
//! for note in &recovered.notes {
//!     println!("{note}");
//! }
//! // Handlers are bound here; they are not told of what is active already.
//! let machine = recovered.machine::<Basic>();
//! let (handle, owner) = Owner::durable(machine, recovered, store, ViewOptions::default());
//! # let stop = std::future::pending();
//! owner.run_durable(stop).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is kept
//!
//! Every transition that was carried out, or that a final handler canceled after it had changed
//! ticks: also those that handlers, panics and auto states led to, and those that changed no tick,
//! as they may have changed the order of the active list. With each go its retained payloads, the
//! revision, the digest and the queue tick. What came of each of the last [`KEYS`](crate::KEYS)
//! mutations with keys. The epoch.
//!
//! Not kept are mutations without keys that were refused (but for the queue tick at an end in
//! order), errors (but for the payload of `Exception`), the time that a machine backs off, and work
//! that handlers had spawned.
//!
//! # The file
//!
//! One file, `history.redb`, a database of [redb](https://docs.rs/redb) with four tables:
//!
//! | table | key | row |
//! |---|---|---|
//! | `meta` | a name | `format`: the version of all this; `history`: epoch, name and fingerprint of the schema, whether it is relaxed; `head`: where it ends |
//! | `journal` | number of a batch, from 1 | the batch |
//! | `checkpoints` | number of a batch | the machine after it; the newest two |
//! | `keys` | number of a batch | what came of writes with keys, of the batches up to it that are no longer in the journal |
//!
//! A row is postcard, then the seal of the batch before it (0 in other tables), then its own seal:
//! the XXH3 of all that, seeded with that of its key. So batches are a chain. After
//! [`StoreOptions::checkpoint_bytes`] of batches there is a checkpoint, and batches up to the
//! checkpoint before go: what followers resume from is always there.
//!
//! # Opening
//!
//! The file is verified before anything is written to it. The database verifies its pages, all of
//! them; then seals, the chain, and that no number is missing; then the machine is made of the
//! older checkpoint and does all batches once more, and has to come to each digest, to each payload
//! and to the newer checkpoint.
//!
//! * Batches at the end that are not whole, with nothing whole behind them, are cut. As they were
//!   told of, a new epoch begins.
//! * Whatever else is damaged and not needed is left out: one of the two checkpoints, a page
//!   without rows. In both cases the file is written anew, and the damaged one stays beside it.
//! * All else is refused, and the file is left as it is.
//!
//! A commit of the database is in two steps, each with a sync: its pages, then which commit counts.
//! So one that was under way when the process or the power failed is not there at all, and a last
//! commit that is damaged is damage and not taken for one. One bit of the file has no checksum, the
//! one that says which of two commits counts: where that flips after a crash, the last batch is gone
//! and nobody notices.

mod backend;
mod error;
mod file;
mod format;
mod inner;
mod pages;
mod recovered;
mod replay;
mod stats;
mod store;
mod survey;
#[cfg(feature = "wire")]
#[doc(hidden)]
pub mod tamper;
mod verdict;

/// What a [`Store`] [stands on](Store::on): the trait and types of the database under it.
pub use redb::{BackendError, StorageBackend, backends::InMemoryBackend};

pub use error::StoreError;
pub use recovered::Recovered;
pub use stats::StoreStats;
pub use store::{CHECKPOINT_BYTES, Durability, Store, StoreOptions};

/// How many bytes of a file the database under a store keeps in memory.
const CACHE: usize = 8 << 20;
