//! Requests to servers that are told how a node is.

use std::sync::Arc;
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

/// What exporters have told other servers, shared by all of a node's. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exports(pub(crate) Arc<[Export; 3]>);

/// What one exporter has told.
#[derive(Debug, Default)]
pub(crate) struct Export {
    /// What arrived.
    pub(crate) sent: std::sync::atomic::AtomicU64,
    /// What found no room to wait in.
    pub(crate) dropped: std::sync::atomic::AtomicU64,
    /// What was given up on after some attempts.
    pub(crate) failed: std::sync::atomic::AtomicU64,
}
