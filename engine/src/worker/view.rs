//! A snapshot as one worker uses it.

use super::Worker;
use crate::proxy::upstream::ClusterView;
use ringroad_policy::snapshot::{Cluster, ClusterId, Destination, Route, Snapshot, SplitState};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// The snapshot in use and what this worker keeps beside it. A request holds one view from its
/// head to its end, so a reload never changes the rules under it.
pub struct SnapshotView {
    pub generation: u64,
    pub snapshot: Arc<Snapshot>,
    /// The generation since which nothing that was in use has got other labels in the metrics.
    pub labels_since: u64,
    /// By cluster; filled when a request first needs the cluster.
    clusters: Box<[OnceCell<Rc<ClusterView>>]>,
    /// Where this worker is in each weighted split.
    splits: RefCell<SplitState>,
}

impl SnapshotView {
    /// A view of `snapshot` that takes over pools and counts from `before`.
    pub fn new(generation: u64, snapshot: Arc<Snapshot>, before: Option<&Self>) -> Self {
        let clusters: Box<[OnceCell<Rc<ClusterView>>]> =
            snapshot.clusters.iter().map(|_| OnceCell::new()).collect();
        let splits = match before {
            Some(before) => before.splits.take().adopt(&before.snapshot, &snapshot),
            None => SplitState::new(&snapshot),
        };
        let labels_stay = before.is_some_and(|before| before.has_labels_of(&snapshot));
        let view = Self {
            generation,
            labels_since: match before {
                Some(before) if labels_stay => before.labels_since,
                _ => generation,
            },
            splits: RefCell::new(splits),
            clusters,
            snapshot,
        };
        if let Some(before) = before {
            view.adopt(before);
        }
        view
    }

    /// Whether what is in use goes by the same labels in `next`, as far as it is still there.
    fn has_labels_of(&self, next: &Snapshot) -> bool {
        let (ours, theirs) = (&self.snapshot.settings, &next.settings);
        if (&ours.workload, &ours.namespace) != (&theirs.workload, &theirs.namespace) {
            return false;
        }
        let mut used: HashMap<&str, &Cluster> = HashMap::new();
        used.extend(self.used_clusters().map(|view| {
            let cluster = &*view.cluster;
            (cluster.name.as_str(), cluster)
        }));
        next.clusters.iter().all(|cluster| {
            let known = used.get(cluster.name.as_str());
            known.is_none_or(|known| {
                std::ptr::eq(*known, &**cluster) || are_told_alike(known, cluster)
            })
        })
    }

    /// Clusters in use before and still there keep their endpoints' pools and counts.
    fn adopt(&self, before: &Self) {
        let used: HashMap<&str, &Rc<ClusterView>> = before
            .clusters
            .iter()
            .filter_map(OnceCell::get)
            .map(|view| (view.cluster.name.as_str(), view))
            .collect();
        if used.is_empty() {
            return;
        }
        for (cluster, slot) in self.snapshot.clusters.iter().zip(&self.clusters) {
            let Some(known) = used.get(cluster.name.as_str()) else {
                continue;
            };
            let view = if Arc::ptr_eq(cluster, &known.cluster) {
                (*known).clone()
            } else {
                known.share.adopt(cluster, self.generation);
                Rc::new(ClusterView::new(
                    cluster.clone(),
                    known.share.clone(),
                    Some(known),
                ))
            };
            let _ = slot.set(view);
        }
    }

    /// The cluster, with this worker's pools.
    pub fn cluster(&self, worker: &Worker, id: ClusterId) -> &Rc<ClusterView> {
        self.clusters[id.0 as usize].get_or_init(|| {
            let cluster = self.snapshot.clusters[id.0 as usize].clone();
            let stats = worker.registry.cluster(&cluster.name, worker.id);
            let health = &worker.fleet.health;
            let share = health.share(&cluster, self.generation, worker.id, stats);
            Rc::new(ClusterView::new(cluster, share, None))
        })
    }

    /// Clusters that requests have used.
    pub fn used_clusters(&self) -> impl Iterator<Item = &Rc<ClusterView>> {
        self.clusters.iter().filter_map(OnceCell::get)
    }

    /// The destination of the next request on `route`.
    pub fn pick_destination<'r>(&self, worker: &Worker, route: &'r Route) -> &'r Destination {
        let destinations = route.destinations();
        let at = match destinations.len() {
            1 => 0,
            _ => {
                let mut splits = self.splits.borrow_mut();
                route.pick_destination(&mut splits, &mut worker.random.borrow_mut())
            }
        };
        &destinations[at]
    }
}

/// Whether the endpoints that both have go by the same labels.
fn are_told_alike(one: &Cluster, other: &Cluster) -> bool {
    let known: HashMap<_, _> = one
        .endpoints
        .iter()
        .map(|endpoint| (&endpoint.address, &endpoint.workload))
        .collect();
    one.service == other.service
        && other.endpoints.iter().all(|endpoint| {
            let workload = known.get(&endpoint.address);
            workload.is_none_or(|workload| **workload == endpoint.workload)
        })
}
