//! What observers cost a saturated root: the node that users run, with random traffic without a pause,
//! which reports to nobody, to servers that hang, and to servers that answer, by turns; and the same with
//! debuggers of all kinds.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use machine_runtime::Position;
use tokio::runtime::Runtime;

use crate::cpu::{Cpus, Side};
use crate::part::Process;
use crate::pause;
use crate::report::{Baseline, Report};
use crate::samples::Samples;
use crate::suites::replication::{one_thread, wait_until_ready};

mod debuggers;

const ROUNDS: usize = 5;

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    // On a thread of its own, which is kept on one processor.
    let measured = std::thread::scope(|scope| scope.spawn(|| measure_pinned(report)).join());
    measured.map_err(|_panic| anyhow::anyhow!("measuring observers failed"))?
}

fn measure_pinned(report: &mut Report) -> anyhow::Result<()> {
    let cpus = Cpus::allowed();
    cpus.pin(Side::Load);
    let answers = Process::start(["hyper", "2"])?;
    let hangs = Hangs::new()?;
    let ask = one_thread()?;
    let time = report.effort(Duration::from_millis(400), Duration::from_secs(2));
    let mut costs = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        report.progress(&format!("observe: round {} of {ROUNDS}", round + 1));
        let told = [
            Vec::new(),
            reports_to(hangs.addr),
            reports_to(answers.at.http),
        ];
        for (place, args) in told.into_iter().enumerate() {
            costs[place].push(cost(&args, time, cpus, &ask)?);
        }
    }
    let [nobody, hung, all] = costs.map(Samples::new);
    let alone = Baseline::new("reports to nobody", nobody.median());
    report.row("observe.mutation.hung", "ns", hung, alone.clone());
    report.row("observe.mutation.all", "ns", all, alone);
    debuggers::measure(report, cpus, &ask)
}

/// Everything that a node can be told to report, to one server.
fn reports_to(server: SocketAddr) -> Vec<String> {
    let flag = |name: &str, value: &str| format!("--{name}={value}");
    let url = format!("http://{server}");
    vec![
        flag("loki", &url),
        flag("otlp", &url),
        flag("push-gateway", &url),
        flag("push-every", "1s"),
    ]
}

/// Processor time of a revision in ns, where a root that is given `args` does nothing else.
fn cost(args: &[String], time: Duration, cpus: Cpus, ask: &Runtime) -> anyhow::Result<f64> {
    let mut args = args.to_vec();
    args.push("--random=100ns".to_owned());
    cpus.pin(Side::Measured);
    let node = Process::users_node(&args);
    cpus.pin(Side::Load);
    let node = node?;
    wait_until_ready(&node)?;
    // Until what hangs is full.
    pause(time / 2);
    let (before, spent) = (revision(&node, ask)?, node.cpu()?);
    pause(time);
    let (after, spent) = (revision(&node, ask)?, node.cpu()?.saturating_sub(spent));
    let count = u32::try_from(after - before).context("more than can be")?;
    ensure!(count > 0, "a root without traffic");
    Ok(spent.as_secs_f64() * 1e9 / f64::from(count))
}

fn revision(node: &Process, ask: &Runtime) -> anyhow::Result<u64> {
    let addr = node.at.http.to_string();
    let answer = ask.block_on(machine_node::client::get(&addr, "/", "text/plain"))?;
    let position = answer.header("machine-position").context("no position")?;
    let position: Position = position.parse()?;
    Ok(position.revision)
}

/// A server that takes connections and what they bring, and never answers.
struct Hangs {
    addr: SocketAddr,
}

impl Hangs {
    fn new() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        std::thread::spawn(move || {
            let mut held: Vec<TcpStream> = Vec::new();
            held.extend(listener.incoming().flatten());
        });
        Ok(Self { addr })
    }
}
