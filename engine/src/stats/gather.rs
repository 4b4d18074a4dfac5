//! Merging the workers' figures for a scrape.

use super::{HistogramTotal, Registry, ResponseFlags, StatKind, TcpSeries};
use std::collections::BTreeMap;

/// What Prometheus calls a metric family.
#[derive(Debug, Clone)]
pub struct Family {
    pub name: String,
    pub help: &'static str,
    pub kind: FamilyKind,
    pub samples: Vec<Sample>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyKind {
    Counter,
    Gauge,
    Histogram,
}

impl From<StatKind> for FamilyKind {
    fn from(kind: StatKind) -> Self {
        match kind {
            StatKind::Counter => Self::Counter,
            StatKind::Gauge => Self::Gauge,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Sample {
    pub labels: Vec<(&'static str, String)>,
    pub value: SampleValue,
}

#[derive(Debug, Clone)]
pub enum SampleValue {
    Number(u64),
    Histogram(HistogramTotal),
}

/// Figures of one name, in the order of their labels.
#[derive(Default)]
pub struct Totals {
    by_name: BTreeMap<String, (StatKind, &'static str, BTreeMap<String, u64>)>,
}

impl Totals {
    /// Adds `n` to the figure `name` of `of`.
    pub fn add(&mut self, of: &str, name: &str, kind: StatKind, help: &'static str, n: u64) {
        if !self.by_name.contains_key(name) {
            let empty = (kind, help, BTreeMap::new());
            self.by_name.insert(name.to_string(), empty);
        }
        let Some((_, _, values)) = self.by_name.get_mut(name) else {
            return;
        };
        let value = values.entry(of.to_string()).or_insert(0);
        *value = value.wrapping_add(n);
    }

    /// A family for each name, with a sample for each of what the figures are of. Statuses and
    /// their classes are labels of one family, as in Istio.
    pub fn families(self, prefix: &str, label: &'static str, out: &mut Vec<Family>) {
        for (name, (kind, help, values)) in self.by_name {
            let (name, status) = split_status(&name);
            let samples = values.into_iter().map(|(of, value)| Sample {
                labels: [(label, of)].into_iter().chain(status.clone()).collect(),
                value: SampleValue::Number(value),
            });
            let name = format!("{prefix}{}", name.replace('.', "_"));
            match out.last_mut().filter(|family| family.name == name) {
                Some(family) => family.samples.extend(samples),
                None => out.push(Family {
                    name,
                    help,
                    kind: kind.into(),
                    samples: samples.collect(),
                }),
            }
        }
    }
}

/// `upstream_rq_503` and `upstream_rq_5xx` as `upstream_rq` and the label that Istio makes of the
/// rest.
fn split_status(name: &str) -> (&str, Option<(&'static str, String)>) {
    if let Some((start, end)) = name.rsplit_once('_')
        && start.ends_with("_rq")
        && let [first, rest @ ..] = end.as_bytes()
        && first.is_ascii_digit()
        && rest.len() == 2
    {
        let label = match rest {
            b"xx" => "response_code_class",
            _ => "response_code",
        };
        return (start, Some((label, end.to_string())));
    }
    (name, None)
}

impl Registry {
    /// All families for Prometheus, the workers' figures added up.
    pub fn gather(&self) -> Vec<Family> {
        let inner = self.lock();
        let mut families = Vec::new();
        let mut totals = Totals::default();
        for ((name, _), set) in &inner.listeners {
            set.visit(&mut |stat, kind, help, n| totals.add(name, stat, kind, help, n));
        }
        totals.families(
            "envoy_http_",
            "envoy_http_conn_manager_prefix",
            &mut families,
        );
        let mut totals = Totals::default();
        for ((name, _), set) in &inner.clusters {
            set.visit(&mut |stat, kind, help, n| totals.add(name, stat, kind, help, n));
            set.visit_statuses(&mut |stat, n| {
                totals.add(name, stat, StatKind::Counter, "Responses by status", n);
            });
        }
        totals.families("envoy_cluster_", "cluster_name", &mut families);
        let mut totals = Totals::default();
        for ((name, _), set) in &inner.routes {
            set.visit(&mut |stat, kind, help, n| totals.add(name, stat, kind, help, n));
        }
        let before = families.len();
        totals.families("envoy_vhost_route_", "envoy_route", &mut families);
        for sample in families[before..].iter_mut().flat_map(|f| &mut f.samples) {
            name_host_and_route(sample);
        }
        let mut totals = Totals::default();
        for (id, set) in &inner.http2 {
            set.visit(&mut |stat, kind, help, n| totals.add(&id.to_string(), stat, kind, help, n));
        }
        totals.families("envoy_http2_", "worker", &mut families);
        let mut totals = Totals::default();
        for ((name, _), set) in &inner.tcp {
            set.visit(&mut |stat, kind, help, n| totals.add(name, stat, kind, help, n));
        }
        totals.families("envoy_tcp_", "envoy_tcp_prefix", &mut families);
        let mut totals = Totals::default();
        for (id, set) in &inner.workers {
            set.visit(&mut |stat, kind, help, n| totals.add(&id.to_string(), stat, kind, help, n));
        }
        totals.families("ringroad_worker_", "worker", &mut families);
        drop(inner);
        self.gather_istio(&mut families);
        self.gather_istio_tcp(&mut families);
        families
    }

    /// Istio's standard metrics.
    fn gather_istio(&self, families: &mut Vec<Family>) {
        #[derive(Default)]
        struct Total {
            requests: u64,
            duration_ms: HistogramTotal,
            request_bytes: HistogramTotal,
            response_bytes: HistogramTotal,
            request_messages: u64,
            response_messages: u64,
        }
        let mut totals: BTreeMap<Vec<(&'static str, String)>, Total> = BTreeMap::new();
        for ((key, _), series) in &self.lock().series {
            let mut labels = key.peers.0.clone();
            key.call.mark(&mut labels);
            labels.push(("response_code", key.response_code.to_string()));
            labels.push(("response_flags", flags_label(key.flags)));
            let total = totals.entry(labels).or_default();
            total.requests += series.requests.get();
            series.duration_ms.merge_into(&mut total.duration_ms);
            series.request_bytes.merge_into(&mut total.request_bytes);
            series.response_bytes.merge_into(&mut total.response_bytes);
            total.request_messages += series.request_messages.get();
            total.response_messages += series.response_messages.get();
        }
        let mut family = |name: &str, help, kind, value: &dyn Fn(&Total) -> SampleValue| {
            let samples = totals
                .iter()
                .map(|(labels, total)| Sample {
                    labels: labels.clone(),
                    value: value(total),
                })
                .collect();
            families.push(Family {
                name: name.to_string(),
                help,
                kind,
                samples,
            });
        };
        family(
            "istio_requests_total",
            "Requests",
            FamilyKind::Counter,
            &|total| SampleValue::Number(total.requests),
        );
        let histogram = FamilyKind::Histogram;
        family(
            "istio_request_duration_milliseconds",
            "Time from the request's first byte to the answer's last",
            histogram,
            &|total| SampleValue::Histogram(total.duration_ms.clone()),
        );
        family(
            "istio_request_bytes",
            "Request sizes, head and body",
            histogram,
            &|total| SampleValue::Histogram(total.request_bytes.clone()),
        );
        family(
            "istio_response_bytes",
            "Response sizes, head and body",
            histogram,
            &|total| SampleValue::Histogram(total.response_bytes.clone()),
        );
        let is_grpc = |labels: &[(&str, String)]| {
            labels
                .iter()
                .any(|(name, value)| *name == "request_protocol" && value == "grpc")
        };
        totals.retain(|labels, _| is_grpc(labels));
        let mut messages = |name: &str, help, value: &dyn Fn(&Total) -> u64| {
            let samples = totals.iter().map(|(labels, total)| Sample {
                labels: labels.clone(),
                value: SampleValue::Number(value(total)),
            });
            families.push(Family {
                name: name.to_string(),
                help,
                kind: FamilyKind::Counter,
                samples: samples.collect(),
            });
        };
        messages(
            "istio_request_messages_total",
            "Messages in requests of gRPC",
            &|total| total.request_messages,
        );
        messages(
            "istio_response_messages_total",
            "Messages in answers of gRPC",
            &|total| total.response_messages,
        );
    }

    /// Istio's metrics of connections that are no HTTP.
    fn gather_istio_tcp(&self, families: &mut Vec<Family>) {
        type Figure = fn(&TcpSeries) -> u64;
        let names: [(&str, &str, Figure); 4] = [
            (
                "istio_tcp_connections_opened_total",
                "Connections opened",
                |series| series.opened.get(),
            ),
            (
                "istio_tcp_connections_closed_total",
                "Connections closed",
                |series| series.closed.get(),
            ),
            (
                "istio_tcp_received_bytes_total",
                "Bytes received from clients",
                |series| series.received_bytes.get(),
            ),
            (
                "istio_tcp_sent_bytes_total",
                "Bytes sent to clients",
                |series| series.sent_bytes.get(),
            ),
        ];
        let inner = self.lock();
        for (name, help, value) in names {
            let mut totals: BTreeMap<Vec<(&'static str, String)>, u64> = BTreeMap::new();
            for ((key, _), series) in &inner.tcp_series {
                let mut labels = key.peers.0.clone();
                labels.push(("response_flags", flags_label(key.flags)));
                let total = totals.entry(labels).or_default();
                *total = total.wrapping_add(value(series));
            }
            let samples = totals.into_iter().map(|(labels, total)| Sample {
                labels,
                value: SampleValue::Number(total),
            });
            families.push(Family {
                name: name.to_string(),
                help,
                kind: FamilyKind::Counter,
                samples: samples.collect(),
            });
        }
    }

    /// Envoy's dotted names for `/stats`, sorted.
    pub fn text_stats(&self) -> Vec<(String, StatKind, u64)> {
        let inner = self.lock();
        let mut totals: BTreeMap<String, (StatKind, u64)> = BTreeMap::new();
        let mut add = |name: String, kind: StatKind, n: u64| {
            let (_, total) = totals.entry(name).or_insert((kind, 0));
            *total = total.wrapping_add(n);
        };
        for ((name, _), set) in &inner.listeners {
            set.visit(&mut |stat, kind, _, n| add(format!("http.{name}.{stat}"), kind, n));
        }
        for ((name, _), set) in &inner.clusters {
            let mut add = |stat: &str, kind, n| add(format!("cluster.{name}.{stat}"), kind, n);
            set.visit(&mut |stat, kind, _, n| add(stat, kind, n));
            set.visit_statuses(&mut |stat, n| add(stat, StatKind::Counter, n));
        }
        for ((name, _), set) in &inner.routes {
            set.visit(&mut |stat, kind, _, n| add(format!("{name}.{stat}"), kind, n));
        }
        for set in inner.http2.values() {
            set.visit(&mut |stat, kind, _, n| add(format!("http2.{stat}"), kind, n));
        }
        for ((name, _), set) in &inner.tcp {
            set.visit(&mut |stat, kind, _, n| add(format!("tcp.{name}.{stat}"), kind, n));
        }
        for (id, set) in &inner.workers {
            set.visit(&mut |stat, kind, _, n| add(format!("worker_{id}.{stat}"), kind, n));
        }
        let named = totals.into_iter();
        named.map(|(name, (kind, n))| (name, kind, n)).collect()
    }
}

/// Envoy's two labels in place of `vhost.HOST.route.PREFIX`.
fn name_host_and_route(sample: &mut Sample) {
    if sample.labels.is_empty() {
        return;
    }
    let (_, name) = sample.labels.remove(0);
    let name = name.strip_prefix("vhost.").unwrap_or(&name);
    let (host, route) = name.split_once(".route.").unwrap_or((name, ""));
    let labels = [
        ("envoy_route", route.to_string()),
        ("envoy_virtual_host", host.to_string()),
    ];
    sample.labels.splice(0..0, labels);
}

fn flags_label(flags: ResponseFlags) -> String {
    flags.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::{CallKind, PeerLabels, SeriesKey};
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_scrape_adds_up_the_workers() {
        let registry = Registry::default();
        registry
            .cluster("outbound|80||a", 0)
            .upstream_rq_total
            .add(3);
        registry
            .cluster("outbound|80||a", 1)
            .upstream_rq_total
            .add(4);
        let text = registry.text_stats();
        let name = "cluster.outbound|80||a.upstream_rq_total".to_string();
        assert!(text.contains(&(name, StatKind::Counter, 7)));

        let key = SeriesKey {
            peers: Arc::new(PeerLabels(vec![("reporter", "source".to_string())])),
            response_code: 200,
            flags: ResponseFlags::NONE,
            call: CallKind::Http,
        };
        registry.series(key.clone(), 0).requests.add(1);
        registry.series(key, 1).requests.add(1);
        let families = registry.gather();
        let requests = families
            .iter()
            .find(|f| f.name == "istio_requests_total")
            .unwrap();
        assert_eq!(requests.samples.len(), 1);
        assert!(matches!(requests.samples[0].value, SampleValue::Number(2)));
        assert!(
            requests.samples[0]
                .labels
                .contains(&("response_flags", "-".to_string()))
        );
    }
}
