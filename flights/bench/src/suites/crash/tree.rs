//! The processes: a durable root, and nodes that follow it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::Context;
use machine_runtime::Position;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::PATIENCE;
use super::writers::STATE;
use crate::part::{Process, program};

/// How many nodes follow the root.
const FIRST: usize = 2;

/// How many nodes are of the lowest tier.
const LEAVES: usize = 3;

/// A root with its history in a folder, which is started at the same addresses each time.
pub(super) struct Root {
    args: Vec<OsString>,
    http: SocketAddr,
    child: Child,
}

impl Root {
    fn first(args: Vec<OsString>, http: SocketAddr) -> anyhow::Result<Self> {
        let child = Self::spawn(&args)?;
        Ok(Self { args, http, child })
    }

    fn spawn(args: &[OsString]) -> anyhow::Result<Child> {
        let mut command = program()?;
        command.args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.spawn().context("cannot start this program again")
    }

    /// Where its history stands, and how often the state of the writers ticked in it.
    pub(super) async fn end(&self) -> anyhow::Result<(Position, u64)> {
        let addr = self.http.to_string();
        // What is asked for second may be more than what was asked for first, never less.
        let ticks = ticks(&addr, 0).await?;
        let shown = get(&addr, "/v1/states").await?;
        let shown = shown.context("the root shows nothing")?;
        let (epoch, revision) = (shown["epoch"].as_str(), shown["revision"].as_u64());
        let position = epoch.zip(revision).map(|(e, r)| format!("{e}.{r}").parse());
        Ok((position.context("the root is nowhere")??, ticks))
    }

    /// Starts it once more.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        self.child = Self::spawn(&self.args)?;
        Ok(())
    }

    /// Ends it at once, as `kill -9` does.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// # Errors
    ///
    /// If it has ended by itself.
    pub(super) fn lives(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("the root ended by itself: {status}"),
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kill();
    }
}

/// All nodes. They end when this is dropped.
pub(super) struct Tree {
    pub(super) root: Root,
    _folder: TempDir,
    first: Vec<Process>,
    leaves: Vec<Process>,
}

impl Tree {
    /// Starts them all; `relaxed`: the root acknowledges what is not on disk yet.
    pub(super) async fn start(relaxed: bool) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        // Where it listens each time; nobody else is given the ports soon after.
        let free = || TcpListener::bind("127.0.0.1:0")?.local_addr();
        let (addr, http) = (free()?, free()?);
        let words = ["node", "--supervised", "--name=root"];
        let mut args: Vec<OsString> = words.map(OsString::from).into();
        args.extend([format!("--addr={addr}"), format!("--http-addr={http}")].map(Into::into));
        args.extend(["--state-dir".into(), folder.path().join("state").into()]);
        args.extend(relaxed.then(|| "--durability=relaxed=1s".into()));
        let root = Root::first(args, http)?;
        let node = |name: String, parent: SocketAddr| {
            Process::users_node(&[format!("--name={name}"), format!("--parent={parent}")])
        };
        let first = (1..=FIRST).map(|i| node(format!("rep-{i}"), addr));
        let first = first.collect::<anyhow::Result<Vec<_>>>()?;
        let leaves = (0..LEAVES).map(|i| {
            let name = format!("rep-{}-{}", i % FIRST + 1, i / FIRST + 1);
            node(name, first[i % FIRST].at.rpc)
        });
        let leaves = leaves.collect::<anyhow::Result<Vec<_>>>()?;
        let tree = Self {
            root,
            _folder: folder,
            first,
            leaves,
        };
        for leaf in tree.leaves() {
            reach(&leaf, 0).await?;
        }
        Ok(tree)
    }

    /// Where the nodes of the lowest tier answer.
    pub(super) fn leaves(&self) -> Vec<String> {
        let leaves = self.leaves.iter();
        leaves.map(|leaf| leaf.at.http.to_string()).collect()
    }

    /// What those that follow the root took instead of what they missed: why, and how often.
    pub(super) async fn resyncs(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut resyncs = BTreeMap::new();
        for node in &self.first {
            for (reason, count) in snapshots(node.at.http).await? {
                *resyncs.entry(reason).or_default() += count;
            }
        }
        // Each has begun with one.
        resyncs.retain(|reason, count| reason != "first" && *count > 0);
        Ok(resyncs)
    }
}

async fn get(addr: &str, path: &str) -> anyhow::Result<Option<Value>> {
    let answer = machine_node::client::get(addr, path, "application/json").await?;
    if !answer.head.status().is_success() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&answer.body)?))
}

/// Waits until a node shows a revision.
pub(super) async fn reach(addr: &str, revision: u64) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let shown = get(addr, "/v1/states").await?;
        let at = shown.and_then(|shown| shown["revision"].as_u64());
        if at.is_some_and(|at| at >= revision) {
            return Ok(());
        }
        let in_time = start.elapsed() < PATIENCE;
        anyhow::ensure!(in_time, "{addr} shows {at:?} and not {revision}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// How often the state that is written ticked, once a revision is reached.
pub(super) async fn ticks(addr: &str, revision: u64) -> anyhow::Result<u64> {
    reach(addr, revision).await?;
    let state = get(addr, &format!("/v1/states/{STATE}")).await?;
    let tick = state.and_then(|state| state["tick"].as_u64());
    tick.with_context(|| format!("{addr} has no ticks"))
}

/// The snapshots that a node took from its parent, by reason.
async fn snapshots(addr: SocketAddr) -> anyhow::Result<Vec<(String, u64)>> {
    let answer = machine_node::client::get(&addr.to_string(), "/metrics", "*/*").await?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let counts = text.lines().filter(|line| line.contains("resyncs_total{"));
    let counts = counts.filter_map(|line| {
        let (labels, count) = line.rsplit_once(' ')?;
        let (_, reason) = labels.split_once("reason=\"")?;
        let (reason, _) = reason.split_once('"')?;
        Some((reason.to_owned(), count.parse().ok()?))
    });
    Ok(counts.collect())
}
