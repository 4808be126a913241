//! The command line: flags over environment over `.env` over defaults.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use flights_bench::BenchArgs;
use flights_bench::part::PartArgs;

use crate::feed::Speed;
use machine_node::observe::ObserveConfig;
use machine_node::telemetry;
use machine_runtime::{Op, WRITE_LONGEST};

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
  flights get --node localhost:18701            the active states of a node
  flights watch --node localhost:18701          its changes as they happen
  flights mutate add Flight1Delayed --node localhost:18703
                                                a change at the root, by way of any node
  flights dashboard --out observability         a Grafana dashboard and Prometheus rules
  flights bench --quick                         what it all costs, in less than a minute

Exit codes: 0 success, 1 failure, 2 wrong usage, 3 a node, the root behind it, or Grafana, could \
not be reached, 4 a mutation was canceled, 5 whether a mutation was run is unknown.";

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

    /// What to log, such as `info` or `warn,machine_runtime=debug`.
    #[arg(long, global = true, env = "RUST_LOG", default_value = telemetry::DEFAULT,
        value_name = "FILTER")]
    pub log: String,
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
    /// Changes states at the root, by way of any node
    Mutate(MutateArgs),
    /// Makes a Grafana dashboard and Prometheus rules, or takes the dashboard to a Grafana
    Dashboard(DashboardArgs),
    /// Measures what nodes cost, beside floors of the same run
    Bench(BenchArgs),
    /// What `bench` starts
    #[command(hide = true)]
    BenchPart(PartArgs),
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

/// How followers are served.
#[derive(Args, Clone, Copy, Debug)]
pub struct LinkArgs {
    /// The least time between two pushes to a follower; `0` pushes every transition at once
    #[arg(long, env = "TST_PUSH_INTERVAL", default_value = "0", value_name = "TIME",
        value_parser = interval, hide_env_values = true)]
    pub push_interval: Duration,
}

/// To whom nodes report.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Reports")]
pub struct ObserveArgs {
    /// What the label `service` of metrics, logs and traces says
    #[arg(
        long,
        env = "AM_SERVICE",
        default_value = "flights",
        value_name = "NAME",
        hide_env_values = true
    )]
    pub service: String,

    /// A Prometheus Pushgateway to send metrics to, every `--push-every` and at the end; also
    /// `AM_PROM_PUSH_URL`
    #[arg(
        long,
        env = "PUSH_GATEWAY_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub push_gateway: Option<String>,

    /// How often
    #[arg(long, env = "PUSH_EVERY", default_value = "15s", value_name = "TIME",
        value_parser = period, hide_env_values = true)]
    pub push_every: Duration,

    /// Shows metrics of asyncmachine-go under their old names as well
    #[arg(long, env = "AM_COMPAT", hide_env_values = true)]
    pub compat_metrics: bool,

    /// The states that have a series of their own; `*` is all
    #[arg(long, value_delimiter = ',', value_name = "STATE,…")]
    pub state_metrics: Vec<String>,

    /// A Loki to send logs to; also `AM_LOKI_ADDR`
    #[arg(long, env = "LOKI_ADDR", value_name = "URL", hide_env_values = true)]
    pub loki: Option<String>,

    /// An OpenTelemetry collector to send traces to, over HTTP
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL",
        hide_env_values = true
    )]
    pub otlp: Option<String>,

    /// Which part of the traces that begin here are kept, 0 to 1
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value = "1", value_name = "RATIO",
        value_parser = ratio, hide_env_values = true)]
    pub trace_ratio: f64,

    /// How often a root activates Healthcheck and Heartbeat; not at all unless told
    #[arg(long, env = "AM_HEALTHCHECK", value_name = "TIME", value_parser = healthcheck,
        hide_env_values = true)]
    pub healthcheck: Option<Option<Duration>>,
}

impl ObserveArgs {
    /// As a node takes it. An empty address is none.
    pub fn config(&self) -> ObserveConfig {
        let given = |addr: &Option<String>, also: &str| {
            let addr = addr.clone().or_else(|| std::env::var(also).ok());
            addr.filter(|addr| !addr.is_empty())
        };
        let mut config = ObserveConfig::new(&self.service);
        config.push_gateway = given(&self.push_gateway, "AM_PROM_PUSH_URL");
        config.push_every = self.push_every;
        config.compat = self.compat_metrics;
        config.state_metrics.clone_from(&self.state_metrics);
        config.loki = given(&self.loki, "AM_LOKI_ADDR");
        config.otlp = given(&self.otlp, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        config.trace_ratio = self.trace_ratio;
        config.healthcheck = self.healthcheck.flatten();
        config
    }
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

    /// How the links are.
    #[command(flatten)]
    pub link: LinkArgs,

    /// To whom nodes report.
    #[command(flatten)]
    pub observe: ObserveArgs,

    /// What the nodes log, where they are processes: what `--log` says.
    #[arg(skip)]
    pub log: String,
}

/// Options of `flights node`.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// The node's name [default: `root`, or its address for a replicant]
    #[arg(long, env = "TST_NAME", hide_env_values = true)]
    pub name: Option<String>,

