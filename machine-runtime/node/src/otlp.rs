//! Traces, told to an OpenTelemetry collector: OTLP as protobuf over HTTP.
//!
//! Each node has an exporter of its own, whose task takes what the node's observers are told, makes
//! spans of it, and posts them in batches, one at a time. Nothing waits for it: what finds no room is
//! dropped, what the collector does not take is given up on, and both are counted. So a collector that
//! is slow, hangs, or is not there costs the spans that were for it.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use machine_runtime::Schema;
use machine_runtime::observe::{Event, Interest, Observer, Observers};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::observe::OtlpConfig;
use crate::outbound::{self, Exporter, Exports, Server};

mod spans;

/// How many events wait to be made spans.
const ROOM: usize = 4096;

/// How many spans wait to be sent.
const MOST_WAITING: usize = 4096;

/// How many spans are sent at a time.
const BATCH: usize = 512;

/// How long a span waits for others to be sent with.
const EVERY: Duration = Duration::from_secs(1);

/// How often spans are sent until they are given up on.
const ATTEMPTS: u32 = 3;

/// The pause after the first attempt, where the collector does not say; it doubles.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest pause, whatever the collector says.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long the last spans may take to be sent: less than a supervisor waits for a node to end.
const LAST: Duration = Duration::from_millis(400);

/// How much of an answer is read.
const MOST_ANSWER: usize = 64 * 1024;

/// Whose spans they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Origin<'a> {
    /// The service that the node is part of.
    pub(crate) service: &'a str,
    /// The node's name.
    pub(crate) node: &'a str,
    /// The version of the program.
    pub(crate) version: &'a str,
    /// Whether it is a root or a replicant.
    pub(crate) role: &'a str,
}

impl Origin<'_> {
    fn resource(&self) -> Resource {
        let attributes = [
            ("service.name", self.service),
            ("service.instance.id", self.node),
            ("service.version", self.version),
            ("machine.role", self.role),
        ];
        let attributes = attributes.map(|(key, value)| spans::text(key, value));
        Resource {
            attributes: attributes.into(),
            ..Resource::default()
        }
    }
}

/// Sends the spans of one node.
pub(crate) struct Otlp {
    observer: Observer,
    schema: Arc<Schema>,
    resource: Resource,
    scope: InstrumentationScope,
    post: Arc<Post>,
    exports: Exports,
    waiting: Vec<Span>,
    /// Since when the first of them waits.
    since: Instant,
    /// How long it has for the last of them.
    last: Duration,
    /// Whether the last batch was given up on, which is logged once.
    in_vain: bool,
}

/// A batch on its way.
struct Delivery {
    spans: u64,
    told: Pin<Box<dyn Future<Output = Result<u64, Failure>> + Send>>,
}

impl Otlp {
    /// Has spans of states of this schema sent from now on, once it runs.
    ///
    /// # Errors
    ///
    /// If they cannot be sent to where they are to go.
    pub(crate) fn new(
        config: &OtlpConfig,
        origin: &Origin<'_>,
        schema: Arc<Schema>,
        observers: &Observers,
        exports: Exports,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            post: Arc::new(Post::new(config)?),
            observer: observers.attach("otlp", Interest::TRACES, ROOM),
            schema,
            resource: origin.resource(),
            scope: InstrumentationScope {
                name: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            },
            exports,
            waiting: Vec::new(),
            since: Instant::now(),
            last: LAST,
            in_vain: false,
        })
    }

    /// Sends spans until `stopped` resolves, and a little longer for the last ones.
    pub(crate) async fn run(mut self, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        let mut delivery: Option<Delivery> = None;
        loop {
            let (is_due, due) = (delivery.is_none() && !self.waiting.is_empty(), self.due());
            tokio::select! {
                () = &mut stopped => break,
                event = self.observer.next() => self.take(&event),
                told = end_of(&mut delivery) => {
                    self.count(told);
                    delivery = None;
                }
                () = sleep_until(due), if is_due => delivery = Some(self.next_batch()),
            }
        }
        let end = Instant::now() + self.last;
        while let Some(event) = self.observer.try_next() {
            self.take(&event);
        }
        loop {
            if delivery.is_none() {
                if self.waiting.is_empty() {
                    return;
                }
                delivery = Some(self.next_batch());
            }
            match timeout_at(end, end_of(&mut delivery)).await {
                Ok(told) => self.count(told),
                Err(_elapsed) => break,
            }
            delivery = None;
        }
        let left = delivery.map_or(0, |delivery| delivery.spans) + count(self.waiting.len());
        self.exports.of(Exporter::Otlp).failed(left);
        tracing::warn!("the OTLP collector was too slow at the end, spans lost: {left}");
    }

    /// Makes spans of an event, as far as there is room for them.
    fn take(&mut self, event: &Event) {
        if self.waiting.is_empty() {
            self.since = Instant::now();
        }
        spans::append(event, &self.schema, &mut self.waiting);
        let too_many = self.waiting.len().saturating_sub(MOST_WAITING);
        if too_many > 0 {
            self.waiting.truncate(MOST_WAITING);
            self.exports.of(Exporter::Otlp).dropped(count(too_many));
        }
    }

    /// When the next batch is to be sent.
    fn due(&self) -> Instant {
        if self.waiting.len() >= BATCH {
            self.since
        } else {
            self.since + EVERY
        }
    }

    /// Takes the next spans to be sent.
    fn next_batch(&mut self) -> Delivery {
        let left = self.waiting.split_off(self.waiting.len().min(BATCH));
        let batch = std::mem::replace(&mut self.waiting, left);
        self.since = Instant::now();
        let spans = count(batch.len());
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(self.scope.clone()),
                    spans: batch,
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        };
        let body = Bytes::from(request.encode_to_vec());
        let post = Arc::clone(&self.post);
        Delivery {
            spans,
            told: Box::pin(async move { post.deliver(body).await }),
        }
    }

    /// Counts what came of a batch.
    fn count(&mut self, (spans, told): (u64, Result<u64, Failure>)) {
        let export = self.exports.of(Exporter::Otlp);
        match told {
            Ok(rejected) => {
                let rejected = rejected.min(spans);
                export.sent(spans - rejected);
                export.failed(rejected);
                if std::mem::take(&mut self.in_vain) {
                    tracing::info!("the OTLP collector takes spans again");
                }
            }
            Err(failure) => {
                export.failed(spans);
                if !std::mem::replace(&mut self.in_vain, true) {
                    tracing::warn!("the OTLP collector {failure}, spans lost: {spans}");
                }
            }
        }
    }
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp")
            .field("server", &self.post.server)
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

