//! How many endpoints the clusters have, used or not, and how many of them are not ejected.

use std::collections::HashMap;

use super::AdminState;
use crate::stats::{Family, StatKind, Totals};

/// Calls `visit` with cluster, figure, its meaning and its value. Names are Envoy's.
pub fn visit(state: &AdminState, visit: &mut dyn FnMut(&str, &'static str, &'static str, u64)) {
    let used = state.health.clusters();
    let ejected: HashMap<&str, usize> = used
        .iter()
        .map(|cluster| (cluster.name.as_str(), cluster.ejected()))
        .collect();
    for cluster in &state.status.running().snapshot.clusters {
        let (name, total) = (cluster.name.as_str(), cluster.endpoints.len());
        let out = ejected.get(name).copied().unwrap_or(0);
        visit(name, "membership_total", "Endpoints", total as u64);
        let healthy = total.saturating_sub(out) as u64;
        let help = "Endpoints that are not ejected";
        visit(name, "membership_healthy", help, healthy);
    }
}

/// The same for Prometheus.
pub fn families(state: &AdminState) -> Vec<Family> {
    let mut totals = Totals::default();
    visit(state, &mut |cluster, stat, help, n| {
        totals.add(cluster, stat, StatKind::Gauge, help, n);
    });
    let mut out = Vec::new();
    totals.families("envoy_cluster_", "cluster_name", &mut out);
    out
}
