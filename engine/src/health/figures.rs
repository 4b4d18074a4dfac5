//! Figures of circuit breakers and outlier detection, by Envoy's names.

use super::cluster::ClusterHealth;
use super::registry::HealthRegistry;
use crate::stats::{Family, StatKind, Totals, VisitStat};

impl HealthRegistry {
    /// Envoy's dotted names for `/stats`.
    pub fn text_stats(&self) -> Vec<(String, StatKind, u64)> {
        let mut out = Vec::new();
        for cluster in self.clusters() {
            let name = &cluster.name;
            cluster.visit_breaker_figures(&mut |stat, kind, _, n| {
                let name = format!("cluster.{name}.circuit_breakers.default.{stat}");
                out.push((name, kind, n));
            });
            cluster.visit_outlier_figures(&mut |stat, kind, _, n| {
                out.push((format!("cluster.{name}.outlier_detection.{stat}"), kind, n));
            });
        }
        out
    }

    /// The same for Prometheus.
    pub fn families(&self) -> Vec<Family> {
        let (mut breakers, mut outliers) = (Totals::default(), Totals::default());
        for cluster in self.clusters() {
            let name = &cluster.name;
            cluster.visit_breaker_figures(&mut |stat, kind, help, n| {
                breakers.add(name, stat, kind, help, n);
            });
            cluster.visit_outlier_figures(&mut |stat, kind, help, n| {
                outliers.add(name, stat, kind, help, n);
            });
        }
        let mut out = Vec::new();
        let label = "cluster_name";
        breakers.families("envoy_cluster_circuit_breakers_default_", label, &mut out);
        outliers.families("envoy_cluster_outlier_detection_", label, &mut out);
        out
    }
}

impl ClusterHealth {
    fn visit_breaker_figures(&self, visit: &mut VisitStat<'_>) {
        let (active, _) = self.active_and_pending();
        let requests = if self.requests.is_limited() {
            u64::from(self.requests.used())
        } else {
            active
        };
        let retries = u64::from(self.retries.used());
        let most_retries = self.most_retries();
        // With a budget the number of retries left is none that stays, and Envoy shows 0.
        let retries_left = if self.has_retry_budget() {
            0
        } else {
            most_retries.saturating_sub(retries)
        };
        let open = |used: u64, limit: u64| u64::from(used >= limit);
        let left = |used: u64, limit: u32| u64::from(limit).saturating_sub(used);
        let connections = u64::from(self.connections.used());
        let pending = u64::from(self.pending.used());
        let limits = [
            self.connections.limit(),
            self.pending.limit(),
            self.requests.limit(),
        ];
        let mut gauge = |name, help, n| visit(name, StatKind::Gauge, help, n);
        gauge(
            "cx_open",
            "Whether maxConnections is reached",
            open(connections, limits[0].into()),
        );
        gauge(
            "rq_pending_open",
            "Whether http1MaxPendingRequests is reached",
            open(pending, limits[1].into()),
        );
        gauge(
            "rq_open",
            "Whether http2MaxRequests is reached",
            open(requests, limits[2].into()),
        );
        gauge(
            "rq_retry_open",
            "Whether maxRetries or the retry budget is reached",
            open(retries, most_retries),
        );
        gauge(
            "remaining_cx",
            "Connections left of maxConnections",
            left(connections, limits[0]),
        );
        gauge(
            "remaining_pending",
            "Requests left of http1MaxPendingRequests",
            left(pending, limits[1]),
        );
        gauge(
            "remaining_rq",
            "Requests left of http2MaxRequests",
            left(requests, limits[2]),
        );
        gauge(
            "remaining_retries",
            "Retries left of maxRetries",
            retries_left,
        );
    }
}
