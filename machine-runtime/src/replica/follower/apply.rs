//! What answers of the parent lead to.

use std::time::{Duration, SystemTime};

use super::{Follower, Lost};
use crate::observe::LinkChange;
use crate::relations::factor;
use crate::replica::link::Resync;
use crate::replica::wire::{Blob, News, decode_delta, decode_snapshot, unpack};
use crate::ring::Delta;
use crate::transition::payload_digest;
use crate::view::Snapshot;
use crate::when::Now;

impl Follower {
    /// Applies an answer that was under way for at least so long, and is so much older than it says. What
    /// cannot be used makes the next question ask for a snapshot.
    pub(super) fn take(&mut self, news: News, late: Duration) -> Result<(), Lost> {
        let news = unpack(news, self.max_frame())?;
        if self.resync.is_some() && !matches!(news, News::Snapshot { .. } | News::Closing) {
            // It was asked for a snapshot, and this is none.
            self.unusable += 1;
        }
        let age_ms = match news {
            News::Idle { age_ms } => age_ms,
            News::Delta { age_ms, delta } => {
                self.apply(&[delta]);
                age_ms
            }
            News::Deltas { age_ms, deltas } => {
                self.apply(&deltas);
                age_ms
            }
            News::Snapshot {
                age_ms,
                cause,
                snapshot,
            } => {
                let snapshot =
                    decode_snapshot(&snapshot, self.schema.len(), self.offered.as_ref())?;
                let reason = self.resync.take().or_else(|| Resync::of(cause));
                let age = Duration::from_millis(age_ms.into()) + late;
                self.replace(snapshot, reason.unwrap_or(Resync::First), age)?;
                age_ms
            }
            News::Traced {
                age_ms,
                deltas,
                traces,
            } => {
                let began = SystemTime::now();
                let visible = self.our_spans(&traces);
                // Followers of ours that look in between are told all the same.
                for (led, _) in &visible {
                    self.publisher.shared().traces().remember(*led);
                }
                self.apply(&deltas);
                if let Some(position) = self.position.filter(|_| !visible.is_empty()) {
                    self.publisher.shared().traces().forget_beyond(position);
                    self.tell_visible(&visible, position, began);
                }
                age_ms
            }
            News::Closing => return Err(Lost::Closing),
            News::Packed(_) => return Err(Lost::Untrusted("packed twice")),
        };
        self.parent_age = Duration::from_millis(age_ms.into()) + late;
        if self.resync.is_none() {
            self.publisher.shared().freshen(self.parent_age);
        }
        Ok(())
    }

    fn apply(&mut self, deltas: &[Blob]) {
        let Some(mut position) = self.position else {
            return;
        };
        let start = position;
        for blob in deltas {
            let states = self.schema.len();
            match decode_delta(blob, position.revision, states, self.selection.as_ref()) {
                Ok(delta) if self.apply_one(&delta) => position.revision = delta.revision,
                Ok(_) => {
                    self.resync = Some(Resync::Digest);
                    break;
                }
                Err(_malformed) => {
                    self.resync = Some(Resync::Malformed);
                    break;
                }
            }
        }
        if let Some(reason) = self.resync {
            self.unusable += 1;
            tracing::warn!(
                target: super::TARGET,
                node = self.options.name,
                reason = reason.name(),
                "asking for a snapshot"
            );
        }
        if position != start {
            self.position = Some(position);
            let changes = self.publisher.observed_changes(&self.ticks);
            self.publisher
                .publish(position, self.digest, &self.ticks, &self.retained);
            if let Some(changes) = changes {
                let changes = self.delta_changes(&changes);
                self.tell_changes(Some(start), position, changes, None, self.released);
            }
            self.released = 0;
        }
    }

    /// Applies a delta unless it does not lead to its digest; then nothing is changed.
    fn apply_one(&mut self, delta: &Delta) -> bool {
        let mut digest = self.digest;
        for change in &delta.changes {
            let ticks = u64::from(change.ticks);
            digest = digest.wrapping_add(factor(change.state as usize).wrapping_mul(ticks));
        }
        for (state, payload) in &delta.payloads {
            if let Some(old) = self.retained.get(state) {
                digest = digest.wrapping_sub(payload_digest(*state, old));
            }
            if let Some(new) = payload {
                digest = digest.wrapping_add(payload_digest(*state, new));
            }
        }
        if digest != delta.digest {
            return false;
        }
        self.digest = digest;
        for change in &delta.changes {
            let tick = &mut self.ticks[change.state as usize];
            *tick = tick.wrapping_add(change.ticks.into());
        }
        for (state, payload) in &delta.payloads {
            match payload {
                Some(payload) => self.retained.insert(*state, payload.clone()),
                None => self.retained.remove(state),
            };
        }
        self.link.count_delta();
        self.unusable = 0;
        self.publisher
            .note((delta.revision, digest), &delta.changes, &delta.payloads);
        let now = Now {
            ticks: &self.ticks,
            retained: &self.retained,
        };
        self.released += self.publisher.followed(&delta.changes, || now);
        true
    }

    /// Takes over a snapshot, unless it is not whole or behind what was already shown.
    /// It was the root's newest `age` ago.
    fn replace(&mut self, snapshot: Snapshot, reason: Resync, age: Duration) -> Result<(), Lost> {
        let ticks = snapshot.ticks().iter().enumerate();
        let digest = ticks.map(|(i, tick)| factor(i).wrapping_mul(*tick));
        let payloads = snapshot
            .retained()
            .iter()
            .map(|(state, p)| payload_digest(*state, p));
        let digest = digest.chain(payloads).fold(0_u64, u64::wrapping_add);
        if digest != snapshot.digest() {
            self.resync = Some(reason);
            return Err(Lost::Untrusted("a snapshot does not lead to its digest"));
        }
        let position = snapshot.position();
        if let Some(ours) = self.position
            && ours.epoch == position.epoch
            && ours.revision > position.revision
        {
            // A parent that is itself behind, say one that just restarted: it will catch up.
            self.resync = Some(reason);
            return Err(Lost::NotReady);
        }
        if self
            .position
            .is_some_and(|ours| ours.epoch != position.epoch)
            && age > self.publisher.shared().age()
        {
            // We know later than this that the root lives another life. Our age grows while nobody serves
            // that, so whoever has news of the root is believed in a moment.
            self.resync = Some(reason);
            return Err(Lost::NotReady);
        }
        self.link.count_resync(reason);
        let before = self.position.replace(position);
        if before.is_none_or(|before| before.epoch != position.epoch) {
            // How old what was shown is says nothing of this.
            self.publisher.shared().renew(age);
        }
        let changes = self.snapshot_changes(&snapshot);
        self.digest = snapshot.digest();
        self.ticks.copy_from_slice(snapshot.ticks());
        self.retained.clone_from(snapshot.retained());
        self.selection.clone_from(&self.offered);
        self.publisher.shared().select(self.selection.clone());
        self.publisher.replace(snapshot);
        let reason = reason.name();
        self.tell_link(LinkChange::Resynced { reason });
        if let Some(changes) = changes {
            let whole = self.publisher.shared().current();
            self.tell_changes(before, position, changes, whole, 0);
        }
        Ok(())
    }
}
