//! What a debugger costs a saturated root, whatever it does: processor time of a revision of the node that
//! users run, beside the same node with `--debug-addr 0`, by turns.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use machine_runtime::debug::codec::{append, preamble};
use machine_runtime::debug::frame::{Ask, VERSION};
use machine_runtime::debug::listen::{ListenOptions, Listener, What};
use tokio::runtime::Runtime;

use crate::cpu::Cpus;
use crate::pause;
use crate::report::{Baseline, Report};
use crate::samples::Samples;
use crate::suites::replication::one_thread;

use super::{ROUNDS, cost};

/// How a debugger may be.
const KINDS: [&str; 6] = ["none", "attached", "hung", "slow", "malicious", "record"];

/// What a slow one reads, and how often.
const SIP: usize = 16 << 10;
const SIP_EVERY: Duration = Duration::from_millis(20);

/// How long a malicious one keeps a connection.
const SPITE: Duration = Duration::from_millis(100);

pub(super) fn measure(report: &mut Report, cpus: Cpus, ask: &Runtime) -> anyhow::Result<()> {
    let frames = Arc::new(AtomicU64::new(0));
    let attached = listens(Arc::clone(&frames))?;
    let hung = accepts(|stream, _| {
        let stream = greet(stream)?;
        // For as long as the node has patience.
        pause(Duration::from_mins(1));
        drop(stream);
        Ok(())
    })?;
    let slow = accepts(|stream, _| {
        let mut stream = greet(stream)?;
        let mut sip = [0; SIP];
        while stream.read(&mut sip)? > 0 {
            pause(SIP_EVERY);
        }
        Ok(())
    })?;
    let malicious = accepts(|stream, turn| match turn % 3 {
        0 => garbage(stream),
        1 => asks(stream),
        // Hangs up at once, having been somebody to tell.
        _ => greet(stream).map(drop),
    })?;
    let recordings = tempfile::tempdir()?;
    let record = format!("--record={}", recordings.path().display());
    let dials = |addr: SocketAddr| format!("--debug-addr={addr}");
    let nobody = "--debug-addr=0".to_owned();
    let args = [
        dials(refuses()?),
        dials(attached),
        dials(hung),
        dials(slow),
        dials(malicious),
        record,
    ];
    let rounds = report.effort(2, ROUNDS);
    let time = report.effort(Duration::from_millis(400), Duration::from_secs(2));
    let mut alone = Vec::new();
    let mut costs = [const { Vec::new() }; KINDS.len()];
    for round in 0..rounds {
        report.progress(&format!(
            "observe: debuggers, round {} of {rounds}",
            round + 1
        ));
        alone.push(cost(std::slice::from_ref(&nobody), time, cpus, ask)?);
        for (costs, arg) in costs.iter_mut().zip(&args) {
            costs.push(cost(std::slice::from_ref(arg), time, cpus, ask)?);
        }
    }
    let alone = Baseline::new("no debugger", Samples::new(alone).median());
    for (kind, costs) in KINDS.into_iter().zip(costs) {
        let name = format!("observe.debugger.{kind}");
        report.row(name, "ns", Samples::new(costs), alone.clone());
    }
    let frames = frames.load(Ordering::Relaxed);
    anyhow::ensure!(frames > 0, "nobody told the debugger anything");
    let told = Duration::as_secs_f64(&time) * 1.5 * told_rounds(rounds);
    #[expect(clippy::cast_precision_loss, reason = "a count of some seconds")]
    let rate = frames as f64 / told;
    report.note(format!(
        "observe.debugger.attached was told about {rate:.0} transitions a second; the rest is counted as dropped"
    ));
    Ok(())
}

fn told_rounds(rounds: usize) -> f64 {
    u32::try_from(rounds).map_or(1.0, f64::from)
}

/// An address that nobody listens on.
fn refuses() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// A debugger that takes everything, and counts it.
fn listens(frames: Arc<AtomicU64>) -> anyhow::Result<SocketAddr> {
    let runtime = one_thread()?;
    let (listener, mut heard) =
        runtime.block_on(Listener::bind("127.0.0.1:0", ListenOptions::default()))?;
    let addr = listener.local_addr()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let listen = listener.run(std::future::pending());
            let take = async {
                while let Some(heard) = heard.recv().await {
                    if matches!(heard.what, What::Frame(_)) {
                        frames.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            tokio::join!(listen, take);
        });
    });
    Ok(addr)
}

/// A debugger that does `what` with its connections, the first of which is number 0.
fn accepts(
    what: impl Fn(TcpStream, usize) -> io::Result<()> + Clone + Send + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    std::thread::spawn(move || {
        for (turn, stream) in listener.incoming().flatten().enumerate() {
            let what = what.clone();
            // A node that is gone ends it.
            std::thread::spawn(move || what(stream, turn));
        }
    });
    Ok(addr)
}

/// Says what a debugger says first.
fn greet(mut stream: TcpStream) -> io::Result<TcpStream> {
    let mut bytes = preamble().to_vec();
    let hello = Ask::Hello {
        version: VERSION,
        process: 0,
        last: 0,
    };
    append(&hello, &mut bytes).map_err(io::Error::other)?;
    stream.write_all(&bytes)?;
    Ok(stream)
}

/// Says nothing that a debugger would.
fn garbage(mut stream: TcpStream) -> io::Result<()> {
    let junk = vec![0xff; 64 << 10];
    loop {
        stream.write_all(&junk)?;
    }
}

/// Asks and asks, reads nothing, and is gone.
fn asks(stream: TcpStream) -> io::Result<()> {
    let mut stream = greet(stream)?;
    let mut asks = Vec::new();
    for _ in 0..1_000 {
        append(&Ask::Waiters { machine: 1 }, &mut asks).map_err(io::Error::other)?;
    }
    stream.set_write_timeout(Some(SPITE))?;
    let start = std::time::Instant::now();
    while start.elapsed() < SPITE {
        stream.write_all(&asks)?;
    }
    Ok(())
}