    /// The tarpc address of the node to follow; without one the node is a root
    #[arg(
        long,
        env = "TST_PARENT_ADDR",
        value_name = "HOST:PORT",
        hide_env_values = true
    )]
    pub parent: Option<OptionalAddr>,

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

    /// How the links are.
    #[command(flatten)]
    pub link: LinkArgs,

    /// To whom it reports.
    #[command(flatten)]
    pub observe: ObserveArgs,

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
    /// The node's HTTP address
    #[arg(
        long,
        env = "TST_NODE",
        default_value = "localhost:18700",
        value_name = "HOST:PORT",
        hide_env_values = true
    )]
    pub node: Addr,

    /// Prints the node's JSON as it comes, one object a line
    #[arg(long)]
    pub json: bool,
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

    /// The node to ask.
    #[command(flatten)]
    pub by: NodeRef,
}

/// Options of `flights dashboard`.
#[derive(Args, Clone, Debug)]
pub struct DashboardArgs {
    /// The folder to write the dashboard, rules, queries and what Grafana is provisioned with to;
    /// without it the dashboard is printed
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// The Grafana to take the dashboard to
    #[arg(long, env = "GRAFANA_URL", value_name = "URL", hide_env_values = true)]
    pub grafana_url: Option<String>,

    /// The token of a service account that may edit dashboards there
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

impl MutateArgs {
    /// What to do.
    pub fn op(&self) -> Op {
        let op = OPS.into_iter().find(|op| op.name() == self.op);
        op.unwrap_or(Op::Add)
    }
}

/// What can be done with states.
const OPS: [Op; 4] = [Op::Add, Op::Remove, Op::Set, Op::Toggle];

/// A host and a port; without a host it is this computer's loopback.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addr(String);

impl Addr {
    /// The address as a socket takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Addr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or("it needs a port, as in localhost:19700")?;
        port.parse::<u16>()
            .map_err(|_wrong| format!("`{port}` is no port, which is 0 to 65535"))?;
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        Ok(Self(format!("{host}:{port}")))
    }
}

/// An address that may be empty, as it is in the environment of those who want none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OptionalAddr(pub Option<Addr>);

impl FromStr for OptionalAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Ok(Self(None))
        } else {
            text.parse().map(Some).map(Self)
        }
    }
}

fn period(text: &str) -> Result<Duration, String> {
    let period = match text.parse() {
        Ok(micros) => Duration::from_micros(micros),
        Err(_unit) => humantime::parse_duration(text).map_err(|error| error.to_string())?,
    };
    if period.is_zero() {
        return Err("it has to be longer than nothing".to_owned());
    }
    Ok(period)
}

fn interval(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text
        .parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "it is 0 to 1".to_owned())
}

/// `1` is what the example of asyncmachine-go does: every 5 s.
fn healthcheck(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "" | "0" => Ok(None),
        "1" => Ok(Some(Duration::from_secs(5))),
        time => period(time).map(Some),
    }
}

fn json(text: &str) -> Result<String, String> {
    let value: Result<serde_json::Value, _> = serde_json::from_str(text);
    value.map_err(|error| format!("it is no JSON: {error}"))?;
    Ok(text.to_owned())
}

/// The least that nodes take.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(1);

fn patience(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if !(SHORTEST_PATIENCE..=WRITE_LONGEST).contains(&time) {
        let (least, most) = (SHORTEST_PATIENCE.as_secs(), WRITE_LONGEST.as_secs());
        return Err(format!("it is {least} to {most} s"));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

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

    #[test]
    fn an_address_without_a_host_is_loopback() {
        assert_eq!(
            ":19700".parse::<Addr>().unwrap().as_str(),
            "127.0.0.1:19700"
        );
        assert_eq!("[::1]:1".parse::<Addr>().unwrap().as_str(), "[::1]:1");
        assert!("19700".parse::<Addr>().is_err());
        assert!("localhost:x".parse::<Addr>().is_err());
    }

    #[test]
    fn a_period_is_a_time_or_microseconds() {
        assert_eq!(period("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(period("5000"), Ok(Duration::from_millis(5)));
        assert!(period("0s").is_err());
        assert!(period("soon").is_err());
    }
}
