//! The fast road: what a mutation changes, and nothing else.
//!
//! It works on the active bits in place. `on` collects the states it sets, called ones first and
//! then those they add; `off` those it clears. A state was active before if its tick is odd.
//!
//! Where a called state falls, the refusal is certain: the second half of the resolution (rule R9)
//! adds nothing that the first did not, as what is added here adds nothing in turn. Of several
//! called states that block each other in a row, the last of the row stays, and what it blocks is
//! not added again. Where a state falls that was only added, the general road decides.

use crate::active::each;
use crate::mutation::Reason;
use crate::relations::Compiled;

use super::negotiate::{Rank, Talk};
use super::{Bound, Fast, Negotiator, Request, Status};

/// Why the fast road stops before its end.
enum Stop {
    Refused(Reason<u32>),
    Unsure,
}

impl Status {
    /// `called` are those of the request that are not ruled out already.
    pub(super) fn fast_add(
        &mut self,
        c: &Compiled,
        request: Request<'_>,
        called: &[u32],
        negotiator: &mut Option<Negotiator<'_>>,
    ) -> Fast {
        if !self.adders_are_content(c, called) {
            return Fast::Unsure;
        }
        match self.try_add(c, called) {
            Ok(added) => {
                if let Some(negotiator) = negotiator
                    && let Err(reason) = self.settle(c, request, called, added, negotiator)
                {
                    self.undo(called);
                    return Fast::Refused(reason);
                }
                self.commit_add(c, called, added);
                Fast::Done
            }
            Err(stop) => {
                self.undo(called);
                match stop {
                    Stop::Refused(reason) => Fast::Refused(reason),
                    Stop::Unsure => Fast::Unsure,
                }
            }
        }
    }

    /// By relations a remove is never refused: the called states go, and what requires them.
    pub(super) fn fast_remove(
        &mut self,
        c: &Compiled,
        request: Request<'_>,
        negotiator: &mut Option<Negotiator<'_>>,
    ) -> Fast {
        let called = request.called;
        if !self.adders_are_content(c, called) {
            return Fast::Unsure;
        }
        self.on.clear();
        self.off.clear();
        for state in called {
            if self.active.contains(*state) {
                self.active.clear_bit(*state);
                self.off.push(*state);
            }
        }
        let mut next = 0;
        while next < self.off.len() {
            for dependent in c.required_by(self.off[next]) {
                if self.active.contains(*dependent) {
                    self.active.clear_bit(*dependent);
                    self.off.push(*dependent);
                }
            }
            next += 1;
        }
        if let Some(negotiator) = negotiator
            && let Err(reason) = self.settle(c, request, &[], 0, negotiator)
        {
            self.restore_off();
            return Fast::Refused(reason);
        }
        self.commit_off(c);
        Fast::Done
    }

    /// Finds the candidates that the first resolution accepts, and adds just those: that is what
    /// the second one (rule R17) comes to.
    pub(super) fn fast_auto(
        &mut self,
        c: &Compiled,
        request: Request<'_>,
        negotiator: &mut Option<Negotiator<'_>>,
    ) -> Fast {
        let called = request.called;
        if called.iter().any(|state| c.has_add(*state)) || !self.adders_are_content(c, &[]) {
            return Fast::Unsure;
        }
        for state in called {
            self.active.set_bit(*state);
        }
        let mut kept = std::mem::take(&mut self.kept);
        kept.clear();
        kept.extend_from_slice(called);
        self.off.clear();
        let sure = self.keep_acceptable(c, &mut kept);
        for state in called {
            self.active.clear_bit(*state);
        }
        self.restore_off();
        let fast = if !sure {
            Fast::Unsure
        } else if kept.is_empty() {
            Fast::Refused(Reason::NoCandidate)
        } else {
            self.fast_add(c, request, &kept, negotiator)
        };
        self.kept = kept;
        fast
    }

    /// Whether no active multi state adds (rule R6) anything that is neither active nor called.
    fn adders_are_content(&self, c: &Compiled, called: &[u32]) -> bool {
        self.adders.iter().all(|adder| {
            c.add(*adder)
                .iter()
                .all(|s| self.active.contains(*s) || called.contains(s))
        })
    }

