//! Requests to servers that are told how a node is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, Url};

/// How long such a server may take: nothing waits for it, but what waits to be told takes memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client for `http://` and `https://`, with the certificates that the system trusts. It goes nowhere
/// but where it is sent: a redirect is an answer, as another server is told no secrets.
///
/// # Errors
///
/// If there is something wrong with these.
pub(crate) fn client() -> anyhow::Result<Client> {
    // Whoever came first has chosen the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .timeout(PATIENCE)
        .redirect(Policy::none())
        .user_agent(concat!("machine-node/", env!("CARGO_PKG_VERSION")))
        .build()
        .context("cannot make requests to other servers")
}

/// What went wrong with a request, and what caused it; not its address, which may have a secret.
pub(crate) fn told(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::from(error.without_url()))
}

/// Reads the first `most` bytes of an answer; what comes behind them is not waited for.
///
/// # Errors
///
/// If the answer ends before it is whole.
pub(crate) async fn read(mut response: Response, most: usize) -> reqwest::Result<Vec<u8>> {
    let mut answer = Vec::new();
    while answer.len() < most
        && let Some(chunk) = response.chunk().await?
    {
        let room = most - answer.len();
        answer.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(answer)
}

/// The URL of `path` at a server that is named by a host and port, or by a URL that may have a path and
/// a query of its own.
pub(crate) fn url(server: &str, path: &str) -> String {
    let end = server.find(['?', '#']).unwrap_or(server.len());
    let (base, query) = server.split_at(end);
    let base = with_scheme(base);
    let trimmed = base.trim_end_matches('/');
    if trimmed.ends_with(':') {
        // Without a host, the path would be taken for one.
        return base;
    }
    format!("{trimmed}{path}{query}")
}

/// A URL, of a host and port as well.
fn with_scheme(server: &str) -> String {
    let scheme = if server.contains("://") {
        ""
    } else {
        "http://"
    };
    format!("{scheme}{server}")
}

/// The address of a server as it was given, as far as that has no secret: without login and query.
pub(crate) fn shown(addr: &str) -> &str {
    match addr.rsplit_once('@') {
        // Which of them the rest belongs to is unknown.
        Some((before, _)) if before.contains(['?', '#']) => "…",
        Some((_, rest)) => shown(rest),
        None => addr.split(['?', '#']).next().unwrap_or_default(),
    }
}

/// No address of a server. What it says has no secret.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{addr}` is no address: {why}; it is a host and port, or a URL such as `{example}`")]
pub(crate) struct InvalidServer {
    addr: String,
    why: String,
    example: &'static str,
}

/// A server, and who we are to it. What is shown of it has neither login nor query.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    url: Url,
    login: Option<(String, Option<String>)>,
}

impl Server {
    /// The one at `host:port`, or at a URL, which may have a user and a password. `example`: such a URL.
    ///
    /// # Errors
    ///
    /// If it is neither, or neither `http://` nor `https://`.
    pub(crate) fn parse(addr: &str, example: &'static str) -> Result<Self, InvalidServer> {
        let wrong = |why: String| InvalidServer {
            addr: shown(addr).to_owned(),
            why,
            example,
        };
        let url = Url::parse(&with_scheme(addr.trim()));
        let mut url = url.map_err(|error| wrong(error.to_string()))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(wrong(format!("`{}` is not http or https", url.scheme())));
        }
        let (user, password) = (decoded(url.username()), url.password().map(decoded));
        let login = (!user.is_empty() || password.is_some()).then_some((user, password));
        let plain = url.set_username("").and_then(|()| url.set_password(None));
        plain.map_err(|()| wrong("it has no host".to_owned()))?;
        Ok(Self { url, login })
    }

    /// The same with `path` behind its own path.
    pub(crate) fn at(mut self, path: &str) -> Self {
        let path = format!("{}{path}", self.url.path().trim_end_matches('/'));
        self.url.set_path(&path);
        self
    }

    /// Its URL, without the login; with the query.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The user and the password.
    pub(crate) fn login(&self) -> Option<(&str, Option<&str>)> {
        let (user, password) = self.login.as_ref()?;
        Some((user, password.as_deref()))
    }

    /// A request to it, which says who we are.
    pub(crate) fn request(&self, client: &Client, method: Method) -> RequestBuilder {
        let request = client.request(method, self.url.clone());
        match self.login() {
            Some((user, password)) => request.basic_auth(user, password),
            None => request,
        }
    }
}

