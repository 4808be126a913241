//! How much of a node strangers can take.

use std::time::Duration;

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
