use serde_json::json;

use super::{Node, follows, mutate};
use crate::support::{Folder, run, signal};

#[tokio::test]
async fn a_killed_root_goes_on_where_it_was_and_its_followers_resume() {
    let folder = Folder::new("restart");
    let dir = format!("--state-dir={}", folder.path().join("state").display());
    let root = Node::start("root", &[&dir]);
    let rep = Node::following("rep", &[&root], &[]);
    rep.linked(|links| follows(links, "root")).await;
    let payload = "{\"until\":\"16:15\"}";
    let write = ["add", "Flight1Delayed", "--payload", payload, "--key=once"];
    let position = mutate(&rep.http, &write);
    rep.get(&format!("/v1/states?min_rev={position}")).await;
    let before = root.get("/v1/states?ticks=1&payloads=1").await;
    let links = rep.get("/v1/links").await;
    assert_eq!(links["upstream"]["connects"], 1);

    let (rpc, http) = (root.rpc.clone(), root.http.clone());
    signal("KILL", root.program.pid());
    assert!(!root.program.ended().success());
    let root = Node::start_at("root", &rpc, &http, &[&dir]);
    let after = root.get("/v1/states?ticks=1&payloads=1").await;
    assert_eq!(after, before);
    assert_eq!(
        mutate(&rep.http, &write),
        position,
        "a key is run once, over a restart too"
    );
    let links = rep.linked(|links| follows(links, "root")).await;
    let resyncs = json!({
        "first": 1, "epoch": 0, "compacted": 0, "digest": 0, "malformed": 0, "selection": 0,
    });
    assert_eq!(links["upstream"]["resyncs"], resyncs);
    assert_eq!(links["upstream"]["connects"], 2);
    let position = mutate(&rep.http, &["remove", "Flight1Delayed"]);
    let store = &root.get("/v1/links").await["store"];
    assert_eq!(
        (&store["durability"], &store["position"]),
        (&json!("sync"), &json!(position))
    );

    let second = run(&["node", "--addr=:0", &dir]);
    assert_eq!(second.code, Some(6), "{second:?}");
    assert!(
        second
            .stderr
            .contains("another process has it open; end that one"),
        "{second:?}"
    );
    assert!(root.program.interrupt().success());
    // One that ended in order is opened without a word but where it goes on.
    let root = Node::start_at("root", &rpc, &http, &[&dir]);
    let shown = root.get("/v1/states").await;
    let shown = format!("{}.{}", shown["epoch"].as_str().unwrap(), shown["revision"]);
    assert_eq!(shown, position);
}

#[tokio::test]
async fn a_relaxed_root_that_is_killed_says_that_its_history_begins_anew() {
    let folder = Folder::new("relaxed");
    let dir = format!("--state-dir={}", folder.path().display());
    let args = [dir.as_str(), "--durability=relaxed=1h"];
    let root = Node::start("root", &args);
    let store = &root.get("/v1/links").await["store"];
    assert_eq!(
        (&store["durability"], &store["within_ms"]),
        (&json!("relaxed"), &json!(3_600_000))
    );
    let position = mutate(&root.http, &["add", "Heartbeat"]);
    let (rpc, http) = (root.rpc.clone(), root.http.clone());
    signal("KILL", root.program.pid());
    assert!(!root.program.ended().success());
    let root = Node::start_at("root", &rpc, &http, &args);
    let epoch = root.get("/v1/states").await["epoch"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(!position.starts_with(&epoch), "{position} and {epoch}");
    // In order it loses nothing.
    assert!(root.program.interrupt().success());
    let root = Node::start_at("root", &rpc, &http, &args);
    assert_eq!(root.get("/v1/states").await["epoch"], epoch.as_str());
}

#[tokio::test]
async fn a_history_that_is_damaged_is_exit_code_7_and_says_what_to_do() {
    let folder = Folder::new("damaged");
    let dir = format!("--state-dir={}", folder.path().display());
    let root = Node::start("root", &[&dir]);
    mutate(&root.http, &["add", "Heartbeat"]);
    assert!(root.program.interrupt().success());
    let file = folder.path().join("history.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    // All but what says that it is a database.
    bytes[64..].fill(0);
    std::fs::write(&file, &bytes).unwrap();
    let ended = run(&["node", "--addr=127.0.0.1:0", &dir]);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(
        ended.stderr.contains("Restore the file from a copy"),
        "{ended:?}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "it is left as it is");
}

#[test]
fn a_folder_that_cannot_be_used_is_exit_code_6_and_named() {
    let folder = Folder::new("unusable");
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let dir = format!("--state-dir={}", file.display());
    let ended = run(&["node", "--addr=:0", &dir]);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stderr.contains(file.to_str().unwrap()), "{ended:?}");
}
