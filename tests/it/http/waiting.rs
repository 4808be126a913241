use tokio::join;

use super::{House, Root, at};

#[tokio::test]
async fn what_is_past_already_is_told_at_once() {
    let root = Root::with_a_door_open().await;
    for revision in 0..2 {
        let answer = root
            .node
            .get(&format!("/v1/states?after={}", at(revision)))
            .await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.header("etag"), format!("\"{}-j\"", at(2)));
    }
}

#[tokio::test]
async fn nothing_new_is_304_after_the_wait() {
    let root = Root::with_a_door_open().await;
    for (path, etag) in [
        ("/", format!("\"{}-t\"", at(2))),
        ("/v1/states", format!("\"{}-j\"", at(2))),
    ] {
        for wait in ["0", "0.01"] {
            let answer = root
                .node
                .get(&format!("{path}?after={}&wait={wait}", at(2)))
                .await;
            answer.check(304, "");
            assert_eq!(answer.header("etag"), etag);
            assert_eq!(answer.header("machine-position"), at(2));
            assert_eq!(answer.header("machine-stale"), "false");
        }
        // A reader may be ahead, having asked a node that was.
        let answer = root
            .node
            .get(&format!("{path}?after={}&wait=0.01", at(9)))
            .await;
        answer.check(304, "");
    }
    let answer = root
        .node
        .get(&format!("/v1/states?after={}&wait=0&door=1", at(2)))
        .await;
    answer.check(304, "");
}

#[tokio::test]
async fn what_comes_meanwhile_is_told_as_it_comes() {
    let root = Root::with_a_door_open().await;
    let path = format!("/?after={}&wait=60", at(2));
    let (answer, ()) = join!(root.node.get(&path), root.add(House::Knock));
    answer.check(200, "Door1Open\nDoor2Closed\nDoor3Closed\nKnock\n");
    assert_eq!(answer.header("machine-position"), at(3));
}

#[tokio::test]
async fn a_narrow_question_waits_as_well() {
    let root = Root::with_a_door_open().await;
    let path = format!("/v1/states?door=1&after={}", at(2));
    let (answer, ()) = join!(root.node.get(&path), root.add(House::Door1Named));
    assert_eq!(answer.status(), 200);
    assert!(
        answer
            .text()
            .contains(r#""active":["Door1Open","Door1Named"]"#),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_position_is_waited_for_until_it_is_reached() {
    let root = Root::with_a_door_open().await;
    for revision in 0..=2 {
        let answer = root
            .node
            .get(&format!("/v1/states?min_rev={}&wait=0", at(revision)))
            .await;
        assert_eq!(answer.status(), 200);
    }
    let path = format!("/v1/states?min_rev={}&wait=60", at(4));
    let knocks = async {
        root.add(House::Knock).await;
        root.add(House::Knock).await;
    };
    let (answer, ()) = join!(root.node.get(&path), knocks);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("machine-position"), at(4));
}

#[tokio::test]
async fn a_position_that_does_not_come_is_a_timeout() {
    let root = Root::with_a_door_open().await;
    let answer = root
        .node
        .get(&format!("/v1/states?min_rev={}&wait=0.01", at(3)))
        .await;
    let message = format!(
        "{} was not reached in time, this node is at {}",
        at(3),
        at(2)
    );
    answer.check_error(504, "not_reached", &message, "[]");
    assert_eq!(answer.header("machine-position"), at(2));
}

/// Waits until the node says that so many requests wait.
async fn waiting(root: &Root, count: u32) {
    root.node.until_metric("machine_http_waiting", count).await;
}

#[tokio::test]
async fn who_waits_is_told_when_the_node_stops() {
    let root = Root::with_a_door_open().await;
    let path = format!("/v1/states?after={}&wait=60", at(2));
    let stop = async {
        waiting(&root, 1).await;
        root.node.tasks.stop();
    };
    let (answer, ()) = join!(root.node.get(&path), stop);
    answer.check_error(503, "stopping", "this node is stopping", "[]");
}

#[tokio::test]
async fn nothing_remains_of_who_stops_waiting() {
    let root = Root::with_a_door_open().await;
    let path = format!("/v1/states?after={}&wait=60", at(2));
    tokio::select! {
        answer = root.node.get(&path) => panic!("{answer:?}"),
        () = waiting(&root, 1) => {}
    }
    waiting(&root, 0).await;
}
