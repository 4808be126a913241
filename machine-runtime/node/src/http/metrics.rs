//! What Prometheus may want to know, collected when it asks.

use std::fmt;
use std::sync::Arc;

use machine_runtime::replica::{Link, LinkState, Resync, SourceStats};
use machine_runtime::{DynState, View};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Node;
use super::traffic::{Gauge, Traffic};

/// What all names begin with.
const PREFIX: &str = "machine";

/// How metrics are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// Prometheus's text format 0.0.4, which every tool reads.
    Classic,
    /// `OpenMetrics` 1.0.
    Open,
}

impl Format {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The metrics of a node.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
}

impl Metrics {
    pub(super) fn new(
        node: &Node,
        view: &View<DynState>,
        link: Option<&Link>,
        source: SourceStats,
        traffic: &Arc<Traffic>,
    ) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(Figures {
            node: node.clone(),
            view: view.clone(),
            link: link.cloned(),
            source,
            traffic: Arc::clone(traffic),
        }));
        Self { registry }
    }

    pub(super) fn render(&self, format: Format) -> String {
        let mut metrics = String::new();
        text::encode(&mut metrics, &self.registry).expect("a string takes all that is written");
        match format {
            Format::Open => metrics,
            Format::Classic => classic(&metrics),
        }
    }
}

/// Rewrites `OpenMetrics` as the classic text format. They differ in what describes a family: a
/// counter's name lacks `_total` there, and units and the end have lines of their own.
fn classic(open: &str) -> String {
    let mut out = String::with_capacity(open.len());
    let mut help = "";
    for line in open.lines() {
        if line.starts_with("# HELP ") {
            // Its name depends on the type, which comes next.
            help = line;
        } else if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.rsplit_once(' ').unwrap_or((described, "untyped"));
            let total = if kind == "counter" { "_total" } else { "" };
            let kind = if kind == "unknown" { "untyped" } else { kind };
            let told = help
                .strip_prefix("# HELP ")
                .and_then(|help| help.strip_prefix(name));
            let told = told.unwrap_or_default();
            out.extend([
                "# HELP ",
                name,
                total,
                told,
                "\n# TYPE ",
                name,
                total,
                " ",
                kind,
                "\n",
            ]);
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            out.extend([line, "\n"]);
        }
    }
    out
}

/// Where the figures come from.
struct Figures {
    node: Node,
    view: View<DynState>,
    link: Option<Link>,
    source: SourceStats,
    traffic: Arc<Traffic>,
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Writer { encoder };
        out.gauges(
            "build_info",
            "The version of the program that runs, as a label",
            [([("version", self.node.version)], 1)],
        )?;
        out.gauges(
            "node_info",
            "The node's name and role, as labels",
            [([("node", &*self.node.name), ("role", self.node.role)], 1)],
        )?;
        self.encode_view(&mut out)?;
        self.encode_links(&mut out)?;
        self.encode_traffic(&mut out)
    }
}

impl Figures {
    fn encode_view(&self, out: &mut Writer<'_>) -> fmt::Result {
        let now = self.view.snapshot();
        if let Some(now) = &now {
            let help = "The transitions of the root that what is shown includes";
            out.gauge("revision", help, now.position().revision)?;
            let active = now.active().count() as u64;
            out.gauge("states_active", "The states that are active", active)?;
        }
        drop(now);
        let states = self.view.schema().len() as u64;
        out.gauge("states", "The states of the schema", states)?;
        if let Some(tier) = self.view.tier() {
            out.gauge("tier", "The links to the root, 0 on it", tier)?;
        }
        let stale = self.view.is_stale();
        let help = "How long ago what is shown was known to be the root's newest";
        out.gauge("age_seconds", help, self.view.age().as_secs_f64())?;
        let help = "1 if that is too long ago or nothing is shown yet; such a node is not ready";
        out.gauge("stale", help, u32::from(stale))?;
        let (deltas, bytes) = self.view.ring_size();
        out.gauge(
            "ring_deltas",
            "The deltas that can be resumed from",
            deltas as u64,
        )?;
        out.gauge("ring_bytes", "The bytes that they take", bytes as u64)
    }

