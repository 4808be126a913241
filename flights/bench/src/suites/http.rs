//! Requests to a replicant: processor time of one GET of the active states, on an idle tree and
//! with a mutation every 5 ms, beside hyper alone with a constant body of the same size.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::cpu::{Cpus, Side};
use crate::load::{body_len, load};
use crate::part::{Process, node_args};
use crate::report::{Baseline, Report};
use crate::samples::Samples;
use crate::suites::replication::wait_until_ready;

const ROUNDS: usize = 9;

/// How many readers ask at a time.
const CONNECTIONS: usize = 64;

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    // On a thread of its own, which is kept on one processor.
    let measured = std::thread::scope(|scope| scope.spawn(|| measure_pinned(report)).join());
    measured.map_err(|_panic| anyhow::anyhow!("measuring HTTP failed"))?
}

fn measure_pinned(report: &mut Report) -> anyhow::Result<()> {
    let cpus = Cpus::allowed();
    cpus.pin(Side::Load);
    let still = Process::node("still", None)?;
    let mut args = node_args("moving", None);
    args.extend(["--random".into(), "5ms".into()]);
    let moving = Process::start(args)?;
    cpus.pin(Side::Measured);
    let idle = Process::node("idle", Some(still.at.rpc))?;
    let busy = Process::node("busy", Some(moving.at.rpc))?;
    wait_until_ready(&idle)?;
    wait_until_ready(&busy)?;
    // Far from the start, where few states are active yet, and much the same from then on.
    crate::pause(Duration::from_millis(500));
    let len = [body_len(idle.at.http)?, body_len(busy.at.http)?];
    let start_floor = |len: usize| Process::start(["hyper".to_owned(), len.to_string()]);
    let floors = [start_floor(len[0])?, start_floor(len[1])?];
    cpus.pin(Side::Load);
    let time = report.effort(Duration::from_millis(250), Duration::from_secs(1));
    let [mut of_floors, mut of_nodes] = [const { [const { Vec::new() }; 2] }; 2];
    for round in 1..=ROUNDS {
        report.progress(&format!("http: round {round} of {ROUNDS}"));
        for (i, (floor, node)) in floors.iter().zip([&idle, &busy]).enumerate() {
            of_floors[i].push(request_us(floor, time)?);
            of_nodes[i].push(request_us(node, time)?);
        }
    }
    for ((name, node), floor) in ["http.get.idle", "http.get.busy"]
        .into_iter()
        .zip(of_nodes)
        .zip(of_floors)
    {
        let floor = Baseline::new("bare hyper", Samples::new(floor).median());
        report.row(name, "us", Samples::new(node), floor);
    }
    Ok(())
}

/// The processor time of one request, in us.
fn request_us(server: &Process, time: Duration) -> anyhow::Result<f64> {
    let warm_up = Duration::from_millis(100);
    let load = load(server.at.http, CONNECTIONS, warm_up, time, || server.cpu())?;
    ensure!(load.failed == 0, "{} requests failed", load.failed);
    let [before, after] = load.samples;
    let spent = after.saturating_sub(before);
    let requests = u32::try_from(load.answered).ok().filter(|count| *count > 0);
    Ok(spent.as_secs_f64() * 1e6 / f64::from(requests.context("no request was answered")?))
}
