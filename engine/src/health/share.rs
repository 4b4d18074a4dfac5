//! One worker's share of a cluster: what its requests hold while they use it.
//!
//! All of it goes by `Rc`, since an `Arc` would be one word that every request of every worker
//! writes.

use super::cluster::ClusterHealth;
use super::endpoint::EndpointHealth;
use super::quota::Token;
use crate::rt;
use crate::stats::{ClusterStats, EndpointStats, WorkerId};
use ringroad_policy::health::TryOutcome;
use ringroad_policy::snapshot::{Cluster, EndpointAddress, OutlierDetection};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// A cluster, for one worker.
#[derive(Debug)]
pub struct ClusterShare {
    pub cluster: Arc<ClusterHealth>,
    worker: WorkerId,
    pub stats: Arc<ClusterStats>,
    clock_origin: Instant,
}

/// An endpoint, for one worker.
#[derive(Debug)]
pub struct EndpointShare {
    pub cluster: Rc<ClusterShare>,
    pub health: Arc<EndpointHealth>,
    pub figures: Arc<EndpointStats>,
    /// What the other workers have on it, each its own.
    elsewhere: RefCell<Vec<Arc<EndpointStats>>>,
}

impl ClusterShare {
    pub(super) fn new(
        cluster: Arc<ClusterHealth>,
        worker: WorkerId,
        stats: Arc<ClusterStats>,
        clock_origin: Instant,
    ) -> Self {
        Self {
            cluster,
            worker,
            stats,
            clock_origin,
        }
    }

    /// Takes limits, rules and endpoints from a newer snapshot, unless another worker has.
    pub fn adopt(&self, cluster: &Cluster, generation: u64) {
        self.cluster.adopt(cluster, generation, self.now_ms());
    }

    fn now_ms(&self) -> u64 {
        let elapsed = rt::now().saturating_duration_since(self.clock_origin);
        elapsed.as_millis() as u64
    }

    /// This worker's share of an endpoint.
    pub fn endpoint(self: &Rc<Self>, address: &EndpointAddress) -> Rc<EndpointShare> {
        let health = self.cluster.endpoint(address);
        let figures = health.figures_of(self.worker);
        Rc::new(EndpointShare {
            cluster: self.clone(),
            health,
            figures,
            elsewhere: RefCell::default(),
        })
    }

    /// A place among the requests that wait for a connection; `None` is an overflow, and counted.
    pub fn wait_for_connection(self: &Rc<Self>) -> Option<PendingRequest> {
        if !self.cluster.pending.try_acquire() {
            self.stats.upstream_rq_pending_overflow.add(1);
            return None;
        }
        self.stats.upstream_rq_pending_total.add(1);
        self.stats.upstream_rq_pending_active.add(1);
        Some(PendingRequest(self.clone()))
    }

    /// A place among the retries; `None` is an overflow, and counted.
    pub fn admit_retry(self: &Rc<Self>) -> Option<RetryPermit> {
        if !self.cluster.try_acquire_retry() {
            self.stats.upstream_rq_retry_overflow.add(1);
            return None;
        }
        Some(RetryPermit(self.clone()))
    }
}

impl EndpointShare {
    /// Requests that other workers have in flight. Reads one word of each; locks only when another
    /// worker has met the endpoint since.
    #[inline]
    pub fn active_elsewhere(&self) -> u32 {
        let workers = self.health.workers();
        if workers == 1 {
            return 0;
        }
        let mut elsewhere = self.elsewhere.borrow_mut();
        if elsewhere.len() + 1 != workers {
            *elsewhere = self.health.figures_of_others(self.cluster.worker);
        }
        let active = elsewhere.iter().map(|figures| figures.rq_active.get());
        active.sum::<u64>() as u32
    }

    /// Notes how a try on this endpoint ended; may eject it.
    #[inline]
    pub fn note(&self, outcome: TryOutcome, rules: &OutlierDetection) {
        let triggered = self.health.note(outcome, rules);
        if !triggered.is_empty() {
            let now_ms = self.cluster.now_ms();
            for cause in triggered.iter() {
                self.cluster.cluster.judge(&self.health, cause, now_ms);
            }
        }
    }

    /// Room for one more connection; `None` when the limit is reached. Above the limit a worker
    /// gets one connection to each endpoint that is chosen, as in Envoy: else its requests would
    /// wait for connections that other workers keep.
    pub fn open_connection(self: &Rc<Self>) -> Option<ConnectionSlot> {
        let limit = &self.cluster.cluster.connections;
        if !limit.try_acquire() {
            self.cluster.stats.upstream_cx_overflow.add(1);
            if self.figures.cx_active.get() > 0 {
                return None;
            }
            limit.acquire_anyway();
        }
        self.cluster.stats.upstream_cx_active.add(1);
        self.cluster.stats.upstream_cx_total.add(1);
        self.figures.cx_active.add(1);
        self.figures.cx_total.add(1);
        Some(ConnectionSlot {
            endpoint: self.clone(),
            ended_by_peer: false,
        })
    }

    /// A place among the active requests; `None` is an overflow, and counted.
    #[inline]
    pub fn admit_request(self: &Rc<Self>) -> Option<InFlight> {
        let cluster = &self.cluster;
        let Some(token) = cluster.cluster.requests.acquire(cluster.worker) else {
            cluster.stats.upstream_rq_active_overflow.add(1);
            return None;
        };
        cluster.stats.upstream_rq_active.add(1);
        self.figures.rq_active.add(1);
        self.figures.rq_total.add(1);
        Some(InFlight {
            endpoint: self.clone(),
            token,
        })
    }
}

/// A connection that is open or being opened, counted until this is dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    endpoint: Rc<EndpointShare>,
    ended_by_peer: bool,
}

impl ConnectionSlot {
    /// It is the upstream that has ended the connection, or refused it.
    pub fn note_end_by_peer(&mut self) {
        self.ended_by_peer = true;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let cluster = &self.endpoint.cluster;
        self.endpoint.figures.cx_active.sub(1);
        cluster.stats.upstream_cx_active.sub(1);
        match self.ended_by_peer {
            true => cluster.stats.upstream_cx_destroy_remote.add(1),
            false => cluster.stats.upstream_cx_destroy_local.add(1),
        }
        cluster.cluster.connections.release();
    }
}

/// A request that waits for a connection, counted until this is dropped.
#[derive(Debug)]
pub struct PendingRequest(Rc<ClusterShare>);

impl Drop for PendingRequest {
    fn drop(&mut self) {
        self.0.stats.upstream_rq_pending_active.sub(1);
        self.0.cluster.pending.release();
    }
}

/// A request on a connection, counted until this is dropped.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Rc<EndpointShare>,
    token: Token,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let cluster = &self.endpoint.cluster;
        self.endpoint.figures.rq_active.sub(1);
        cluster.stats.upstream_rq_active.sub(1);
        cluster.cluster.requests.release(cluster.worker, self.token);
    }
}

/// A retry that waits or is under way, counted until this is dropped.
#[derive(Debug)]
pub struct RetryPermit(Rc<ClusterShare>);

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.0.cluster.retries.release();
    }
}
