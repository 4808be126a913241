//! What an honest reader notices while strangers attack the node that it reads: slow heads, bodies that do not
//! end, floods of mutations, waits, streams, handshakes, connections on which nothing is said. The node's limits
//! are small, so that there is something to come to within a moment.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

use self::attack::{Attack, Doing};
use crate::cpu::{self, Cpus, Side};
use crate::load::whole_answer;
use crate::part::Process;
use crate::report::{Baseline, Report};
use crate::samples::Samples;
use crate::suites::replication::wait_until_ready;
use crate::talk::Talk;

pub(crate) mod attack;
mod hello;

/// The limits of the node, as flags.
const LIMITS: [&str; 9] = [
    "--head-time=1s",
    "--body-time=1s",
    "--idle-time=10s",
    "--handshake-time=1s",
    "--max-waits-per-client=20",
    "--max-streams-per-client=20",
    "--max-writes-per-client=10",
    "--write-rate=1000",
    "--max-followers=20",
];

/// How many strangers there are.
const STRANGERS: usize = 1000;

/// From how many addresses they come.
const ADDRESSES: usize = 20;

/// How many say nothing, and in a quick run.
const IDLE: usize = 10_000;
const IDLE_QUICK: usize = 2000;

/// How often an honest reader asks at least.
const QUESTIONS: usize = 200;

/// After how many questions it asks whether the node is ready.
const READY_EVERY: usize = 20;

/// What it asks for.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    // On a thread of its own, which is kept on one processor.
    let measured = std::thread::scope(|scope| scope.spawn(|| measure_pinned(report)).join());
    measured.map_err(|_panic| anyhow::anyhow!("measuring strangers failed"))?
}

fn measure_pinned(report: &mut Report) -> anyhow::Result<()> {
    let cpus = Cpus::allowed();
    cpus.pin(Side::Measured);
    let node = Process::users_node(&LIMITS.map(str::to_owned))?;
    wait_until_ready(&node)?;
    cpus.pin(Side::Load);
    let time = report.effort(Duration::from_millis(300), Duration::from_secs(5));
    for attack in Attack::value_variants() {
        let name = attack
            .to_possible_value()
            .map(|value| value.get_name().to_owned());
        let name = name.context("an attack has a name")?;
        report.progress(&format!("strangers: {name}"));
        let before = cpu::resident_mb(node.pid())?;
        let calm = read(&node, time)?;
        let count = match attack {
            Attack::Idle => report.effort(IDLE_QUICK, IDLE),
            _ => STRANGERS,
        };
        let mut strangers = start(&node, *attack, &name, count)?;
        let attacked = read(&node, time)?;
        let during = cpu::resident_mb(node.pid())?;
        let doing: Doing = strangers.ask("how")?;
        drop(strangers);
        let after = settled(&node)?;
        for (what, q) in [("p50", 0.5), ("p99", 0.99)] {
            let undisturbed = Baseline::new("undisturbed", calm.times.quantile(q));
            let row = format!("strangers.{name}.{what}");
            report.row(
                row,
                "us",
                Samples::new([attacked.times.quantile(q)]),
                undisturbed,
            );
        }
        report.note(format!(
            "strangers.{name}: ready each of {} times; {} connections opened, {} open, {} closed, {} answers, \
             {} refusals; {before:.0} MB before, {during:.0} MB during, {after:.0} MB after it",
            attacked.ready,
            doing.opened,
            doing.open,
            doing.closed,
            doing.served,
            doing.refused,
        ));
    }
    Ok(())
}

/// Has so many strangers come, and waits until they are there.
fn start(node: &Process, attack: Attack, name: &str, strangers: usize) -> anyhow::Result<Talk> {
    let mut talk = Talk::start([
        "strangers".to_owned(),
        name.to_owned(),
        format!("--http={}", node.at.http),
        format!("--rpc={}", node.at.rpc),
        format!("--strangers={strangers}"),
        format!("--addresses={ADDRESSES}"),
    ])?;
    let began = Instant::now();
    loop {
        let doing: Doing = talk.ask("how")?;
        // Nobody sends those away at once who say nothing: they are there at the same time.
        let there = match attack {
            Attack::Idle => doing.open,
            _ => doing.opened,
        };
        if there >= strangers as u64 {
            return Ok(talk);
        }
        let patience = Duration::from_secs(30);
        ensure!(began.elapsed() < patience, "{name}: only {doing:?}");
        crate::pause(Duration::from_millis(10));
    }
}

/// What an honest reader notices.
struct Noticed {
    /// How long each answer took, in us.
    times: Samples,
    /// How often the node was asked whether it is ready. It was each time.
    ready: usize,
}

/// Reads for a while, and asks now and then whether the node is ready.
///
/// # Errors
///
/// If it once is not, or an answer is not what it has to be.
fn read(node: &Process, time: Duration) -> anyhow::Result<Noticed> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stream = TcpStream::connect(node.at.http).await?;
        stream.set_nodelay(true)?;
        let mut times = Vec::new();
        let mut ready = 0;
        let mut buffer = vec![0; 64 * 1024];
        let began = Instant::now();
        while began.elapsed() < time || times.len() < QUESTIONS {
            if times.len().is_multiple_of(READY_EVERY) {
                ensure_ready(node).await?;
                ready += 1;
            }
            let asked = Instant::now();
            stream.write_all(REQUEST).await?;
            let mut filled = 0;
            let answer = loop {
                let bytes = stream.read(&mut buffer[filled..]).await?;
                ensure!(bytes > 0, "an honest reader was sent away");
                filled += bytes;
                if let Some(answer) = whole_answer(&buffer[..filled])? {
                    break answer;
                }
            };
            ensure!(
                answer.code == 200,
                "an honest reader was answered {}",
                answer.code
            );
            times.push(asked.elapsed().as_secs_f64() * 1e6);
        }
        ensure_ready(node).await?;
        Ok(Noticed {
            times: Samples::new(times),
            ready: ready + 1,
        })
    })
}

async fn ensure_ready(node: &Process) -> anyhow::Result<()> {
    let addr = node.at.http.to_string();
    let answer = machine_node::client::get(&addr, "/readyz", "*/*").await?;
    let said = String::from_utf8_lossy(&answer.body);
    let status = answer.head.status();
    ensure!(
        status.is_success(),
        "the node is not ready: {status} {said}"
    );
    Ok(())
}

/// The memory of the node once nobody is there any more.
fn settled(node: &Process) -> anyhow::Result<f64> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let addr = node.at.http.to_string();
    let began = Instant::now();
    loop {
        let answer = runtime.block_on(machine_node::client::get(&addr, "/metrics", "*/*"))?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let mut lines = text.lines();
        let line = lines.find(|line| line.starts_with("machine_http_connections{"));
        let open = line.and_then(|line| line.rsplit(' ').next());
        let open: u64 = open.context("a count of connections")?.parse()?;
        // The one that asks.
        if open <= 1 {
            return cpu::resident_mb(node.pid());
        }
        ensure!(
            began.elapsed() < Duration::from_secs(30),
            "{open} connections are left"
        );
        crate::pause(Duration::from_millis(50));
    }
}
