use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use crate::when::condition::{Condition, Now};
use crate::when::waiters::Wait;

use super::*;

const A: u32 = 0;
const B: u32 = 1;

/// A machine of ticks alone, and those who wait.
struct Ticking {
    ticks: Vec<u64>,
    shown: Vec<u64>,
    retained: BTreeMap<u32, Bytes>,
    waiters: Arc<Waiters>,
    waking: Waking,
}

impl Ticking {
    fn new() -> Self {
        let waiters = Arc::new(Waiters::new(2));
        Self {
            ticks: vec![0; 2],
            shown: vec![0; 2],
            retained: BTreeMap::new(),
            waking: Waking::new(Arc::clone(&waiters)),
            waiters,
        }
    }

    fn wait(&self, condition: Condition) -> Wait {
        let (ticks, retained) = (&self.shown, &self.retained);
        self.waiters
            .wait(condition, || Some(Now { ticks, retained }))
    }

    fn transition(&mut self, accepted: bool, changes: &[(u32, u32)]) {
        let changes = changes.iter().map(|(state, ticks)| Change {
            state: *state,
            ticks: *ticks,
        });
        let changes: Vec<_> = changes.collect();
        for change in &changes {
            self.ticks[change.state as usize] += u64::from(change.ticks);
        }
        let (ticks, retained) = (&self.ticks, &self.retained);
        let moment = || Now { ticks, retained };
        self.waking.transition(accepted, &changes, moment);
        self.waking.release();
    }

    fn publish(&mut self) {
        self.shown.clone_from(&self.ticks);
        self.waking.published(&Now {
            ticks: &self.shown,
            retained: &self.retained,
        });
    }
}

fn is_over(wait: &Wait) -> bool {
    wait.poll(&Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn a_canceled_transition_wakes_nobody_until_the_next_accepted_one() {
    let mut machine = Ticking::new();
    let (a, not_a) = (
        machine.wait(Condition::Active(vec![A])),
        machine.wait(Condition::Ticks(vec![(A, 2)])),
    );
    machine.transition(false, &[(A, 1)]);
    machine.publish();
    assert!(!is_over(&a), "fresh or not, it is not woken");
    assert!(
        is_over(&machine.wait(Condition::Active(vec![A]))),
        "who comes now sees what is shown"
    );
    machine.transition(true, &[(B, 1)]);
    assert!(is_over(&a) && !is_over(&not_a));
    machine.transition(false, &[(A, 1)]);
    assert!(!is_over(&not_a));
    machine.transition(true, &[]);
    assert!(is_over(&not_a), "one that changes nothing looks as well");
}

#[test]
fn who_comes_while_the_machine_is_ahead_is_checked_by_the_publication() {
    let mut machine = Ticking::new();
    machine.transition(true, &[(A, 1)]);
    let late = machine.wait(Condition::Active(vec![A]));
    machine.transition(false, &[(B, 1)]);
    let canceled = machine.wait(Condition::Active(vec![B]));
    assert!(!is_over(&late));
    machine.publish();
    assert!(is_over(&late) && !is_over(&canceled));
}

#[test]
fn nothing_is_left_of_who_dropped_or_is_done() {
    let mut machine = Ticking::new();
    let waits: Vec<_> = (0..100)
        .map(|i| machine.wait(Condition::Active(vec![A, i % 2])))
        .collect();
    assert_eq!(machine.waiters.size(), (100, 250));
    machine.transition(true, &[(A, 1)]);
    assert_eq!(machine.waiters.size(), (100, 150), "half of them is done");
    drop(waits);
    assert_eq!(machine.waiters.size(), (0, 0));
    let change = [A, B].map(|state| Change { state, ticks: 1 });
    assert!(!machine.waiters.concern(&change));
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn only_the_concerned_are_woken_and_only_once() {
    let mut machine = Ticking::new();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let both = machine.wait(Condition::Active(vec![A, B]));
    let other = machine.wait(Condition::Active(vec![B]));
    for wait in [&both, &other] {
        assert!(wait.poll(&Context::from_waker(&waker)).is_pending());
    }
    let woken = || count.0.load(Ordering::Relaxed);
    machine.transition(true, &[(A, 1)]);
    machine.publish();
    assert_eq!(woken(), 0, "it is not yet as they wait for");
    machine.transition(true, &[(B, 1)]);
    machine.transition(true, &[(A, 1), (B, 1)]);
    assert_eq!(woken(), 2);
    assert!(is_over(&both) && is_over(&other));
}

#[test]
fn a_panic_of_a_condition_is_the_waiters_own() {
    let mut machine = Ticking::new();
    let query = |moment: &dyn Moment| {
        assert_eq!(moment.tick(A), 0, "a condition that cannot take it");
        false
    };
    let mistaken = machine.wait(Condition::Query(vec![A], Arc::new(query)));
    let other = machine.wait(Condition::Active(vec![A]));
    machine.transition(true, &[(A, 1)]);
    assert!(is_over(&other));
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| is_over(&mistaken)));
    assert!(polled.is_err());
    drop(mistaken);
    assert_eq!(machine.waiters.size(), (1, 0));
}

#[test]
fn what_runs_for_a_waiter_may_use_the_waiting_itself() {
    let mut machine = Ticking::new();
    let waiters = Arc::clone(&machine.waiters);
    let query = move |moment: &dyn Moment| {
        let nested = waiters.wait(Condition::Active(vec![B]), || None::<Arc<Now<'_>>>);
        assert!(!is_over(&nested));
        moment.tick(A) == 1
    };
    let when = machine.wait(Condition::Query(vec![A], Arc::new(query)));
    machine.transition(true, &[(A, 1)]);
    assert!(is_over(&when));
}

#[test]
fn the_next_activation_counts_from_what_a_new_history_says() {
    let mut machine = Ticking::new();
    let waits = || {
        let wait = |tick| machine.wait(Condition::next(A, tick));
        (wait(0), wait(7))
    };
    let (first, later) = waits();
    let retained = BTreeMap::new();
    let show = |waking: &mut Waking, how, tick| {
        let ticks = [tick, 0];
        waking.replaced(
            how,
            &Now {
                ticks: &ticks,
                retained: &retained,
            },
        );
    };
    show(&mut machine.waking, Replaced::Nothing, 5);
    assert!(!is_over(&first) && !is_over(&later));
    show(&mut machine.waking, Replaced::Older, 7);
    assert!(is_over(&first) && is_over(&later));
    let again = machine.wait(Condition::next(A, 7));
    show(&mut machine.waking, Replaced::OtherEpoch, 0);
    assert!(!is_over(&again));
    show(&mut machine.waking, Replaced::OtherEpoch, 1);
    assert!(is_over(&again));
}

#[test]
fn the_end_is_told_to_who_waits_and_to_who_comes() {
    let machine = Ticking::new();
    let waiting = machine.wait(Condition::Active(vec![A]));
    let waiters = Arc::clone(&machine.waiters);
    drop(machine);
    let come = waiters.wait(Condition::Active(vec![A]), || None::<Arc<Now<'_>>>);
    assert!(is_over(&waiting) && is_over(&come));
}
