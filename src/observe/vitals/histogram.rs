//! A histogram of durations that costs two atomic additions for each observation.
//! prometheus-client's own takes a lock, and every token of every stream is observed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Counts of durations by size. A clone is another handle to the same counts.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    /// Upper bounds in seconds, inclusive, in ascending order.
    bounds: &'static [f64],
    /// One count for each bound, and one for longer durations.
    counts: Box<[AtomicU64]>,
    nanos: AtomicU64,
}

impl Histogram {
    /// Creates an empty histogram with these upper bounds, in seconds and ascending order.
    pub fn new(bounds: &'static [f64]) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::default()).collect();
        Histogram(Arc::new(Counts { bounds, counts, nanos: AtomicU64::default() }))
    }

    /// Counts a duration.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = self.0.bounds.partition_point(|bound| *bound < seconds);
        self.0.counts[at].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    /// Encodes the counts, which are consistent with each other. An observation during the call may
    /// be missing from the sum.
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = self.0.bounds.iter().copied().chain([f64::INFINITY]);
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.0.nanos.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::prometheus_text::encode;
    use prometheus_client::registry::Registry;

    #[test]
    fn durations_are_counted_up_to_each_bound_and_added_up() {
        let histogram = Histogram::new(&[0.25, 1.0]);
        for millis in [0, 250, 251, 1000, 9000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut registry = Registry::default();
        registry.register("h", "Help", histogram);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            "h_bucket{le=\"0.25\"} 2",
            "h_bucket{le=\"1\"} 4",
            "h_bucket{le=\"+Inf\"} 5",
            "h_sum 10.501",
            "h_count 5",
        ];
        assert_eq!(samples, expected);
    }
}
