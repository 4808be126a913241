//! Requests to servers that are told how a node is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use reqwest::Client;

/// How long such a server may take: nothing waits for it, but what waits to be told takes memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client for `http://` and `https://`, with the certificates that the system trusts.
///
/// # Errors
///
/// If there is something wrong with these.
pub(crate) fn client() -> anyhow::Result<Client> {
    // Whoever came first has chosen the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .timeout(PATIENCE)
        .user_agent(concat!("machine-node/", env!("CARGO_PKG_VERSION")))
        .build()
        .context("cannot make requests to other servers")
}

/// The URL of `path` at a server that is named by a host and port, or by a URL that may have a path of
/// its own.
pub(crate) fn url(server: &str, path: &str) -> String {
    let scheme = if server.contains("://") {
        ""
    } else {
        "http://"
    };
    format!("{scheme}{}{path}", server.trim_end_matches('/'))
}

/// Who tells other servers how a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exporter {
    /// Lines of the log to a Loki.
    Loki,
    /// Spans to a collector of traces.
    Otlp,
    /// Metrics to a Pushgateway.
    Pushgateway,
}

impl Exporter {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Loki, Self::Otlp, Self::Pushgateway];

    /// The exporter's name in metrics and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Loki => "loki",
            Self::Otlp => "otlp",
            Self::Pushgateway => "pushgateway",
        }
    }
}

/// What the exporters of a program have told other servers. Cheap to clone; made once, and given to
/// all of its nodes.
#[derive(Clone, Debug, Default)]
pub struct Exports([Arc<Export>; Exporter::ALL.len()]);

impl Exports {
    /// What one exporter has told.
    pub(crate) fn of(&self, exporter: Exporter) -> &Export {
        &self.0[exporter as usize]
    }

    /// The same for one of the program's nodes, which pushes its metrics itself.
    pub(crate) fn of_node(&self) -> Self {
        let mut exports = self.clone();
        exports.0[Exporter::Pushgateway as usize] = Arc::default();
        exports
    }
}

/// What one exporter has told. Each of what it was to tell is counted once.
#[derive(Debug, Default)]
pub(crate) struct Export {
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Export {
    /// Counts `n` that arrived.
    pub(crate) fn sent(&self, n: u64) {
        self.sent.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts `n` that found no room to wait in.
    pub(crate) fn dropped(&self, n: u64) {
        self.dropped.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts `n` that were given up on.
    pub(crate) fn failed(&self, n: u64) {
        self.failed.fetch_add(n, Ordering::Relaxed);
    }

    /// The counts, each with the result's name in metrics.
    pub(crate) fn read(&self) -> [(&'static str, u64); 3] {
        let counts = [
            ("sent", &self.sent),
            ("dropped", &self.dropped),
            ("failed", &self.failed),
        ];
        counts.map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exporters_count_apart_and_clones_together() {
        let exports = Exports::default();
        let clone = exports.clone();
        clone.of(Exporter::Loki).sent(3);
        clone.of(Exporter::Loki).dropped(1);
        clone.of(Exporter::Otlp).failed(2);
        let node = exports.of_node();
        node.of(Exporter::Pushgateway).sent(1);
        let counts = Exporter::ALL.map(|exporter| exports.of(exporter).read().map(|(_, n)| n));
        assert_eq!(counts, [[3, 1, 0], [0, 0, 2], [0, 0, 0]]);
        assert_eq!(node.of(Exporter::Loki).read()[0], ("sent", 3));
        assert_eq!(node.of(Exporter::Pushgateway).read()[0], ("sent", 1));
    }
}
