use serde_json::json;

use super::{Node, follows, linked, mutate};
use crate::support::{Program, run, signal};

#[tokio::test]
async fn each_tier_of_a_tree_has_its_interval_and_its_parents() {
    let args = ["--fanout=2,1", "--http-port=0", "--rpc-port=0"];
    let more = ["--random=1h", "--push-interval=10ms,100ms", "--ring=9"];
    let tree = Program::start(&[&["tree"], &args[..], &more[..]].concat());
    let http = |name: &str| {
        let addr = tree.line_after(&format!("{name}: http://"));
        addr.trim_end_matches('/').to_owned()
    };
    let [root, rep_1, leaf] = ["root", "rep-1", "rep-1-1"].map(http);
    let links = linked(&rep_1, |links| follows(links, "root")).await;
    assert_eq!(links["upstream"]["push_interval_ms"], 10);
    assert_eq!(links["upstream"]["index"], 0);
    assert_eq!(links["upstream"]["tier"], 0);
    let links = linked(&leaf, |links| follows(links, "rep-1")).await;
    let up = &links["upstream"];
    assert_eq!(up["push_interval_ms"], 100);
    assert_eq!(up["parents"].as_array().unwrap().len(), 3);
    assert_eq!((&up["index"], &up["tier"]), (&json!(0), &json!(1)));
    assert_eq!(
        (&up["granularity"], &up["protocol"]),
        (&json!("latest"), &json!(2))
    );
    assert_eq!(
        (&up["heartbeat_ms"], &up["stale_after_ms"]),
        (&json!(1000), &json!(3000))
    );
    assert_eq!(links["ring"]["most_deltas"], 9);
    assert_eq!(links["downstream"]["push_interval_ms"], 100);
    assert_eq!(links["store"], json!(null));
    let of_root = linked(&root, |links| {
        let followers = links["downstream"]["followers"].as_array().unwrap();
        followers.len() == 2 && links["upstream"].is_null()
    });
    for follower in of_root.await["downstream"]["followers"].as_array().unwrap() {
        assert_eq!(follower["push_interval_ms"], 10);
        assert_eq!(follower["lag"], 0);
    }
    let table = run(&["links", "--node", &leaf]).stdout;
    for part in [
        "rep-1-1 (replicant, tier 2)",
        "following rep-1",
        "push every 100ms",
    ] {
        assert!(table.contains(part), "{part} in {table}");
    }
    let printed = run(&["links", "--json", "--node", &leaf]).stdout;
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["upstream"]["parents"], up["parents"]);
    assert!(tree.interrupt().success());
}

#[tokio::test]
async fn what_both_ends_of_a_link_want_is_met() {
    let root = Node::start("root", &["--push-interval=20ms"]);
    let args = [
        "--parent-interval=30ms",
        "--granularity=every",
        "--no-compress",
    ];
    let slow = Node::following("slow", &[&root], &args);
    let quick = Node::following("quick", &[&root], &["--parent-interval=5ms"]);
    let links = slow.linked(|links| follows(links, "root")).await;
    let up = &links["upstream"];
    assert_eq!(up["push_interval_ms"], 30);
    assert_eq!(
        (&up["granularity"], &up["compress"]),
        (&json!("every"), &json!(false))
    );
    let links = quick.linked(|links| follows(links, "root")).await;
    assert_eq!(links["upstream"]["push_interval_ms"], 20);
    let links = root.get("/v1/links").await;
    let followers = links["downstream"]["followers"].as_array().unwrap();
    let of = |name: &str| {
        followers
            .iter()
            .find(|follower| follower["name"] == name)
            .unwrap()
    };
    assert_eq!(of("slow")["granularity"], "every");
    assert_eq!(of("slow")["compress"], false);
    assert_eq!(of("quick")["compress"], true);
}

#[tokio::test]
async fn who_loses_its_parent_is_never_stale_and_comes_back() {
    let tree = Program::start(&[
        "tree",
        "--processes",
        "--fanout=2,2",
        "--random=5ms",
        "--stale-after=10s",
        "--prefer-every=1s",
        "--http-port=0",
        "--rpc-port=0",
    ]);
    let told = tree.lines_until(|line| line.contains("curl -N "));
    let http = |name: &str| {
        let start = format!("{name}: http://");
        let mut found = told.iter().filter_map(|line| line.strip_prefix(&start));
        found.next_back().unwrap().trim_end_matches('/').to_owned()
    };
    let start = "rep-1 is process ";
    let pid = told
        .iter()
        .find_map(|line| line.strip_prefix(start))
        .unwrap();
    let leaves = ["rep-1-1", "rep-1-2"].map(http);
    let mut moves = Vec::new();
    for leaf in &leaves {
        let links = linked(leaf, |links| follows(links, "rep-1")).await;
        moves.push(links["upstream"]["moves"].as_u64().unwrap());
    }
    let watchers = leaves
        .each_ref()
        .map(|leaf| Program::start(&["watch", "--node", leaf]));
    for watcher in &watchers {
        watcher.line(|line| line.contains(" =").then_some(()));
    }
    signal("KILL", pid.parse().unwrap());
    for (leaf, moves) in leaves.iter().zip(moves) {
        let elsewhere = |links: &serde_json::Value| {
            let up = &links["upstream"];
            assert_eq!(up["stale"], false, "{links:#}");
            up["state"] == "following" && up["moves"].as_u64().unwrap() > moves
        };
        linked(leaf, elsewhere).await;
        // A root whose ring reaches back needs no snapshot, nor does another node of the tree.
        let links = linked(leaf, |links| follows(links, "rep-1")).await;
        assert_eq!(links["upstream"]["resyncs"]["first"], 1, "{links:#}");
        assert_eq!(links["upstream"]["resyncs"]["epoch"], 0, "{links:#}");
    }
    for (leaf, watcher) in leaves.iter().zip(watchers) {
        let position = mutate(leaf, &["add", "Healthcheck"]);
        let (_, revision) = position.split_once('.').unwrap();
        let revision: u64 = revision.parse().unwrap();
        let seen = watcher.lines_until(|line| {
            let (number, _) = line.split_once(' ').unwrap_or((line, ""));
            number.parse().is_ok_and(|seen: u64| seen >= revision)
        });
        let stale = seen.iter().find(|line| line.starts_with("stale"));
        assert_eq!(stale, None, "{leaf}");
    }
    assert!(tree.interrupt().success());
}
