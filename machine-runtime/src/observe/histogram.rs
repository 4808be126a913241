//! How long things took: counts by upper bound.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::trace::TraceContext;

/// Counts durations by bounds that are fixed when it is made. Every thread may observe.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [Duration],
    /// One for each bound, and one for what is longer than all.
    counts: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
    /// The last traced one in each, touched by those that are traced only.
    exemplars: Mutex<Vec<Option<Exemplar>>>,
}

/// A duration that belongs to a trace that is kept.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Exemplar {
    /// How long it took.
    pub took: Duration,
    /// The span that it was part of.
    pub trace: TraceContext,
    /// When it ended.
    pub at: SystemTime,
}

/// What a histogram has counted.
#[derive(Clone, PartialEq, Debug)]
pub struct HistogramRead {
    /// The sum of all.
    pub sum: Duration,
    /// How many there were.
    pub count: u64,
    /// How many were longer than the bound before and not longer than this one; the last has none.
    pub buckets: Vec<(Option<Duration>, u64)>,
    /// One for each bucket, where there is any.
    pub exemplars: Vec<Option<Exemplar>>,
}

impl Histogram {
    /// Nothing yet. `bounds` grow, and what is as long as a bound counts for it.
    pub fn new(bounds: &'static [Duration]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_ns: AtomicU64::new(0),
            exemplars: Mutex::default(),
        }
    }

    /// Counts one that took so long.
    #[inline]
    pub fn observe(&self, took: Duration) {
        let place = self.place(took);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// As [`Histogram::observe`], without the price of atomic additions, where nobody else observes.
    #[inline]
    pub(crate) fn observe_alone(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        for (count, more) in [(&self.counts[self.place(took)], 1), (&self.sum_ns, ns)] {
            let now = count.load(Ordering::Relaxed);
            count.store(now.wrapping_add(more), Ordering::Relaxed);
        }
    }

    /// Counts one that took so long, and was part of a trace.
    pub fn observe_traced(&self, took: Duration, trace: Option<TraceContext>) {
        self.observe(took);
        self.exemplify(took, trace);
    }

    /// Keeps one that has been counted as an example, if its trace is kept.
    pub(crate) fn exemplify(&self, took: Duration, trace: Option<TraceContext>) {
        // Whoever reads them at the moment is not waited for.
        if let Some(trace) = trace.filter(|trace| trace.sampled)
            && let Ok(mut exemplars) = self.exemplars.try_lock()
        {
            exemplars.resize(self.counts.len(), None);
            exemplars[self.place(took)] = Some(Exemplar {
                took,
                trace,
                at: SystemTime::now(),
            });
        }
    }

    /// What has been counted. What is observed at the same time may be in the one and not yet in the
    /// other; the count is that of the buckets.
    pub fn read(&self) -> HistogramRead {
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let mut exemplars = self.exemplars().clone();
        exemplars.resize(buckets.len(), None);
        HistogramRead {
            sum: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)),
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
            exemplars,
        }
    }

    #[inline]
    fn place(&self, took: Duration) -> usize {
        self.bounds.partition_point(|bound| *bound < took)
    }

    fn exemplars(&self) -> std::sync::MutexGuard<'_, Vec<Option<Exemplar>>> {
        self.exemplars
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(10)];

    #[test]
    fn a_bound_counts_what_is_as_long_as_it() {
        let histogram = Histogram::new(&MS);
        for us in [0, 1000, 1001, 10_000, 10_001, 90_000] {
            histogram.observe(Duration::from_micros(us));
        }
        let read = histogram.read();
        let counts: Vec<_> = read.buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 2, 2]);
        assert_eq!((read.count, read.sum), (6, Duration::from_micros(112_002)));
        assert!(read.exemplars.iter().all(Option::is_none));
    }

    #[test]
    fn a_bucket_remembers_the_last_of_a_trace_that_is_kept() {
        let histogram = Histogram::new(&MS);
        let trace = TraceContext::root(true);
        histogram.observe_traced(Duration::from_millis(5), Some(TraceContext::root(true)));
        histogram.observe_traced(Duration::from_millis(4), Some(trace));
        histogram.observe_traced(Duration::from_millis(3), Some(TraceContext::root(false)));
        histogram.observe_traced(Duration::from_millis(2), None);
        let read = histogram.read();
        assert_eq!(read.count, 4);
        let [None, Some(exemplar), None] = read.exemplars[..] else {
            panic!("{read:?}");
        };
        assert_eq!((exemplar.trace, exemplar.took.as_millis()), (trace, 4));
    }
}
