//! How much of a node strangers can take.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use humantime::format_duration;
use machine_node::limits::Limits;

use super::links::bytes;
use super::values::{count, period};

/// The limits of all nodes that a program runs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// How many readers' connections a node has at a time; more are told so, and closed
    #[arg(long, env = "TST_MAX_CONNECTIONS", default_value = "16384", value_name = "N",
        value_parser = count, hide_env_values = true)]
    pub max_connections: usize,

    /// How many of them one IP address has [default: 4096, or as many as there are]
    #[arg(long, env = "TST_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", value_parser = count,
        hide_env_values = true)]
    pub max_connections_per_address: Option<usize>,

    /// How many followers a node serves at a time; more are refused
    #[arg(long, env = "TST_MAX_FOLLOWERS", default_value = "4096", value_name = "N",
        value_parser = count, hide_env_values = true)]
    pub max_followers: usize,

    /// How many of them one IP address has [default: 2048, or as many as there are]
    #[arg(long, env = "TST_MAX_FOLLOWERS_PER_ADDRESS", value_name = "N", value_parser = count,
        hide_env_values = true)]
    pub max_followers_per_address: Option<usize>,

    /// How long a TLS handshake may take, and a follower to say hello after it
    #[arg(long, env = "TST_HANDSHAKE_TIME", default_value = "10s", value_name = "TIME",
        value_parser = period, hide_env_values = true)]
    pub handshake_time: Duration,

    /// The longest first line of a request
    #[arg(long, env = "TST_MAX_LINE", default_value = "8k", value_name = "SIZE",
        value_parser = bytes, hide_env_values = true)]
    pub max_line: usize,

    /// The longest head of a request, 8k at least
    #[arg(long, env = "TST_MAX_HEAD", default_value = "16k", value_name = "SIZE",
        value_parser = bytes, hide_env_values = true)]
    pub max_head: usize,

    /// How long a head may take to come, 1s at least
    #[arg(long, env = "TST_HEAD_TIME", default_value = "10s", value_name = "TIME",
        value_parser = period, hide_env_values = true)]
    pub head_time: Duration,

    /// The longest body of a mutation
    #[arg(long, env = "TST_MAX_BODY", default_value = "64k", value_name = "SIZE",
        value_parser = bytes, hide_env_values = true)]
    pub max_body: usize,

    /// How long a body may take to come
    #[arg(long, env = "TST_BODY_TIME", default_value = "10s", value_name = "TIME",
        value_parser = period, hide_env_values = true)]
    pub body_time: Duration,

    /// How long a connection is kept on which nothing is asked and no byte is taken, 3s at least
    #[arg(long, env = "TST_IDLE_TIME", default_value = "75s", value_name = "TIME",
        value_parser = period, hide_env_values = true)]
    pub idle_time: Duration,

    /// How many requests wait for a position at a time
    #[arg(long, env = "TST_MAX_WAITS", default_value = "8192", value_name = "N",
        value_parser = count, hide_env_values = true)]
    pub max_waits: usize,

    /// How many of one client [default: 1024, or as many as there are]
    #[arg(long, env = "TST_MAX_WAITS_PER_CLIENT", value_name = "N", value_parser = count,
        hide_env_values = true)]
    pub max_waits_per_client: Option<usize>,

    /// How many event streams there are at a time
    #[arg(long, env = "TST_MAX_STREAMS", default_value = "8192", value_name = "N",
        value_parser = count, hide_env_values = true)]
    pub max_streams: usize,

    /// How many of one client [default: 1024, or as many as there are]
    #[arg(long, env = "TST_MAX_STREAMS_PER_CLIENT", value_name = "N", value_parser = count,
        hide_env_values = true)]
    pub max_streams_per_client: Option<usize>,

    /// How many mutations are under way at a time over HTTP
    #[arg(long, env = "TST_MAX_WRITES", default_value = "16384", value_name = "N",
        value_parser = count, hide_env_values = true)]
    pub max_writes: usize,

    /// How many of one client [default: 4096, or as many as there are]
    #[arg(long, env = "TST_MAX_WRITES_PER_CLIENT", value_name = "N", value_parser = count,
        hide_env_values = true)]
    pub max_writes_per_client: Option<usize>,

    /// How many mutations a second one client sends on average; 0 is no limit
    #[arg(
        long,
        env = "TST_WRITE_RATE",
        default_value_t = 20_000,
        value_name = "N",
        hide_env_values = true
    )]
    pub write_rate: u32,
}

