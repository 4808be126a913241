//! How much of a node strangers can take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use machine_runtime::replica::SourceOptions;

/// The limits of one node. Each protects those who keep to them from those who do not.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Connections of readers at a time.
    pub connections: usize,
    /// Connections of readers at a time from one IP address.
    pub connections_per_address: usize,
    /// Followers' connections at a time.
    pub followers: usize,
    /// Followers' connections at a time from one IP address.
    pub followers_per_address: usize,
    /// How long a TLS handshake, or a follower's `hello` after it, may take.
    pub handshake_time: Duration,
    /// Bytes of the first line of a request.
    pub line_bytes: usize,
    /// Bytes of the head of a request, its first line among them.
    pub head_bytes: usize,
    /// How long a head may take from its first byte to its last.
    pub head_time: Duration,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// How long a body may take to come.
    pub body_time: Duration,
    /// How long a connection may be open on which nothing is asked and no byte is taken.
    pub idle_time: Duration,
    /// Requests that wait for a position at a time.
    pub waits: usize,
    /// The same from one client.
    pub waits_per_client: usize,
    /// Event streams at a time.
    pub streams: usize,
    /// The same of one client.
    pub streams_per_client: usize,
    /// Mutations under way at a time, over HTTP.
    pub writes: usize,
    /// The same of one client: its share of the queue.
    pub writes_per_client: usize,
    /// Mutations a second of one client, on average; 0 is no limit.
    pub write_rate: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_address: 4096,
            followers: 4096,
            followers_per_address: 2048,
            handshake_time: Duration::from_secs(10),
            line_bytes: 8 * 1024,
            head_bytes: 16 * 1024,
            head_time: Duration::from_secs(10),
            body_bytes: 64 * 1024,
            body_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            waits: 8192,
            waits_per_client: 1024,
            streams: 8192,
            streams_per_client: 1024,
            writes: 16_384,
            writes_per_client: 4096,
            write_rate: 20_000,
        }
    }
}

/// The shortest limit of heads, which is the shortest buffer that they are read into.
const LEAST_HEAD: usize = 8 * 1024;

/// How seldom connections are looked at.
const LEAST_HEAD_TIME: Duration = Duration::from_secs(1);

/// So that an event stream, which says something three times in it, is not cut off.
const LEAST_IDLE_TIME: Duration = Duration::from_secs(3);

/// Limits that cannot be kept to, or that contradict each other.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidLimits(String);

impl Limits {
    /// Whether a node can keep to them.
    ///
    /// # Errors
    ///
    /// What is wrong, by the names that flags have, and what would be right.
    pub fn check(&self) -> Result<(), InvalidLimits> {
        let wrong = |why: String| Err(InvalidLimits(why));
        let pairs = [
            (
                ("max-connections-per-address", self.connections_per_address),
                ("max-connections", self.connections),
            ),
            (
                ("max-followers-per-address", self.followers_per_address),
                ("max-followers", self.followers),
            ),
            (
                ("max-waits-per-client", self.waits_per_client),
                ("max-waits", self.waits),
            ),
            (
                ("max-streams-per-client", self.streams_per_client),
                ("max-streams", self.streams),
            ),
            (
                ("max-writes-per-client", self.writes_per_client),
                ("max-writes", self.writes),
            ),
            (("max-line", self.line_bytes), ("max-head", self.head_bytes)),
        ];
        for ((part, of_part), (whole, of_whole)) in pairs {
            if of_part > of_whole {
                return wrong(format!(
                    "--{part}: {of_part} is more than --{whole}, which is {of_whole}"
                ));
            }
            if of_part == 0 {
                return wrong(format!("--{part}: it is a number from 1 on"));
            }
        }
        if self.head_bytes < LEAST_HEAD {
            let head = self.head_bytes;
            return wrong(format!(
                "--max-head: {head} bytes are too few, it is {LEAST_HEAD} at least"
            ));
        }
        if self.head_time < LEAST_HEAD_TIME {
            return wrong(format!("--head-time: it is {LEAST_HEAD_TIME:?} at least"));
        }
        if self.idle_time < LEAST_IDLE_TIME {
            return wrong(format!("--idle-time: it is {LEAST_IDLE_TIME:?} at least"));
        }
        Ok(())
    }

    /// Has a source keep to them.
    pub(crate) fn bound(&self, mut options: SourceOptions) -> SourceOptions {
        options.followers = self.followers;
        options.hello_within = self.handshake_time;
        options
    }
}

/// A limit that somebody ran into, as metrics call it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// The first line of a request was too long.
    Line,
    /// The head of a request was too long.
    Head,
    /// A head took too long to come.
    HeadTime,
    /// A body was too long.
    Body,
    /// A body took too long to come.
    BodyTime,
    /// Nothing happened on a connection.
    Idle,
    /// Too many requests wait.
    Waits,
    /// Too many of one client.
    WaitsPerClient,
    /// There are too many event streams.
    Streams,
    /// Too many of one client.
    StreamsPerClient,
    /// Too many mutations are under way.
    Writes,
    /// Too many of one client.
    WritesPerClient,
    /// A client sends mutations too fast.
    WriteRate,
    /// There are too many followers.
    Followers,
    /// Somebody did not say hello in time.
    Hello,
    /// What came over a link cannot be read.
    Garbage,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Line,
        Self::Head,
        Self::HeadTime,
        Self::Body,
        Self::BodyTime,
        Self::Idle,
        Self::Waits,
        Self::WaitsPerClient,
        Self::Streams,
        Self::StreamsPerClient,
        Self::Writes,
        Self::WritesPerClient,
        Self::WriteRate,
        Self::Followers,
        Self::Hello,
        Self::Garbage,
    ];

    /// What metrics and pages call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Head => "head",
            Self::HeadTime => "head_time",
            Self::Body => "body",
            Self::BodyTime => "body_time",
            Self::Idle => "idle_time",
            Self::Waits => "waits",
            Self::WaitsPerClient => "waits_per_client",
            Self::Streams => "streams",
            Self::StreamsPerClient => "streams_per_client",
            Self::Writes => "writes",
            Self::WritesPerClient => "writes_per_client",
            Self::WriteRate => "write_rate",
            Self::Followers => "followers",
            Self::Hello => "handshake_time",
            Self::Garbage => "garbage",
        }
    }
}

/// How often each limit held somebody back. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Limited {
    counts: Arc<[AtomicU64; Limit::ALL.len()]>,
}

impl Limited {
    /// Counts one more.
    pub fn count(&self, limit: Limit) {
        self.counts[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was so far.
    pub fn of(&self, limit: Limit) -> u64 {
        self.counts[limit as usize].load(Ordering::Relaxed)
    }
}
