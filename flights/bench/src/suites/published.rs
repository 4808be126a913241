//! The original's benchmark: a tree of one root, two replicants that follow it and six that follow
//! those, each node limited to a tenth of a processor and 64 MB; a load balancer by least
//! connections in front of a part of it; 512 readers; a mutation a second.

mod balancer;
mod limits;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use machine_node::places::places;

pub(crate) use self::balancer::Balancer;
use self::limits::Limits;
use crate::load::load;
use crate::part::{Process, node_args};
use crate::report::{Baseline, Report};
use crate::samples::Samples;
use crate::suites::replication::{FANOUT, wait_until_ready};

const ROUNDS: usize = 5;

const READERS: usize = 512;

const WARM_UP: Duration = Duration::from_secs(1);

/// Who is read, and what the original did: as its authors published it, and requests for each second
/// of its nodes' processor time, measured on two cores.
const SETUPS: [Setup; 4] = [
    Setup {
        name: "root",
        nodes: &["root"],
        published: 535.0,
        per_cpu: 28_200.0,
    },
    Setup {
        name: "tier1",
        nodes: &["rep-1", "rep-2"],
        published: 1_129.0,
        per_cpu: 26_100.0,
    },
    Setup {
        name: "tier2.4",
        nodes: &["rep-1-1", "rep-1-2", "rep-2-1", "rep-2-2"],
        published: 2_452.0,
        per_cpu: 21_900.0,
    },
    Setup {
        name: "tier2.6",
        nodes: &[
            "rep-1-1", "rep-1-2", "rep-1-3", "rep-2-1", "rep-2-2", "rep-2-3",
        ],
        published: 6_915.0,
        per_cpu: 17_700.0,
    },
];

/// What the original answers without a balancer in between, measured on two cores.
const DIRECT: f64 = 6_800.0;

/// The bytes of a body that a node answers with.
const BODY: &str = "374";

struct Setup {
    name: &'static str,
    nodes: &'static [&'static str],
    published: f64,
    per_cpu: f64,
}

/// How many idle connections to a node the balancer keeps by itself, as Caddy does. What is idle
/// beyond that it closes, and opens again when it is needed, in every burst of a node that is held
/// back by its limit.
const USUAL: usize = 32;

pub(crate) fn measure(report: &mut Report, balancer: &Balancer) -> anyhow::Result<()> {
    let long = report.effort(Duration::from_secs(1), Duration::from_secs(10));
    let short = report.effort(Duration::from_secs(1), Duration::from_secs(3));
    let nodes = start_nodes(false)?;
    run(report, balancer, "published", &nodes, USUAL, long)?;
    // The same with a connection for each reader, and with a server that does nothing else.
    run(report, balancer, "published.kept", &nodes, READERS, short)?;
    let root = &nodes[0];
    let mut rates = Vec::new();
    for round in 1..=ROUNDS {
        report.progress(&format!("published.direct: round {round} of {ROUNDS}"));
        rates.push(ask(root.process.at.http, &[root], short)?.rate);
    }
    let original = Baseline::new("the original, 2 cores", DIRECT);
    report.row("published.direct", "1/s", Samples::new(rates), original);
    drop(nodes);
    let floors = start_nodes(true)?;
    run(
        report,
        balancer,
        "published.bare_hyper",
        &floors,
        USUAL,
        short,
    )
}

/// All setups, with a balancer that keeps so many idle connections to each node.
fn run(
    report: &mut Report,
    balancer: &Balancer,
    kind: &str,
    nodes: &[Node],
    kept: usize,
    time: Duration,
) -> anyhow::Result<()> {
    for setup in SETUPS {
        let read: Vec<&Node> = nodes
            .iter()
            .filter(|node| setup.nodes.contains(&node.name.as_str()))
            .collect();
        let upstream: Vec<SocketAddr> = read.iter().map(|node| node.process.at.http).collect();
        let balancer = balancer.start(&upstream, kept)?;
        let name = format!("{kind}.{}", setup.name);
        let (mut rates, mut per_cpu, mut failed) = (Vec::new(), Vec::new(), 0);
        for round in 1..=ROUNDS {
            report.progress(&format!("{name}: round {round} of {ROUNDS}"));
            let answered = ask(balancer.at, &read, time)?;
            rates.push(answered.rate);
            per_cpu.push(answered.per_cpu);
            failed += answered.failed;
        }
        if failed > 0 {
            report.note(format!("{name}: {failed} requests failed"));
        }
        let published = Baseline::new("as published", setup.published);
        report.row(&name, "1/s", Samples::new(rates), published);
        let original = Baseline::new("the original, 2 cores", setup.per_cpu);
        report.row(
            format!("{name}.per_cpu_s"),
            "1/s",
            Samples::new(per_cpu),
            original,
        );
    }
    Ok(())
}

/// A node within its limits.
struct Node {
    name: String,
    process: Process,
    _limits: Limits,
}

/// The tree; `floors`: in place of each node a server that does nothing but answer.
fn start_nodes(floors: bool) -> anyhow::Result<Vec<Node>> {
    let mut nodes: Vec<Node> = Vec::new();
    for place in places(&FANOUT)? {
        let limits = Limits::new(&place.name)?;
        let parent = place.parent.map(|parent| nodes[parent].process.at.rpc);
        let mut args = node_args(&place.name, parent);
        if parent.is_none() {
            args.extend(["--random".into(), "1s".into()]);
        }
        let process = if floors {
            Process::start(["hyper", BODY])?
        } else {
            Process::start(args)?
        };
        limits.put(process.pid())?;
        nodes.push(Node {
            name: place.name,
            process,
            _limits: limits,
        });
    }
    for node in nodes.iter().filter(|_| !floors) {
        wait_until_ready(&node.process)?;
    }
    Ok(nodes)
}

struct Answered {
    /// Requests a second.
    rate: f64,
    /// Requests for each second of processor time of the nodes that are read.
    per_cpu: f64,
    /// Requests that the balancer answered with an error.
    failed: u64,
}

fn ask(at: SocketAddr, read: &[&Node], time: Duration) -> anyhow::Result<Answered> {
    let cpu = || -> anyhow::Result<f64> {
        read.iter()
            .map(|node| Ok(node.process.cpu()?.as_secs_f64()))
            .sum()
    };
    let load = load(at, READERS, WARM_UP, time, cpu)?;
    let [before, after] = load.samples;
    let requests = f64::from(u32::try_from(load.answered).context("requests of seconds")?);
    Ok(Answered {
        rate: requests / time.as_secs_f64(),
        per_cpu: requests / (after - before),
        failed: load.failed,
    })
}
