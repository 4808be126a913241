//! The processes that a suite starts: nodes of the published states, and a server to compare
//! them with. Each prints where it listens, and ends when its standard input does.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::{Args, Subcommand};
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use machine_node::access::Access;
use machine_node::node::{self, Node, NodeConfig, Origin, Sockets};
use machine_node::observe::ObserveConfig;
use machine_node::random::RandomTraffic;
use machine_node::shutdown::{PATIENCE, Tasks, input_ends};
use machine_node::tls::Tls;
use machine_runtime::observe::Observers;
use machine_runtime::{Machine, States};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::cpu;
use crate::states::Published148;
use crate::suites::followers::clients::{self, ClientsArgs};
use crate::suites::followers::parent::{self, ParentArgs};
use crate::suites::replication::start;
use crate::suites::security;
use crate::suites::strangers::attack::{self, AttackArgs};

/// The name of the hidden subcommand.
pub(crate) const COMMAND: &str = "bench-part";

/// A port that the system chooses.
const ANY: &str = "127.0.0.1:0";

/// Options of the hidden subcommand.
#[derive(Args, Clone, Debug)]
pub struct PartArgs {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand, Clone, Debug)]
enum Part {
    /// A node of the 148 published states
    Node(NodeArgs),
    /// hyper alone, with a constant body
    Hyper {
        /// The bytes of the body
        len: usize,
    },
    /// A tree of nine processes, until all are ready
    Tree,
    /// A root that is written to as it is told, with many followers
    Parent(ParentArgs),
    /// Many followers
    Clients(ClientsArgs),
    /// Whoever attacks a node
    Strangers(AttackArgs),
    /// Nothing
    Nothing,
}

#[derive(Args, Clone, Debug)]
struct NodeArgs {
    #[arg(long, default_value = "node")]
    name: String,
    /// Whom it follows; without one it is a root
    #[arg(long)]
    parent: Option<String>,
    /// Where it serves followers
    #[arg(long, default_value = ANY)]
    addr: SocketAddr,
    /// Where it serves readers
    #[arg(long, default_value = ANY)]
    http_addr: SocketAddr,
    /// Where its certificate is, which is also the authority of all others; without it it speaks no TLS
    #[arg(long)]
    tls: Option<PathBuf>,

    /// Who may do what; everybody everything without it
    #[arg(long)]
    access: Option<PathBuf>,
    /// How often a root adds three random states
    #[arg(long, value_parser = humantime::parse_duration)]
    random: Option<Duration>,
}

/// Runs what a suite has started until its standard input ends.
///
/// # Errors
///
/// If it cannot listen, or its parts fail.
pub fn run(args: PartArgs) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.part {
            Part::Node(args) => run_node(args).await,
            Part::Hyper { len } => run_hyper(len).await,
            Part::Tree => start::run_tree().await,
            Part::Parent(args) => parent::run(args).await,
            Part::Clients(args) => clients::run(args).await,
            Part::Strangers(args) => attack::run(args).await,
            Part::Nothing => Ok(()),
        }
    })
}

async fn run_node(args: NodeArgs) -> anyhow::Result<()> {
    let tasks = Tasks::default();
    let rpc = TcpListener::bind(args.addr).await?;
    let http = TcpListener::bind(args.http_addr).await?;
    let at = Listening {
        rpc: rpc.local_addr()?,
        http: http.local_addr()?,
    };
    let mut root = None;
    let origin = if let Some(parent) = args.parent {
        Origin::Parents(Published148::schema().clone(), vec![parent])
    } else {
        let (machine, observers) = (Machine::<Published148>::new(), Observers::new());
        let root = root.insert(node::start_machine(machine, &observers, &tasks).await?);
        Origin::Machine(root.untyped(), observers)
    };
    let mut config = NodeConfig::new(
        args.name,
        env!("CARGO_PKG_VERSION"),
        origin,
        ObserveConfig::new("bench"),
    );
    if let Some(dir) = args.tls {
        config.security.tls = Some(Tls::load(security::files(&dir))?);
    }
    // All that is measured comes from one client.
    config.limits.write_rate = 0;
    if let Some(file) = args.access {
        config.security.access = Access::load(file, Published148::schema())?;
    }
    let http = Some(http);
    let _node = Node::start(config, Sockets { rpc, http }, &tasks)?;
    at.tell()?;
    let traffic = async {
        if let (Some(root), Some(period)) = (&root, args.random) {
            RandomTraffic::new(fastrand::u64(..))
                .run(root, period)
                .await?;
        }
        std::future::pending::<anyhow::Result<()>>().await
    };
    tokio::select! {
        ended = traffic => ended?,
        () = input_ends() => {}
        () = tasks.panicked() => anyhow::bail!("a task panicked"),
    }
    tasks.finish(PATIENCE).await;
    Ok(())
}

