//! Who asks: processor time of a request whose token is looked at, beside one to a node that asks nobody.

use std::time::Duration;

use anyhow::{Context, ensure};
use machine_node::access::token;

use crate::cpu::{Cpus, Side};
use crate::load::load_with;
use crate::part::{Process, node_args};
use crate::report::{Baseline, Report};
use crate::samples::Samples;

const ROUNDS: usize = 9;

/// How many ask at a time.
const CONNECTIONS: usize = 64;

/// What the client may change: what a mutation is held against.
const STATES: &str = "Flight*Delayed";

/// A mutation that changes nothing, so that the machine's part is small.
const MUTATION: &str = r#"{"op":"remove","states":["Flight1Delayed"]}"#;

pub(super) fn measure(report: &mut Report) -> anyhow::Result<()> {
    // On a thread of its own, which is kept on one processor.
    let measured = std::thread::scope(|scope| scope.spawn(|| measure_pinned(report)).join());
    measured.map_err(|_panic| anyhow::anyhow!("measuring access failed"))?
}

fn measure_pinned(report: &mut Report) -> anyhow::Result<()> {
    let cpus = Cpus::allowed();
    let made = token::make()?;
    let entry = token::entry("bench", &made).context("a token is none")?;
    let roles = format!("roles = [\"observe\", \"mutate\"]\nstates = \"{STATES}\"");
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("access.toml");
    std::fs::write(&file, entry.replace("roles = [\"observe\"]", &roles))?;
    cpus.pin(Side::Measured);
    let open = Process::start(node_args("open", None))?;
    let mut args = node_args("closed", None);
    args.extend(["--access".into(), file.into_os_string()]);
    let closed = Process::start(args)?;
    cpus.pin(Side::Load);
    let header = format!("Authorization: Bearer {}\r\n", made.secret());
    let len = MUTATION.len();
    let requests = ["", &header].map(|header| {
        let get = format!("GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n{header}\r\n");
        let post = format!(
            "POST /v1/mutations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {len}\r\n{header}\r\n{MUTATION}"
        );
        [get, post]
    });
    let time = report.effort(Duration::from_millis(250), Duration::from_secs(1));
    let names = ["security.access.get", "security.access.mutate"];
    let mut spent = [const { [const { Vec::new() }; 2] }; 2];
    for round in 1..=ROUNDS {
        report.progress(&format!("access: round {round} of {ROUNDS}"));
        for (node, (process, requests)) in [&open, &closed].into_iter().zip(&requests).enumerate() {
            for (what, request) in requests.iter().enumerate() {
                spent[what][node].push(request_us(process, request, time)?);
            }
        }
    }
    for (name, [open, closed]) in names.into_iter().zip(spent) {
        let open = Baseline::new("asks nobody", Samples::new(open).median());
        report.row(name, "us", Samples::new(closed), open);
    }
    Ok(())
}

/// The processor time of one request, in us.
fn request_us(server: &Process, request: &str, time: Duration) -> anyhow::Result<f64> {
    let warm_up = Duration::from_millis(100);
    let (request, at) = (request.as_bytes(), server.at.http);
    let load = load_with(None, request, at, CONNECTIONS, warm_up, time, || {
        server.cpu()
    })?;
    ensure!(load.failed == 0, "{} requests failed", load.failed);
    let [before, after] = load.samples;
    let spent = after.saturating_sub(before);
    let requests = u32::try_from(load.answered).ok().filter(|count| *count > 0);
    Ok(spent.as_secs_f64() * 1e6 / f64::from(requests.context("no request was answered")?))
}
