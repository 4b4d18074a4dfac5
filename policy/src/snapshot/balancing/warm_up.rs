//! Endpoints that have just come get their share little by little.

use crate::snapshot::{Cluster, Snapshot};
use std::sync::Arc;

/// Istio: `loadBalancer.warmup` and `warmupDurationSecs`; Envoy's slow start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WarmUp {
    /// How long after its arrival an endpoint has its whole share.
    pub duration_ms: u64,
    /// The part of its weight that it has at least, from 0 to 1. Istio: `minimumPercent`, 10 %.
    pub least: f64,
    /// Above 1 the weight grows fast at first, below 1 it does at last; 1 is linear.
    pub aggression: f64,
}

impl WarmUp {
    /// The part of its weight that an endpoint has this long after its arrival, from 0 to 1.
    pub fn factor(&self, age_ms: u64) -> f64 {
        if age_ms >= self.duration_ms {
            return 1.0;
        }
        let passed = age_ms.max(1) as f64 / self.duration_ms as f64;
        let grown = passed.powf(1.0 / self.aggression);
        // A weight of 0 would never come to its turn.
        grown.max(self.least).clamp(f64::MIN_POSITIVE, 1.0)
    }
}

/// When an endpoint arrived that was there before anybody noted it.
const LONG_AGO: u64 = 0;

impl Snapshot {
    /// Notes when endpoints of clusters that warm up arrived: `now_ms` for those that `before`,
    /// the snapshot in use, did not have. The clock is the caller's; it is the one that
    /// [`PickRequest::now_ms`](crate::snapshot::PickRequest) goes by.
    pub fn note_arrivals(&mut self, before: Option<&Snapshot>, now_ms: u64) {
        for cluster in &mut self.clusters {
            let is_noted = cluster.arrived_ms.len() == cluster.endpoints.len();
            if cluster.warm_up.is_none() || is_noted {
                continue;
            }
            let known = before.and_then(|before| before.cluster_named(&cluster.name));
            let arrived_ms = cluster.endpoints.iter().map(|endpoint| {
                let known = known?;
                let mut endpoints = known.endpoints.iter();
                let at = endpoints.position(|old| old.address == endpoint.address)?;
                Some(known.arrived_ms.get(at).copied().unwrap_or(LONG_AGO))
            });
            let arrived_ms = arrived_ms.map(|known| known.unwrap_or(now_ms.max(1)));
            let arrived_ms = arrived_ms.collect();
            Arc::make_mut(cluster).arrived_ms = arrived_ms;
        }
    }
}

impl Cluster {
    /// The part of its weight that an endpoint has at `now_ms`.
    pub(super) fn warmth(&self, endpoint: u32, now_ms: u64) -> f64 {
        let arrived_ms = self.arrived_ms.get(endpoint as usize);
        match (&self.warm_up, arrived_ms) {
            (Some(warm_up), Some(arrived_ms)) if *arrived_ms != LONG_AGO => {
                warm_up.factor(now_ms.saturating_sub(*arrived_ms))
            }
            _ => 1.0,
        }
    }

    /// When the last of the endpoints has its whole weight; 0 when all have.
    pub(super) fn warm_from_ms(&self) -> u64 {
        let latest = self.arrived_ms.iter().max();
        match (&self.warm_up, latest) {
            (Some(warm_up), Some(latest)) if *latest != LONG_AGO => {
                latest.saturating_add(warm_up.duration_ms)
            }
            _ => 0,
        }
    }
}
