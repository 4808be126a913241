use std::collections::{BTreeMap, BTreeSet};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::replica::synced;
use super::{Root, at};

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

/// Reads the classic text format as strictly as Prometheus does.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let mut samples = BTreeMap::new();
    let mut family = ("", "");
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = (help.split_once(' ').unwrap().0, "");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, family.0, "the type follows the help");
            assert_eq!(
                kind == "counter",
                name.ends_with("_total"),
                "{name} is a {kind}"
            );
            family.1 = kind;
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split_once('{').map_or(sample, |(name, _)| name);
            assert_eq!(name, family.0, "samples follow their family");
            assert!(matches!(family.1, "counter" | "gauge"), "{line}");
            assert!(name.starts_with("machine_"), "{name}");
            assert!(
                samples.insert(sample, value.parse().unwrap()).is_none(),
                "{sample} twice"
            );
        }
    }
    samples
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
    let samples = samples(answer.text());
    for (name, value) in [
        ("machine_revision", 2.0),
        ("machine_states_active", 3.0),
        ("machine_states", 11.0),
        ("machine_tier", 0.0),
        ("machine_stale", 0.0),
        ("machine_age_seconds", 0.0),
        ("machine_ring_deltas", 2.0),
        ("machine_followers", 0.0),
        ("machine_deltas_sent_total", 0.0),
        ("machine_snapshots_sent_total", 0.0),
        ("machine_node_info{node=\"root\",role=\"root\"}", 1.0),
        (
            "machine_http_requests_total{route=\"/\",status=\"200\"}",
            2.0,
        ),
        (
            "machine_http_requests_total{route=\"/\",status=\"304\"}",
            1.0,
        ),
        (
            "machine_http_requests_total{route=\"/v1/states/NAME\",status=\"404\"}",
            1.0,
        ),
        (
            "machine_http_requests_total{route=\"other\",status=\"404\"}",
            1.0,
        ),
        ("machine_http_event_streams", 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
    let build = samples
        .keys()
        .find(|name| name.starts_with("machine_build_info{version=\""));
    assert!(build.is_some());
    assert_eq!(root.node.http.requests() - asked, 6);
}

#[tokio::test]
async fn the_page_lists_every_metric_and_no_other() {
    let page = include_str!("../../../docs/http.md");
    let (_, page) = page.split_once("\n## Metrics\n").unwrap();
    let words = page.split('`').filter(|word| word.starts_with("machine_"));
    let listed: BTreeSet<_> = words.filter_map(|word| word.split('{').next()).collect();
    let root = Root::with_a_door_open().await;
    let (replica, _link) = synced(&root).await;
    let mut shown = BTreeSet::new();
    for node in [&root.node, &replica] {
        let answer = node.get("/metrics").await;
        let types = answer.text().lines();
        let types = types.filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        shown.extend(types.map(str::to_owned));
    }
    assert_eq!(
        shown.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        listed
    );
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
    assert!(answer.text().ends_with("\n# EOF\n"));
    assert!(
        answer
            .text()
            .contains("# TYPE machine_http_requests counter\n")
    );
    let classic = root.node.ask("GET", "/metrics", &[("accept", "*/*")]).await;
    samples(classic.text());
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
