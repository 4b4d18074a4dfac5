//! Single-writer counters: one worker adds, anybody reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter with one writer. Adding is a plain load and store, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the worker that owns the counter may call this: a second writer would lose
    /// increments.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes `n` back, for counters that serve as gauges.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of the buckets. Envoy has one set for all histograms, be they milliseconds or
/// bytes, and Istio keeps it.
pub const BUCKETS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0,
    60000.0, 300000.0, 600000.0, 1800000.0, 3600000.0,
];

/// The same in thousandths, which values are recorded in.
const BUCKETS_THOUSANDTHS: [u64; 19] = {
    let mut bounds = [0; 19];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = (BUCKETS[at] * 1000.0) as u64;
        at += 1;
    }
    bounds
};

/// A histogram with fixed bounds and one writer.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Sum of the recorded values, in thousandths. Beside the buckets of small values, so that to
    /// record one changes few cache lines.
    sum_thousandths: Counter,
    /// One count a bucket, not cumulative; the last is for values above every bound.
    buckets: [Counter; 20],
}

impl Histogram {
    /// Records `value_thousandths` / 1000. Only the owning worker may call this.
    #[inline]
    pub fn record_thousandths(&self, value_thousandths: u64) {
        let bucket = BUCKETS_THOUSANDTHS.partition_point(|bound| *bound < value_thousandths);
        self.buckets[bucket].add(1);
        self.sum_thousandths.add(value_thousandths);
    }

    /// Adds the counts of this histogram to `total`.
    pub fn merge_into(&self, total: &mut HistogramTotal) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.get();
        }
        total.sum_thousandths += self.sum_thousandths.get();
    }
}

/// The sum of several histograms, as a scrape reports it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct HistogramTotal {
    /// Not cumulative; the last is for values above every bound.
    pub buckets: [u64; 20],
    pub sum_thousandths: u64,
}

impl HistogramTotal {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub fn sum(&self) -> f64 {
        self.sum_thousandths as f64 / 1000.0
    }

    /// The bounds with the number of values at or below each, as Prometheus wants them.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut below = 0;
        let bounds = BUCKETS.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.buckets).map(move |(bound, count)| {
            below += count;
            (bound, below)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_counts_at_or_below_it() {
        let histogram = Histogram::default();
        histogram.record_thousandths(1_000);
        histogram.record_thousandths(1_001);
        histogram.record_thousandths(4_000_000_000);
        let mut total = HistogramTotal::default();
        histogram.merge_into(&mut total);
        let at_or_below: Vec<_> = total.cumulative().collect();
        assert_eq!(at_or_below[1], (1.0, 1));
        assert_eq!(at_or_below[2], (5.0, 2));
        assert_eq!(at_or_below[19], (f64::INFINITY, 3));
        assert_eq!(total.count(), 3);
        assert_eq!(total.sum(), 4_000_002.001);
    }
}
