//! Random traffic.

use flights::states::Flights;
use machine_node::random::RandomTraffic;
use machine_runtime::{Machine, Mutation, Op};

fn exception() -> Flights {
    "Exception".parse().unwrap()
}

#[test]
fn three_states_are_drawn_from_all_but_exception() {
    let mut traffic = RandomTraffic::<Flights>::new(1);
    let mut seen = vec![false; Flights::ALL.len()];
    for _ in 0..Flights::ALL.len() * 10 {
        let mutation = traffic.next(false);
        assert_eq!((mutation.op(), mutation.states().len()), (Op::Add, 3));
        for state in mutation.states() {
            seen[machine_runtime::State::index(*state)] = true;
        }
    }
    let unseen: Vec<_> = Flights::ALL
        .iter()
        .filter(|state| !seen[machine_runtime::State::index(**state)])
        .collect();
    assert_eq!(unseen, [&exception()]);
}

#[test]
fn traffic_is_the_same_for_the_same_seed() {
    let take = |seed| -> Vec<Mutation<Flights>> {
        let mut traffic = RandomTraffic::new(seed);
        (0..100).map(|_| traffic.next(false)).collect()
    };
    assert_eq!(take(1), take(1));
    assert_ne!(take(1), take(2));
}

#[test]
fn an_exception_that_comes_up_is_removed() {
    let mut machine = Machine::<Flights>::new();
    let mut traffic = RandomTraffic::new(3);
    let mut removed = 0;
    for _ in 0..20_000 {
        let active = machine.is_active(exception());
        let mutation = traffic.next(active);
        let executed = machine.mutate(&mutation).is_executed();
        if active {
            assert_eq!(mutation, Mutation::remove(exception()));
            assert!(executed && !machine.is_active(exception()));
            removed += 1;
        }
    }
    assert!(removed > 0);
}