/// Waits for the end of what is on its way; for ever where nothing is.
///
/// # Cancel safety
///
/// It goes on with the next call.
async fn end_of(delivery: &mut Option<Delivery>) -> (u64, Result<u64, Failure>) {
    match delivery {
        Some(delivery) => (delivery.spans, (&mut delivery.told).await),
        None => std::future::pending().await,
    }
}

fn count(spans: usize) -> u64 {
    u64::try_from(spans).unwrap_or(u64::MAX)
}

/// Where spans are posted, and how.
#[derive(Debug)]
struct Post {
    client: Client,
    server: Server,
    headers: HeaderMap,
    timeout: Option<Duration>,
    pause: Duration,
}

impl Post {
    fn new(config: &OtlpConfig) -> anyhow::Result<Self> {
        let server = config.server()?;
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let name = HeaderName::try_from(name).context("a header's name is none")?;
            let mut value = HeaderValue::try_from(value).context("a header's value is none")?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        headers.insert(CONTENT_TYPE, protobuf);
        Ok(Self {
            client: outbound::client()?,
            server,
            headers,
            timeout: config.timeout,
            pause: PAUSE,
        })
    }

    /// Has the collector take a request, and returns how many of its spans it rejected.
    async fn deliver(&self, body: Bytes) -> Result<u64, Failure> {
        let mut attempt = 1;
        loop {
            let failure = match self.attempt(body.clone()).await {
                Err(failure) if failure.may_pass && attempt < ATTEMPTS => failure,
                told => return told,
            };
            let own = self.pause * (1 << (attempt - 1));
            // Not all nodes at once.
            let own = own.mul_f64(0.5 + fastrand::f64());
            // One that asks for no pause is not asked without one.
            let asked = failure.after.unwrap_or_default();
            sleep(asked.max(own).min(LONGEST_PAUSE)).await;
            attempt += 1;
        }
    }

    async fn attempt(&self, body: Bytes) -> Result<u64, Failure> {
        let request = self.server.request(&self.client, Method::POST).body(body);
        // A header that says who we are wins over the login of the address.
        let mut request = request.headers(self.headers.clone());
        if let Some(timeout) = self.timeout {
            request = request.timeout(timeout);
        }
        let response = request.send().await?;
        let status = response.status();
        if !status.is_success() {
            return Err(Failure::of(&response));
        }
        let answer = outbound::read(response, MOST_ANSWER).await?;
        // What is no such answer is none that says that something was rejected.
        let answer = ExportTraceServiceResponse::decode(answer.as_slice()).unwrap_or_default();
        let partly = answer.partial_success.unwrap_or_default();
        if !partly.error_message.is_empty() {
            let (rejected, why) = (partly.rejected_spans, &partly.error_message);
            tracing::debug!("the OTLP collector rejected {rejected} spans: {why}");
        }
        Ok(u64::try_from(partly.rejected_spans).unwrap_or(0))
    }
}

/// Why spans were not taken.
#[derive(Debug)]
struct Failure {
    why: String,
    /// Whether another attempt may go better, and after how long the collector says so.
    may_pass: bool,
    after: Option<Duration>,
}

impl Failure {
    /// What an answer says that is none of success.
    fn of(response: &Response) -> Self {
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER);
        // It may be a date as well; clocks of machines are not compared.
        let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
        Self {
            why: format!("answers {status}"),
            may_pass: matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            after: after.map(Duration::from_secs),
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let why = if error.is_timeout() {
            "does not answer in time".to_owned()
        } else {
            format!("cannot be asked: {}", outbound::told(error))
        };
        Self {
            why,
            may_pass: true,
            after: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

#[cfg(test)]
mod tests;
