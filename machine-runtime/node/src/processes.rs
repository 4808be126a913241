//! A tree in which each node is a process: started, watched, and started again when it ends.
//!
//! A node ends when its standard input does, so no node outlives this process, however that
//! ends. Nodes are in process groups of their own: an interrupt from the terminal reaches this
//! process alone, which then tells them.

use std::ffi::OsString;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::client::{self, Target};
use crate::metrics::HTTP_REQUESTS;
use crate::shutdown::Tasks;
use crate::status::{Lines, Row};
use crate::systemd;
use crate::telemetry::Logs;

/// The first pause before a process is started again; it doubles up to `RESTART_MOST`.
const RESTART_LEAST: Duration = Duration::from_millis(100);

/// The longest pause before a process is started again.
const RESTART_MOST: Duration = Duration::from_secs(5);

/// A process that ran for this long is started again after the shortest pause.
const HEALTHY: Duration = Duration::from_secs(5);

/// How long a process may take to end: a little longer than it takes to send its last lines.
const END: Duration = Duration::from_millis(600);

/// How long one with a history on disk may take.
const END_ON_DISK: Duration = Duration::from_secs(10);

/// How often a node is asked how it is.
const LOOK: Duration = Duration::from_millis(100);

/// At which of these looks its metrics are asked for too, of which there are many.
const METRICS: u32 = 10;

/// How often before its first answer, which somebody waits for.
const FIRST_LOOK: Duration = Duration::from_millis(5);

/// A node that is to be a process.
#[derive(Clone, Debug)]
pub struct NodeProcess {
    /// Its name.
    pub name: String,
    /// How many links it is from the root.
    pub tier: u32,
    /// Where it serves readers.
    pub http: Target,
    /// What this program is given to become it.
    pub args: Vec<OsString>,
    /// Whether it has a history on disk, which may take a while to end.
    pub on_disk: bool,
}

/// The processes of a tree.
#[derive(Debug)]
pub struct Processes {
    rows: Vec<Arc<Mutex<Row>>>,
    traffic_over: CancellationToken,
}

