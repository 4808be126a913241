use serde_json::json;

use super::{Node, follows, mutate};
use crate::support::Program;

#[tokio::test]
async fn what_is_not_selected_is_nowhere_below() {
    let root = Node::start("root", &[]);
    let args = ["--select=flight=1,Ready", "--state-metrics=*"];
    let rep = Node::following("rep", &[&root], &args);
    let leaf = Node::following("leaf", &[&rep], &["--state-metrics=*"]);
    leaf.linked(|links| follows(links, "rep")).await;
    let watch = Program::start(&["watch", "--json", "--node", &leaf.http]);
    watch.line(|line| line.contains("snapshot").then_some(()));
    let itinerary = "{\"flight\":\"UA1\"}";
    let hidden = ["add", "Flight2Outbound", "--payload", itinerary];
    let passed = mutate(&root.http, &hidden);
    let last = mutate(
        &root.http,
        &["add", "Flight1Outbound", "--payload", itinerary],
    );
    // Who waits for a position is not kept waiting, though nothing of it is shown.
    leaf.get(&format!("/v1/states?min_rev={passed}")).await;
    let states = leaf
        .get(&format!("/v1/states?ticks=1&payloads=1&min_rev={last}"))
        .await;
    assert_eq!(
        states["payloads"],
        json!({"Flight1Outbound": {"flight": "UA1"}})
    );
    let ticks = states["ticks"].as_object().unwrap();
    assert_eq!(ticks["Flight1Outbound"], 1);
    let count = ticks.len();
    assert_eq!(states["selection"]["states"], count);
    let known = |name: &String| name.starts_with("Flight1") && !name.starts_with("Flight10");
    assert!(
        ticks.keys().all(|name| known(name) || name == "Ready"),
        "{ticks:?}"
    );
    let event = watch.line(|line| line.contains("Flight1Outbound").then(|| line.to_owned()));
    let texts = [
        states.to_string(),
        leaf.text("/").await,
        leaf.text("/metrics").await,
        leaf.get("/v1/links").await.to_string(),
        event,
    ];
    for text in texts {
        for hidden in ["Flight2", "Start"] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
    }
    let links = rep.get("/v1/links").await;
    let selection = json!({"list": "flight=1,Ready", "states": count});
    assert_eq!(links["upstream"]["selection"], selection);
    let follower = &links["downstream"]["followers"][0];
    assert_eq!(follower["selection"], json!({"states": count}));

    let answer = leaf.get("/v1/states/Flight2Outbound").await;
    assert_eq!(answer["error"]["code"], "not_selected");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("this node follows {count} of ")),
        "{message}"
    );
    assert_eq!(
        leaf.get("/v1/states/Flight2Outbond").await["error"]["code"],
        "unknown_state"
    );
    assert_eq!(leaf.get("/v1/states/Flight1Outbound").await["tick"], 1);
    // Tags of one position differ where what is shown does.
    let get = |http: String| async move {
        let answer = machine_node::client::get(&http, "/v1/states", "application/json");
        let answer = answer.await.unwrap();
        let header = |name| answer.header(name).unwrap().to_owned();
        (header("machine-position"), header("etag"))
    };
    let (whole, part) = (get(root.http.clone()).await, get(leaf.http.clone()).await);
    assert_eq!(whole.0, part.0);
    assert_ne!(whole.1, part.1);
    // What is not shown can be written all the same.
    mutate(&leaf.http, &["remove", "Flight2Outbound"]);
}

#[test]
fn a_tree_whose_replicants_select_agrees_on_what_they_do() {
    let args = ["--select=group=Gates", "--speed=max", "--fanout=1,1"];
    let ports = ["--http-port=0", "--rpc-port=0"];
    let tree = Program::start(&[&["tree"], &args[..], &ports[..]].concat());
    tree.line_after("all 3 nodes are at ");
    assert!(tree.interrupt().success());
}
