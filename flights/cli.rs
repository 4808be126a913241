//! The command line: flags over environment over `.env` over defaults.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use flights_bench::BenchArgs;
use flights_bench::part::PartArgs;

use crate::certs::CertsArgs;
use crate::debug::DebuggerArgs;
use crate::feed::Speed;
use crate::graph::GraphArgs;

mod debug;
mod limits;
mod links;
mod reports;
mod security;
mod values;

pub(crate) use self::debug::size;
pub use self::debug::{DEBUG_ADDR, DebugArgs, ReplayArgs, record_args};
pub use self::limits::{LimitArgs, limit_args};
pub use self::links::{Durable, Each, LinkArgs, StateArgs, link_args};
pub use self::reports::{LogArgs, ObserveArgs};
pub use self::security::{ClientArgs, Open, SecurityArgs, TokenArgs, check_listeners};
pub use self::values::{Addr, NodeAddr, OptionalAddr, OptionalPeriod};
use self::values::{interval, json, patience, period};
use machine_node::client::Target;
use machine_node::top::Look;
use machine_runtime::{Op, TraceContext};

/// The version of the package, and the commit where it is known.
pub const VERSION: &str = env!("FLIGHTS_VERSION");

/// The first tarpc port of a tree.
pub const RPC_PORT: u16 = 19700;

/// The first HTTP port of a tree.
pub const HTTP_PORT: u16 = 18700;

/// The word that stands for the departures within the binary.
pub const SHIPPED: &str = "shipped";

const ABOUT: &str = "Flight statuses of an airport on a tree of replicated state machines";

const LONG_ABOUT: &str = "\
Flight statuses of an airport on a tree of replicated state machines.

Without a subcommand it runs the whole tree on this computer: a root that owns the states, two \
replicants that follow it, three that follow each of those. A day of real departures is replayed \
through them, and every node answers HTTP with the active states.";

const AFTER_HELP: &str = "\
Examples:
  flights                                       the whole tree, a day of departures in a minute
  flights --speed 60x --fanout 3                slower, and one tier of three replicants
  flights --random 5ms                          random load instead of departures
  flights tree --processes                      one process a node, restarted when it ends
  flights node --addr :19700 --http-addr :18700 --replay shipped
                                                a root of its own
  flights node --name rep-1 --parent localhost:19700 --addr :19701 --http-addr :18701
                                                a replicant that follows it
  flights node --addr :19700 --state-dir state  a root whose history outlives it
  flights --push-interval 10ms,100ms            pushes of the root often, those below it less so
  flights links --node localhost:18703          how a node is linked
  flights get --node localhost:18701            the active states of a node
  flights watch --node localhost:18701          its changes as they happen
  flights mutate add Flight1Delayed --node localhost:18703
                                                a change at the root, by way of any node
  flights dashboard --out observability         a Grafana dashboard and Prometheus rules
  flights graph --only flight=3 --out flight.svg
                                                states and relations of a flight, drawn
  flights debug                                 what nodes do, transition by transition
  flights top                                   how all nodes do, live
  flights certs tls                             certificates for a tree that speaks TLS
  flights node --addr :19700 --replay shipped --record recorded
                                                a root that is recorded
  flights replay recorded                       whether the same comes of it once more
  flights token tower                           a token for a client
  flights bench --quick                         what it all costs, in two minutes

Exit codes: 0 success, 1 failure, 2 wrong usage, 3 a node, the root behind it, or Grafana, could \
not be reached, 4 a mutation was canceled, 5 whether a mutation was run is unknown, 6 the history \
of a root could not be opened or kept, 7 it is damaged, or of another schema or a later program, 8 it would be \
open to strangers.";

/// What was asked for cannot be; the exit code is that of a wrong flag.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The whole command line.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "flights",
    version = VERSION,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_help = AFTER_HELP
)]
pub struct Cli {
    /// What to do; nothing is `tree`.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The options of `tree`.
    #[command(flatten)]
    pub tree: TreeArgs,

    /// What to log.
    #[command(flatten)]
    pub log: LogArgs,
}

