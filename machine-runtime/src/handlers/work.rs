//! Work that a final handler leaves: asynchronous, and bound to a state.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::context::StateContext;
use crate::errors::{ErrorKind, MachineError};
use crate::handle::Handle;
use crate::state::State;

use super::Finished;

type Running = Pin<Box<dyn Future<Output = Finished> + Send>>;

/// Work to be run by whoever owns the machine.
pub(crate) struct Work<S: State> {
    /// The state that it is for, and how long it runs at most; none runs as long as the machine.
    pub(crate) state: Option<(u32, StateContext)>,
    start: Box<dyn FnOnce(Handle<S>) -> Running + Send>,
}

impl<S: State> Work<S> {
    pub(super) fn new<F, W>(state: Option<(u32, StateContext)>, work: W) -> Self
    where
        W: FnOnce(Handle<S>) -> F + Send + 'static,
        F: Future<Output: Into<Finished>> + Send + 'static,
    {
        Self {
            state,
            start: Box::new(|handle| {
                let work = work(handle);
                Box::pin(async { work.await.into() })
            }),
        }
    }

    /// Runs it to its end, or until its state ticks. What its error says is asked here, in a task of
    /// its own.
    pub(crate) async fn run(self, handle: Handle<S>) -> Result<(), MachineError> {
        let Self { state, start } = self;
        let work = async move { start(handle).await };
        let Finished(result) = match state {
            None => work.await,
            // That it expired is what it was bound for.
            Some((_, context)) => context.run(work).await.unwrap_or(Finished(Ok(()))),
        };
        result.map_err(|error| MachineError::of(ErrorKind::Returned, error, 0))
    }
}

impl<S: State> fmt::Debug for Work<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
