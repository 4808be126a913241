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

/// Who tells other servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exporter {
    /// Metrics, to a Pushgateway.
    Push,
    /// What is logged, to a Loki.
    Loki,
    /// Spans, to an OpenTelemetry collector.
    Otlp,
}

/// What exporters have told other servers, shared by all of a node's. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exports(Arc<[Export; 3]>);

impl Exports {
    /// What one of them has told.
    pub(crate) fn of(&self, exporter: Exporter) -> &Export {
        &self.0[exporter as usize]
    }
}

/// What one exporter has told.
#[derive(Debug, Default)]
pub(crate) struct Export {
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Export {
    /// So many more have arrived.
    pub(crate) fn sent(&self, more: u64) {
        self.sent.fetch_add(more, Ordering::Relaxed);
    }

    /// So many more found no room to wait in.
    pub(crate) fn dropped(&self, more: u64) {
        self.dropped.fetch_add(more, Ordering::Relaxed);
    }

    /// So many more were given up on after some attempts.
    pub(crate) fn failed(&self, more: u64) {
        self.failed.fetch_add(more, Ordering::Relaxed);
    }

    /// How many were sent, dropped and given up on.
    pub(crate) fn counts(&self) -> [u64; 3] {
        [&self.sent, &self.dropped, &self.failed].map(|count| count.load(Ordering::Relaxed))
    }
}
