//! How writes get from a replica to its parent.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tarpc::client::RpcError;
use tarpc::context;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::observe::{Observers, Refused, SpanKind};
use crate::position::Epoch;
use crate::view::Shared;
use crate::write::{Key, MutateError, Until, WRITE_BYTES, WRITE_CALLS, Write, Written};

use super::caller::{Caller, Failed};
use super::wire::{Blob, WriteAnswer, encode_write, size};

/// How many writes of a node are on their way up at a time, its own and those that it passes on. A
/// large one counts for as many as it has times 4 KiB.
pub const UPLINK: usize = 4096;

/// How many bytes of a write count as one write more. So what is on its way takes 16 MiB at most.
pub(super) const WRITE_UNIT: usize = 4096;

/// How much earlier than its own deadline a node wants to have its parent's answer, which says more
/// than that there is none: a tenth of the time there is, and at most this.
const HOP: Duration = Duration::from_millis(100);

/// How much later than the time that a write has tarpc gives it up: where a deadline of tarpc's
/// passes both sides log an error.
pub(super) const LATE: Duration = Duration::from_secs(2);

/// The session with the parent, if there is one. Writes that wait for the next are told of it in the order
/// in which they came, and go up in that.
#[derive(Debug, Default)]
struct Session {
    // Nothing awaits under it.
    now: Mutex<Now>,
    changed: Notify,
}

#[derive(Clone, Debug, Default)]
struct Now {
    caller: Option<Caller>,
    /// How often it changed.
    number: u64,
    /// The follower has ended: there will be no other.
    ended: bool,
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, caller: Option<Caller>, ended: bool) {
        let mut now = self.lock();
        *now = Now {
            caller,
            number: now.number + 1,
            ended,
        };
        drop(now);
        self.changed.notify_waiters();
    }
}

/// Tells the uplink of the follower's sessions, one after the other.
#[derive(Debug)]
pub(super) struct Sessions(Arc<Session>);

impl Sessions {
    /// No session yet, and the uplink of the replica that `shared` shows.
    pub(super) fn new(shared: Arc<Shared>) -> (Self, Uplink) {
        let session = Arc::<Session>::default();
        let room = Arc::new(Semaphore::new(UPLINK));
        let uplink = Uplink {
            session: Arc::clone(&session),
            room,
            shared,
        };
        (Self(session), uplink)
    }

    /// Writes go over this session from now on.
    pub(super) fn begin(&self, caller: Caller) {
        self.0.change(Some(caller), false);
    }

    /// There is none any more.
    pub(super) fn end(&self) {
        self.0.change(None, false);
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.0.change(None, true);
    }
}