impl Cli {
    /// Reads the arguments and the environment of this process, as a subcommand or a tree takes them.
    /// Ends the process as clap does where they are wrong.
    ///
    /// # Errors
    ///
    /// [`Usage`] if options of a tree stand in front of a subcommand: they would go unheard.
    pub fn read() -> anyhow::Result<Self> {
        let full = without_empty(Self::command());
        // What the environment says to a tree is nothing to a subcommand, and may be wrong.
        let bare = full.clone().mut_args(|arg| {
            if arg.is_global_set() {
                arg
            } else {
                arg.env(None::<&str>)
            }
        });
        let matches = match bare.try_get_matches() {
            Ok(matches) if matches.subcommand().is_some() => matches,
            _ => full.get_matches(),
        };
        if let Some((name, command)) = matches.subcommand() {
            let given = |matches: &ArgMatches, id: &str| {
                matches.value_source(id) == Some(ValueSource::CommandLine)
            };
            let said = |id: &&clap::Id| {
                !["log", "log_format"].contains(&id.as_str()) && given(&matches, id.as_str())
            };
            if let Some(id) = matches.ids().find(said) {
                let flag = id.as_str().replace('_', "-");
                let why = format!("--{flag} is heard only behind `{name}`, if that has it");
                return Err(Usage(why).into());
            }
            let mut cli = Self::from_arg_matches(&matches)?;
            if let Some(Command::Dashboard(args)) = &mut cli.command {
                args.upload |= given(command, "grafana_url");
            }
            return Ok(cli);
        }
        Ok(Self::from_arg_matches(&matches)?)
    }
}

/// `command` and its subcommands without the variables that are empty: these say nothing.
fn without_empty(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        if value.is_some_and(|value| value.is_empty()) {
            arg.env(None::<&str>)
        } else {
            arg
        }
    });
    command.mut_subcommands(without_empty)
}

/// The subcommands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Runs a whole tree on this computer (what happens without a subcommand)
    Tree(TreeArgs),
    /// Runs one node of any tier
    Node(NodeArgs),
    /// Prints the active states of a node
    Get(GetArgs),
    /// Prints the changes of a node as they happen
    Watch(NodeRef),
    /// Prints how a node is linked: whom it follows, who follows it, on which terms
    Links(NodeRef),
    /// Changes states at the root, by way of any node
    Mutate(MutateArgs),
    /// Makes a Grafana dashboard and Prometheus rules, or takes the dashboard to a Grafana
    Dashboard(DashboardArgs),
    /// Draws the states and their relations, whole or in part, with what is active
    Graph(GraphArgs),
    /// Debugs nodes, live or recorded: every transition, why it came, what it led to
    Debug(DebuggerArgs),
    /// Shows how nodes do: rates, lag, the last error
    Top(TopArgs),
    /// Makes certificates for a tree: of an authority of its own, of nodes, of clients
    Certs(CertsArgs),
    /// Does what was recorded once more, and says whether the same comes of it
    Replay(ReplayArgs),
    /// Measures what nodes cost, beside floors of the same run
    Bench(BenchArgs),
    /// What `bench` starts
    #[command(hide = true)]
    BenchPart(PartArgs),
    /// Makes a token for a client, and what is to stand in the file of who may do what
    Token(TokenArgs),
    /// Prints completions for a shell
    Completions {
        /// The shell to print them for.
        shell: Shell,
    },
}

/// What flows through a root.
#[derive(Args, Clone, Debug)]
pub struct FeedArgs {
    /// Departures to replay: a CSV file in the format of nycflights13, or `shipped` for the day
    /// within the binary
    #[arg(long, env = "TST_REPLAY", value_name = "FILE", hide_env_values = true)]
    pub replay: Option<PathBuf>,

    /// How fast the replay runs: `1` is real time, `60x` a minute a second, `max` without waiting
    #[arg(
        long,
        env = "TST_SPEED",
        default_value = "1440x",
        hide_env_values = true
    )]
    pub speed: Speed,

    /// Adds three random states every so often, such as `1s` or `5ms` (a plain number is
    /// microseconds)
    #[arg(long, env = "TST_MUT_US", value_name = "PERIOD", value_parser = period,
        hide_env_values = true)]
    pub random: Option<Duration>,

    /// Chooses what is left to chance: gates, random traffic
    #[arg(long, env = "TST_SEED", default_value_t = 0, hide_env_values = true)]
    pub seed: u64,
}