impl Processes {
    /// Starts a process for each node, whose environment is this one's but for `environment`: what has
    /// no value there they do not have. What they log goes where `logs` does, or is among `lines`. `over`:
    /// how the line begins with which one of them says that its traffic is over, if it ever is.
    ///
    /// # Errors
    ///
    /// If this program cannot be found to start it again.
    pub fn start(
        nodes: Vec<NodeProcess>,
        environment: &[(&'static str, Option<String>)],
        logs: &Logs,
        over: Option<&'static str>,
        tasks: &Tasks,
        lines: &Lines,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut rows = Vec::new();
        let traffic_over = CancellationToken::new();
        for node in nodes {
            let http = node.http.clone();
            let row = Row {
                name: node.name.clone(),
                tier: Some(node.tier),
                http: http.to_string(),
                position: None,
                digest: 0,
                age: Duration::ZERO,
                stale: true,
                requests: 0,
                note: "starting".to_owned(),
            };
            let row = Arc::new(Mutex::new(row));
            rows.push(Arc::clone(&row));
            let process = Process {
                node,
                program: program.clone().into(),
                environment: environment.to_vec(),
                logs: logs.clone(),
                lines: lines.clone(),
                over,
                traffic_over: traffic_over.clone(),
            };
            let stop = tasks.clone();
            tasks.spawn(async move { process.supervise(&stop).await });
            tasks.spawn_until_stopped(async move { look_at(&http, &row).await });
        }
        Ok(Self { rows, traffic_over })
    }

    /// Waits until one of them has said that its traffic is over.
    pub async fn traffic_over(&self) {
        self.traffic_over.cancelled().await;
    }

    /// How the nodes are, by their own account.
    pub fn rows(&self) -> Vec<Row> {
        let row =
            |row: &Arc<Mutex<Row>>| row.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.rows.iter().map(row).collect()
    }
}

struct Process {
    node: NodeProcess,
    program: OsString,
    environment: Vec<(&'static str, Option<String>)>,
    logs: Logs,
    lines: Lines,
    over: Option<&'static str>,
    traffic_over: CancellationToken,
}

impl Process {
    async fn supervise(self, tasks: &Tasks) {
        let mut pause = RESTART_LEAST;
        loop {
            let started = Instant::now();
            let ended = match self.spawn() {
                Ok(mut child) => {
                    // Held here: waiting for a child closes the input that it still has.
                    let input = child.stdin.take();
                    let pid = child.id().unwrap_or(0);
                    self.lines
                        .push(format!("{} is process {pid}", self.node.name));
                    tokio::select! {
                        ended = self.attend(&mut child) => ended,
                        () = tasks.stopped() => return end(child, input, self.node.on_disk).await,
                    }
                }
                Err(error) => format!("cannot be started: {error}"),
            };
            if started.elapsed() > HEALTHY {
                pause = RESTART_LEAST;
            }
            let ms = pause.as_millis();
            self.lines.push(format!(
                "{} {ended}, starting it again in {ms} ms",
                self.node.name
            ));
            tokio::select! {
                () = sleep(pause) => {}
                () = tasks.stopped() => return,
            }
            pause = (pause * 2).min(RESTART_MOST);
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        // What the environment says of one node would be said of all; the arguments are complete.
        let ours = std::env::vars_os().map(|(name, _)| name);
        let settings = ours.filter(|name| name.to_string_lossy().starts_with("TST_"));
        let mut command = Command::new(&self.program);
        for name in settings {
            command.env_remove(name);
        }
        for name in systemd::VARIABLES {
            command.env_remove(name);
        }
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .args(&self.node.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Passes on what the process says until it ends.
    async fn attend(&self, child: &mut Child) -> String {
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (ended, (), ()) = tokio::join!(
            child.wait(),
            self.pass_on(out, false),
            self.pass_on(err, true)
        );
        ended.map_or_else(|error| format!("is lost: {error}"), ended_how)
    }

    async fn pass_on(&self, output: Option<impl AsyncRead + Unpin>, logged: bool) {
        let Some(output) = output else { return };
        let mut output = BufReader::new(output).lines();
        while let Ok(Some(line)) = output.next_line().await {
            if logged && self.logs.pass_on(&line) {
                continue;
            }
            self.lines.push(format!("{}: {line}", self.node.name));
            if self.over.is_some_and(|over| line.starts_with(over)) {
                self.traffic_over.cancel();
            }
        }
    }
}

/// Closes the process's input, and kills it where it does not take the hint.
async fn end(mut child: Child, input: Option<ChildStdin>, on_disk: bool) {
    drop(input);
    let within = if on_disk { END_ON_DISK } else { END };
    if timeout(within, child.wait()).await.is_err() {
        // If it cannot be killed it has ended by itself.
        let _ = child.kill().await;
    }
}

fn ended_how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Asks a node over and over how it is.
async fn look_at(node: &Target, row: &Mutex<Row>) {
    let mut pause = FIRST_LOOK;
    let mut requests = 0;
    for round in 0_u32.. {
        let mut seen = look(node).await;
        if let Ok(row) = &mut seen {
            if round % METRICS == 0 {
                requests = answered(node).await.unwrap_or(requests);
            }
            row.requests = requests;
        }
        {
            let mut row = row.lock().unwrap_or_else(PoisonError::into_inner);
            match seen {
                Ok(seen) => {
                    pause = LOOK;
                    let tier = seen.tier.or(row.tier);
                    let (name, http) = (row.name.clone(), row.http.clone());
                    *row = Row {
                        name,
                        tier,
                        http,
                        ..seen
                    };
                }
                Err(error) => {
                    row.position = None;
                    row.stale = true;
                    row.note = format!("{error:#}");
                }
            }
        }
        sleep(pause).await;
    }
}

async fn look(node: &Target) -> anyhow::Result<Row> {
    let states = client::get(node, "/v1/states", "application/json").await?;
    let value: Value = serde_json::from_slice(&states.body)?;
    if let Some(message) = value["error"]["message"].as_str() {
        anyhow::bail!("{message}");
    }
    let position = states
        .header("machine-position")
        .and_then(|text| text.parse().ok());
    let age = states
        .header("machine-age-ms")
        .and_then(|text| text.parse().ok());
    Ok(Row {
        name: String::new(),
        http: String::new(),
        tier: value["tier"]
            .as_u64()
            .and_then(|tier| u32::try_from(tier).ok()),
        position: Some(position.context("an answer without a position")?),
        digest: value["digest"]
            .as_str()
            .and_then(|d| u64::from_str_radix(d, 16).ok())
            .unwrap_or(0),
        age: Duration::from_millis(age.unwrap_or(0)),
        stale: states.header("machine-stale") == Some("true"),
        requests: 0,
        note: String::new(),
    })
}

/// How many requests a node has answered.
async fn answered(node: &Target) -> anyhow::Result<u64> {
    let metrics = client::get(node, "/metrics", "text/plain").await?;
    Ok(requests(&String::from_utf8_lossy(&metrics.body)))
}

/// The sum over all routes of the requests in a node's metrics.
fn requests(metrics: &str) -> u64 {
    let family = HTTP_REQUESTS.full_name() + "{";
    let counts = metrics.lines().filter(|line| line.starts_with(&family));
    counts
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}
