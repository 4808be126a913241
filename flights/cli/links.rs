//! How nodes are linked, and where a root keeps its history.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use humantime::format_duration;
use machine_node::links::LinkConfig;
use machine_runtime::durable::Durability;
use machine_runtime::replica::Granularity;

use super::debug::size;
use super::values::{interval, period};

/// How the links of all nodes are that a program runs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Links")]
pub struct LinkArgs {
    /// How long a parent may be silent, 20s at most; an idle link carries a few bytes so often
    #[arg(long, env = "TST_HEARTBEAT", default_value = "1s", value_name = "TIME",
        value_parser = period, hide_env_values = true)]
    pub heartbeat: Duration,

    /// How long without news of the root until a node is stale, and not ready; more than `--heartbeat`
    #[arg(long, env = "TST_STALE_AFTER", default_value = "3s", value_name = "TIME",
        value_parser = period, hide_env_values = true)]
    pub stale_after: Duration,

    /// How many deltas a node keeps, so that followers which were away resume without a snapshot
    #[arg(
        long,
        env = "TST_RING",
        default_value_t = machine_runtime::RING_DELTAS,
        value_name = "N",
        hide_env_values = true
    )]
    pub ring: usize,

    /// How many bytes these take at most, such as `500k` or `4m`
    #[arg(long, env = "TST_RING_BYTES", default_value = "1m", value_name = "SIZE",
        value_parser = bytes, hide_env_values = true)]
    pub ring_bytes: usize,

    /// The longest frame of a link; it has to hold a snapshot [default: what one can take, at least 1m]
    #[arg(long, env = "TST_MAX_FRAME", value_name = "SIZE", value_parser = bytes,
        hide_env_values = true)]
    pub max_frame: Option<usize>,

    /// The states that a replicant follows, a list such as `Ready,group=Gates,flight=3,Flight*OnTime`;
    /// of the others neither it nor who follows it learns anything [default: all]
    #[arg(long, env = "TST_SELECT", value_name = "LIST", hide_env_values = true)]
    pub select: Option<String>,

    /// What a replicant follows: where several transitions led to, or every one of them
    #[arg(
        long,
        env = "TST_GRANULARITY",
        default_value = "latest",
        hide_env_values = true
    )]
    pub granularity: Each,

    /// Has a replicant ask for news as they are, not compressed where that pays
    #[arg(long, env = "TST_NO_COMPRESS", value_parser = FalseyValueParser::new(),
        hide_env_values = true)]
    pub no_compress: bool,

    /// How often a replicant that follows another of its parents looks whether one that it likes better
    /// is back
    #[arg(long, env = "TST_PREFER_EVERY", default_value = "10s", value_name = "TIME",
        value_parser = period, hide_env_values = true)]
    pub prefer_every: Duration,

    /// How long a node that is to stop may take to send its followers away and to let writes end
    #[arg(long, env = "TST_DRAIN_WITHIN", default_value = "2s", value_name = "TIME",
        value_parser = interval, hide_env_values = true)]
    pub drain_within: Duration,
}

impl LinkArgs {
    /// As nodes take it which push so often and ask their parent to push so often.
    pub fn config(&self, push_interval: Duration, parent_interval: Duration) -> LinkConfig {
        let mut config = LinkConfig::default();
        config.push_interval = push_interval;
        config.parent_interval = parent_interval;
        config.heartbeat = self.heartbeat;
        config.stale_after = self.stale_after;
        config.ring_deltas = self.ring;
        config.ring_bytes = self.ring_bytes;
        config.max_frame = self.max_frame;
        config.select = self.select.clone().filter(|list| !list.trim().is_empty());
        config.granularity = match self.granularity {
            Each::Latest => Granularity::Latest,
            Each::Every => Granularity::Every,
        };
        config.compress = !self.no_compress;
        config.prefer_every = self.prefer_every;
        config.drain_within = self.drain_within;
        config
    }
}

/// The flags of a node whose links are so.
pub fn link_args(config: &LinkConfig) -> Vec<OsString> {
    let time = |time| format_duration(time).to_string();
    let mut list: Vec<OsString> = Vec::new();
    let mut flag = |name: &str, value: String| list.push(format!("--{name}={value}").into());
    flag("push-interval", time(config.push_interval));
    flag("parent-interval", time(config.parent_interval));
    flag("heartbeat", time(config.heartbeat));
    flag("stale-after", time(config.stale_after));
    flag("ring", config.ring_deltas.to_string());
    flag("ring-bytes", config.ring_bytes.to_string());
    if let Some(frame) = config.max_frame {
        flag("max-frame", frame.to_string());
    }
    if let Some(select) = &config.select {
        flag("select", select.clone());
    }
    let every = config.granularity == Granularity::Every;
    let granularity = if every { "every" } else { "latest" };
    flag("granularity", granularity.to_owned());
    flag("prefer-every", time(config.prefer_every));
    flag("drain-within", time(config.drain_within));
    if !config.compress {
        list.push("--no-compress".into());
    }
    list
}

