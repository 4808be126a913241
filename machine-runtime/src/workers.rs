//! The work that handlers spawned: tasks that end with whoever started them, and whose errors and
//! panics are told.

use std::collections::HashMap;
use std::fmt;

use tokio::task::{Id, JoinSet};

use crate::errors::{ErrorKind, MachineError};
use crate::handle::Handle;
use crate::handlers::{Finished, Work, panic_message};
use crate::schema::Schema;
use crate::state::State;

/// Running work.
#[derive(Default)]
pub(crate) struct Workers {
    tasks: JoinSet<Finished>,
    /// The state that each is for.
    states: HashMap<Id, u32>,
}

impl Workers {
    /// Starts `work` on the current runtime.
    pub(crate) fn start<S: State>(&mut self, work: Work<S>, handle: Handle<S>) {
        let state = work.state.as_ref().map(|(state, _)| *state);
        let task = self.tasks.spawn(work.run(handle));
        if let Some(state) = state {
            self.states.insert(task.id(), state);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits for work to fail, or for all of it to end.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(crate) async fn failed(&mut self, schema: &Schema, revision: u64) -> Option<MachineError> {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let (id, error) = match ended {
                Ok((id, Finished(Ok(())))) => (id, None),
                Ok((id, Finished(Err(error)))) => (
                    id,
                    Some(MachineError::of(ErrorKind::Returned, error, revision)),
                ),
                Err(error) => {
                    let id = error.id();
                    let panic = error.try_into_panic().ok();
                    let message = panic.map(panic_message);
                    let error =
                        |message| MachineError::new(ErrorKind::WorkPanic, message, revision);
                    (id, message.map(error))
                }
            };
            let state = self.states.remove(&id);
            if let Some(mut error) = error {
                error.state = state.map(|state| schema.name_of(state as usize).to_owned());
                return Some(error);
            }
        }
        None
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("running", &self.tasks.len())
            .finish_non_exhaustive()
    }
}