/// Sends writes to the parent, over whichever connection the follower has.
#[derive(Clone)]
pub(crate) struct Uplink {
    session: Arc<Session>,
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl Uplink {
    /// Passes a write on until there is an answer or its time is over. What was on a link that
    /// broke is sent again with the same key.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the parent is told to drop it too.
    pub(crate) async fn write(&self, mut write: Write, until: Until) -> Written {
        let hop = Observers::hop(self.shared.observers(), SpanKind::Client, &mut write);
        let written = self.pass_on(write, until).await;
        if let Some(hop) = hop {
            hop.end(&written);
        }
        written
    }

    /// There is no room.
    fn busy(&self) -> MutateError {
        if let Some(observers) = self.shared.observers() {
            observers.stats().count_refused(Refused::Busy, 1);
        }
        let may_have_run = false;
        MutateError::Busy { may_have_run }
    }

    async fn pass_on(&self, mut write: Write, until: Until) -> Written {
        let epoch = write.epoch.or_else(|| self.epoch());
        let size = size(&write);
        if size > WRITE_BYTES || write.calls.len() > WRITE_CALLS {
            return Err(MutateError::TooLarge);
        }
        let units = u32::try_from(1 + size / WRITE_UNIT).unwrap_or(u32::MAX);
        let room = timeout_at(until.room, self.room.acquire_many(units)).await;
        let room = room.map_err(|_elapsed| self.busy())?;
        let _room = room.map_err(|_closed| self.busy())?;
        let key = write.key.take().unwrap_or_else(Key::random);
        let mut up = Up {
            session: Arc::clone(&self.session),
            seen: 0,
            deadline: until.answer,
            may_have_run: false,
        };
        let mut body = None;
        loop {
            let client = up.client().await?;
            // Whoever has a session shows something.
            let epoch = epoch.or_else(|| self.epoch()).unwrap_or(Epoch(0));
            let body = body.get_or_insert_with(|| encode_write(&write, &key, epoch));
            let answer = up.send(&client, body.clone()).await?;
            let calls = write.calls.len();
            let read = answer.map(|answer| {
                let states = self.shared.schema().len();
                answer.read(calls, states, up.may_have_run)
            });
            match read {
                // The connection broke, or is about to.
                None
                | Some(Ok(Err(MutateError::Closed {
                    may_have_run: false,
                }))) => {}
                Some(Ok(Err(MutateError::Closed { may_have_run }))) => {
                    up.may_have_run = may_have_run;
                }
                Some(Ok(written)) => return written,
                Some(Err(_malformed)) => {
                    let may_have_run = true;
                    return Err(MutateError::Unreachable { may_have_run });
                }
            }
            up.next_session().await?;
        }
    }

    fn epoch(&self) -> Option<Epoch> {
        self.shared.current().map(|now| now.position().epoch)
    }
}

/// A write on its way up.
struct Up {
    session: Arc<Session>,
    /// The number of the session that was last looked at.
    seen: u64,
    deadline: Instant,
    /// Whether it may have been run: it was sent over a link that broke.
    may_have_run: bool,
}

impl Up {
    /// Waits for a session.
    async fn client(&mut self) -> Result<Caller, MutateError> {
        loop {
            let now = self.session.lock().clone();
            self.seen = now.number;
            match now.caller {
                Some(caller) => return Ok(caller),
                None => self.next_session().await?,
            }
        }
    }

    /// Waits until the session changes from the one that was last looked at.
    async fn next_session(&mut self) -> Result<(), MutateError> {
        let may_have_run = self.may_have_run;
        loop {
            let mut changed = pin!(self.session.changed.notified());
            changed.as_mut().enable();
            let now = self.session.lock().clone();
            if now.number != self.seen && !now.ended {
                return Ok(());
            }
            if now.ended {
                return Err(MutateError::Closed { may_have_run });
            }
            let changed = timeout_at(self.deadline, changed).await;
            changed.map_err(|_elapsed| MutateError::Unreachable { may_have_run })?;
        }
    }

    /// Asks the parent; None if the connection broke.
    async fn send(
        &mut self,
        client: &Caller,
        body: Blob,
    ) -> Result<Option<WriteAnswer>, MutateError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let mut ctx = context::current();
        let left = left.saturating_sub(HOP.min(left / 10));
        ctx.deadline = std::time::Instant::now() + left + LATE;
        let answer = timeout_at(self.deadline, client.write(ctx, body, left)).await;
        let may_have_run = true;
        match answer {
            Ok(Ok(answer)) => Ok(Some(answer)),
            // The parent has more of ours than it takes; only one that counts otherwise says so.
            Ok(Err(Failed::Rpc(RpcError::Server(_)))) => {
                let may_have_run = self.may_have_run;
                Err(MutateError::Busy { may_have_run })
            }
            Err(_) | Ok(Err(Failed::Rpc(RpcError::DeadlineExceeded))) => {
                Err(MutateError::Expired { may_have_run })
            }
            Ok(Err(_broken)) => {
                self.may_have_run = true;
                Ok(None)
            }
        }
    }
}

impl fmt::Debug for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uplink")
            .field("is_live", &self.session.lock().caller.is_some())
            .field("room", &self.room.available_permits())
            .finish_non_exhaustive()
    }
}
