//! Who waits for what, as a debugger is told.

use std::collections::BTreeMap;

use super::condition::Condition;
use crate::errors::discard;
use crate::state::State;
use crate::view::View;

/// How many waiters are looked at: those beyond are not told of.
const MOST: usize = 65_536;

/// How many states of one condition are told.
const STATES: usize = 64;

/// How many futures wait for the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Awaited {
    /// What for, in words.
    pub(crate) what: String,
    /// The states that it names.
    pub(crate) states: Vec<u32>,
    /// How many futures.
    pub(crate) count: u32,
}

impl<S: State> View<S> {
    /// Who waits now, by what they wait for, those first for whose condition most do; `most` conditions
    /// at most.
    pub(crate) fn awaited(&self, most: usize) -> Vec<Awaited> {
        let conditions = self.shared().waiters.conditions(MOST);
        let mut counts = BTreeMap::<(String, Vec<u32>), u32>::new();
        for condition in &conditions {
            let states = condition.states().take(STATES).collect();
            *counts.entry((what(condition), states)).or_default() += 1;
        }
        // It may be the last that holds what somebody asks.
        discard(conditions);
        let awaited = counts.into_iter().map(|((what, states), count)| Awaited {
            what,
            states,
            count,
        });
        let mut awaited: Vec<_> = awaited.collect();
        awaited.sort_by_key(|one| std::cmp::Reverse(one.count));
        awaited.truncate(most);
        awaited
    }
}

fn what(condition: &Condition) -> String {
    let numbers = |ticks: &[(u32, u64)]| {
        let numbers = ticks.iter().take(STATES).map(|(_, tick)| tick.to_string());
        numbers.collect::<Vec<_>>().join(", ")
    };
    match condition {
        Condition::Active(_) => "all are active".to_owned(),
        Condition::Inactive(_) => "none is active".to_owned(),
        Condition::Ticks(ticks) => format!("ticks of at least {}", numbers(ticks)),
        Condition::Moved(ticks) => format!("ticks other than {}", numbers(ticks)),
        Condition::Next(_, tick) => format!("the activation with tick {tick}"),
        Condition::Query(..) => "a question about them".to_owned(),
        Condition::Payload(..) => "active with a certain payload".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::machine::Machine;
    use crate::owner::Owner;
    use crate::position::Epoch;
    use crate::sets::Basic;
    use crate::view::ViewOptions;

    #[test]
    fn waiters_are_counted_by_what_they_wait_for() {
        let machine = Machine::<Basic>::new();
        let (handle, _owner) = Owner::new(machine, Epoch(1), ViewOptions::default());
        let view = handle.view();
        assert!(view.awaited(9).is_empty());
        let twice = [view.when(Basic::Ready), view.when(Basic::Ready)];
        let once = view.when_not(Basic::Exception);
        drop(once);
        let question = view.when_query(Basic::Start, |ticks| ticks.is_active(Basic::Start));
        let awaited = view.awaited(9);
        let told: Vec<_> = awaited
            .iter()
            .map(|one| (one.what.as_str(), one.count))
            .collect();
        assert_eq!(told, [("all are active", 2), ("a question about them", 1)]);
        assert_eq!(awaited[0].states.len(), 1);
        assert_eq!(view.awaited(1).len(), 1);
        drop((twice, question));
        assert!(view.awaited(9).is_empty());
    }
}