/// What a replicant follows.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Each {
    /// Where several transitions led to: one delta, however much piled up
    Latest,
    /// Every transition, as far as the parent still has them one by one
    Every,
}

/// Where a root keeps its history.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "State")]
pub struct StateArgs {
    /// The folder that the root keeps its states and their clocks in, so that its history goes on after a
    /// restart; without one it is in memory, and ends with the process
    #[arg(
        long,
        env = "TST_STATE_DIR",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub state_dir: Option<PathBuf>,

    /// When a mutation counts as kept, and is answered and shown: once it is on the disk (`sync`), or at
    /// once, and on the disk at most so much later (`relaxed=100ms`), so that the last of it may be lost
    #[arg(
        long,
        env = "TST_DURABILITY",
        value_name = "MODE",
        default_value = "sync",
        requires = "state_dir",
        hide_env_values = true
    )]
    pub durability: Durable,
}

impl StateArgs {
    /// Where and how the history of a root is kept, if it is.
    pub fn kept(&self) -> Option<(&Path, Durability)> {
        let durability = match self.durability {
            Durable::Sync => Durability::Sync,
            Durable::Relaxed(within) => Durability::Relaxed(within),
        };
        self.state_dir.as_deref().map(|dir| (dir, durability))
    }

    /// The flags of a root that keeps its history so.
    pub fn args(&self) -> Vec<OsString> {
        let Some(folder) = &self.state_dir else {
            return Vec::new();
        };
        let mut dir = OsString::from("--state-dir=");
        dir.push(folder);
        vec![dir, format!("--durability={}", self.durability).into()]
    }
}

/// When a mutation counts as kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durable {
    /// Once it is on the disk.
    Sync,
    /// At once; on the disk at most so much later.
    Relaxed(Duration),
}

/// How much later, unless told.
const RELAXED: Duration = Duration::from_millis(100);

impl FromStr for Durable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "sync" => Ok(Self::Sync),
            None if text == "relaxed" => Ok(Self::Relaxed(RELAXED)),
            Some(("relaxed", time)) => period(time).map(Self::Relaxed),
            _ => Err("it is `sync`, `relaxed`, or such as `relaxed=100ms`".to_owned()),
        }
    }
}

impl fmt::Display for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sync => f.write_str("sync"),
            Self::Relaxed(time) => write!(f, "relaxed={}", format_duration(*time)),
        }
    }
}

pub(super) fn bytes(text: &str) -> Result<usize, String> {
    let size = size(text)?;
    usize::try_from(size).map_err(|_large| "it is more than this computer can have".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn when_something_is_kept_has_a_time_or_the_usual_one() {
        let durable = |text: &str| text.parse::<Durable>();
        assert_eq!(durable("sync"), Ok(Durable::Sync));
        assert_eq!(durable("relaxed"), Ok(Durable::Relaxed(RELAXED)));
        let second = Durable::Relaxed(Duration::from_secs(1));
        assert_eq!(durable("relaxed=1s"), Ok(second));
        assert_eq!(durable(&second.to_string()), Ok(second));
        for wrong in [
            "",
            "sync=1s",
            "relaxed=",
            "relaxed=0s",
            "relaxed=soon",
            "never",
        ] {
            assert!(durable(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_node_that_is_a_process_is_linked_as_it_was_told() {
        let node = |args: &[OsString]| {
            let words = ["flights", "node", "--addr=:0"].map(OsString::from);
            let cli = Cli::try_parse_from(words.iter().chain(args)).unwrap();
            let Some(Command::Node(args)) = cli.command else {
                panic!("no node");
            };
            args.link.config(args.push_interval, args.parent_interval)
        };
        assert_eq!(node(&[]), LinkConfig::default());
        let mut config = LinkConfig::default();
        config.push_interval = Duration::from_micros(1500);
        config.parent_interval = Duration::from_millis(10);
        config.heartbeat = Duration::from_millis(500);
        config.stale_after = Duration::from_secs(2);
        config.ring_deltas = 7;
        config.ring_bytes = 5000;
        config.max_frame = Some(1 << 20);
        config.select = Some("Ready, flight=1".to_owned());
        config.granularity = Granularity::Every;
        config.compress = false;
        config.prefer_every = Duration::from_secs(1);
        config.drain_within = Duration::ZERO;
        assert_eq!(node(&link_args(&config)), config);
    }
}
