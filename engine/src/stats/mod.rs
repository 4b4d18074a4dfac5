//! Figures: single-writer counters in each worker, merged when somebody asks.
//!
//! A worker registers a set of counters once, when it first meets a listener, cluster or series,
//! and keeps the `Arc`; nothing here is touched by a request after that.

mod counter;
mod flags;
mod gather;
mod series;
mod sets;
mod statuses;

pub use counter::{Counter, HistogramTotal};
pub use flags::ResponseFlags;
pub use gather::{Family, FamilyKind, Sample, SampleValue, Totals};
pub use series::{
    CallKind, PeerLabels, Principals, Series, SeriesKey, SeriesList, TcpSeries, TcpSeriesKey,
};
pub use sets::{
    ClusterStats, EndpointStats, Http2Stats, ListenerStats, OutlierStats, RouteStats, StatKind,
    TcpStats, VisitStat, WorkerStats,
};

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Number of a worker, counted from 0.
pub type WorkerId = usize;

/// All sets that workers have registered. Sets stay when their cluster goes, since a counter that
/// falls back to zero and returns would look like a restart.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    listeners: BTreeMap<(String, WorkerId), Arc<ListenerStats>>,
    clusters: BTreeMap<(String, WorkerId), Arc<ClusterStats>>,
    /// By the name that a route is counted under.
    routes: BTreeMap<(Arc<str>, WorkerId), Arc<RouteStats>>,
    http2: BTreeMap<WorkerId, Arc<Http2Stats>>,
    tcp: BTreeMap<(String, WorkerId), Arc<TcpStats>>,
    workers: BTreeMap<WorkerId, Arc<WorkerStats>>,
    series: HashMap<(SeriesKey, WorkerId), Arc<Series>>,
    tcp_series: HashMap<(TcpSeriesKey, WorkerId), Arc<TcpSeries>>,
}

impl Registry {
    pub fn listener(&self, name: &str, worker: WorkerId) -> Arc<ListenerStats> {
        self.lock()
            .listeners
            .entry((name.to_string(), worker))
            .or_default()
            .clone()
    }

    pub fn cluster(&self, name: &str, worker: WorkerId) -> Arc<ClusterStats> {
        self.lock()
            .clusters
            .entry((name.to_string(), worker))
            .or_default()
            .clone()
    }

    /// The figures of routes that are counted under `name`, `vhost.HOST.route.PREFIX`.
    pub fn route(&self, name: &Arc<str>, worker: WorkerId) -> Arc<RouteStats> {
        let key = (name.clone(), worker);
        self.lock().routes.entry(key).or_default().clone()
    }

    pub fn http2(&self, worker: WorkerId) -> Arc<Http2Stats> {
        self.lock().http2.entry(worker).or_default().clone()
    }

    /// The figures of the connections whose bytes go to the cluster of this name.
    pub fn tcp(&self, cluster: &str, worker: WorkerId) -> Arc<TcpStats> {
        let mut inner = self.lock();
        let known = inner.tcp.entry((cluster.to_string(), worker));
        known.or_default().clone()
    }

    pub fn tcp_series(&self, key: TcpSeriesKey, worker: WorkerId) -> Arc<TcpSeries> {
        let mut inner = self.lock();
        inner.tcp_series.entry((key, worker)).or_default().clone()
    }

    pub fn worker(&self, worker: WorkerId) -> Arc<WorkerStats> {
        self.lock().workers.entry(worker).or_default().clone()
    }

    pub fn series(&self, key: SeriesKey, worker: WorkerId) -> Arc<Series> {
        self.lock().series.entry((key, worker)).or_default().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