fn decoded(text: &str) -> String {
    let bytes = percent_encoding::percent_decode_str(text);
    bytes.decode_utf8_lossy().into_owned()
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.as_str();
        f.write_str(url.split(['?', '#']).next().unwrap_or_default())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
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
pub struct Exports {
    told: [Arc<Export>; Exporter::ALL.len()],
    /// Whether a node shows what the program has told already.
    shown: Arc<AtomicBool>,
}

impl Exports {
    /// What one exporter has told.
    pub(crate) fn of(&self, exporter: Exporter) -> &Export {
        &self.told[exporter as usize]
    }

    /// Those of one of the program's nodes, which sends its metrics and spans itself. Lines are sent by
    /// the program: the first node that asks has their counts, so that a sum over nodes is right.
    pub(crate) fn of_node(&self) -> Self {
        let mut exports = Self::default();
        if !self.shown.swap(true, Ordering::Relaxed) {
            let lines = Exporter::Loki as usize;
            exports.told[lines] = Arc::clone(&self.told[lines]);
        }
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
        let (node, other) = (exports.of_node(), exports.of_node());
        node.of(Exporter::Pushgateway).sent(1);
        node.of(Exporter::Otlp).sent(4);
        let counts = Exporter::ALL.map(|exporter| exports.of(exporter).read().map(|(_, n)| n));
        assert_eq!(counts, [[3, 1, 0], [0, 0, 2], [0, 0, 0]]);
        assert_eq!(node.of(Exporter::Loki).read()[0], ("sent", 3));
        assert_eq!(node.of(Exporter::Pushgateway).read()[0], ("sent", 1));
        assert_eq!(node.of(Exporter::Otlp).read()[0], ("sent", 4));
        for exporter in Exporter::ALL {
            assert_eq!(other.of(exporter).read().map(|(_, n)| n), [0; 3]);
        }
    }

    #[test]
    fn a_server_is_shown_without_login_and_query() {
        for (addr, is) in [
            ("host:9091", "http://host:9091/"),
            ("https://me:p%40ss@host/a?token=hidden", "https://host/a"),
            ("http://:p%40ss@host/a@b", "http://host/a@b"),
        ] {
            let server = Server::parse(addr, "http://localhost:4318").unwrap();
            assert_eq!(
                (server.to_string(), format!("{server:?}")),
                (is.to_owned(), is.to_owned())
            );
        }
        let server = Server::parse("https://me:p%40ss@host/a/?token=x", "").unwrap();
        assert_eq!(server.login(), Some(("me", Some("p@ss"))));
        let server = server.at("/v1");
        assert_eq!(server.url().as_str(), "https://host/a/v1?token=x");
    }

    #[test]
    fn what_is_no_server_is_told_without_secrets_and_with_an_example() {
        for wrong in [
            "ftp://me:hidden@x",
            "http://me:hidden@x:port",
            "http://x:port?token=hidden",
            "http://x:port?token=hid@den",
            "http://me:hid#den@",
            "http://me:hid?den@x:port",
        ] {
            let error = Server::parse(wrong, "http://localhost:4318").unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(told.contains("http://localhost:4318"), "{told}");
            assert!(!told.contains("hid") && !told.contains("den"), "{told}");
        }
    }

    #[test]
    fn a_path_comes_before_a_query() {
        assert_eq!(url("c/?a=b", "/v1"), "http://c/v1?a=b");
        assert_eq!(url("https://c", "/v1"), "https://c/v1");
        assert_eq!(url("http://", "/v1"), "http://");
    }
}
