//! Metrics of whole programs: for those who ask, and for a Pushgateway.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use machine_node::client;
use machine_node::shutdown::Tasks;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::exposition::Exposition;
use crate::support::{PATIENCE, Program, command, run, signal};

const ACCEPT_OPEN: &str = "application/openmetrics-text;version=1.0.0";

/// A root of its own on free ports, and its HTTP address.
fn root(more: &[&str]) -> (Program, String) {
    let args = ["node", "--addr=:0", "--http-addr=:0", "--name=root"];
    let program = Program::start(&[&args, more].concat());
    let addr = program.line_after("root: http://");
    (program, addr.trim_end_matches('/').to_owned())
}

async fn scrape(addr: &str) -> Exposition {
    let answer = client::get(addr, "/metrics", "text/plain").await.unwrap();
    Exposition::classic(std::str::from_utf8(&answer.body).unwrap())
}

/// Has a root run a mutation.
fn mutate(addr: &str, args: &[&str]) -> Option<i32> {
    let node = format!("--node={addr}");
    run(&[&["mutate"], args, &[&node]].concat()).code
}

#[tokio::test]
async fn a_fresh_tree_has_its_series_at_0_in_both_formats() {
    let ports = ["--rpc-port=0", "--http-port=0", "--fanout=1"];
    // Nothing flows, for a long time.
    let args = [&["tree", "--random=1h", "--state-metrics=*"][..], &ports].concat();
    let tree = Program::start(&args);
    let addrs = ["root", "rep-1"].map(|name| {
        let addr = tree.line_after(&format!("{name}: http://"));
        addr.trim_end_matches('/').to_owned()
    });
    for (addr, role) in addrs.iter().zip(["root", "replicant"]) {
        let open = client::get(addr, "/metrics", ACCEPT_OPEN).await.unwrap();
        let open = Exposition::open(std::str::from_utf8(&open.body).unwrap());
        let classic = scrape(addr).await;
        let names = |all: &Exposition| -> Vec<_> { all.samples.keys().cloned().collect() };
        assert_eq!(names(&open), names(&classic));
        for (_, labels) in classic.samples.keys() {
            assert_eq!(
                (labels["service"].as_str(), labels["role"].as_str()),
                ("flights", role)
            );
        }
        for (name, count) in [
            ("machine_http_requests_total", 12 * 17),
            ("machine_denied_total", 4 * 3),
            ("machine_limited_total", 16),
            ("machine_http_request_seconds_count", 12),
            ("machine_queue_refusals_total", 4),
            ("machine_observer_dropped_total", 3),
            ("machine_exported_total", 3 * 3),
            ("machine_link_sent_bytes_total", 2),
            (
                "machine_transitions_total",
                if role == "root" { 5 * 2 } else { 0 },
            ),
            (
                "machine_cancellations_total",
                if role == "root" { 12 } else { 0 },
            ),
            ("machine_resyncs_total", if role == "root" { 0 } else { 6 }),
        ] {
            let series = classic.samples.keys().filter(|(other, _)| other == name);
            assert_eq!(series.count(), count, "{name}");
        }
        for name in ["machine_queue_refusals_total", "machine_exported_total"] {
            assert_eq!(classic.sum(name, &[]), Some(0.0), "{name}");
        }
        let active = classic.sum("machine_state_active", &[]);
        assert_eq!(active, classic.sum("machine_states_active", &[]));
        assert!(!classic.families.keys().any(|name| name.starts_with("am_")));
    }
}

