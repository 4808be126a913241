//! The command line: flags over environment over `.env` over defaults.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{FalseyValueParser, PossibleValuesParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use flights_bench::BenchArgs;
use flights_bench::part::PartArgs;

use crate::feed::Speed;
use machine_node::observe::{ObserveConfig, OtlpConfig};
use machine_node::telemetry::{self, Filter, Format, LogConfig, LokiAddr, Switches};
use machine_node::top::Look;
use machine_runtime::{Op, TraceContext, WRITE_LONGEST};

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
  flights top                                   how all nodes do, live
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

/// What is logged, and how.
#[derive(Args, Clone, Debug, Default)]
#[group(skip)]
pub struct LogArgs {
    /// What to log: a filter such as `info` or `warn,machine_runtime=debug`, or a level of
    /// asyncmachine-go, 0 (nothing) to 5 (everything), which `AM_LOG` gives as well [default: warn]
    #[arg(
        long,
        global = true,
        env = "RUST_LOG",
        value_name = "FILTER",
        hide_env_values = true
    )]
    pub log: Option<String>,

    /// What a logged line looks like: `text`, or `json`, an object a line
    #[arg(
        long,
        global = true,
        env = "AM_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        hide_env_values = true
    )]
    pub log_format: Format,
}

impl LogArgs {
    /// As a program takes it that reports as `observe` says, and the other switches of the environment.
    ///
    /// # Errors
    ///
    /// [`Usage`] if the filter, the level, or the address of a Loki is none, or as [`ObserveArgs::config`].
    pub fn config(&self, observe: Option<&ObserveArgs>) -> Result<(LogConfig, Switches), Usage> {
        let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let level = given(std::env::var("AM_LOG").ok());
        let (from, filter) = match (given(self.log.clone()), level) {
            (Some(filter), _) => ("--log (or RUST_LOG)", Filter::parse(&filter)),
            (None, Some(level)) => ("AM_LOG", Filter::level(&level)),
            (None, None) => ("", Filter::parse(telemetry::DEFAULT)),
        };
        let mut filter = filter.map_err(|error| Usage(format!("{from}: {error}")))?;
        let switches = Switches::read(|name| std::env::var(name).ok());
        switches.apply(&mut filter);
        let loki = observe.map(ObserveArgs::config).transpose()?;
        let loki = loki.and_then(|config| config.loki);
        if let Some(loki) = &loki {
            let addr = loki.parse::<LokiAddr>();
            addr.map_err(|error| Usage(format!("--loki (or LOKI_ADDR): {error}")))?;
        }
        let config = LogConfig {
            filter,
            format: self.log_format,
            loki: loki.is_some(),
        };
        Ok((config, switches))
    }

    /// What of it the environment of another process has to say, so that it logs likewise. The
    /// other switches are there already.
    pub fn environment(&self) -> [(&'static str, Option<String>); 2] {
        let format = self.log_format.name().to_owned();
        [
            ("RUST_LOG", self.log.clone()),
            ("AM_LOG_FORMAT", Some(format)),
        ]
    }
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
    /// Shows how nodes do: rates, lag, the last error
    Top(TopArgs),
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
    /// What the label `service` of metrics, logs and traces says; also `OTEL_SERVICE_NAME`
    /// [default: flights]
    #[arg(long, env = "AM_SERVICE", value_name = "NAME", hide_env_values = true)]
    pub service: Option<String>,

    /// A Prometheus Pushgateway to send metrics to, every `--push-every` and at the end; also
    /// `AM_PROM_PUSH_URL`. With a password it is better said there: arguments can be read by others
    #[arg(
        long,
        env = "PUSH_GATEWAY_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub push_gateway: Option<String>,

    /// How often the Pushgateway is sent metrics
    #[arg(long, env = "PUSH_EVERY", default_value = "15s", value_name = "TIME",
        value_parser = period, hide_env_values = true)]
    pub push_every: Duration,

    /// Shows metrics of asyncmachine-go under their old names as well
    #[arg(long, env = "AM_COMPAT", value_parser = FalseyValueParser::new(),
        hide_env_values = true)]
    pub compat_metrics: bool,

    /// The states that have a series of their own; `*` is all
    #[arg(long, value_delimiter = ',', value_name = "STATE,…")]
    pub state_metrics: Vec<String>,

    /// A Loki to send logs to; also `AM_LOKI_ADDR`. With a password it is better said there: arguments
    /// can be read by others
    #[arg(long, env = "LOKI_ADDR", value_name = "URL", hide_env_values = true)]
    pub loki: Option<String>,

    /// An OpenTelemetry collector to send traces to, over HTTP: `/v1/traces` is appended; also
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, which is taken as it is, and
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, which is appended to. With a password it is better said there:
    /// arguments can be read by others
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,

    /// Which part of the traces that begin here are kept, 0 to 1; also `OTEL_TRACES_SAMPLER_ARG`
    /// [default: 1]
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    pub trace_ratio: Option<f64>,

    /// How often a root activates Healthcheck and Heartbeat; not at all unless told
    #[arg(long, env = "AM_HEALTHCHECK", value_name = "TIME", value_parser = healthcheck,
        hide_env_values = true)]
    pub healthcheck: Option<OptionalPeriod>,
}

