//! Tells observers what a replica comes to show, and how its link is.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::handlers::Cause;
use crate::observe::{
    Event, Followed, Interest, LinkChange, Side, Span, SpanKind, TickChange, TickChanges, Traced,
};
use crate::position::Position;
use crate::schema::as_index;
use crate::state::DynState;
use crate::trace::{Led, TRACES, TraceContext};
use crate::transition::Change;
use crate::view::Snapshot;

use super::Follower;

impl Follower {
    pub(super) fn tell_link(&self, change: LinkChange) {
        if let Some(observers) = self.publisher.shared().observers() {
            observers.tell_link(Side::Up, self.parent.clone(), change);
        }
    }

    /// What led to the revisions of an answer, as far as they are news, with spans of our own where
    /// somebody is told of them.
    pub(super) fn our_spans(&self, told: &[(u64, u128, u64, u64)]) -> Vec<(Led, Traced)> {
        let Some(before) = self.position else {
            return Vec::new();
        };
        let observers = self.publisher.shared().observers();
        let is_told = observers.is_some_and(|observers| observers.wants(Interest::TRACES));
        let real = |(revision, trace, span, transition): &&(u64, u128, u64, u64)| {
            *revision > before.revision && *trace != 0 && *span != 0 && *transition != 0
        };
        let ours = told.iter().filter(real).take(TRACES);
        let ours = ours.map(|(revision, trace, span, transition)| {
            let at_parent = TraceContext {
                trace: *trace,
                span: *span,
                sampled: true,
            };
            let traced = Traced::within(at_parent);
            let led = Led {
                position: Position {
                    revision: *revision,
                    ..before
                },
                context: if is_told { traced.context } else { at_parent },
                transition: *transition,
            };
            (led, traced)
        });
        ours.collect()
    }

    /// Tells that those of these traced revisions are shown now that `position` includes; they began to
    /// come at `began`.
    pub(super) fn tell_visible(
        &self,
        visible: &[(Led, Traced)],
        position: Position,
        began: SystemTime,
    ) {
        let Some(observers) = self.publisher.shared().observers() else {
            return;
        };
        let shown = |(led, _): &&(Led, Traced)| led.position.revision <= position.revision;
        for (led, traced) in visible.iter().filter(shown) {
            observers.tell(Interest::TRACES, || {
                let mut span = Span::ended(*traced, SpanKind::Consumer, "visible", began);
                span.attributes = vec![
                    ("machine.position", led.position.to_string()),
                    ("machine.shown", position.to_string()),
                ];
                let span_of_transition = TraceContext {
                    span: led.transition,
                    ..led.context
                };
                span.links = vec![span_of_transition];
                Event::Span(span)
            });
        }
    }

    /// What a snapshot changes, if anybody wants to know.
    pub(super) fn snapshot_changes(&self, snapshot: &Snapshot) -> Option<TickChanges> {
        let observers = self.publisher.shared().observers()?;
        observers.wants(Interest::CHANGES).then(|| {
            let both = self.ticks.iter().zip(snapshot.ticks()).enumerate();
            let changed = both.filter(|(_, (before, after))| before != after);
            let change = |(state, (before, after)): (usize, (&u64, &u64))| TickChange {
                state: DynState(as_index(state)),
                // In another epoch ticks may be less: whether it is odd says what changed.
                ticks: after
                    .checked_sub(*before)
                    .unwrap_or(2 - (before % 2 + after % 2) % 2),
                is_active: after % 2 == 1,
            };
            TickChanges(changed.map(change).collect())
        })
    }

    /// What deltas changed; each state is there once.
    pub(super) fn delta_changes(&self, changes: &[Change]) -> TickChanges {
        let change = |change: &Change| TickChange {
            state: DynState(change.state),
            ticks: u64::from(change.ticks),
            is_active: self.ticks[change.state as usize] % 2 == 1,
        };
        TickChanges(changes.iter().map(change).collect())
    }

    pub(super) fn tell_changes(
        &self,
        from: Option<Position>,
        position: Position,
        changes: TickChanges,
        whole: Option<Arc<Snapshot>>,
        released: usize,
    ) {
        let Some(observers) = self.publisher.shared().observers() else {
            return;
        };
        observers.tell(Interest::CHANGES, || {
            let led = from.and_then(|from| {
                let traces = self.publisher.shared().traces();
                traces.between(from, position.revision).pop()
            });
            Event::Followed(Followed {
                at: SystemTime::now(),
                since: Instant::now(),
                from,
                position,
                cause: match whole {
                    None => Cause::Delta,
                    Some(_) => Cause::Snapshot,
                },
                changes,
                whole,
                trace: led.map(|led| Traced {
                    context: led.context,
                    parent: Some(led.transition),
                }),
                released,
            })
        });
    }
}
