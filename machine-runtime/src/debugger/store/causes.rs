//! Who caused an entry, and what it caused.

use std::ops::Range;

use crate::debug::frame::{Body, Role, Transition};
use crate::handlers::Cause;
use crate::position::Position;

use super::{Flags, MachineId, Store};

/// The most entries that [`Store::causes`] and [`Store::effects`] look back or ahead within a run.
const RUN: usize = 10_000;

/// The most entries of other machines that share a trace.
const SHARED: usize = 1_000;

/// The most entries of a trace that are looked at for that.
const LOOKED_AT: usize = 10_000;

/// How two entries belong together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tie {
    /// The transition right before an auto or panic mutation is what led to it.
    FollowsFrom,
    /// It is of the run that one call began: the call, and what handlers and auto states added to it.
    SameRun,
    /// The root's transitions that a replica's step covers, or the replica's step that covers it.
    Replicated,
    /// Another machine's, of the span that caused it or that it caused.
    Span,
    /// Another machine's, of the same trace.
    SameTrace,
}

/// Entries that caused another, or were caused by it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Related {
    /// Whose.
    pub machine: MachineId,
    /// Which: one, or several in a row.
    pub entries: Range<usize>,
    /// How they belong together.
    pub tie: Tie,
    /// From the entry asked about to the first of these, in microseconds by the senders' wall clocks;
    /// negative for what came before.
    pub after: i64,
}

impl Store {
    /// What led to entry `i` of a machine: the transition that it follows from and the call that began
    /// its run, the root's transitions that a replica's step covers, and what other machines did within
    /// the same trace before it.
    pub fn causes(&self, machine: MachineId, i: usize) -> Vec<Related> {
        let mut found = Vec::new();
        let history = self.machine(machine);
        let entry = history.entry(i);
        match &entry.body {
            Body::Transition(told) => self.run_before(machine, i, told, &mut found),
            Body::Followed(told) => {
                let from = Position {
                    revision: told.from.saturating_add(1),
                    ..told.position
                };
                if let Some(root) = self.root_of(told.position.epoch) {
                    let roots = self.machine(root);
                    let first = roots.first_at(from);
                    let last = roots.index_of(told.position);
                    if let (Some(first), Some(last)) = (first, last)
                        && first <= last
                    {
                        let tie = Tie::Replicated;
                        found.push(self.related((machine, i), root, first..last + 1, tie));
                    }
                }
            }
            _ => {}
        }
        self.traced(machine, i, true, &mut found);
        found
    }

    /// What entry `i` of a machine led to: what handlers and auto states added to the run that it
    /// began, the replicas' steps that cover it, and what other machines did within the same trace
    /// after it.
    pub fn effects(&self, machine: MachineId, i: usize) -> Vec<Related> {
        let mut found = Vec::new();
        let history = self.machine(machine);
        let flags = history.flags(i);
        if flags.is_transition() {
            self.run_after(machine, i, &mut found);
        }
        if history.role() == Role::Root && flags.contains(Flags::ACCEPTED | Flags::CHANGED) {
            let position = history.position(i);
            for other in self.machines() {
                if other.role() == Role::Root {
                    continue;
                }
                let Some(reached) = other.first_at(position) else {
                    continue;
                };
                // A key says where a replica was, not when it came there.
                if other.flags(reached).contains(Flags::FOLLOWED) {
                    let tie = Tie::Replicated;
                    let entries = reached..reached + 1;
                    found.push(self.related((machine, i), other.id(), entries, tie));
                }
            }
        }
        self.traced(machine, i, false, &mut found);
        found
    }

    fn related(
        &self,
        (machine, i): (MachineId, usize),
        other: MachineId,
        entries: Range<usize>,
        tie: Tie,
    ) -> Related {
        let from = self.machine(machine).wall(i);
        let to = self.machine(other).wall(entries.start);
        Related {
            machine: other,
            entries,
            tie,
            after: to.wrapping_sub(from).cast_signed(),
        }
    }

    fn run_before(
        &self,
        machine: MachineId,
        i: usize,
        told: &Transition,
        found: &mut Vec<Related>,
    ) {
        if told.cause == Cause::Call {
            return;
        }
        let history = self.machine(machine);
        let earliest = history.start().max(i.saturating_sub(RUN));
        let mut nearest = true;
        for before in (earliest..i).rev() {
            let flags = history.flags(before);
            if flags.contains(Flags::DROPPED) {
                return;
            }
            if !flags.is_transition() {
                continue;
            }
            let follows = nearest && told.cause != Cause::Handler;
            nearest = false;
            let began = history.cause(before) == Some(Cause::Call);
            if follows || began {
                let tie = if follows {
                    Tie::FollowsFrom
                } else {
                    Tie::SameRun
                };
                found.push(self.related((machine, i), machine, before..before + 1, tie));
            }
            if began {
                return;
            }
        }
    }

    fn run_after(&self, machine: MachineId, i: usize, found: &mut Vec<Related>) {
        let history = self.machine(machine);
        let end = history.end().min(i.saturating_add(RUN));
        let mut nearest = true;
        for after in i + 1..end {
            let flags = history.flags(after);
            if flags.contains(Flags::DROPPED) {
                return;
            }
            let tie = match history.cause(after) {
                None => continue,
                Some(Cause::Auto | Cause::Panic) if nearest => Tie::FollowsFrom,
                Some(Cause::Auto | Cause::Panic | Cause::Handler) => Tie::SameRun,
                Some(_) => return,
            };
            nearest = false;
            found.push(self.related((machine, i), machine, after..after + 1, tie));
        }
    }

    /// What other machines did within the trace of an entry, before or after it.
    fn traced(&self, machine: MachineId, i: usize, before: bool, found: &mut Vec<Related>) {
        let history = self.machine(machine);
        let Some(trace) = history.trace(i) else {
            return;
        };
        let (mut left, mut looks) = (SHARED, LOOKED_AT);
        for other in self.machines().iter().filter(|other| other.id() != machine) {
            for j in other.with_trace(trace.trace) {
                if looks == 0 {
                    return;
                }
                looks -= 1;
                let known = found
                    .iter()
                    .any(|related| related.machine == other.id() && related.entries.contains(&j));
                let Some(theirs) = other.trace(j).filter(|_| !known) else {
                    continue;
                };
                let span = if before {
                    trace.parent == Some(theirs.span)
                } else {
                    theirs.parent == Some(trace.span)
                };
                let against = if before {
                    theirs.parent == Some(trace.span)
                } else {
                    trace.parent == Some(theirs.span)
                };
                let tie = if span { Tie::Span } else { Tie::SameTrace };
                let related = self.related((machine, i), other.id(), j..j + 1, tie);
                // Spans know what came first; else clocks have to do.
                if span || !against && (related.after < 0) == before {
                    found.push(related);
                    left -= 1;
                    if left == 0 {
                        return;
                    }
                }
            }
        }
    }
}
