//! A root whose history outlives its process.

mod backend;
mod error;
mod file;
mod format;
mod inner;
mod recovered;
mod replay;
mod stats;
mod store;
mod survey;
mod verdict;

/// What a [`Store`] [stands on](Store::on): the trait and types of the database under it.
pub use redb::{BackendError, StorageBackend, backends::InMemoryBackend};

pub use error::StoreError;
pub use recovered::Recovered;
pub use stats::StoreStats;
pub use store::{CHECKPOINT_BYTES, Durability, Store, StoreOptions};

/// How many bytes of a file the database under a store keeps in memory.
const CACHE: usize = 8 << 20;