#[tokio::test]
async fn counters_move_by_what_was_done() {
    let (_program, addr) = root(&[]);
    let before = scrape(&addr).await;
    for _ in 0..3 {
        client::get(&addr, "/v1/states", "application/json")
            .await
            .unwrap();
    }
    assert_eq!(mutate(&addr, &["add", "Flight1Inbound"]), Some(0));
    let after = scrape(&addr).await;
    let moved = |name: &str, labels: &[(&str, &str)]| {
        let [before, after] = [&before, &after].map(|all| all.sum(name, labels).unwrap());
        after - before
    };
    let requests = "machine_http_requests_total";
    let times = "machine_http_request_seconds_count";
    for (name, labels, by) in [
        (
            requests,
            vec![("route", "/v1/states"), ("status", "200")],
            3.0,
        ),
        (
            requests,
            vec![("route", "/v1/mutations"), ("status", "200")],
            1.0,
        ),
        (
            requests,
            vec![("route", "/metrics"), ("status", "200")],
            1.0,
        ),
        (times, vec![("route", "/v1/states")], 3.0),
        (times, vec![("route", "/v1/mutations")], 1.0),
    ] {
        let moved = moved(name, &labels);
        assert!((moved - by).abs() < 1e-9, "{name} {labels:?}: {moved}");
    }
    let all = moved(requests, &[]) - moved(requests, &[("route", "/v1/schema")]);
    assert!((all - 5.0).abs() < 1e-9, "{all}");
    assert!(moved("machine_revision", &[]) >= 1.0);
}

#[tokio::test]
async fn old_names_are_there_for_who_asks_for_them() {
    let (_program, addr) = root(&["--compat-metrics"]);
    let all = scrape(&addr).await;
    let mut old = all
        .families
        .iter()
        .filter(|(name, _)| name.starts_with("am_"));
    assert!(
        old.clone()
            .all(|(name, kind)| kind == "gauge" && name.ends_with("_root"))
    );
    assert_eq!(old.by_ref().count(), 15);
    assert_eq!(
        all.sum("am_states_root", &[]),
        all.sum("machine_states", &[])
    );
    let of = |name: &str| all.sum(&format!("am_{name}_root"), &[]).unwrap();
    assert!(of("ref_states") >= of("relations") && of("relations") > 0.0);
    let both = of("states_active") + of("states_inactive");
    assert!((both - of("states")).abs() < 1e-9);
    let open = client::get(&addr, "/metrics", ACCEPT_OPEN).await.unwrap();
    Exposition::open(std::str::from_utf8(&open.body).unwrap());
}

