//! Nodes under a real Prometheus: all that they tell is taken, all that is asked is answered, and alerts
//! fire when they should. Time passes for real here, but nothing is asserted of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use machine_node::client;
use machine_node::metrics::{ALL, Kind, Metric, On, TLS_LEFT, TRANSITION_SECONDS};
use serde_json::Value;

use self::servers::{Node, Prometheus, Proxy, Pushgateway, eventually, file};
use crate::support::{Folder, run};

mod servers;

/// A root with random traffic and a chain of two replicants below it; `more` is for all of them.
fn chain(of_root: &[&str], more: &[&str]) -> (Node, Proxy, Node, Node) {
    let root = Node::start("root", &[&["--random=20ms"], of_root, more].concat());
    let link = Proxy::to(&root.rpc);
    let parent = format!("--parent={}", link.addr);
    let first = Node::start("rep-1", &[&[parent.as_str()], more].concat());
    let parent = format!("--parent={}", first.rpc);
    let second = Node::start("rep-1-1", &[&[parent.as_str()], more].concat());
    (root, link, first, second)
}

fn promtool(args: &[&str], input: &[u8]) -> Output {
    let child = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("promtool, which comes with prometheus: tests/run installs it");
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn passes(args: &[&str], input: &[u8]) -> String {
    let output = promtool(args, input);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(output.status.success(), "{args:?}: {said}");
    said
}

/// All queries of panels and rules.
fn queries() -> Vec<Value> {
    let text = fs::read_to_string(file("deploy/generated/queries.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Whether there is a number in what a query came to: the quantile of nothing is none.
fn has_numbers(results: &[Value]) -> bool {
    let ranges = results
        .iter()
        .filter_map(|series| series["values"].as_array());
    let samples = ranges
        .flatten()
        .chain(results.iter().map(|series| &series["value"]));
    let mut values = samples.filter_map(|sample| sample[1].as_str());
    values.any(|value| value != "NaN")
}

/// Runs all queries of panels and rules, and returns which have data.
async fn run_queries(prometheus: &Prometheus) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for query in queries() {
        if query["datasource"] != "prometheus" {
            continue;
        }
        let expr = query["expr"].as_str().unwrap();
        let results = if query["query"] == "range" {
            prometheus.query_range(expr).await
        } else {
            prometheus.query(expr).await
        };
        let results = results.unwrap_or_else(|error| panic!("{expr}: {error}"));
        if has_numbers(&results) {
            found.insert(expr.to_owned());
        }
    }
    found
}

#[test]
fn rules_and_configuration_are_what_prometheus_takes() {
    let path = |path: &str| file(path).to_str().unwrap().to_owned();
    passes(
        &["check", "rules", &path("deploy/generated/rules.yml")],
        b"",
    );
    passes(&["test", "rules", &path("tests/data/rules_test.yml")], b"");
    // In the container the two files are in one folder.
    let folder = Folder::new("promtool");
    for from in ["deploy/prometheus.yml", "deploy/generated/rules.yml"] {
        let from = file(from);
        fs::copy(&from, folder.path().join(from.file_name().unwrap())).unwrap();
    }
    let config = folder.path().join("prometheus.yml");
    passes(&["check", "config", config.to_str().unwrap()], b"");
}

#[test]
fn every_alert_is_tested() {
    let tests = fs::read_to_string(file("tests/data/rules_test.yml")).unwrap();
    for query in queries().iter().filter(|query| query["source"] == "alert") {
        let name = query["title"].as_str().unwrap();
        let fires = tests.contains(&format!("- alertname: {name}\n"));
        let ends = tests.matches(&format!("- {{ alertname: {name}, ")).count();
        assert!(fires && ends >= 2, "{name} does not fire, or not end");
    }
}

/// What samples of a metric are called.
fn samples(metric: &Metric) -> String {
    let suffix = match metric.kind {
        Kind::Histogram => "_bucket",
        Kind::Counter | Kind::Gauge => "",
    };
    metric.full_name() + suffix
}

/// On how many of the nodes of a chain a metric is.
fn nodes_with(metric: &Metric) -> usize {
    match metric.on {
        // These speak no TLS.
        On::All if metric.full_name() == TLS_LEFT.full_name() => 0,
        // The last node has no followers to tell apart.
        On::All if metric.labels.contains(&"follower") => 2,
        On::All => 3,
        On::Root => 1,
        On::Replicant => 2,
    }
}

#[tokio::test]
async fn prometheus_takes_every_metric_scraped_and_pushed_and_answers_every_query() {
    let gateway = Pushgateway::start().await;
    let push = format!("--push-gateway=http://{}", gateway.addr);
    let args = [push.as_str(), "--push-every=250ms", "--state-metrics=Ready"];
    // A disk takes no time where there is none.
    let folder = Folder::new("prometheus-state");
    let dir = format!("--state-dir={}", folder.path().display());
    let (root, _link, first, second) = chain(&[dir.as_str()], &args);
    let nodes = [&root, &first, &second];
    for node in nodes {
        let answer = client::get(&node.http, "/metrics", "text/plain").await;
        let said = passes(&["check", "metrics"], &answer.unwrap().body);
        assert_eq!(said, "", "{}", node.name);
    }
    let prometheus = Prometheus::start("prometheus-all", &nodes, Some(&gateway)).await;
    prometheus.until_scraped(4).await;

    // A node that is asked is told by its address, one that pushes by its name.
    for (how, whose) in [("scraped", "=~"), ("pushed", "!~")] {
        eventually(&format!("all metrics, {how}"), async || {
            let mut missing = Vec::new();
            for metric in ALL {
                let name = samples(metric);
                let query = format!("count by (machine) ({name}{{instance{whose}\".+:.+\"}})");
                let count = prometheus.query(&query).await?.len();
                if count != nodes_with(metric) {
                    missing.push(format!("{name} of {count} nodes"));
                }
            }
            if missing.is_empty() {
                Ok(())
            } else {
                Err(format!("wrong are {missing:?}"))
            }
        })
        .await;
    }

    // All panels have data in a tree that is well; alerts have none.
    eventually("data for all panels and records", async || {
        let found = run_queries(&prometheus).await;
        let missing: Vec<_> = queries()
            .into_iter()
            .filter(|query| query["datasource"] == "prometheus" && query["source"] != "alert")
            .filter(|query| !found.contains(query["expr"].as_str().unwrap()))
            .filter(|query| {
                let expr = query["expr"].as_str().unwrap();
                !expr.contains(&TLS_LEFT.full_name())
            })
            .map(|query| query["title"].to_string())
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("nothing for {missing:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn the_trace_of_a_mutation_is_an_exemplar_of_how_long_it_took() {
    // Nobody takes the spans; what is kept is decided here.
    let args = ["--otlp=http://127.0.0.1:9"];
    let root = Node::start("root", &args);
    let prometheus = Prometheus::start("prometheus-exemplars", &[&root], None).await;
    prometheus.until_scraped(1).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let node = format!("--node={}", root.http);
    let parent = format!("--traceparent=00-{trace}-00f067aa0ba902b7-01");
    let added = run(&["mutate", "add", "Ready", &node, &parent]);
    assert_eq!(added.code, Some(0), "{added:?}");
    let name = samples(&TRANSITION_SECONDS);
    eventually("an exemplar", async || {
        let path = format!("query_exemplars?query={name}&start=0&end=9999999999");
        let found = prometheus.ask(&path).await?;
        if found.to_string().contains(trace) {
            Ok(())
        } else {
            Err(found.to_string())
        }
    })
    .await;
}

#[tokio::test]
async fn alerts_fire_for_a_cut_link_and_a_killed_node_and_clear_afterwards() {
    let (mut root, link, first, mut second) = chain(&[], &[]);
    let nodes = [&root, &first, &second];
    let prometheus = Prometheus::start("prometheus-alerts", &nodes, None).await;
    prometheus.until_scraped(3).await;

    let cut_off = [
        "LinkDown rep-1",
        "StaleReplica rep-1",
        "StaleReplica rep-1-1",
    ];
    prometheus.until_clear(&cut_off).await;
    link.cut();
    prometheus.until_firing(&cut_off).await;
    run_queries(&prometheus).await;
    link.mend();
    prometheus.until_clear(&cut_off).await;

    second.kill();
    prometheus.until_firing(&["NodeDown rep-1-1"]).await;
    run_queries(&prometheus).await;
    second.run();
    prometheus.until_clear(&["NodeDown rep-1-1"]).await;

    root.kill();
    let rootless = ["NodeDown root", "RootAbsent -"];
    prometheus.until_firing(&rootless).await;
    run_queries(&prometheus).await;
    root.run();
    prometheus.until_clear(&rootless).await;
    prometheus.until_firing(&["RootRestarted root"]).await;
    prometheus.until_scraped(3).await;
}
