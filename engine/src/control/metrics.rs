//! Prometheus' text format, for the workers' figures and the control thread's own.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder as _, TextEncoder};

use crate::stats::{Family, FamilyKind, HistogramTotal, SampleValue};

/// `content-type` of [`encode`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A figure of the control thread.
pub struct Figure {
    /// Prometheus' name; counters end in `_total`.
    pub name: &'static str,
    pub help: &'static str,
    pub kind: FamilyKind,
    /// In the unit that the name ends with.
    pub value: f64,
    pub labels: Vec<(&'static str, String)>,
}

impl Figure {
    /// A count that only grows.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self {
            name,
            help,
            kind: FamilyKind::Counter,
            value: value as f64,
            labels: Vec::new(),
        }
    }

    /// A value that goes up and down.
    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self {
            name,
            help,
            kind: FamilyKind::Gauge,
            value,
            labels: Vec::new(),
        }
    }

    /// The figure with a label.
    pub fn with_label(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((name, value.into()));
        self
    }
}

/// All figures in the text format, version 0.0.4. Families without a sample are left out.
pub fn encode(families: Vec<Family>, figures: Vec<Figure>) -> Result<Vec<u8>, String> {
    let mut all: Vec<MetricFamily> = Vec::with_capacity(families.len() + figures.len());
    for family in families {
        if family.samples.is_empty() {
            continue;
        }
        let metrics = family.samples.into_iter().map(|sample| {
            let mut metric = match sample.value {
                SampleValue::Number(value) => number(family.kind, value as f64),
                SampleValue::Histogram(total) => histogram(&total),
            };
            metric.set_label(labels(sample.labels));
            metric
        });
        all.push(metric_family(
            &family.name,
            family.help,
            family.kind,
            metrics.collect(),
        ));
    }
    for figure in figures {
        let mut metric = number(figure.kind, figure.value);
        metric.set_label(labels(figure.labels));
        // Of one name there is one family, with a sample for each combination of labels.
        if let Some(family) = all.last_mut().filter(|family| family.name() == figure.name) {
            family.mut_metric().push(metric);
            continue;
        }
        all.push(metric_family(
            figure.name,
            figure.help,
            figure.kind,
            vec![metric],
        ));
    }
    let mut out = Vec::new();
    TextEncoder::new()
        .encode(&all, &mut out)
        .map_err(|error| error.to_string())?;
    Ok(out)
}

fn metric_family(name: &str, help: &str, kind: FamilyKind, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_string());
    family.set_help(help.to_string());
    family.set_field_type(match kind {
        FamilyKind::Counter => MetricType::COUNTER,
        FamilyKind::Gauge => MetricType::GAUGE,
        FamilyKind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(metrics);
    family
}

fn number(kind: FamilyKind, value: f64) -> Metric {
    let mut metric = Metric::default();
    if kind == FamilyKind::Counter {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn histogram(total: &HistogramTotal) -> Metric {
    let mut histogram = Histogram::default();
    let bucket = |(upper_bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(upper_bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    // The encoder adds the bucket above all bounds itself, from the count.
    let bounded = total.cumulative().filter(|(bound, _)| bound.is_finite());
    histogram.set_bucket(bounded.map(bucket).collect());
    histogram.set_sample_count(total.count());
    histogram.set_sample_sum(total.sum());
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    metric
}

fn labels(labels: Vec<(&'static str, String)>) -> Vec<LabelPair> {
    let pair = |(name, value): (&'static str, String)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_string());
        pair.set_value(value);
        pair
    };
    labels.into_iter().map(pair).collect()
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
