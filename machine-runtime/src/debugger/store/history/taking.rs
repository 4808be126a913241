//! How a history grows, and forgets.

use crate::debug::frame::Body;
use crate::position::Position;

use super::super::check::{self, Malformed};
use super::super::chunk::Chunk;
use super::super::flags::Flags;
use super::super::record::Bases;
use super::told::{ToldError, ToldLink, ToldWaiters};
use super::{History, KEPT, NOWHERE, Segment};

impl History {
    /// Appends what was checked to fit.
    pub(in super::super) fn push(&mut self, number: u64, wall: u64, mono: u64, body: &Body) {
        let mut flags = match body {
            Body::Transition(told) => Flags::of_transition(&self.schema, told),
            Body::Followed(told) => Flags::of_followed(&self.schema, told),
            Body::Key(_) => Flags::KEY,
            _ => Flags::DROPPED,
        };
        let before = self.position;
        let bases = Bases {
            number,
            wall,
            mono,
            sequence: self.sequence,
            revision: before.map_or(0, |position| position.revision),
            queue_tick: self.queue_tick,
        };
        if !self.chunks.back().is_some_and(|chunk| chunk.takes(wall)) {
            if let Some(full) = self.chunks.back_mut() {
                full.close();
            }
            let chunk = Chunk::new(self.end, bases, &self.ticks, self.latest);
            self.chunk_bytes += chunk.bytes();
            self.chunks.push_back(chunk);
        }
        self.advance(body);
        if !self.is_sure {
            flags |= Flags::UNSURE;
        }
        let revision = self.position.map_or(0, |position| position.revision);
        let epoch = self
            .position
            .map_or(NOWHERE.epoch, |position| position.epoch);
        let goes_on = self.segments.last().is_some_and(|segment| {
            segment.epoch == epoch && before.is_none_or(|before| before.revision <= revision)
        });
        if !goes_on {
            self.segments.push(Segment {
                start: self.end,
                epoch,
            });
        }
        self.latest = self.latest.max(wall);
        self.end += 1;
        if let Some(chunk) = self.chunks.back_mut() {
            self.chunk_bytes -= chunk.bytes();
            chunk.push(number, wall, mono, flags, body);
            self.chunk_bytes += chunk.bytes();
        }
    }

    fn advance(&mut self, body: &Body) {
        let epoch = self
            .position
            .map_or(NOWHERE.epoch, |position| position.epoch);
        let changes = match body {
            Body::Transition(told) => {
                // A gap is a loss.
                self.is_sure &= self.sequence.checked_add(1) == Some(told.sequence);
                self.sequence = told.sequence;
                if told.queue_tick != 0 {
                    self.queue_tick = told.queue_tick;
                }
                let revision = told.revision;
                self.position = Some(Position { epoch, revision });
                &told.changes
            }
            Body::Followed(told) => {
                self.is_sure &= self.position.is_some_and(|position| {
                    position.epoch == told.position.epoch && position.revision == told.from
                });
                self.position = Some(told.position);
                &told.changes
            }
            Body::Key(key) => {
                self.ticks.clone_from(&key.ticks);
                self.position = Some(key.position);
                self.sequence = key.sequence;
                self.queue_tick = key.queue_tick;
                self.is_sure = true;
                return;
            }
            Body::Dropped(count) => {
                self.dropped = self.dropped.saturating_add(*count);
                self.is_sure = false;
                return;
            }
            _ => return,
        };
        for change in changes {
            self.ticks[change.state as usize] += change.ticks;
        }
    }

    /// Takes what is about this machine, if it is as it has to be.
    pub(in super::super) fn take(
        &mut self,
        (number, wall, mono): (u64, u64, u64),
        body: Body,
    ) -> Result<(), Malformed> {
        // It came before, on another stream.
        if number != 0 && number <= self.last_number {
            return Ok(());
        }
        check::body(self, &body)?;
        self.last_number = self.last_number.max(number);
        self.is_gone = matches!(body, Body::Gone);
        match body {
            Body::Link(link) => {
                let told = ToldLink {
                    number,
                    wall,
                    mono,
                    link,
                };
                self.told_bytes += told.bytes();
                self.links.push_back(told);
                if self.links.len() > KEPT {
                    let gone = self.links.pop_front();
                    self.told_bytes -= gone.map_or(0, |gone| gone.bytes());
                }
            }
            Body::Error(failure) => {
                let told = ToldError {
                    index: self.last(),
                    number,
                    wall,
                    mono,
                    failure,
                };
                self.told_bytes += told.bytes();
                self.errors.push_back(told);
                if self.errors.len() > KEPT {
                    let gone = self.errors.pop_front();
                    self.told_bytes -= gone.map_or(0, |gone| gone.bytes());
                }
            }
            Body::Waiters(waiting) => {
                self.told_bytes -= self.waiters.bytes();
                self.waiters = ToldWaiters { wall, waiting };
                self.told_bytes += self.waiters.bytes();
            }
            Body::Gone => {}
            body => self.push(number, wall, mono, &body),
        }
        Ok(())
    }

    /// Forgets the oldest of what was told beside entries, and says whether there was anything.
    pub(in super::super) fn forget_told(&mut self) -> bool {
        let error = self.errors.front().map(ToldError::stamp);
        let link = self.links.front().map(ToldLink::stamp);
        let bytes = match (error, link) {
            (None, None) => {
                let gone = std::mem::take(&mut self.waiters);
                gone.bytes()
            }
            (Some(error), link) if link.is_none_or(|link| error < link) => {
                self.errors.pop_front().map_or(0, |gone| gone.bytes())
            }
            _ => self.links.pop_front().map_or(0, |gone| gone.bytes()),
        };
        self.told_bytes -= bytes;
        bytes > 0
    }

    /// Forgets the oldest chunk, and says whether there was one.
    pub(in super::super) fn forget(&mut self) -> bool {
        let Some(chunk) = self.chunks.pop_front() else {
            return false;
        };
        self.chunk_bytes -= chunk.bytes();
        self.forgotten = chunk.end();
        let passed = self
            .segments
            .partition_point(|segment| segment.start <= self.forgotten);
        self.segments.drain(..passed.saturating_sub(1));
        true
    }
}
