//! The tree: latency, throughput, bytes on a link, memory, start. Root, two replicants that follow
//! it, six that follow those; every node is a process of its own but the root and one of the six,
//! which are threads of this one, so that one clock times both ends.

mod link;
pub(crate) mod start;
mod tree;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep};

use crate::part::Process;
use crate::report::Report;

/// How many rounds a figure is the median of.
const ROUNDS: usize = 5;

/// The tree: two replicants follow the root, three follow each of those.
pub(crate) const FANOUT: [usize; 2] = [2, 3];

/// How long a node may take to become ready.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    tree::measure(report)?;
    link::measure(report)?;
    start::measure(report)
}

/// The runtime of a node: what `flights node` runs on.
pub(crate) fn one_thread() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Waits until a node says that it is ready.
pub(crate) fn wait_until_ready(node: &Process) -> anyhow::Result<()> {
    one_thread()?.block_on(ready(node.at.http))
}

async fn ready(http: SocketAddr) -> anyhow::Result<()> {
    let addr = http.to_string();
    let start = Instant::now();
    loop {
        let answer = machine_node::client::get(&addr, "/readyz", "*/*").await?;
        if answer.head.status().is_success() {
            return Ok(());
        }
        anyhow::ensure!(start.elapsed() < PATIENCE, "{addr} does not become ready");
        sleep(Duration::from_millis(1)).await;
    }
}
