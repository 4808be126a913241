use machine_runtime::{Epoch, Machine, Owner, Position, ViewOptions};

use super::*;
use crate::fixture::Flights;
use crate::http::wait::Until;
use crate::shutdown::Tasks;

#[tokio::test]
async fn what_comes_just_after_a_wait_is_shown_not_passed_over() {
    let (handle, owner) = Owner::new(Machine::new(), Epoch(1), ViewOptions::default());
    let tasks = Tasks::default();
    let stopped = tasks.stopped();
    tasks.spawn(async move {
        owner.run(stopped).await;
    });
    let site = crate::http::of_root(&handle).site;
    let call = Call::plain(Target::States);
    let show = |until: Until, ticks: bool| {
        let most = std::time::Duration::ZERO;
        let mut query = Query::default();
        query.ticks = ticks;
        query.wait = Some(Wait { until, most });
        let shown = site.show(&call, &query, Representation::Json);
        shown.map(|response| response.status().as_u16())
    };
    let before = handle.view().position().unwrap();
    let other = Position {
        epoch: Epoch(2),
        revision: 0,
    };
    for ticks in [false, true] {
        assert_eq!(show(Until::Past(before), ticks), Ok(304));
        let conflict = Problem::epoch_changed(before);
        assert_eq!(show(Until::Reached(other), ticks), Err(conflict));
    }
    let receipt = handle.add(Flights::Start).await.unwrap();
    assert!(receipt.outcome.is_executed());
    for ticks in [false, true] {
        assert_eq!(show(Until::Past(before), ticks), Ok(200));
    }
    tasks.stop();
}