/// The floor of an HTTP server: one service, one constant body, no routes.
async fn run_hyper(len: usize) -> anyhow::Result<()> {
    let listener = TcpListener::bind(ANY).await?;
    let http = listener.local_addr()?;
    Listening { rpc: http, http }.tell()?;
    let body = Bytes::from(vec![b'x'; len]);
    let mut connections = JoinSet::new();
    let serve = async {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let body = body.clone();
            connections.spawn(async move {
                let service = service_fn(move |_request| {
                    let mut response = Response::new(Full::new(body.clone()));
                    let kind = HeaderValue::from_static("text/plain");
                    response.headers_mut().insert(CONTENT_TYPE, kind);
                    async { Ok::<_, Infallible>(response) }
                });
                // A reader that leaves is no error.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    };
    tokio::select! {
        ended = serve => ended,
        () = input_ends() => Ok(()),
    }
}

/// Where a process listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Listening {
    pub(crate) rpc: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Listening {
    fn tell(self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "listening {} {}", self.rpc, self.http)?;
        out.flush()
    }

    fn told(line: &str) -> Option<Self> {
        let (rpc, http) = line
            .trim_end()
            .strip_prefix("listening ")?
            .split_once(' ')?;
        Some(Self {
            rpc: rpc.parse().ok()?,
            http: http.parse().ok()?,
        })
    }
}

/// A process that a suite has started. It is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    _input: Option<ChildStdin>,
    _output: BufReader<ChildStdout>,
    pub(crate) at: Listening,
}

impl Process {
    /// Starts a node of this name.
    pub(crate) fn node(name: &str, parent: Option<SocketAddr>) -> anyhow::Result<Self> {
        Self::start(node_args(name, parent))
    }

    /// Starts this program as `args` say and waits until it listens.
    pub(crate) fn start<A: Into<OsString>>(
        args: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        Self::spawn(command(args)?, |output| {
            let mut line = String::new();
            output.read_line(&mut line)?;
            Ok(Listening::told(&line))
        })
    }

    /// Starts a node of this program as its users do, with more `args`.
    pub(crate) fn users_node(args: &[String]) -> anyhow::Result<Self> {
        let mut command = program()?;
        command.args(["node", "--supervised", "--addr", ANY, "--http-addr", ANY]);
        command.args(args);
        Self::spawn(command, |output| {
            let mut told = [None; 2];
            for (place, start) in [": tarpc ", ": http://"].into_iter().enumerate() {
                let mut line = String::new();
                output.read_line(&mut line)?;
                let addr = line.trim_end().split_once(start);
                told[place] =
                    addr.and_then(|(_name, addr)| addr.trim_end_matches('/').parse().ok());
            }
            let [rpc, http] = told;
            Ok(rpc.zip(http).map(|(rpc, http)| Listening { rpc, http }))
        })
    }

    fn spawn(
        mut command: Command,
        listens: impl FnOnce(&mut BufReader<ChildStdout>) -> io::Result<Option<Listening>>,
    ) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start this program again")?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("no output to read")?;
        let mut output = BufReader::new(output);
        let Some(at) = listens(&mut output)? else {
            let _ = child.kill();
            let status = child.wait()?;
            anyhow::bail!("a process that was to listen ended: {status}");
        };
        Ok(Self {
            child,
            _input: input,
            _output: output,
            at,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its processor time so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu::of_process(self.pid())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This program.
pub(crate) fn program() -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("cannot find this program")?;
    Ok(Command::new(program))
}

/// This program, as the part that `args` say.
pub(crate) fn command<A: Into<OsString>>(
    args: impl IntoIterator<Item = A>,
) -> anyhow::Result<Command> {
    let mut command = program()?;
    command.arg(COMMAND).args(args.into_iter().map(Into::into));
    Ok(command)
}

/// The arguments of a node.
pub(crate) fn node_args(name: &str, parent: Option<SocketAddr>) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["node".into(), "--name".into(), name.into()];
    if let Some(parent) = parent {
        args.extend(["--parent".into(), parent.to_string().into()]);
    }
    args
}
