//! How much of one follower is worked on at a time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::CALLS;
use crate::replica::uplink::WRITE_UNIT;
use crate::replica::wire::ReplicationRequest;

/// How many questions are answered at a time: more than a follower has that asks the next once it has
/// the answer, those included that it has just dropped.
const QUESTIONS: usize = 8;

/// The room that one connection has. A question counts until its answer goes to where answers wait to
/// be written, a write by its size.
#[derive(Debug)]
pub(super) struct Room {
    questions: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            writes: Arc::new(Semaphore::new(CALLS)),
        }
    }

    /// Takes what a call counts; None if there is not so much, which who keeps to the protocol never
    /// comes to.
    pub(super) fn take(&self, request: &ReplicationRequest) -> Option<OwnedSemaphorePermit> {
        let (room, count) = match request {
            ReplicationRequest::Mutate { write } | ReplicationRequest::Write { write, .. } => {
                (&self.writes, 1 + write.0.len() / WRITE_UNIT)
            }
            _ => (&self.questions, 1),
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Arc::clone(room).try_acquire_many_owned(count).ok()
    }
}