    fn encode_links(&self, out: &mut Writer<'_>) -> fmt::Result {
        let followers = self.source.followers().len() as u64;
        out.gauge("followers", "The followers that are served", followers)?;
        out.counter(
            "deltas_sent",
            "The deltas sent to followers",
            self.source.deltas(),
        )?;
        out.counter(
            "snapshots_sent",
            "The snapshots sent to followers",
            self.source.snapshots(),
        )?;
        out.counter(
            "followers_refused",
            "The handshakes refused",
            self.source.refusals(),
        )?;
        let Some(link) = &self.link else {
            return Ok(());
        };
        let following = matches!(*link.state(), LinkState::Following { .. });
        let help = "1 if the parent serves this node";
        out.gauge("link_up", help, u32::from(following))?;
        out.counter(
            "connects",
            "How often the parent let this node in",
            link.connects(),
        )?;
        out.counter("deltas_applied", "The deltas applied", link.deltas())?;
        let resyncs = Resync::ALL.map(|why| ([("reason", why.name())], link.resyncs(why)));
        out.counters(
            "resyncs",
            "The snapshots taken instead of deltas, by reason",
            resyncs,
        )
    }

    fn encode_traffic(&self, out: &mut Writer<'_>) -> fmt::Result {
        let answers = self.traffic.answers().map(|(route, status, count)| {
            (
                [("route", route.to_owned()), ("status", status.to_string())],
                count,
            )
        });
        out.counters(
            "http_requests",
            "The HTTP requests answered, by route and status",
            answers,
        )?;
        let connections = self.traffic.gauge(Gauge::Connections);
        out.gauge(
            "http_connections",
            "The HTTP connections that are open",
            connections,
        )?;
        let streams = self.traffic.gauge(Gauge::Streams);
        out.gauge(
            "http_event_streams",
            "The streams of events among them",
            streams,
        )?;
        let waiting = self.traffic.gauge(Gauge::Waiting);
        out.gauge(
            "http_waiting",
            "The HTTP requests that wait for a position",
            waiting,
        )?;
        let under_way = self.traffic.gauge(Gauge::Writing);
        let help = "The mutations under way for HTTP clients";
        out.gauge("http_writing", help, under_way)?;
        let help = "The HTTP connections that there was no room for";
        out.counter("http_connections_refused", help, self.traffic.refused())
    }
}

/// A label's name and value.
type Label<V> = (&'static str, V);

struct Writer<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Writer<'_> {
    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeGaugeValue + Copy,
    ) -> fmt::Result {
        let mut metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    fn gauges<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label<&'a str>; N], u64)>,
    ) -> fmt::Result {
        let mut metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn counters<V, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label<V>; N], u64)>,
    ) -> fmt::Result
    where
        Label<V>: prometheus_client::encoding::EncodeLabel,
    {
        let mut metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            metric
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, f64>(&value, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classic_format_names_counters_by_their_samples() {
        let open = "# HELP machine_deltas_sent Deltas.\n\
                    # TYPE machine_deltas_sent counter\n\
                    machine_deltas_sent_total{to=\"a\"} 3\n\
                    # HELP machine_age_seconds Age.\n\
                    # TYPE machine_age_seconds gauge\n\
                    # UNIT machine_age_seconds seconds\n\
                    machine_age_seconds 0.5\n\
                    # EOF\n";
        let expected = "# HELP machine_deltas_sent_total Deltas.\n\
                        # TYPE machine_deltas_sent_total counter\n\
                        machine_deltas_sent_total{to=\"a\"} 3\n\
                        # HELP machine_age_seconds Age.\n\
                        # TYPE machine_age_seconds gauge\n\
                        machine_age_seconds 0.5\n";
        assert_eq!(classic(open), expected);
    }
}
