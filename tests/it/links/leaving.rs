use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;

use serde_json::json;

use super::{Node, follows, linked};
use crate::support::{Folder, PATIENCE, Program, command, signal};

#[tokio::test]
async fn a_node_sends_everybody_elsewhere_before_it_ends() {
    let root = Node::start("root", &[]);
    let middle = Node::following("middle", &[&root], &["--drain-within=1m"]);
    let leaf = Node::following("leaf", &[&middle, &root], &[]);
    leaf.linked(|links| follows(links, "middle")).await;
    let watch = Program::start(&["watch", "--node", &middle.http]);
    watch.line(|line| line.contains(" =").then_some(()));
    // A write whose body is still to come keeps the node until it has been answered.
    let mut writer = TcpStream::connect(&middle.http).unwrap();
    writer.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = "{\"op\":\"add\",\"states\":[\"Heartbeat\"]}";
    let head = format!(
        "POST /v1/mutations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    writer.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    writer.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");

    signal("INT", middle.program.pid());
    let links = middle.linked(|links| links["draining"] == true).await;
    assert_eq!(links["role"], "replicant");
    leaf.linked(|links| follows(links, "root")).await;
    middle
        .linked(|links| links["downstream"]["followers"] == json!([]))
        .await;
    let ready = middle.get("/readyz").await;
    assert_eq!(
        ready,
        json!({"ready": false, "why": "the node is about to stop"})
    );
    assert_eq!(middle.get("/healthz").await, json!({"alive": true}));
    assert!(middle.text("/metrics").await.contains("machine_draining{"));
    assert_eq!(watch.line_after("end "), "{\"why\":\"the node stops\"}");
    let refused = crate::support::run(&["mutate", "add", "Ready", "--node", &middle.http]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let answer = middle.get("/v1/events").await;
    assert_eq!(answer["error"]["code"], "stopping");

    writer.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    writer.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("\"outcome\":\"executed\""), "{answer}");
    assert!(middle.program.ended().success());
    let links = leaf.linked(|links| follows(links, "root")).await;
    assert_eq!(links["upstream"]["moves"], 1);
    assert_eq!(links["upstream"]["stale"], false);
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let root = Node::start("root", &["--drain-within=1h"]);
    let mut writer = TcpStream::connect(&root.http).unwrap();
    let head = "POST /v1/mutations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 9\r\nexpect: 100-continue\r\n\r\n";
    writer.write_all(head.as_bytes()).unwrap();
    writer.read_exact(&mut [0; 25]).unwrap();
    let pid = root.program.pid();
    signal("INT", pid);
    linked(&root.http, |links| links["draining"] == true).await;
    // One that comes at once is taken for the same.
    while crate::support::is_running(pid) {
        signal("INT", pid);
        tokio::task::yield_now().await;
    }
    assert_eq!(root.program.ended().code(), Some(1));
}

#[test]
fn a_service_manager_is_told_how_a_node_is() {
    let folder = Folder::new("systemd");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let until = |wanted: &str| {
        let mut all = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let len = manager.recv(&mut buffer).unwrap();
            let text = String::from_utf8(buffer[..len].to_vec()).unwrap();
            all.extend(text.lines().map(str::to_owned));
            if all.iter().any(|line: &String| line.starts_with(wanted)) {
                return all;
            }
        }
    };
    let mut node = command(&["node", "--name=rep", "--parent=:1", "--addr=:0"]);
    node.env("NOTIFY_SOCKET", &path);
    let node = Program::start_command(&mut node);
    node.line_after("rep: tarpc ");
    let signs = "STATUS=nothing to show yet: connecting";
    let told = until(signs);
    assert!(!told.contains(&"READY=1".to_owned()), "{told:?}");
    assert!(node.interrupt().success());
    until("STOPPING=1");

    let mut node = command(&["node", "--addr=:0"]);
    node.envs([
        ("NOTIFY_SOCKET", path.as_os_str()),
        ("WATCHDOG_USEC", "100000".as_ref()),
    ]);
    let node = Program::start_command(&mut node);
    let told = until("READY=1");
    assert!(told.contains(&"STATUS=ready".to_owned()), "{told:?}");
    until("WATCHDOG=1");
    until("WATCHDOG=1");
    assert!(node.interrupt().success());
    until("STOPPING=1");
}
