//! To whom a node reports how it is, besides those who ask.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use machine_runtime::Schema;
use machine_runtime::observe::Observers;

use crate::files::Reloads;
pub use crate::outbound::Exports;
use crate::outbound::{self, Server, shown};
use crate::push::Gateway;
use crate::telemetry::LokiAddr;
use crate::tls::Tls;

/// The address of a collector of traces.
const COLLECTOR: &str = "http://localhost:4318";

/// To whom a node reports, and what. Nothing, unless told otherwise; `/metrics` is there in any case.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct ObserveConfig {
    /// What the label `service` of everything that is reported says.
    pub service: String,
    /// The Pushgateway that is sent the node's metrics.
    pub push_gateway: Option<String>,
    /// How often it is sent them.
    pub push_every: Duration,
    /// Whether the metrics of asyncmachine-go are there too, under their old names.
    pub compat: bool,
    /// The states that have a series of their own: names, or `*`.
    pub state_metrics: Vec<String>,
    /// The Loki that is sent what is logged.
    pub loki: Option<String>,
    /// The collector that is sent spans.
    pub otlp: Option<OtlpConfig>,
    /// Which part of the traces that begin here are kept, 0 to 1.
    pub trace_ratio: f64,
    /// How often a root activates `Heartbeat`, and `Healthcheck` (rule R29).
    pub healthcheck: Option<Duration>,
}

impl ObserveConfig {
    /// Reports to nobody, for a service of this name.
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            push_gateway: None,
            push_every: Duration::from_secs(15),
            compat: false,
            state_metrics: Vec::new(),
            loki: None,
            otlp: None,
            trace_ratio: 1.0,
            healthcheck: None,
        }
    }

    /// Checks what can be wrong before a node of this `schema` is started.
    ///
    /// # Errors
    ///
    /// If a state that is to have a series of its own is none, or the address of a server is none.
    pub fn check(&self, schema: &Schema) -> anyhow::Result<()> {
        self.watched(schema).context("a metric of a state")?;
        Gateway::new(self, "node").context("--push-gateway (or PUSH_GATEWAY_URL)")?;
        if let Some(loki) = &self.loki {
            let addr = loki.parse::<LokiAddr>();
            addr.context("--loki (or LOKI_ADDR)")?;
        }
        if let Some(otlp) = &self.otlp {
            let server = otlp.server();
            server.context(
                "--otlp (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT)",
            )?;
        }
        Ok(())
    }
}

impl fmt::Debug for ObserveConfig {
    /// Leaves out what addresses have of logins and queries: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObserveConfig")
            .field("service", &self.service)
            .field("push_gateway", &self.push_gateway.as_deref().map(shown))
            .field("push_every", &self.push_every)
            .field("compat", &self.compat)
            .field("state_metrics", &self.state_metrics)
            .field("loki", &self.loki.as_deref().map(shown))
            .field("otlp", &self.otlp)
            .field("trace_ratio", &self.trace_ratio)
            .field("healthcheck", &self.healthcheck)
            .finish()
    }
}

/// What a node is observed by.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Observed {
    /// To whom it reports.
    pub config: ObserveConfig,
    /// What its view tells, and counts.
    pub observers: Observers,
    /// What has been told other servers.
    pub exports: Exports,
    /// The TLS that is spoken, if it is.
    pub tls: Option<Tls>,
    /// Which files are read again, and how often that was.
    pub reloads: Vec<Reloads>,
}

impl Observed {
    /// By nobody but those who ask, of a view that has these `observers`.
    pub fn new(config: ObserveConfig, observers: Observers) -> Self {
        Self {
            config,
            observers,
            exports: Exports::default(),
            tls: None,
            reloads: Vec::new(),
        }
    }
}

/// A collector of spans, which takes OTLP over HTTP.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtlpConfig {
    /// The whole URL that spans are posted to.
    pub url: String,
    /// The headers that go with them, such as one that says who may.
    pub headers: Vec<(String, String)>,
    /// How long an attempt may take, if not as long as with every other server.
    pub timeout: Option<Duration>,
}

impl OtlpConfig {
    /// At a base that has other signals as well: `/v1/traces` is appended.
    pub fn at_base(base: &str) -> Self {
        Self::at(outbound::url(base, "/v1/traces"))
    }

    /// At this URL as it is.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: Vec::new(),
            timeout: None,
        }
    }

    /// Where that is.
    ///
    /// # Errors
    ///
    /// If its URL is none.
    pub(crate) fn server(&self) -> anyhow::Result<Server> {
        Ok(Server::parse(&self.url, COLLECTOR)?)
    }

    /// With headers as `OTEL_EXPORTER_OTLP_HEADERS` has them: `name=value,name=value`, the values
    /// percent-encoded. What is none of these is left out, and logged without its value.
    #[must_use]
    pub fn with_headers(mut self, list: &str) -> Self {
        for pair in list.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (name.trim(), value.trim());
            let value = percent_encoding::percent_decode_str(value).decode_utf8();
            match value {
                Ok(value) if pair.contains('=') && is_header(name, &value) => {
                    self.headers.push((name.to_owned(), value.into_owned()));
                }
                // A pair without a name may be nothing but a secret.
                _ => tracing::warn!("a header for the OTLP collector is no `name=value`"),
            }
        }
        self
    }
}

fn is_header(name: &str, value: &str) -> bool {
    reqwest::header::HeaderName::try_from(name).is_ok()
        && reqwest::header::HeaderValue::try_from(value).is_ok()
}

impl fmt::Debug for OtlpConfig {
    /// Leaves out what headers say, and the login and query of the URL: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("OtlpConfig")
            .field("url", &shown(&self.url))
            .field("headers", &names)
            .field("timeout", &self.timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_appended_to_and_a_whole_url_is_not() {
        for (base, url) in [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("https://c/otlp", "https://c/otlp/v1/traces"),
            ("c:4318", "http://c:4318/v1/traces"),
        ] {
            assert_eq!(OtlpConfig::at_base(base).url, url);
        }
        assert_eq!(OtlpConfig::at("http://c/x/").url, "http://c/x/");
    }

    #[test]
    fn addresses_are_shown_without_secrets() {
        let mut config = ObserveConfig::new("flights");
        config.push_gateway = Some("http://me:hidden@gateway".to_owned());
        config.loki = Some("loki?token=hidden".to_owned());
        config.otlp = Some(OtlpConfig::at_base(
            "http://me:hidden@collector?token=hidden",
        ));
        let told = format!("{config:?}");
        assert!(!told.contains("hidden"), "{told}");
        for server in ["gateway", "loki", "collector"] {
            assert!(told.contains(server), "{told}");
        }
    }

    #[test]
    fn headers_are_decoded_and_what_is_none_is_left_out() {
        let config = OtlpConfig::at("http://c");
        let config =
            config.with_headers("a=1, Authorization = Basic%20x%3D%3D ,,secret,b b=2,c=%0a,d=");
        let expected = [("a", "1"), ("Authorization", "Basic x=="), ("d", "")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(config.headers, expected);
        let shown = format!("{config:?}");
        assert!(
            shown.contains("Authorization") && !shown.contains("Basic"),
            "{shown}"
        );
    }
}
