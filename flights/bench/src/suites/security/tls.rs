//! TLS: processor time of a GET on an open connection, of a connection with its handshake, and of a delta to
//! a replicant, beside the same in plain text.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use machine_node::client::{self, Target};
use machine_node::tls::{TlsClient, TlsFiles};
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use crate::cpu::{Cpus, Side};
use crate::load::{REQUEST, ask_once, load_with};
use crate::part::{Process, node_args};
use crate::report::{Baseline, Report};
use crate::samples::Samples;
use crate::suites::replication::one_thread;

const ROUNDS: usize = 5;

/// How many readers ask at a time.
const CONNECTIONS: usize = 64;

/// How often a mutation is called.
const PERIOD: Duration = Duration::from_millis(5);

/// How long a node may take to become ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the certificate is in a folder, which is also the authority that all trust.
pub(crate) fn files(dir: &Path) -> TlsFiles {
    let cert = dir.join("cert.pem");
    TlsFiles {
        key: dir.join("key.pem"),
        ca: Some(cert.clone()),
        cert,
    }
}

pub(super) fn measure(report: &mut Report) -> anyhow::Result<()> {
    // On a thread of its own, which is kept on one processor.
    let measured = std::thread::scope(|scope| scope.spawn(|| measure_pinned(report)).join());
    measured.map_err(|_panic| anyhow::anyhow!("measuring TLS failed"))?
}

/// Who a node is asked by, and in which figures: without TLS and with it.
struct Pair<T> {
    plain: T,
    tls: T,
}

fn measure_pinned(report: &mut Report) -> anyhow::Result<()> {
    let dir = TempDir::new().context("cannot make a folder")?;
    make(dir.path())?;
    let files = files(dir.path());
    let client = || TlsClient::load(Some(&files.cert), Some((&files.cert, &files.key)));
    let shown = client()?;
    let cpus = Cpus::allowed();
    let start = |name: &str, parent: Option<&Process>, tls: bool| {
        let mut args = node_args(name, parent.map(|parent| parent.at.rpc));
        if parent.is_none() {
            args.extend(["--random".into(), "5ms".into()]);
        }
        if tls {
            args.extend(["--tls".into(), dir.path().into()]);
        }
        Process::start(args)
    };
    cpus.pin(Side::Load);
    let roots = Pair {
        plain: start("plain", None, false)?,
        tls: start("tls", None, true)?,
    };
    cpus.pin(Side::Measured);
    let nodes = Pair {
        plain: start("rep-plain", Some(&roots.plain), false)?,
        tls: start("rep-tls", Some(&roots.tls), true)?,
    };
    cpus.pin(Side::Load);
    ready(&nodes.plain, None)?;
    ready(&nodes.tls, Some(&shown))?;
    crate::pause(Duration::from_millis(500));
    let time = report.effort(Duration::from_millis(250), Duration::from_secs(1));
    let handshakes = report.effort(100, 500);
    let [mut gets, mut shakes, mut links] = [const { [const { Vec::new() }; 2] }; 3];
    for round in 1..=ROUNDS {
        report.progress(&format!("security: round {round} of {ROUNDS}"));
        for (i, (node, tls)) in [(&nodes.plain, None), (&nodes.tls, Some(&shown))]
            .into_iter()
            .enumerate()
        {
            links[i].push(delta_us(node, 4 * time)?);
            gets[i].push(request_us(node, tls, time)?);
            shakes[i].push(connection_us(node, handshakes, || {
                // One that has not been there before.
                tls.map(|_| client()).transpose().map_err(Into::into)
            })?);
        }
    }
    for (name, [plain, tls]) in [
        ("security.tls.get", gets),
        ("security.tls.handshake", shakes),
        ("security.tls.link", links),
    ] {
        let plain = Baseline::new("plain text", Samples::new(plain).median());
        report.row(name, "us", Samples::new(tls), plain);
    }
    Ok(())
}

/// A certificate that is its own authority.
fn make(dir: &Path) -> anyhow::Result<()> {
    let files = files(dir);
    let key = KeyPair::generate()?;
    let cert = CertificateParams::new(["127.0.0.1".to_owned()])?.self_signed(&key)?;
    std::fs::write(&files.cert, cert.pem())?;
    Ok(std::fs::write(&files.key, key.serialize_pem())?)
}

fn ready(node: &Process, tls: Option<&TlsClient>) -> anyhow::Result<()> {
    let mut target = Target::new(node.at.http.to_string());
    if let Some(tls) = tls {
        target = target.with_tls(tls.clone());
    }
    let runtime = one_thread()?;
    let start = Instant::now();
    loop {
        let answer = runtime.block_on(client::get(&target, "/readyz", "*/*"))?;
        if answer.head.status().is_success() {
            return Ok(());
        }
        ensure!(start.elapsed() < PATIENCE, "{target} does not become ready");
        crate::pause(Duration::from_millis(1));
    }
}

/// The processor time of one request on an open connection, in us.
fn request_us(node: &Process, tls: Option<&TlsClient>, time: Duration) -> anyhow::Result<f64> {
    let warm_up = Duration::from_millis(100);
    let sample = || node.cpu();
    let load = load_with(
        tls,
        REQUEST,
        node.at.http,
        CONNECTIONS,
        warm_up,
        time,
        sample,
    )?;
    ensure!(load.failed == 0, "{} requests failed", load.failed);
    let [before, after] = load.samples;
    each_us(after.saturating_sub(before), u32::try_from(load.answered)?)
}

/// The processor time of a connection with one request, in us; a handshake of its own included.
fn connection_us(
    node: &Process,
    count: u32,
    client: impl Fn() -> anyhow::Result<Option<TlsClient>>,
) -> anyhow::Result<f64> {
    let runtime = one_thread()?;
    let before = node.cpu()?;
    for _ in 0..count {
        let tls = client()?;
        runtime.block_on(ask_once(tls.as_ref(), node.at.http))?;
    }
    each_us(node.cpu()?.saturating_sub(before), count)
}

/// The processor time of one mutation at the root, on a replicant that nobody asks, in us.
fn delta_us(node: &Process, time: Duration) -> anyhow::Result<f64> {
    let before = node.cpu()?;
    crate::pause(time);
    let spent = node.cpu()?.saturating_sub(before);
    each_us(spent, u32::try_from(time.as_micros() / PERIOD.as_micros())?)
}

fn each_us(spent: Duration, count: u32) -> anyhow::Result<f64> {
    ensure!(count > 0, "nothing was done");
    Ok(spent.as_secs_f64() * 1e6 / f64::from(count))
}