    /// The resolution of an add. Returns where in `on` the added states begin.
    fn try_add(&mut self, c: &Compiled, called: &[u32]) -> Result<usize, Stop> {
        self.on.clear();
        self.off.clear();
        for state in called {
            self.mark(*state);
            if !self.active.contains(*state) {
                self.active.set_bit(*state);
                self.on.push(*state);
            }
        }
        let added = self.on.len();
        for i in 0..added {
            // What active multi states add is there already.
            if c.has_add(self.on[i]) {
                self.add_first_level(c, self.on[i])?;
            }
        }
        self.check_new(c, added)?;
        self.clear_removed(c)?;
        for state in &self.on[..added] {
            if c.has_one_way_removers(*state)
                && let Some(by) = self.active.any(c.removed_by(*state))
            {
                return Err(Stop::Refused(Reason::Blocked { state: *state, by }));
            }
        }
        self.cascade(c)?;
        Ok(added)
    }

    fn add_first_level(&mut self, c: &Compiled, state: u32) -> Result<(), Stop> {
        for add in c.add(state) {
            if !self.active.contains(*add) {
                if c.has_add(*add) {
                    return Err(Stop::Unsure);
                }
                self.active.set_bit(*add);
                self.on.push(*add);
            }
        }
        Ok(())
    }

    /// The first require pass (rule R7), and the added states' part of the blocking walk (R8):
    /// any member of the list blocks them, even one that they remove.
    fn check_new(&self, c: &Compiled, added: usize) -> Result<(), Stop> {
        for (i, state) in self.on.iter().enumerate() {
            if let Some(requires) = self.active.lacks(c.require(*state)) {
                return Err(if i < added {
                    Stop::Refused(Reason::Missing {
                        state: *state,
                        requires,
                    })
                } else {
                    Stop::Unsure
                });
            }
            if i >= added && self.active.any(c.removed_by(*state)).is_some() {
                return Err(Stop::Unsure);
            }
        }
        Ok(())
    }

    /// Clears what the new states remove: the active states' part of the blocking walk.
    fn clear_removed(&mut self, c: &Compiled) -> Result<(), Stop> {
        let Self {
            active,
            marks,
            on,
            off,
            ..
        } = self;
        for by in on.iter() {
            for entry in c.remove(*by) {
                let hits = active.hits(*entry);
                if hits == 0 {
                    continue;
                }
                if let Some(state) = entry.first(hits & marks[entry.word as usize]) {
                    return Err(Stop::Refused(Reason::Blocked { state, by: *by }));
                }
                active.clear(*entry);
                each(*entry, hits, |state| off.push(state));
            }
        }
        Ok(())
    }

    /// The second require pass: what is gone takes along what requires it.
    fn cascade(&mut self, c: &Compiled) -> Result<(), Stop> {
        let mut next = 0;
        while next < self.off.len() {
            let requires = self.off[next];
            for state in c.required_by(requires) {
                if self.active.contains(*state) {
                    if self.is_marked(*state) {
                        return Err(Stop::Refused(Reason::Missing {
                            state: *state,
                            requires,
                        }));
                    }
                    self.active.clear_bit(*state);
                    self.off.push(*state);
                }
            }
            next += 1;
        }
        Ok(())
    }

    /// Reduces `kept`, whose bits are set, to the candidates that the first resolution accepts.
    /// False if it cannot tell: a blocked candidate may have blocked what an active multi state
    /// then adds again.
    fn keep_acceptable(&mut self, c: &Compiled, kept: &mut Vec<u32>) -> bool {
        // Require pass, in rounds until nothing falls.
        let mut before = usize::MAX;
        while before != kept.len() {
            before = kept.len();
            kept.retain(|state| {
                let stays = self.active.lacks(c.require(*state)).is_none();
                if !stays {
                    self.active.clear_bit(*state);
                }
                stays
            });
        }
        // Blocking walk: all candidates block active states, and of each other the earlier one
        // blocks. `off` collects the active states that fall.
        for state in kept.iter() {
            self.mark(*state);
        }
        for state in kept.iter() {
            for entry in c.remove(*state) {
                let hits = self.active.hits(*entry) & !self.marks[entry.word as usize];
                each(*entry, hits, |fallen| {
                    self.active.clear_bit(fallen);
                    self.off.push(fallen);
                });
            }
        }
        for state in kept.iter().rev() {
            let blocked = c.removed_by(*state).iter();
            if blocked
                .into_iter()
                .any(|entry| self.marks[entry.word as usize] & entry.mask != 0)
            {
                self.unmark(*state);
            }
        }
        let candidates = kept.len();
        kept.retain(|state| {
            let stays = self.is_marked(*state);
            self.unmark(*state);
            if !stays {
                self.active.clear_bit(*state);
                self.off.push(*state);
            }
            stays
        });
        let sure = kept.len() == candidates || self.adders.is_empty();
        // Second require pass.
        let mut next = 0;
        while next < self.off.len() {
            for state in c.required_by(self.off[next]) {
                if self.active.contains(*state) {
                    self.active.clear_bit(*state);
                    self.off.push(*state);
                }
            }
            next += 1;
        }
        kept.retain(|state| self.active.contains(*state));
        sure
    }

