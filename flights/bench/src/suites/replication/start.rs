//! How soon a tree of processes is ready, and how much memory a replicant takes.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use machine_node::client::Target;
use machine_node::places::places;
use machine_node::processes::{NodeProcess, Processes};
use machine_node::shutdown::{PATIENCE, Tasks, input_ends};
use machine_node::status::Lines;
use machine_node::telemetry::Logs;
use tokio::time::sleep;

use super::{FANOUT, ROUNDS, wait_until_ready};
use crate::cpu;
use crate::part::{COMMAND, Process, command, node_args};
use crate::report::{Baseline, Report};
use crate::samples::Samples;

/// What the part prints once all nodes are ready.
const READY: &str = "ready";

pub(super) fn measure(report: &mut Report) -> anyhow::Result<()> {
    memory(report)?;
    tree_ready(report)
}

fn memory(report: &mut Report) -> anyhow::Result<()> {
    let age = report.effort(Duration::from_secs(3), Duration::from_secs(10));
    report.progress(&format!("replication: memory after {age:?}"));
    let root = Process::node("root", None)?;
    let mut nodes = Vec::new();
    let mut floors = Vec::new();
    for i in 1..=ROUNDS {
        nodes.push(Process::node(&format!("rep-{i}"), Some(root.at.rpc))?);
        floors.push(Process::start(["hyper", "500"])?);
    }
    for node in &nodes {
        wait_until_ready(node)?;
    }
    crate::pause(age);
    let resident = |processes: &[Process]| -> anyhow::Result<Samples> {
        let mb = processes
            .iter()
            .map(|process| cpu::resident_mb(process.pid()));
        Ok(Samples::new(mb.collect::<anyhow::Result<Vec<_>>>()?))
    };
    let floor = Baseline::new("bare hyper", resident(&floors)?.median());
    report.row("node.rss", "MB", resident(&nodes)?, floor);
    Ok(())
}

fn tree_ready(report: &mut Report) -> anyhow::Result<()> {
    let (mut times, mut floors) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        report.progress(&format!("replication: start, round {round} of {ROUNDS}"));
        floors.push(nine_processes_ms()?);
        let start = Instant::now();
        let mut child = command(["tree"])?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("no output to read")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        // It ends with its input.
        drop(child.stdin.take());
        child.wait()?;
        ensure!(line.trim_end() == READY, "the tree does not become ready");
    }
    let floor = Baseline::new("nine processes", Samples::new(floors).median());
    report.row("tree.ready", "ms", Samples::new(times), floor);
    Ok(())
}

/// The floor: this program, started nine times at once and ended at once.
fn nine_processes_ms() -> anyhow::Result<f64> {
    let start = Instant::now();
    let children: Result<Vec<_>, _> = (0..9)
        .map(|_| command(["nothing"])?.spawn().map_err(anyhow::Error::from))
        .collect();
    for mut child in children? {
        child.wait()?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// What `bench-part tree` does: a tree of nine processes as `flights tree --processes` runs it.
pub(crate) async fn run_tree() -> anyhow::Result<()> {
    let tasks = Tasks::default();
    let lines = Lines::default();
    let places = places(&FANOUT)?;
    // All bound at once, so all different; each process binds its own in a moment.
    let sockets: Vec<_> = (0..2 * places.len())
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let addrs: Vec<SocketAddr> = sockets
        .iter()
        .map(TcpListener::local_addr)
        .collect::<Result<_, _>>()?;
    drop(sockets);
    let nodes = places.iter().zip(addrs.chunks(2)).map(|(place, at)| {
        let parent = place.parent.map(|parent| addrs[2 * parent]);
        let mut args = vec![COMMAND.into()];
        args.extend(node_args(&place.name, parent));
        args.extend(["--addr".into(), at[0].to_string().into()]);
        args.extend(["--http-addr".into(), at[1].to_string().into()]);
        NodeProcess {
            name: place.name.clone(),
            tier: place.tier,
            http: Target::new(at[1].to_string()),
            args,
            on_disk: false,
        }
    });
    // What the environment says of logs is not what is measured.
    let environment = [
        ("RUST_LOG", Some("warn".to_owned())),
        ("LOKI_ADDR", None),
        ("AM_LOKI_ADDR", None),
    ];
    let logs = Logs::default();
    let processes = Processes::start(nodes.collect(), &environment, &logs, None, &tasks, &lines)?;
    let ready = async {
        while !processes.rows().iter().all(|row| row.position.is_some()) {
            sleep(Duration::from_millis(1)).await;
        }
        writeln!(io::stdout(), "{READY}")?;
        std::future::pending::<anyhow::Result<()>>().await
    };
    let ended = tokio::select! {
        ended = ready => ended,
        () = input_ends() => Ok(()),
    };
    tasks.finish(PATIENCE).await;
    ended
}