#[test]
fn what_cannot_be_reported_is_wrong_usage() {
    for (flag, part) in [
        ("--state-metrics=Flight1Delaid", "Flight1Delayed"),
        ("--push-gateway=http://", "http://"),
        (
            "--push-gateway=ftp://x",
            "--push-gateway (or PUSH_GATEWAY_URL): `ftp://x`",
        ),
        (
            "--push-gateway=http://me:hidden@x:port",
            "http://localhost:9091",
        ),
        ("--otlp=http://", "--otlp (or OTEL_EXPORTER_OTLP_"),
        ("--otlp=ftp://me:hidden@x", "http://localhost:4318"),
        ("--loki=ftp://x?token=hidden", "--loki (or LOKI_ADDR)"),
    ] {
        for command in [
            &["tree"][..],
            &["tree", "--processes"],
            &["node", "--addr=:0"],
        ] {
            let ended = run(&[command, &[flag]].concat());
            assert_eq!(ended.code, Some(2), "{flag} {}", ended.stderr);
            assert!(ended.stderr.contains(part), "{}", ended.stderr);
            assert!(!ended.stderr.contains("hidden"), "{}", ended.stderr);
            assert_eq!(ended.stdout, "", "{flag}");
        }
    }
    let ended = run(&["dashboard", "--grafana-url=ftp://me:hidden@x"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let part = "--grafana-url (or GRAFANA_URL): `x` is no address";
    assert!(ended.stderr.contains(part), "{}", ended.stderr);
}

#[test]
fn what_processes_are_told_of_servers_is_in_no_argument() {
    let args = [
        "tree",
        "--processes",
        "--rpc-port=0",
        "--http-port=0",
        "--fanout=1",
        "--random=1h",
        "--push-gateway=http://me:hidden@127.0.0.1:1",
        "--loki=http://me:hidden@127.0.0.1:1",
        "--otlp=http://me:hidden@127.0.0.1:1",
    ];
    let tree = Program::start(&args);
    let lines = tree.lines_until(|line| line.contains("2 nodes are ready"));
    for name in ["root", "rep-1"] {
        let start = format!("{name} is process ");
        let pid = lines.iter().find_map(|line| line.strip_prefix(&start));
        let process = format!("/proc/{}", pid.unwrap());
        let read = |file: &str| std::fs::read(format!("{process}/{file}")).unwrap();
        let args = String::from_utf8(read("cmdline")).unwrap();
        assert!(args.contains(name) && !args.contains("hidden"), "{args}");
        let environment = String::from_utf8(read("environ")).unwrap();
        assert_eq!(environment.matches("me:hidden@").count(), 3);
    }
}

/// A push as it came.
#[derive(Debug)]
struct Push {
    method: Method,
    path: String,
    kind: String,
    login: Option<String>,
    body: Bytes,
}

impl Push {
    async fn read(request: Request<Incoming>) -> Self {
        let (head, body) = request.into_parts();
        let kind = head.headers.get("content-type");
        let login = head.headers.get("authorization");
        Self {
            method: head.method,
            login: login.map(|login| login.to_str().unwrap().to_owned()),
            path: head.uri.path().to_owned(),
            kind: kind.map_or("", |kind| kind.to_str().unwrap()).to_owned(),
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    fn metrics(&self) -> Exposition {
        Exposition::classic(std::str::from_utf8(&self.body).unwrap())
    }
}

/// How a gateway answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answers {
    Ok,
    Failure,
    Never,
}

/// What takes the place of a Pushgateway.
struct Gateway {
    url: String,
    pushes: mpsc::UnboundedReceiver<Push>,
    _tasks: Tasks,
}

impl Gateway {
    async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, pushes) = mpsc::unbounded_channel();
        let tasks = Tasks::default();
        let of_connections = tasks.clone();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                let service = service_fn(move |request| {
                    let sender = sender.clone();
                    async move {
                        let push = Push::read(request).await;
                        let _ = sender.send(push);
                        let mut response = Response::new(Full::<Bytes>::default());
                        match answers {
                            Answers::Ok => {}
                            Answers::Failure => {
                                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                            }
                            Answers::Never => std::future::pending().await,
                        }
                        Ok::<_, Infallible>(response)
                    }
                });
                of_connections.spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            url,
            pushes,
            _tasks: tasks,
        }
    }

    async fn next(&mut self) -> Push {
        let push = tokio::time::timeout(PATIENCE, self.pushes.recv()).await;
        push.unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_gateway_is_sent_what_is_shown_and_once_more_at_the_end() {
    let mut gateway = Gateway::start(Answers::Ok).await;
    let url = format!("--push-gateway={}", gateway.url);
    let (program, addr) = root(&[&url, "--push-every=50ms", "--service=a/b"]);
    for _ in 0..2 {
        let push = gateway.next().await;
        assert_eq!(push.method, Method::PUT);
        assert_eq!(push.path, "/metrics/job@base64/YS9i/instance/root");
        assert_eq!(push.kind, "text/plain; version=0.0.4; charset=utf-8");
        let metrics = push.metrics();
        let labels = [("service", "a/b"), ("machine", "root")];
        assert_eq!(metrics.sum("machine_tier", &labels), Some(0.0));
        let named = |(_, labels): &(String, BTreeMap<String, String>)| {
            labels.contains_key("job") || labels.contains_key("instance")
        };
        assert!(!metrics.samples.keys().any(named));
    }
    let sent = [("exporter", "pushgateway"), ("result", "sent")];
    assert!(scrape(&addr).await.sum("machine_exported_total", &sent) >= Some(1.0));
    let status = tokio::task::spawn_blocking(|| program.interrupt());
    assert!(status.await.unwrap().success());

    // As seldom as this only the end is told.
    let mut gateway = Gateway::start(Answers::Ok).await;
    let url = format!("--push-gateway={}", gateway.url);
    let (program, addr) = root(&[&url, "--push-every=1h"]);
    assert_eq!(mutate(&addr, &["add", "Flight1Inbound"]), Some(0));
    let revision = scrape(&addr).await.sum("machine_revision", &[]);
    assert!(gateway.pushes.try_recv().is_err());
    let status = tokio::task::spawn_blocking(|| program.interrupt());
    assert!(status.await.unwrap().success());
    let push = gateway.next().await;
    assert_eq!(push.path, "/metrics/job/flights/instance/root");
    assert_eq!(push.metrics().sum("machine_revision", &[]), revision);
    assert!(gateway.pushes.try_recv().is_err());
}

#[tokio::test]
async fn each_node_of_a_tree_is_a_group_however_it_is_run() {
    for way in ["--log=warn", "--processes"] {
        let mut gateway = Gateway::start(Answers::Ok).await;
        let ports = [
            "--rpc-port=0",
            "--http-port=0",
            "--fanout=1",
            "--random=1h",
            way,
        ];
        let mut command = command(&[&["tree"][..], &ports].concat());
        // Once from the environment, for all processes.
        let url = gateway.url.replace("http://", "http://me:hidden@");
        command.env("PUSH_GATEWAY_URL", url);
        command.env("PUSH_EVERY", "20ms");
        command.env("AM_SERVICE", "of-the-environment");
        command.env("AM_COMPAT", "1");
        let _tree = Program::start_command(&mut command);
        let mut expected = vec!["rep-1", "root"];
        while !expected.is_empty() {
            let push = gateway.next().await;
            let group = "/metrics/job/of-the-environment/instance/";
            let name = push.path.strip_prefix(group).expect(&push.path);
            assert_eq!(push.login.as_deref(), Some("Basic bWU6aGlkZGVu"));
            expected.retain(|other| *other != name);
            let old = format!("am_states_{}", name.replace('-', "_"));
            assert!(push.metrics().families.contains_key(&old));
        }
    }
}

#[tokio::test]
async fn a_gateway_that_hangs_or_fails_disturbs_nothing() {
    for answers in [Answers::Never, Answers::Failure] {
        let mut gateway = Gateway::start(answers).await;
        let url = format!("--push-gateway={}", gateway.url);
        let (program, addr) = root(&[&url, "--push-every=20ms"]);
        gateway.next().await;
        let began = Instant::now();
        assert_eq!(mutate(&addr, &["add", "Flight1Inbound"]), Some(0));
        if answers == Answers::Failure {
            gateway.next().await;
            let failed = [("exporter", "pushgateway"), ("result", "failed")];
            let failed = scrape(&addr).await.sum("machine_exported_total", &failed);
            assert!(failed >= Some(1.0), "{failed:?}");
        } else {
            // There is one at a time, and each is given 5 s.
            let more = std::iter::from_fn(|| gateway.pushes.try_recv().ok()).count();
            assert!(more as u64 <= began.elapsed().as_secs() / 5, "{more}");
            // The next comes all the same.
            gateway.next().await;
            assert!(began.elapsed().as_millis() >= 4500);
        }
        // It would fail if its tasks did not end in time.
        let status = tokio::task::spawn_blocking(|| program.interrupt());
        assert!(status.await.unwrap().success());
    }
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_told_of_once() {
    // Nobody listens there any more.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("--push-gateway={}", listener.local_addr().unwrap());
    drop(listener);
    let args = [
        "node",
        "--addr=:0",
        "--http-addr=:0",
        "--name=root",
        "--push-every=1ms",
    ];
    let mut command = command(&[&args, &[url.as_str()][..]].concat());
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let addr = lines.find_map(|line| {
        let line = line.unwrap();
        Some(
            line.strip_prefix("root: http://")?
                .trim_end_matches('/')
                .to_owned(),
        )
    });
    let addr = addr.unwrap();
    let failed = [("exporter", "pushgateway"), ("result", "failed")];
    let failures = async || scrape(&addr).await.sum("machine_exported_total", &failed);
    let several = async { while failures().await < Some(3.0) {} };
    tokio::time::timeout(PATIENCE, several).await.unwrap();
    signal("INT", child.id());
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output());
    let ended = ended.await.unwrap().unwrap();
    assert!(ended.status.success());
    let log = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(log.matches("cannot push metrics").count(), 1, "{log}");
}