    /// Says what the transition comes to, and asks whoever is concerned. The bits are the new ones
    /// already, all else is as before.
    #[inline(never)]
    fn settle(
        &mut self,
        c: &Compiled,
        request: Request<'_>,
        called: &[u32],
        added: usize,
        negotiator: &mut Negotiator<'_>,
    ) -> Result<(), Reason<u32>> {
        let bound = negotiator.bound;
        if !self.concerns(c, called, bound) {
            return Ok(());
        }
        let mut plan = std::mem::take(&mut self.plan);
        plan.concerns = true;
        let was_active = |state: &u32| !self.was_inactive(*state);
        plan.exits
            .extend(self.off.iter().copied().filter(was_active));
        plan.exits.sort_by_key(|state| self.active.rank(c, *state));
        let begins = |state: &u32| self.was_inactive(*state) || c.is_multi(*state);
        plan.enters.extend(called.iter().copied().filter(begins));
        let stays = |state: &u32| self.active.contains(*state);
        plan.enters
            .extend(self.on[added..].iter().copied().filter(stays));
        plan.enters
            .sort_by_key(|state| c.key(*state).wrapping_add(1));
        plan.after.clear();
        plan.after.extend_from_slice(self.active.bits());
        plan.before.clear();
        plan.before.extend_from_slice(self.active.bits());
        for state in &self.on {
            plan.before[*state as usize / 64] &= !(1 << (state % 64));
        }
        for state in &plan.exits {
            plan.before[*state as usize / 64] |= 1 << (state % 64);
        }
        let mut result = Ok(());
        if bound.asks() {
            let talk = Talk {
                c,
                request,
                ticks: &self.ticks,
                revision: self.revision,
            };
            let before = |state| self.active.rank(c, state);
            let after = |state| self.target_rank(c, called, added, state);
            result = talk.run(&mut plan, before, after, negotiator);
        }
        self.plan = plan;
        result
    }

    /// Whether any handler is bound to what happens.
    fn concerns(&self, c: &Compiled, called: &[u32], bound: &Bound) -> bool {
        let again = |state: &u32| c.is_multi(*state) && !self.was_inactive(*state);
        bound.beyond_moves()
            || self
                .off
                .iter()
                .chain(&self.on)
                .any(|state| bound.moves(*state))
            || called
                .iter()
                .any(|state| bound.moves(*state) && again(state))
    }

    /// Where a state will stand in the active list: called ones first, added ones last.
    fn target_rank(&self, c: &Compiled, called: &[u32], added: usize, state: u32) -> Rank {
        let (class, stamp) = self.active.rank(c, state);
        let place = |list: &[u32]| {
            let place = list.iter().position(|other| *other == state)?;
            i64::try_from(place).ok()
        };
        if class != 0 {
            (class, stamp)
        } else if let Some(place) = place(called) {
            (0, i64::MIN + place)
        } else if let Some(place) = place(&self.on[added..]) {
            (0, i64::MAX / 2 + place)
        } else {
            (0, stamp)
        }
    }

    fn commit_add(&mut self, c: &Compiled, called: &[u32], added: usize) {
        self.commit_off(c);
        for state in called.iter().rev() {
            self.unmark(*state);
            if !self.was_inactive(*state) {
                self.active.unlink(c, *state);
                if c.is_multi(*state) {
                    self.tick(c, *state, 2);
                }
            }
            self.active.push_front(c, *state);
        }
        for i in 0..self.on.len() {
            let state = self.on[i];
            if self.active.contains(state) {
                if i >= added {
                    self.active.push_back(c, state);
                }
                self.activate(c, state);
            }
        }
    }

    /// Ends the states of `off`; one that was only added in this transition never began.
    fn commit_off(&mut self, c: &Compiled) {
        for i in 0..self.off.len() {
            let state = self.off[i];
            if !self.was_inactive(state) {
                self.active.unlink(c, state);
                self.deactivate(c, state);
            }
        }
    }

    #[inline]
    fn undo(&mut self, called: &[u32]) {
        for state in called {
            self.unmark(*state);
        }
        for state in &self.on {
            self.active.clear_bit(*state);
        }
        self.restore_off();
    }

    /// Sets the bits of those states of `off` again that were active before.
    fn restore_off(&mut self) {
        for state in &self.off {
            if self.ticks[*state as usize] % 2 == 1 {
                self.active.set_bit(*state);
            }
        }
    }

    fn was_inactive(&self, state: u32) -> bool {
        self.ticks[state as usize].is_multiple_of(2)
    }
}
