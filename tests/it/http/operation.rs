use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Root, at};
use crate::exposition::Exposition;

#[tokio::test]
async fn a_root_is_alive_and_ready() {
    let root = Root::with_a_door_open().await;
    for (path, body) in [
        ("/healthz", "{\"alive\":true}\n"),
        ("/readyz", "{\"ready\":true}\n"),
    ] {
        let answer = root.node.get(path).await;
        answer.check(200, body);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(root.node.ask("HEAD", path, &[]).await.status(), 200);
    }
}

#[tokio::test]
async fn metrics_are_in_the_format_that_every_tool_reads() {
    let root = Root::with_a_door_open().await;
    let asked = root.node.http.requests();
    root.node.get("/").await;
    root.node.get("/").await;
    let tag = format!("\"{}-t\"", at(2));
    root.node.ask("GET", "/", &[("if-none-match", &tag)]).await;
    root.node.get("/v1/states/Nobody").await;
    root.node.get("/nothing").await;
    let answer = root.node.get("/metrics").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let requests = "machine_http_requests_total";
    let counted = |route, status| vec![("route", route), ("status", status)];
    for (name, labels, value) in [
        ("machine_revision", vec![], 2.0),
        ("machine_states_active", vec![], 3.0),
        ("machine_states", vec![], 11.0),
        ("machine_tier", vec![], 0.0),
        ("machine_stale", vec![], 0.0),
        ("machine_lag_seconds", vec![], 0.0),
        ("machine_ring_deltas", vec![], 2.0),
        ("machine_followers", vec![], 0.0),
        ("machine_deltas_total", vec![("link", "down")], 0.0),
        ("machine_snapshots_total", vec![("link", "down")], 0.0),
        (
            "machine_node_info",
            vec![("machine", "root"), ("role", "root"), ("parent", "")],
            1.0,
        ),
        (requests, counted("/", "200"), 2.0),
        (requests, counted("/", "304"), 1.0),
        (requests, counted("/v1/states/NAME", "404"), 1.0),
        (requests, counted("other", "404"), 1.0),
        (requests, vec![], 5.0),
        // The first and the 304: of plain GETs one of eight is timed.
        (
            "machine_http_request_seconds_count",
            vec![("route", "/")],
            2.0,
        ),
        ("machine_http_event_streams", vec![], 0.0),
        (
            "machine_build_info",
            vec![("version", "1.0.0"), ("service", "house")],
            1.0,
        ),
    ] {
        assert_eq!(
            answer.metric(name, &labels),
            Some(value),
            "{name} {labels:?}"
        );
    }
    assert_eq!(root.node.http.requests() - asked, 6);
}

#[tokio::test]
async fn open_metrics_are_for_who_asks_for_them() {
    let root = Root::with_a_door_open().await;
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.4";
    let answer = root
        .node
        .ask("GET", "/metrics", &[("accept", accept)])
        .await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), kind);
    let open = Exposition::open(answer.text());
    assert_eq!(open.families["machine_http_requests"], "counter");
    let classic = root.node.ask("GET", "/metrics", &[("accept", "*/*")]).await;
    Exposition::classic(classic.text());
}

#[tokio::test]
async fn one_connection_serves_many_requests_in_their_order() {
    let root = Root::with_a_door_open().await;
    let mut stream = TcpStream::connect(root.node.addr).await.unwrap();
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n{more}\r\n");
    let requests = get("/healthz", "") + &get("/readyz", "") + &get("/x", "connection: close\r\n");
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let statuses: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("HTTP/1.1 "))
        .collect();
    assert_eq!(
        statuses,
        [
            "HTTP/1.1 200 OK",
            "HTTP/1.1 200 OK",
            "HTTP/1.1 404 Not Found"
        ]
    );
}

#[tokio::test]
async fn a_node_that_stops_closes_idle_connections_and_returns() {
    let root = Root::with_a_door_open().await;
    let mut idle = TcpStream::connect(root.node.addr).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 8];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(root.node.tasks.finish(crate::support::PATIENCE).await, 0);
    assert!(TcpStream::connect(root.node.addr).await.is_err());
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let root = Root::with_a_door_open().await;
    let mut stream = TcpStream::connect(root.node.addr).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    // The node may hang up before it has read all of it.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "),
        "{answer:?}"
    );
}
