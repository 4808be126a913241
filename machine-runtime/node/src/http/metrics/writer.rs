//! Writing families as the catalogue defines them.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

use super::Timing;
use crate::metrics::{Kind, Metric};

/// Writes metrics, each once.
pub(super) struct Writer<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder }
    }

    /// A metric without labels of its own.
    pub(super) fn one(&mut self, metric: &Metric, value: u64) -> fmt::Result {
        self.each(metric, [([""; 0], value)])
    }

    /// A gauge without labels of its own that is not whole.
    pub(super) fn real(&mut self, metric: &Metric, value: f64) -> fmt::Result {
        debug_assert!(metric.kind == Kind::Gauge && metric.labels.is_empty());
        self.family(metric)?.encode_gauge(&value)
    }

    /// The series of a metric, by the values of its labels.
    pub(super) fn each<L: AsRef<str>, const N: usize>(
        &mut self,
        metric: &Metric,
        series: impl IntoIterator<Item = ([L; N], u64)>,
    ) -> fmt::Result {
        debug_assert_eq!(metric.labels.len(), N, "{}", metric.name);
        let mut family = self.family(metric)?;
        for (values, value) in series {
            let labels = Labels::new(metric, &values);
            if N == 0 {
                write(metric, &mut family, value)?;
            } else {
                write(metric, &mut family.encode_family(&labels)?, value)?;
            }
        }
        Ok(())
    }

    /// Those of `timings` that are of this metric.
    pub(super) fn timings(&mut self, metric: &Metric, timings: &[Timing]) -> fmt::Result {
        let mut family = self.family(metric)?;
        for timing in timings.iter().filter(|timing| timing.metric == metric) {
            let read = &timing.read;
            let bounds = read.buckets.iter().map(|(bound, count)| {
                let bound = bound.map_or(f64::INFINITY, |bound| bound.as_secs_f64());
                (bound, *count)
            });
            let buckets: Vec<_> = bounds.collect();
            let sum = read.sum.as_secs_f64();
            let values = timing.label.as_slice();
            debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
            let labels = Labels::new(metric, values);
            let write = |out: &mut MetricEncoder<'_>| {
                out.encode_histogram::<NoLabelSet>(sum, read.count, &buckets, None)
            };
            if values.is_empty() {
                write(&mut family)?;
            } else {
                write(&mut family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn family<'s>(&'s mut self, metric: &'s Metric) -> Result<MetricEncoder<'s>, fmt::Error> {
        let kind = match metric.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        self.encoder
            .encode_descriptor(metric.name, metric.help, None, kind)
    }
}

fn write(metric: &Metric, out: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
    match metric.kind {
        Kind::Counter => out.encode_counter::<NoLabelSet, _, f64>(&value, None),
        Kind::Gauge => out.encode_gauge(&value),
        Kind::Histogram => Err(fmt::Error),
    }
}

/// A gauge of no catalogue.
pub(super) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: f64,
) -> fmt::Result {
    encoder
        .encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(&value)
}

/// The values of a metric's own labels.
struct Labels<'a, L> {
    names: &'static [&'static str],
    values: &'a [L],
}

impl<'a, L> Labels<'a, L> {
    fn new(metric: &Metric, values: &'a [L]) -> Self {
        Self {
            names: metric.labels,
            values,
        }
    }
}

impl<L: AsRef<str>> EncodeLabelSet for Labels<'_, L> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in self.names.iter().zip(self.values) {
            (*name, value.as_ref()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}
