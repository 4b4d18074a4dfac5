//! The clusters that requests have used, by name.

use super::cluster::ClusterHealth;
use super::share::ClusterShare;
use crate::stats::{ClusterStats, WorkerId};
use ringroad_policy::snapshot::{Cluster, Snapshot};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Every cluster that some worker has used. The control thread sweeps it.
#[derive(Debug)]
pub struct HealthRegistry {
    workers: usize,
    /// Where the clock that the policies see starts.
    origin: Instant,
    clusters: Mutex<HashMap<String, Arc<ClusterHealth>>>,
    alarm: Arc<Alarm>,
}

/// Tells the control thread that something is due earlier than it thinks.
#[derive(Default)]
pub struct Alarm(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl Alarm {
    pub(super) fn ring(&self) {
        if let Some(ring) = self.0.get() {
            ring();
        }
    }
}

impl std::fmt::Debug for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alarm")
    }
}

impl HealthRegistry {
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            origin: Instant::now(),
            clusters: Mutex::default(),
            alarm: Arc::default(),
        }
    }

    /// Calls `ring`, on any thread, when [`sweep`](Self::sweep) is due earlier than it has said.
    /// Only the first call counts.
    pub fn on_alarm(&self, ring: impl Fn() + Send + Sync + 'static) {
        let _ = self.alarm.0.set(Box::new(ring));
    }

    /// A worker's share of a cluster, as the snapshot of this generation has it.
    pub fn share(
        &self,
        cluster: &Cluster,
        generation: u64,
        worker: WorkerId,
        stats: Arc<ClusterStats>,
    ) -> Rc<ClusterShare> {
        let now_ms = self.ms_at(Instant::now());
        let mut clusters = self.lock();
        let health = match clusters.get(&cluster.name) {
            Some(known) => known.clone(),
            None => {
                let new = ClusterHealth::new(
                    cluster,
                    generation,
                    self.workers,
                    self.alarm.clone(),
                    now_ms,
                );
                let new = Arc::new(new);
                clusters.insert(cluster.name.clone(), new.clone());
                new
            }
        };
        drop(clusters);
        health.adopt(cluster, generation, now_ms);
        health.add_worker(stats.clone());
        Rc::new(ClusterShare::new(health, worker, stats, self.origin))
    }

    /// Forgets clusters that `snapshot` does not have and no worker uses any more.
    pub fn prune(&self, snapshot: &Snapshot) {
        let names: std::collections::HashSet<&str> = snapshot
            .clusters
            .iter()
            .map(|cluster| cluster.name.as_str())
            .collect();
        self.lock()
            .retain(|name, health| names.contains(name.as_str()) || Arc::strong_count(health) > 1);
    }

    /// The cluster of a name, if requests have used it.
    pub fn find(&self, name: &str) -> Option<Arc<ClusterHealth>> {
        self.lock().get(name).cloned()
    }

    /// All of them, by name.
    pub fn clusters(&self) -> Vec<Arc<ClusterHealth>> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Does what is due now and tells when to come again; `None` is when the alarm rings.
    pub fn sweep(&self) -> Option<Instant> {
        let now_ms = self.ms_at(Instant::now());
        let mut next_ms = u64::MAX;
        for cluster in self.lock().values() {
            if cluster.due_ms() <= now_ms {
                cluster.sweep(now_ms);
            }
            next_ms = next_ms.min(cluster.due_ms());
        }
        (next_ms != u64::MAX).then(|| self.origin + Duration::from_millis(next_ms))
    }

    fn ms_at(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.origin).as_millis() as u64
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<ClusterHealth>>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
