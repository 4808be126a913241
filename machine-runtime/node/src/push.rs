//! Sending metrics to a Pushgateway, for those whose Prometheus cannot ask.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::observe::{Exports, ObserveConfig};
use crate::outbound::{self, Exporter, Server};

/// How long the last push may take: whoever stops does not want to wait.
const LAST: Duration = Duration::from_millis(500);

/// The address of such a server.
const EXAMPLE: &str = "http://localhost:9091";

/// What stands for itself in a path.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Where the metrics of a node are sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Gateway {
    group: Server,
    every: Duration,
}

impl Gateway {
    /// The one of the node called `name`, if there is to be one.
    ///
    /// # Errors
    ///
    /// If its address is none.
    pub(crate) fn new(config: &ObserveConfig, name: &str) -> anyhow::Result<Option<Self>> {
        let Some(server) = &config.push_gateway else {
            return Ok(None);
        };
        let (job, instance) = (label("job", &config.service), label("instance", name));
        let server = Server::parse(server, EXAMPLE)?;
        Ok(Some(Self {
            group: server.at(&format!("/metrics/{job}/{instance}")),
            every: config.push_every.max(Duration::from_millis(1)),
        }))
    }

    /// Sends what `metrics` writes, now and then until `stop` resolves and once more then. Whatever
    /// goes wrong is logged and counted; a push that hangs keeps the next from being made, and is given up
    /// for the last one.
    pub(crate) async fn push(
        self,
        client: Client,
        metrics: impl Fn() -> String,
        exports: Exports,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = pin!(stop);
        let mut ticks = interval_at(Instant::now() + self.every, self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = Failures::default();
        let push = async || {
            let request = self.group.request(&client, Method::PUT);
            let request = request.header(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
            sent(request.body(metrics())).await
        };
        let pushes = exports.of(Exporter::Pushgateway);
        let mut note = |done: Result<(), Failure>| match done {
            Ok(()) => {
                pushes.sent(1);
                failures.end(&self.group);
            }
            Err(failure) => {
                pushes.failed(1);
                failures.tell(failure, &self.group);
            }
        };
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = &mut stop => {
                    pushes.failed(1);
                    break;
                }
                done = push() => note(done),
            }
        }
        let last = timeout(LAST, push()).await;
        note(last.unwrap_or_else(|_elapsed| Err(Failure::new("timeout", "no answer in time"))));
    }
}

/// A label and its value as a path has them. What would be taken for more or less than one part of a
/// path is written in base64.
fn label(name: &str, value: &str) -> String {
    if value.is_empty() {
        // The padding alone stands for nothing.
        format!("{name}@base64/=")
    } else if value.contains('/') || matches!(value, "." | "..") {
        format!("{name}@base64/{}", URL_SAFE.encode(value))
    } else {
        format!("{name}/{}", utf8_percent_encode(value, PLAIN))
    }
}

/// Why a push failed.
#[derive(Debug)]
struct Failure {
    kind: String,
    why: String,
}

impl Failure {
    fn new(kind: impl Into<String>, why: impl Into<String>) -> Self {
        let (kind, why) = (kind.into(), why.into());
        Self { kind, why }
    }
}

/// Sends a request whose answer is not read.
async fn sent(request: reqwest::RequestBuilder) -> Result<(), Failure> {
    let answer = request.send().await.map_err(|error| {
        let kind = if error.is_timeout() {
            "timeout"
        } else if error.is_connect() {
            "connect"
        } else {
            "request"
        };
        Failure::new(kind, outbound::told(error))
    })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    Err(Failure::new(
        status.as_str(),
        format!("it answered {status}"),
    ))
}

/// Which kinds of failure have been logged since a push was taken.
#[derive(Debug, Default)]
struct Failures(Vec<String>);

impl Failures {
    /// Logs a failure, unless there was one of its kind.
    fn tell(&mut self, failure: Failure, group: &Server) {
        if self.0.contains(&failure.kind) {
            return;
        }
        let server = group.url().host_str().unwrap_or_default();
        tracing::warn!(
            server,
            group = group.url().path(),
            error = failure.why,
            "cannot push metrics; not told again until they are taken"
        );
        self.0.push(failure.kind);
    }

    /// Logs that there is an end of them, if there were any.
    fn end(&mut self, group: &Server) {
        if std::mem::take(&mut self.0).is_empty() {
            return;
        }
        let server = group.url().host_str().unwrap_or_default();
        tracing::info!(
            server,
            group = group.url().path(),
            "metrics are taken again"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(server: &str, service: &str, name: &str) -> String {
        let mut config = ObserveConfig::new(service);
        config.push_gateway = Some(server.to_owned());
        let gateway = Gateway::new(&config, name).unwrap().unwrap();
        gateway.group.to_string()
    }

    #[test]
    fn a_node_has_a_group_of_its_own() {
        for (server, service, name, expected) in [
            (
                "host:9091",
                "flights",
                "rep-1",
                "http://host:9091/metrics/job/flights/instance/rep-1",
            ),
            (
                "https://host/a/",
                "x y",
                "ü",
                "https://host/a/metrics/job/x%20y/instance/%C3%BC",
            ),
            (
                "host",
                "a/b",
                "",
                "http://host/metrics/job@base64/YS9i/instance@base64/=",
            ),
            (
                "host",
                "a?b#c",
                "..",
                "http://host/metrics/job/a%3Fb%23c/instance@base64/Li4=",
            ),
        ] {
            assert_eq!(url(server, service, name), expected);
        }
    }

    #[test]
    fn what_is_no_address_is_told_before_anything_is_sent() {
        let mut config = ObserveConfig::new("flights");
        assert_eq!(Gateway::new(&config, "root").unwrap(), None);
        for wrong in ["http://", "ftp://host", "a b"] {
            config.push_gateway = Some(wrong.to_owned());
            let error = Gateway::new(&config, "root").unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
            assert!(error.contains(EXAMPLE), "{error}");
        }
    }

    #[test]
    fn a_kind_of_failure_is_logged_once_until_there_is_an_end() {
        let group = Server::parse("http://host", EXAMPLE).unwrap();
        let mut failures = Failures::default();
        for kind in ["timeout", "500", "timeout"] {
            failures.tell(Failure::new(kind, "why"), &group);
        }
        assert_eq!(failures.0, ["timeout", "500"]);
        failures.end(&group);
        assert!(failures.0.is_empty());
    }

    #[tokio::test]
    async fn a_push_that_is_under_way_at_the_end_has_failed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = ObserveConfig::new("flights");
        config.push_gateway = Some(listener.local_addr().unwrap().to_string());
        config.push_every = Duration::from_millis(1);
        let gateway = Gateway::new(&config, "root").unwrap().unwrap();
        let exports = Exports::default();
        // It is asked, and never answers.
        let stop = async { drop(listener.accept().await.unwrap()) };
        let client = outbound::client().unwrap();
        gateway
            .push(client, String::new, exports.clone(), stop)
            .await;
        let counts = exports.of(Exporter::Pushgateway).read();
        assert_eq!(counts, [("sent", 0), ("dropped", 0), ("failed", 2)]);
    }
}