impl ObserveArgs {
    /// As a node takes it. An empty address is none, an empty service the usual one.
    ///
    /// # Errors
    ///
    /// [`Usage`] if what only the environment says is wrong.
    pub fn config(&self) -> Result<ObserveConfig, Usage> {
        let given = |addr: &Option<String>, also: &str| {
            let addr = addr.clone().or_else(|| std::env::var(also).ok());
            addr.filter(|addr| !addr.is_empty())
        };
        let service = given(&self.service, "OTEL_SERVICE_NAME");
        let mut config = ObserveConfig::new(service.as_deref().unwrap_or(SERVICE));
        config.push_gateway = given(&self.push_gateway, "AM_PROM_PUSH_URL");
        config.push_every = self.push_every;
        config.compat = self.compat_metrics;
        config.state_metrics.clone_from(&self.state_metrics);
        config.loki = given(&self.loki, "AM_LOKI_ADDR");
        config.otlp = self.collector(|name| std::env::var(name).ok())?;
        config.trace_ratio = self.kept(|name| std::env::var(name).ok());
        config.healthcheck = self.healthcheck.and_then(|period| period.0);
        Ok(config)
    }

    /// Which part of the traces is kept. A variable that is no ratio says nothing, as it is not ours.
    fn kept(&self, variable: impl Fn(&str) -> Option<String>) -> f64 {
        if let Some(ratio) = self.trace_ratio {
            return ratio;
        }
        let text = variable(SAMPLED).unwrap_or_default();
        match ratio(text.trim()) {
            Ok(ratio) => ratio,
            Err(why) => {
                if !text.trim().is_empty() {
                    tracing::warn!("{SAMPLED}: `{text}` is ignored: {why}");
                }
                1.0
            }
        }
    }

    /// The collector of traces: of what `--otlp` and the standard variables say, the flag wins, then the
    /// variable that is for traces alone. What goes with them is no flag: others could read it.
    fn collector(
        &self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<OtlpConfig>, Usage> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let base = |base: String| OtlpConfig::at_base(&base);
        let otlp = match &self.otlp {
            Some(flag) => Some(flag.clone()).filter(|flag| !flag.is_empty()).map(base),
            None => given("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
                .map(OtlpConfig::at)
                .or_else(|| given("OTEL_EXPORTER_OTLP_ENDPOINT").map(base)),
        };
        let Some(otlp) = otlp else { return Ok(None) };
        let first = |names: [&'static str; 2]| {
            let mut found = names.into_iter().map(|name| (name, given(name)));
            found.find_map(|(name, value)| Some((name, value?)))
        };
        let headers = first(OTLP_HEADERS).map(|(_, headers)| headers);
        let mut otlp = otlp.with_headers(&headers.unwrap_or_default());
        if let Some((name, text)) = first(OTLP_TIMEOUTS) {
            let ms: Result<u64, _> = text.trim().parse();
            let wrong = |_| format!("{name}: `{text}` is no number of milliseconds such as 5000");
            let ms = ms.map_err(|error| Usage(wrong(error)))?;
            otlp.timeout = Some(ms).filter(|ms| *ms > 0).map(Duration::from_millis);
        }
        Ok(Some(otlp))
    }
}

/// The service, unless told otherwise.
const SERVICE: &str = "flights";

/// The headers of every request to a collector; the first variable that is there wins.
const OTLP_HEADERS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_HEADERS",
];

/// How long it may take, likewise.
const OTLP_TIMEOUTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
];

/// Which part of the traces is kept.
const SAMPLED: &str = "OTEL_TRACES_SAMPLER_ARG";

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
    pub node: Vec<Addr>,

    /// How often they are asked
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = period)]
    pub every: Duration,

    /// Prints one table, of two samples, and ends; so it is too where standard output is no terminal
    #[arg(long)]
    pub once: bool,

    /// Prints JSON, an object a node, again and again unless `--once`
    #[arg(long)]
    pub json: bool,
}