/// Options of `flights tree`.
#[derive(Args, Clone, Debug)]
pub struct TreeArgs {
    /// How many replicants follow each node, tier by tier
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "2,3",
        value_name = "N,N,…"
    )]
    pub fanout: Vec<usize>,

    /// The tarpc port of the root, the others count up from it [default: 19700, or free ones]
    #[arg(long, value_name = "PORT")]
    pub rpc_port: Option<u16>,

    /// The HTTP port of the root, the others count up from it [default: 18700, or free ones]
    #[arg(long, value_name = "PORT")]
    pub http_port: Option<u16>,

    /// Runs each node in a process of its own and restarts those that end
    #[arg(long)]
    pub processes: bool,

    /// What flows through the root.
    #[command(flatten)]
    pub feed: FeedArgs,

    /// The least time between two pushes to a follower, tier by tier: `10ms,100ms` is that of the root,
    /// then that of those which follow it; the last is that of all below. `0` pushes every transition at
    /// once
    #[arg(long, env = "TST_PUSH_INTERVAL", default_value = "0", value_name = "TIME,…",
        value_delimiter = ',', value_parser = interval, hide_env_values = true)]
    pub push_interval: Vec<Duration>,

    /// How the links are.
    #[command(flatten)]
    pub link: LinkArgs,

    /// How much strangers can take.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// Where the root keeps its history.
    #[command(flatten)]
    pub state: StateArgs,

    /// What keeps strangers out.
    #[command(flatten)]
    pub security: SecurityArgs,

    /// To whom nodes report.
    #[command(flatten)]
    pub observe: ObserveArgs,

    /// Who is told everything.
    #[command(flatten)]
    pub debug: DebugArgs,

    /// What the nodes log, where they are processes.
    #[arg(skip)]
    pub log: LogArgs,
}

/// Options of `flights node`.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// The node's name [default: `root`, or its address for a replicant]
    #[arg(long, env = "TST_NAME", hide_env_values = true)]
    pub name: Option<String>,

    /// The tarpc addresses of nodes to follow, the best first: it follows the first that can be reached and
    /// is fresh; without any the node is a root
    #[arg(
        long,
        env = "TST_PARENT_ADDR",
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub parent: Vec<OptionalAddr>,

    /// The tarpc address to serve followers on
    #[arg(
        long,
        env = "TST_ADDR",
        value_name = "HOST:PORT",
        hide_env_values = true
    )]
    pub addr: Addr,

    /// The HTTP address to serve readers on; without one nothing is served
    #[arg(
        long,
        env = "TST_HTTP_ADDR",
        value_name = "HOST:PORT",
        hide_env_values = true
    )]
    pub http_addr: Option<OptionalAddr>,

    /// What flows through the root.
    #[command(flatten)]
    pub feed: FeedArgs,

    /// The least time between two pushes to a follower; `0` pushes every transition at once
    #[arg(long, env = "TST_PUSH_INTERVAL", default_value = "0", value_name = "TIME",
        value_parser = interval, hide_env_values = true)]
    pub push_interval: Duration,

    /// The least time between two pushes that a replicant asks its parent for; the longer one of what
    /// both want holds
    #[arg(long, env = "TST_PARENT_INTERVAL", default_value = "0", value_name = "TIME",
        value_parser = interval, hide_env_values = true)]
    pub parent_interval: Duration,

    /// How the links are.
    #[command(flatten)]
    pub link: LinkArgs,

    /// How much strangers can take.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// Where a root keeps its history.
    #[command(flatten)]
    pub state: StateArgs,

    /// What keeps strangers out.
    #[command(flatten)]
    pub security: SecurityArgs,

    /// To whom it reports.
    #[command(flatten)]
    pub observe: ObserveArgs,

    /// Who is told everything.
    #[command(flatten)]
    pub debug: DebugArgs,

    /// Tells in words what the states do
    #[arg(long)]
    pub narrate: bool,

    /// Ends when standard input does, and leaves the telling of a replay to who narrates: a tree in
    /// processes sets it
    #[arg(long, hide = true)]
    pub supervised: bool,
}

/// Which node is asked, and how its answer is printed.
#[derive(Args, Clone, Debug)]
pub struct NodeRef {
    /// The node's HTTP address; `https://HOST:PORT` asks it over TLS
    #[arg(
        long,
        env = "TST_NODE",
        default_value = "localhost:18700",
        value_name = "HOST:PORT",
        hide_env_values = true
    )]
    pub node: NodeAddr,

    /// Prints the node's JSON as it comes, one object a line
    #[arg(long)]
    pub json: bool,

    /// Who asks.
    #[command(flatten)]
    pub client: ClientArgs,
}

impl NodeRef {
    /// The node as it is asked.
    ///
    /// # Errors
    ///
    /// As [`ClientArgs::target`].
    pub fn target(&self) -> anyhow::Result<Target> {
        self.client.target(&self.node)
    }
}

