//! Whether the follower of a connection is admitted, and what it may change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::Source;
use super::SourceStats;
use crate::mutation::Op;
use crate::replica::admission::{Admission, Changes, Credentials, Denied, Forbidden, Grant, Token};
use crate::schema::as_index;
use crate::write::Write;

/// What stands before all calls of one connection. Nothing awaits under its lock.
pub(super) struct Gate {
    /// None where nobody is asked who they are.
    admission: Option<Arc<dyn Admission>>,
    stats: SourceStats,
    held: Mutex<Held>,
}

/// What a follower has shown, and what it was granted for that.
struct Held {
    shown: Credentials,
    grant: Option<Grant>,
    /// Whether there ever was one.
    was_admitted: bool,
}

impl Gate {
    pub(super) fn new(source: &Source, shown: Credentials) -> Self {
        Self {
            admission: source.admission.clone(),
            stats: source.stats.clone(),
            held: Mutex::new(Held {
                shown,
                grant: None,
                was_admitted: false,
            }),
        }
    }

    /// Whether the follower has been admitted, or everybody is.
    pub(super) fn is_open(&self) -> bool {
        self.admission.is_none() || self.lock().grant.is_some()
    }

    /// Whom the follower was admitted as, where that was asked.
    pub(super) fn who(&self) -> Option<Arc<str>> {
        let held = self.lock();
        held.grant.as_ref().map(|grant| Arc::clone(&grant.who))
    }

    /// Admits a follower that shows `token`, or none, beside what its connection does. Who was admitted and
    /// shows something else that is not is admitted no more.
    pub(super) fn admit(&self, token: Option<Token>) -> Result<(), Denied> {
        let Some(admission) = &self.admission else {
            return Ok(());
        };
        // Asked under the lock: so a change comes before what is granted here, or finds it.
        let mut held = self.lock();
        held.shown.token = token;
        let granted = admission.admit(&held.shown);
        let denied = granted.as_ref().err().copied();
        held.grant = granted.ok();
        held.was_admitted |= held.grant.is_some();
        let Some(denied) = denied else {
            return Ok(());
        };
        self.stats.count_denial();
        admission.forbade(&held.shown, None, Forbidden::Follow(denied));
        Err(denied)
    }

    /// The first state of a write, to a machine of `states` states, that the follower may not call, or give a
    /// payload. A set calls all states: it ends those that it does not name.
    pub(super) fn forbidden(&self, write: &Write, states: usize) -> Option<u32> {
        let admission = self.admission.as_ref()?;
        let held = self.lock();
        let grant = held.grant.as_ref();
        let changes = grant.map_or(&Changes::Nothing, |grant| &grant.changes);
        let first = write.calls.iter().find_map(|call| {
            let called = call.called.iter().map(|state| *state as usize);
            let given = call.payloads.iter().map(|(state, _)| *state as usize);
            let others = if call.op == Op::Set { 0..states } else { 0..0 };
            changes.first_forbidden(called.chain(given).chain(others))
        })?;
        let what = match changes {
            Changes::Nothing => Forbidden::Changes,
            _ => Forbidden::State(first),
        };
        self.stats.count_denial();
        let who = grant.map(|grant| &*grant.who);
        admission.forbade(&held.shown, who, what);
        Some(as_index(first))
    }

    /// Counts the changes of who is admitted; None where everybody is.
    pub(super) fn generation(&self) -> Option<watch::Receiver<u64>> {
        Some(self.admission.as_ref()?.generation())
    }

    /// Whether what was granted would be granted now.
    pub(super) fn holds(&self) -> bool {
        let held = self.lock();
        match (&self.admission, &held.grant) {
            (Some(admission), Some(grant)) => {
                let now = admission.admit(&held.shown);
                now.is_ok_and(|now| now == *grant)
            }
            (Some(_), None) => !held.was_admitted,
            (None, _) => true,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