impl TopArgs {
    /// What is to be looked at, and how.
    pub fn look(&self, is_terminal: bool) -> Look {
        let guessed = self.node.is_empty();
        let ports = HTTP_PORT..HTTP_PORT + GUESSES;
        let nodes = if guessed {
            ports.map(|port| format!("localhost:{port}")).collect()
        } else {
            self.node.iter().map(Addr::to_string).collect()
        };
        Look {
            nodes,
            guessed,
            every: self.every,
            once: self.once || !(is_terminal || self.json),
            json: self.json,
        }
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

/// A time that may be none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OptionalPeriod(pub Option<Duration>);

/// The longest time that any option takes, a year: a moment that is much later cannot be told.
const LONGEST: Duration = Duration::from_hours(8766);

fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    bounded(time)
}

fn bounded(time: Duration) -> Result<Duration, String> {
    if time > LONGEST {
        return Err("it is a year at most".to_owned());
    }
    Ok(time)
}

fn period(text: &str) -> Result<Duration, String> {
    let period = match text.parse() {
        Ok(micros) => bounded(Duration::from_micros(micros))?,
        Err(_unit) => time(text)?,
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
    time(text)
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text
        .parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "it is 0 to 1".to_owned())
}

/// `1` is what the example of asyncmachine-go does: every 5 s.
fn healthcheck(text: &str) -> Result<OptionalPeriod, String> {
    let period = match text {
        "" | "0" => None,
        "1" => Some(Duration::from_secs(5)),
        text => Some(period(text)?),
    };
    Ok(OptionalPeriod(period))
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
    fn a_collector_is_the_flag_before_what_is_for_traces_before_what_is_for_all() {
        let collector = |flag: &[&str], variables: &[(&str, &str)]| {
            let cli = Cli::try_parse_from([&["flights"], flag].concat()).unwrap();
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            cli.tree.observe.collector(variable)
        };
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t/x");
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a");
        let url = |flag: &[&str], variables: &[(&str, &str)]| {
            collector(flag, variables)
                .unwrap()
                .map(|collector| collector.url)
        };
        let flag = ["--otlp", "http://f"];
        assert_eq!(url(&flag, &[traces, all]).unwrap(), "http://f/v1/traces");
        assert_eq!(url(&[], &[traces, all]).unwrap(), "http://t/x");
        assert_eq!(url(&[], &[all]).unwrap(), "http://a/v1/traces");
        assert_eq!(
            url(&[], &[(traces.0, ""), all]).unwrap(),
            "http://a/v1/traces"
        );
        assert_eq!(url(&["--otlp="], &[traces, all]), None);
        assert_eq!(url(&[], &[]), None);
        let [[headers, of_all], [timeout, timeout_of_all]] = [OTLP_HEADERS, OTLP_TIMEOUTS];
        let rest = [(of_all, "a=b"), (timeout_of_all, "250")];
        let told = collector(&flag, &rest).unwrap().unwrap();
        assert_eq!(told.headers, [("a".to_owned(), "b".to_owned())]);
        assert_eq!(told.timeout, Some(Duration::from_millis(250)));
        let rest = [rest[0], rest[1], (headers, "c=d"), (timeout, "100")];
        let told = collector(&flag, &rest).unwrap().unwrap();
        assert_eq!(told.headers, [("c".to_owned(), "d".to_owned())]);
        assert_eq!(told.timeout, Some(Duration::from_millis(100)));
        let wrong = collector(&flag, &[(timeout, "5s")]).unwrap_err();
        assert!(wrong.0.contains(timeout), "{wrong}");
        assert_eq!(collector(&[], &[(timeout, "5s")]), Ok(None));
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
    fn reports_are_as_the_flags_say() {
        let config = |args: &[&str]| {
            let cli = Cli::try_parse_from([&["flights"], args].concat()).unwrap();
            cli.tree.observe.config().unwrap()
        };
        for (flag, period) in [
            ("--healthcheck=", None),
            ("--healthcheck=0", None),
            ("--healthcheck=1", Some(5)),
            ("--healthcheck=2s", Some(2)),
        ] {
            assert_eq!(config(&[flag]).healthcheck, period.map(Duration::from_secs));
        }
        let config = config(&["--push-gateway=", "--compat-metrics", "--state-metrics=A,B"]);
        assert_eq!(config.push_gateway, None);
        assert!(config.compat);
        assert_eq!(config.state_metrics, ["A", "B"]);
    }

    #[test]
    fn a_period_is_a_time_or_microseconds() {
        assert_eq!(period("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(period("5000"), Ok(Duration::from_millis(5)));
        assert!(period("0s").is_err());
        assert!(period("soon").is_err());
        assert_eq!(period("1y"), Ok(LONGEST));
        for long in ["2y", "500000000000y", "18446744073709551615"] {
            assert_eq!(
                period(long),
                Err("it is a year at most".to_owned()),
                "{long}"
            );
        }
        assert!(interval("2y").is_err() && healthcheck("2y").is_err());
    }

    #[test]
    fn which_traces_are_kept_is_the_flag_before_a_variable_that_is_a_ratio() {
        let kept = |flag: &[&str], variable: &str| {
            let cli = Cli::try_parse_from([&["flights"], flag].concat()).unwrap();
            cli.tree.observe.kept(|_| Some(variable.to_owned()))
        };
        for (flag, variable, ratio) in [
            (&["--trace-ratio=0.5"][..], "0.25", 0.5),
            (&[], "0.25", 0.25),
            (&[], "", 1.0),
            (&[], "bogus", 1.0),
            (&[], "7", 1.0),
        ] {
            assert_eq!(kept(flag, variable).to_string(), ratio.to_string());
        }
    }
}