/// Options of `flights get`.
#[derive(Args, Clone, Debug)]
pub struct GetArgs {
    /// The states to look at; none: all active ones
    pub states: Vec<String>,

    /// The node to ask.
    #[command(flatten)]
    pub from: NodeRef,
}

/// Options of `flights mutate`.
#[derive(Args, Clone, Debug)]
pub struct MutateArgs {
    /// What to do with the states
    #[arg(value_parser = PossibleValuesParser::new(OPS.map(Op::name)))]
    pub op: String,

    /// The states to do it with, in an order that can matter
    #[arg(required = true, value_name = "STATE")]
    pub states: Vec<String>,

    /// A payload for the one of them that takes one
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub payload: Option<String>,

    /// What makes it harmless to ask again: a key is run once [default: one of its own]
    #[arg(long)]
    pub key: Option<String>,

    /// How long the node may try to reach the root, 1s to 60s
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = patience)]
    pub timeout: Duration,

    /// The span that it is part of, as W3C Trace Context writes it; also `TRACEPARENT`
    #[arg(long, value_name = "VALUE")]
    pub traceparent: Option<TraceContext>,

    /// The node to ask.
    #[command(flatten)]
    pub by: NodeRef,
}

/// Options of `flights dashboard`.
#[derive(Args, Clone, Debug)]
pub struct DashboardArgs {
    /// The folder to write the dashboard, rules, queries and what Grafana is provisioned with to;
    /// without it the dashboard is printed, unless it is uploaded
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// The job under which Prometheus scrapes the nodes, for the rules
    #[arg(long, default_value = "flights", value_name = "NAME")]
    pub job: String,

    /// Takes the dashboard to the Grafana of `GRAFANA_URL`
    #[arg(long)]
    pub upload: bool,

    /// The Grafana to take the dashboard to, which is `--upload` as well; the variable alone uploads
    /// nothing
    #[arg(long, env = "GRAFANA_URL", value_name = "URL", hide_env_values = true)]
    pub grafana_url: Option<String>,

    /// The token of a service account that may edit dashboards there; prefer the variable, as others
    /// on this computer can read arguments
    #[arg(
        long,
        env = "GRAFANA_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub grafana_token: Option<Secret>,

    /// The folder to put it into there, created if it is missing
    #[arg(long, value_name = "TITLE")]
    pub folder: Option<String>,
}

/// What must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

/// Options of `flights top`.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// The nodes' HTTP addresses [default: those that answer at localhost:18700 to 18731]
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT,…")]
    pub node: Vec<NodeAddr>,

    /// How often they are asked
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = period)]
    pub every: Duration,

    /// Prints one table, of two samples, and ends; so it is too where standard output is no terminal
    #[arg(long)]
    pub once: bool,

    /// Prints JSON, an object a node, again and again unless `--once`
    #[arg(long)]
    pub json: bool,

    /// Who asks.
    #[command(flatten)]
    pub client: ClientArgs,
}

impl TopArgs {
    /// What is to be looked at, and how.
    ///
    /// # Errors
    ///
    /// As [`ClientArgs::target`].
    pub fn look(&self, is_terminal: bool) -> anyhow::Result<Look> {
        let guessed = self.node.is_empty();
        let ports = HTTP_PORT..HTTP_PORT + GUESSES;
        let usual: Vec<NodeAddr> = ports
            .filter_map(|port| format!("localhost:{port}").parse().ok())
            .collect();
        let nodes = if guessed { &usual } else { &self.node };
        Ok(Look {
            nodes: self.client.targets(nodes)?,
            guessed,
            every: self.every,
            once: self.once || !(is_terminal || self.json),
            json: self.json,
        })
    }
}

/// How many ports are looked at for nodes.
const GUESSES: u16 = 32;

impl MutateArgs {
    /// What to do.
    pub fn op(&self) -> Op {
        let op = OPS.into_iter().find(|op| op.name() == self.op);
        op.unwrap_or(Op::Add)
    }

    /// The span that it is part of. A variable that names none says nothing, as it is not ours.
    pub fn trace(&self) -> Option<TraceContext> {
        let variable = || std::env::var("TRACEPARENT").ok()?.parse().ok();
        self.traceparent.or_else(variable)
    }
}

/// What can be done with states.
const OPS: [Op; 4] = [Op::Add, Op::Remove, Op::Set, Op::Toggle];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nothing_is_a_tree_of_nine() {
        let cli = Cli::try_parse_from(["flights"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.tree.fanout, [2, 3]);
        assert!(!cli.tree.processes);
    }
}
