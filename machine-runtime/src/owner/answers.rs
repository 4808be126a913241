//! Answers that wait for the publication of what they tell.

use tokio::sync::oneshot;

use crate::errors::MachineError;
use crate::handle::Checkpointed;
use crate::mutation::Outcome;
use crate::write::{Receipt, Written};

type Answer<T> = (oneshot::Sender<T>, T);

/// The answers to a batch of jobs.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) one: Vec<Answer<Receipt<u32>>>,
    pub(super) many: Vec<Answer<Vec<Receipt<u32>>>>,
    pub(super) writes: Vec<Answer<Written>>,
    pub(super) can: Vec<Answer<Outcome<u32>>>,
    pub(super) checkpoints: Vec<Answer<Checkpointed>>,
    pub(super) errors: Vec<Answer<Vec<MachineError>>>,
}

impl Answers {
    pub(super) fn send(&mut self) {
        send(&mut self.one);
        send(&mut self.many);
        send(&mut self.writes);
        send(&mut self.can);
        send(&mut self.checkpoints);
        send(&mut self.errors);
    }
}

/// Whoever no longer waits for an answer has dropped its end.
fn send<T>(answers: &mut Vec<Answer<T>>) {
    for (reply, answer) in answers.drain(..) {
        let _ = reply.send(answer);
    }
}
