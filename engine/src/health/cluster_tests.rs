use super::*;
use crate::health::HealthRegistry;
use crate::health::share::ClusterShare;
use ringroad_policy::health::TryOutcome;
use ringroad_policy::snapshot::{DnsTable, Endpoint, Snapshot};
use std::sync::atomic::AtomicU32;
use std::time::Instant;

fn rules() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: Some(2),
        consecutive_gateway_errors: None,
        watched_gateway_errors: Some(5),
        consecutive_local_origin_failures: None,
        split_local_origin_errors: false,
        error_codes: Vec::new(),
        interval_ms: 1_000,
        base_ejection_time_ms: 2_500,
        max_ejection_percent: 100,
    }
}

fn address(last: u8) -> EndpointAddress {
    EndpointAddress::Socket(([192, 0, 2, last], 80).into())
}

fn cluster(endpoints: &[u8]) -> Cluster {
    let mut cluster = Cluster::new("outbound|80||a.test".to_string());
    let each = endpoints.iter().map(|last| Endpoint::at(address(*last)));
    cluster.set_endpoints(each.collect());
    cluster.outlier_detection = Some(rules());
    cluster
}

fn health(endpoints: &[u8]) -> ClusterHealth {
    ClusterHealth::new(&cluster(endpoints), 1, 2, Arc::default(), 100)
}

/// Fails until the endpoint is judged.
fn fail(health: &ClusterHealth, endpoint: &EndpointHealth, now_ms: u64) {
    for _ in 0..2 {
        for cause in endpoint.note(TryOutcome::Reset, &rules()).iter() {
            health.judge(endpoint, cause, now_ms);
        }
    }
}

#[test]
fn an_ejection_ends_with_the_first_sweep_after_its_time() {
    let health = health(&[1, 2]);
    let endpoint = health.endpoint(&address(1));
    assert_eq!(health.due_ms(), NEVER);
    fail(&health, &endpoint, 1_300);
    assert!(endpoint.is_ejected() && health.has_ejected());
    // Sweeps fall on whole intervals after 100 ms.
    let mut swept_ms = Vec::new();
    while endpoint.is_ejected() {
        let due_ms = health.due_ms();
        health.sweep(due_ms);
        swept_ms.push(due_ms);
    }
    assert_eq!(swept_ms, [2_100, 3_100, 4_100]);
    assert!(!health.has_ejected());
    assert_eq!(endpoint.ejections(), 1);
    // One more, which takes the longer time back that a next ejection would have had.
    health.sweep(health.due_ms());
    assert_eq!(health.due_ms(), NEVER);
}

#[test]
fn what_is_due_earlier_rings_the_alarm_once() {
    let registry = HealthRegistry::new(1);
    let rings = Arc::new(AtomicU32::new(0));
    let counted = rings.clone();
    registry.on_alarm(move || {
        counted.fetch_add(1, Relaxed);
    });
    let share = registry.share(&cluster(&[1, 2]), 1, 0, Arc::default());
    assert_eq!(registry.sweep(), None);
    for last in [1, 2] {
        let endpoint = share.cluster.endpoint(&address(last));
        fail(&share.cluster, &endpoint, 10);
    }
    assert_eq!(rings.load(Relaxed), 1);
    assert!(registry.sweep().is_some());
}

#[test]
fn the_newest_snapshot_counts_whoever_brings_it() {
    let health = health(&[1, 2]);
    let kept = health.endpoint(&address(1));
    let leaving = health.endpoint(&address(2));
    fail(&health, &kept, 200);
    fail(&health, &leaving, 200);
    health.adopt(&cluster(&[3, 1]), 3, 300);
    // A worker that is behind changes nothing.
    health.adopt(&cluster(&[1, 2]), 2, 300);
    assert!(kept.is_ejected());
    assert!(!leaving.is_ejected(), "it is no member any more");
    fail(&health, &leaving, 400);
    assert!(!leaving.is_ejected(), "nobody judges who is no member");
    // Coming back it is the same record for those who have kept it, and counts from new.
    health.adopt(&cluster(&[2, 3, 1]), 4, 500);
    assert!(Arc::ptr_eq(&leaving, &health.endpoint(&address(2))));
    assert!(Arc::ptr_eq(&kept, &health.endpoint(&address(1))));
    let version = health.availability_version();
    fail(&health, &leaving, 600);
    assert!(leaving.is_ejected());
    assert_ne!(health.availability_version(), version);
    // Without rules nobody is out.
    let mut free = cluster(&[2, 3, 1]);
    free.outlier_detection = None;
    health.adopt(&free, 5, 700);
    assert!(!leaving.is_ejected() && !kept.is_ejected() && !health.has_ejected());
    assert_eq!(health.due_ms(), NEVER);
}

#[test]
fn a_cluster_is_forgotten_when_no_snapshot_and_no_worker_has_it() {
    let registry = HealthRegistry::new(1);
    let share = registry.share(&cluster(&[1]), 1, 0, Arc::default());
    let without = Snapshot::new(
        Arc::default(),
        Vec::new(),
        Vec::new(),
        Vec::new(),
        &DnsTable::default(),
    );
    let name = share.cluster.name.clone();
    registry.prune(&without);
    assert!(registry.find(&name).is_some(), "a worker has it");
    drop(share);
    registry.prune(&without);
    assert!(registry.find(&name).is_none());
}

#[test]
fn a_worker_sees_what_the_others_have_in_flight() {
    let health = ClusterHealth::new(&cluster(&[1]), 1, 3, Arc::default(), 100);
    let health = Arc::new(health);
    let share = |worker| {
        let share = ClusterShare::new(health.clone(), worker, Arc::default(), Instant::now());
        std::rc::Rc::new(share).endpoint(&address(1))
    };
    let (one, other) = (share(0), share(1));
    assert_eq!((one.active_elsewhere(), other.active_elsewhere()), (0, 0));
    let held = [one.admit_request(), one.admit_request()];
    assert_eq!((one.active_elsewhere(), other.active_elsewhere()), (0, 2));
    // One that comes later counts, and is counted.
    let third = share(2);
    let more = third.admit_request();
    assert_eq!((one.active_elsewhere(), third.active_elsewhere()), (1, 2));
    drop(held);
    assert_eq!(other.active_elsewhere(), 1);
    drop(more);
    assert_eq!(other.active_elsewhere(), 0);
}