impl LimitArgs {
    /// As nodes take it. What one address or client has is as much as there is at most, unless told.
    pub fn limits(&self) -> Limits {
        let defaults = Limits::default();
        let one = |told: Option<usize>, usual: usize, all: usize| told.unwrap_or(usual.min(all));
        let mut limits = defaults.clone();
        limits.connections = self.max_connections;
        limits.connections_per_address = one(
            self.max_connections_per_address,
            defaults.connections_per_address,
            self.max_connections,
        );
        limits.followers = self.max_followers;
        limits.followers_per_address = one(
            self.max_followers_per_address,
            defaults.followers_per_address,
            self.max_followers,
        );
        limits.handshake_time = self.handshake_time;
        limits.line_bytes = self.max_line;
        limits.head_bytes = self.max_head;
        limits.head_time = self.head_time;
        limits.body_bytes = self.max_body;
        limits.body_time = self.body_time;
        limits.idle_time = self.idle_time;
        limits.waits = self.max_waits;
        limits.waits_per_client = one(
            self.max_waits_per_client,
            defaults.waits_per_client,
            self.max_waits,
        );
        limits.streams = self.max_streams;
        limits.streams_per_client = one(
            self.max_streams_per_client,
            defaults.streams_per_client,
            self.max_streams,
        );
        limits.writes = self.max_writes;
        limits.writes_per_client = one(
            self.max_writes_per_client,
            defaults.writes_per_client,
            self.max_writes,
        );
        limits.write_rate = self.write_rate;
        limits
    }
}

/// The flags of a node whose limits are these.
pub fn limit_args(limits: &Limits) -> Vec<OsString> {
    let time = |time| format_duration(time).to_string();
    let flags = [
        ("max-connections", limits.connections.to_string()),
        (
            "max-connections-per-address",
            limits.connections_per_address.to_string(),
        ),
        ("max-followers", limits.followers.to_string()),
        (
            "max-followers-per-address",
            limits.followers_per_address.to_string(),
        ),
        ("handshake-time", time(limits.handshake_time)),
        ("max-line", limits.line_bytes.to_string()),
        ("max-head", limits.head_bytes.to_string()),
        ("head-time", time(limits.head_time)),
        ("max-body", limits.body_bytes.to_string()),
        ("body-time", time(limits.body_time)),
        ("idle-time", time(limits.idle_time)),
        ("max-waits", limits.waits.to_string()),
        ("max-waits-per-client", limits.waits_per_client.to_string()),
        ("max-streams", limits.streams.to_string()),
        (
            "max-streams-per-client",
            limits.streams_per_client.to_string(),
        ),
        ("max-writes", limits.writes.to_string()),
        (
            "max-writes-per-client",
            limits.writes_per_client.to_string(),
        ),
        ("write-rate", limits.write_rate.to_string()),
    ];
    let flags = flags.into_iter();
    flags
        .map(|(name, value)| format!("--{name}={value}").into())
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::{Cli, Command};

    /// Where they are explained.
    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md");

    fn node(args: &[OsString]) -> Limits {
        let words = ["flights", "node", "--addr=:0"].map(OsString::from);
        let cli = Cli::try_parse_from(words.iter().chain(args)).unwrap();
        let Some(Command::Node(args)) = cli.command else {
            panic!("no node");
        };
        args.limits.limits()
    }

    #[test]
    fn a_node_that_is_a_process_has_the_limits_that_it_was_told() {
        assert_eq!(node(&[]), Limits::default());
        let mut limits = Limits::default();
        let mut next = 10_000;
        let mut count = || {
            next -= 7;
            next
        };
        limits.connections = count();
        limits.connections_per_address = count();
        limits.followers = count();
        limits.followers_per_address = count();
        limits.handshake_time = Duration::from_millis(1500);
        limits.line_bytes = count();
        limits.head_bytes = count();
        limits.head_time = Duration::from_secs(2);
        limits.body_bytes = count();
        limits.body_time = Duration::from_secs(3);
        limits.idle_time = Duration::from_secs(4);
        limits.waits = count();
        limits.waits_per_client = count();
        limits.streams = count();
        limits.streams_per_client = count();
        limits.writes = count();
        limits.writes_per_client = count();
        limits.write_rate = 0;
        assert_eq!(node(&limit_args(&limits)), limits);
    }

    #[test]
    fn what_one_client_has_follows_what_there_is() {
        let few = ["--max-waits=10", "--max-followers=20", "--max-writes=30"];
        let limits = node(&few.map(OsString::from));
        assert_eq!(limits.waits_per_client, 10);
        assert_eq!(limits.followers_per_address, 20);
        assert_eq!(limits.writes_per_client, 30);
        assert!(limits.check().is_ok());
    }

    #[test]
    fn the_page_has_every_limit_with_its_default() {
        let page = std::fs::read_to_string(PAGE).unwrap();
        let limits = limit_args(&Limits::default());
        let mut command = Cli::command();
        let node = command.find_subcommand_mut("node").unwrap();
        let help = node.render_long_help().to_string();
        assert!(help.contains("\nLimits:\n"), "{help}");
        for flag in limits {
            let flag = flag.into_string().unwrap();
            let (name, default) = flag.split_once('=').unwrap();
            let row = page
                .lines()
                .find(|line| line.starts_with(&format!("| `{name} ")))
                .unwrap_or_else(|| panic!("docs/security.md says nothing of {name}"));
            let shown = row.split('|').nth(2).unwrap().trim().replace(',', "");
            let told: u64 = shown
                .strip_suffix(" KiB")
                .map_or(shown.parse().unwrap_or(0), |kib| {
                    kib.parse::<u64>().unwrap() * 1024
                });
            let same = shown == default || told.to_string() == default;
            let time = |text: &str| humantime::parse_duration(text).ok();
            let same = same || time(&shown).is_some_and(|shown| time(default) == Some(shown));
            assert!(same, "{name} is {default}, the page says {shown}");
        }
    }
}
