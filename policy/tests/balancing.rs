//! Priorities, places, turns, warm-up: which endpoint a request meets.

#[path = "support/picks.rs"]
mod picks;

use picks::*;
use ringroad_policy::snapshot::EndpointView as _;
use ringroad_policy::snapshot::{
    AllAvailable, Balancer, BalancerState, Cluster, Endpoint, Locality, LocalityOrder,
    LocalityPolicy, LocalityPriorities, PickRequest, Random, WarmUp,
};
use std::collections::HashSet;

/// Endpoints in these places, one each.
fn in_places(places: &[&str]) -> Vec<Endpoint> {
    let each = places.iter().enumerate();
    let placed = each.map(|(at, place)| Endpoint {
        locality: place.to_string(),
        ..endpoint(([10, 1, 0, at as u8], 80).into())
    });
    placed.collect()
}

fn with_locality(policy: LocalityPolicy, endpoints: Vec<Endpoint>) -> Cluster {
    let mut cluster = Cluster::new("c".to_string());
    cluster.balancer = Balancer::RoundRobin;
    cluster.locality = policy;
    cluster.set_endpoints(endpoints);
    cluster
}

fn near(place: &str) -> LocalityPolicy {
    LocalityPolicy {
        order: LocalityOrder::Priorities(LocalityPriorities {
            own_place: Some(Locality::parse(place)),
            by_region: false,
            ..LocalityPriorities::default()
        }),
        is_weighted: false,
        ..LocalityPolicy::default()
    }
}

#[test]
fn nearer_places_come_first_and_priorities_have_no_gaps() {
    let places = ["b/z/s", "a/z/s", "a/y/s", "a/z/t", "", "a/z"];
    let cluster = with_locality(near("a/z/s"), in_places(&places));
    let priorities: Vec<_> = (0..places.len())
        .map(|at| cluster.priority_of(at))
        .collect();
    assert_eq!(priorities, [3, 0, 2, 1, 3, 1].map(Some));
    let far = with_locality(near("c/z/s"), in_places(&places));
    assert_eq!(far.priorities().count(), 1);
    let next_region = LocalityPolicy {
        order: LocalityOrder::Priorities(LocalityPriorities {
            own_place: Some(Locality::parse("c")),
            by_region: false,
            next_region: Some("a".to_string()),
            ..LocalityPriorities::default()
        }),
        is_weighted: true,
        ..LocalityPolicy::default()
    };
    let failing_over = with_locality(next_region, in_places(&places));
    let priorities: Vec<_> = (0..places.len())
        .map(|at| failing_over.priority_of(at))
        .collect();
    assert_eq!(priorities, [1, 0, 0, 0, 1, 0].map(Some));
}

#[test]
fn labels_order_before_places_and_the_first_that_differs_counts() {
    let labelled = |at: u8, labels: &[(&str, &str)], place: &str| Endpoint {
        labels: labels
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect(),
        locality: place.to_string(),
        ..endpoint(([10, 2, 0, at], 80).into())
    };
    let endpoints = vec![
        labelled(0, &[("version", "v2")], "r/z"),
        labelled(1, &[("version", "v1")], "q/z"),
        labelled(2, &[("version", "v1")], "r/z"),
        labelled(3, &[], "r/z"),
    ];
    let near = |label: &str, value: &str| (label.to_string(), value.to_string());
    let policy = LocalityPolicy {
        order: LocalityOrder::Priorities(LocalityPriorities {
            labels: vec![
                near("version", "v1"),
                near("topology.kubernetes.io/region", "r"),
            ],
            ..LocalityPriorities::default()
        }),
        is_weighted: true,
        ..LocalityPolicy::default()
    };
    let cluster = with_locality(policy, endpoints);
    let priorities: Vec<_> = (0..4).map(|at| cluster.priority_of(at)).collect();
    assert_eq!(priorities, [2, 1, 0, 2].map(Some));
}

#[test]
fn requests_spill_over_in_the_measure_in_which_nearer_endpoints_fail() {
    // 100 near ones and 100 far ones: Envoy's table of priority loads.
    let places: Vec<&str> = (0..200)
        .map(|at| if at < 100 { "a" } else { "b" })
        .collect();
    let cluster = with_locality(near("a"), in_places(&places));
    for (available, near_percent) in [(100, 100), (72, 100), (71, 99), (50, 70), (25, 35), (0, 0)] {
        let counts = counts(&cluster, &without(available..100), PickRequest::default());
        let to_near: usize = counts[..100].iter().sum();
        assert!(
            to_near.abs_diff(near_percent * 100) < 150,
            "{available}: {to_near}"
        );
        let all: usize = counts.iter().sum();
        assert_eq!(all, 10_000);
        if near_percent == 100 || near_percent == 0 {
            assert_eq!(to_near, near_percent * 100);
        }
    }
}

#[test]
fn few_available_endpoints_count_as_all_only_when_nobody_else_has_room() {
    let places: Vec<&str> = (0..20).map(|at| if at < 10 { "a" } else { "b" }).collect();
    let mut cluster = with_locality(near("a"), in_places(&places));
    cluster.panic_threshold_percent = 50;
    // The far ones carry what the near ones cannot: no panic.
    let counts_of = |cluster: &Cluster, view: &View| counts(cluster, view, PickRequest::default());
    let spilled = counts_of(&cluster, &without(2..10));
    assert_eq!(spilled[2..10].iter().sum::<usize>(), 0);
    // 20 % and 30 % available: both are in panic, and all endpoints count alike.
    let panicking = counts_of(&cluster, &without((2..10).chain(13..20)));
    assert!(
        panicking.iter().all(|count| count.abs_diff(500) < 120),
        "{panicking:?}"
    );
    // All out is a panic too; without a threshold it is nobody.
    assert_eq!(
        counts_of(&cluster, &without(0..20)).iter().sum::<usize>(),
        10_000
    );
    cluster.panic_threshold_percent = 0;
    assert_eq!(
        counts_of(&cluster, &without(0..20)).iter().sum::<usize>(),
        0
    );
}

#[test]
fn shares_of_places_are_kept_and_other_places_get_nothing() {
    let shares = [("a/*", 70), ("b/z", 30)].map(|(place, share)| (place.to_string(), share));
    let policy = LocalityPolicy {
        order: LocalityOrder::Shares(shares.to_vec()),
        is_weighted: true,
        ..LocalityPolicy::default()
    };
    let places = ["a/z", "a/y", "a/y", "b/z", "b/y", "c"];
    let cluster = with_locality(policy, in_places(&places));
    let counts_of = |view: &View| counts(&cluster, view, PickRequest::default());
    // 70 is split by weights into 24 and 47, rounded up as Istio does.
    let all = counts_of(&View::default());
    let part = |weight: usize| weight * 10_000 / (24 + 47 + 30);
    let expected = [part(24), part(47) / 2, part(47) / 2, part(30), 0, 0];
    for (count, expected) in all.iter().zip(expected) {
        assert!(count.abs_diff(expected) < 30, "{all:?}");
    }
    // Half of a/y out: 140 % of half of its weight stays.
    let half = counts_of(&without([1]));
    let weights = 24.0 + 47.0 * 0.7 + 30.0;
    let expected = (47.0 * 0.7 / weights * 10_000.0) as usize;
    assert!(half[2].abs_diff(expected) < 30, "{half:?}");
    assert_eq!(half[1], 0);
    assert_eq!(cluster.priority_of(5), None);
}

#[test]
fn retries_leave_priorities_after_two_tries_if_they_are_to() {
    let places: Vec<&str> = (0..6).map(|at| ["a", "b", "c"][at / 2]).collect();
    let policy = LocalityPolicy {
        order: LocalityOrder::Priorities(LocalityPriorities {
            own_place: Some(Locality::parse("a")),
            by_region: false,
            next_region: Some("b".to_string()),
            ..LocalityPriorities::default()
        }),
        is_weighted: true,
        ..LocalityPolicy::default()
    };
    let cluster = with_locality(policy, in_places(&places));
    let levels = |tried: &[usize], prefers_other_priorities| {
        let request = PickRequest {
            tried,
            avoids_tried: true,
            prefers_other_priorities,
            ..PickRequest::default()
        };
        let counts = counts(&cluster, &AllAvailable, request);
        let used = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        used.map(|(at, _)| at / 2).collect::<HashSet<_>>()
    };
    assert_eq!(levels(&[0], true), HashSet::from([0]));
    assert_eq!(levels(&[0, 1], false), HashSet::from([0]));
    assert_eq!(levels(&[0, 1], true), HashSet::from([1]));
    assert_eq!(levels(&[0, 1, 2], true), HashSet::from([1]));
    assert_eq!(levels(&[0, 1, 2, 3], true), HashSet::from([2]));
    // All have been met: the same again.
    let all = [0, 1, 2, 3, 4, 5, 0, 1, 2];
    assert_eq!(levels(&all[..6], true), HashSet::from([0]));
    assert_eq!(levels(&all[..7], true), HashSet::from([0]));
    assert_eq!(levels(&all[..8], true), HashSet::from([1]));
    assert_eq!(levels(&all[..9], true), HashSet::from([1]));
}

#[test]
fn a_change_of_availability_is_seen_with_its_version() {
    let endpoints = (0..3).map(|at| endpoint(([10, 0, 0, at], 80).into()));
    let cluster = cluster(Balancer::RoundRobin, endpoints.collect());
    let mut state = BalancerState::default();
    let mut random = Random::new(1);
    let mut view = View::default();
    let mut used = |view: &View| {
        let mut pick =
            || cluster.pick_endpoint(&mut state, view, &mut random, &PickRequest::default());
        (0..30).filter_map(|_| pick()).collect::<HashSet<_>>()
    };
    assert_eq!(used(&view).len(), 3);
    view.out.insert(1);
    view.version += 1;
    assert_eq!(used(&view), HashSet::from([0, 2]));
    view.out.clear();
    view.version += 1;
    assert_eq!(used(&view).len(), 3);
}

#[test]
fn a_new_endpoint_gets_its_share_little_by_little() {
    let warm_up = WarmUp {
        duration_ms: 10_000,
        least: 0.1,
        aggression: 1.0,
    };
    assert!((warm_up.factor(0) - 0.1).abs() < 1e-9);
    assert!((warm_up.factor(5_000) - 0.5).abs() < 1e-9);
    assert!((warm_up.factor(10_000) - 1.0).abs() < 1e-9);
    let eager = WarmUp {
        aggression: 2.0,
        ..warm_up
    };
    assert!((eager.factor(2_500) - 0.5).abs() < 1e-9);
    for balancer in [Balancer::RoundRobin, Balancer::LeastRequest] {
        let at = |at: u8| endpoint(([10, 0, 0, at], 80).into());
        let load = |endpoints: Vec<Endpoint>| {
            let mut cluster = cluster(balancer, endpoints);
            cluster.warm_up = Some(warm_up);
            snapshot_of(cluster)
        };
        let mut before = load(vec![at(1), at(2)]);
        before.note_arrivals(None, 0);
        let mut after = load(vec![at(1), at(2), at(3)]);
        after.note_arrivals(Some(&before), 60_000);
        for (now_ms, expected) in [(60_000, 0.1), (65_000, 0.5), (70_000, 1.0), (90_000, 1.0)] {
            let request = PickRequest {
                now_ms,
                ..PickRequest::default()
            };
            let counts = counts(&after.clusters[0], &AllAvailable, request);
            let share = counts[2] as f64 / 10_000.0;
            let wanted = expected / (2.0 + expected);
            assert!(
                (share - wanted).abs() < 0.02,
                "{balancer:?} {now_ms}: {share}"
            );
        }
    }
}

fn snapshot_of(cluster: Cluster) -> ringroad_policy::snapshot::Snapshot {
    ringroad_policy::snapshot::Snapshot::new(
        Default::default(),
        Vec::new(),
        vec![cluster.into()],
        Vec::new(),
        &Default::default(),
    )
}

#[test]
fn least_request_sends_a_slow_endpoint_at_most_three_percent() {
    // 64 requests in flight, ten endpoints of which one takes ten times as long, sixteen workers.
    // Time goes from answer to answer.
    const WORKERS: usize = 16;
    let endpoints = (0..10).map(|at| endpoint(([10, 0, 0, at], 80).into()));
    let cluster = cluster(Balancer::LeastRequest, endpoints.collect());
    let mut random = Random::new(17);
    let mut view = View {
        active: vec![0; 10],
        ..View::default()
    };
    let mut states = vec![BalancerState::default(); WORKERS];
    let mut in_flight = std::collections::BinaryHeap::new();
    let mut sent = [0_usize; 10];
    let mut begin = |worker: usize, now: u64, view: &mut View| {
        let request = PickRequest::default();
        let picked = cluster.pick_endpoint(&mut states[worker], &*view, &mut random, &request);
        let at = picked.unwrap();
        view.active[at] += 1;
        sent[at] += 1;
        let takes = if at == 7 { 10_000 } else { 1_000 };
        let jitter = random.below(200) as u64;
        std::cmp::Reverse((now + takes + jitter, worker, at))
    };
    for request in 0..64 {
        let answer = begin(request % WORKERS, request as u64, &mut view);
        in_flight.push(answer);
    }
    for _ in 0..100_000 {
        let std::cmp::Reverse((now, worker, at)) = in_flight.pop().unwrap();
        view.active[at] -= 1;
        in_flight.push(begin(worker, now, &mut view));
    }
    let share = sent[7] as f64 / sent.iter().sum::<usize>() as f64;
    assert!(share <= 0.03, "{share}");
    assert!(share > 0.001, "{share}");
}

#[test]
fn weighted_least_request_gives_busy_endpoints_fewer_turns() {
    let weighted = [(1, 1), (2, 1), (3, 2)].map(|(host, weight)| Endpoint {
        weight,
        ..endpoint(([10, 0, 0, host], 80).into())
    });
    let cluster = cluster(Balancer::LeastRequest, weighted.to_vec());
    let view = View {
        active: vec![9, 0, 0],
        ..View::default()
    };
    // Envoy: weight / (active requests + 1), so 0.1 : 1 : 2.
    let counts = counts(&cluster, &view, PickRequest::default());
    let share = |at: usize| counts[at] as f64 / 10_000.0;
    assert!((share(0) - 0.1 / 3.1).abs() < 0.01, "{counts:?}");
    assert!((share(2) - 2.0 / 3.1).abs() < 0.01, "{counts:?}");
}

/// A random cluster, a random view of it, random tries.
fn any_case(random: &mut Random) -> (Cluster, View, Vec<usize>) {
    const PLACES: [&str; 6] = ["", "a", "a/x", "a/y", "b/x", "c/z/s"];
    let count = random.below(12);
    let endpoints = (0..count).map(|at| Endpoint {
        weight: 1 + [0, 0, 3, 40][random.below(4)],
        locality: PLACES[random.below(PLACES.len())].to_string(),
        ..endpoint(([10, 0, 0, at as u8], 80).into())
    });
    let endpoints: Vec<Endpoint> = endpoints.collect();
    let order = match random.below(3) {
        0 => LocalityOrder::None,
        1 => LocalityOrder::Shares(vec![("a/*".to_string(), 60), ("b".to_string(), 40)]),
        _ => LocalityOrder::Priorities(LocalityPriorities {
            own_place: Some(Locality::parse("a/x")),
            by_region: false,
            next_region: Some("c".to_string()),
            ..LocalityPriorities::default()
        }),
    };
    let mut cluster = with_locality(
        LocalityPolicy {
            order,
            is_weighted: random.below(2) == 0,
            ..LocalityPolicy::default()
        },
        Vec::new(),
    );
    cluster.balancer = [
        Balancer::RoundRobin,
        Balancer::LeastRequest,
        Balancer::Random,
        Balancer::RingHash { minimum_size: 64 },
        Balancer::Maglev { table_size: 101 },
    ][random.below(5)];
    cluster.panic_threshold_percent = [0, 0, 50][random.below(3)];
    cluster.set_endpoints(endpoints);
    let rarely = |random: &mut Random| random.below(3) == 0;
    let view = View {
        out: (0..count).filter(|_| rarely(random)).collect(),
        active: (0..count).map(|_| random.below(5) as u32).collect(),
        version: 0,
    };
    let tried = (0..random.below(4)).map(|_| random.below(count.max(1)));
    (cluster, view, tried.collect())
}

#[test]
fn whoever_is_picked_is_available_and_somebody_is_whenever_anybody_is() {
    let mut random = Random::new(2026);
    for case in 0..5_000 {
        let (cluster, view, tried) = any_case(&mut random);
        let mut state = BalancerState::default();
        let request = PickRequest {
            tried: &tried,
            avoids_tried: case % 2 == 0,
            prefers_other_priorities: case % 3 == 0,
            hash: (case % 5 == 0).then(|| random.next_u64()),
            now_ms: 0,
        };
        let count = cluster.endpoints.len();
        let usable = |at: &usize| cluster.priority_of(*at).is_some();
        let has_available = (0..count).filter(usable).any(|at| view.is_available(at));
        for _ in 0..8 {
            let picked = cluster.pick_endpoint(&mut state, &view, &mut random, &request);
            let told = || format!("case {case}: {picked:?} of {cluster:?} but {:?}", view.out);
            if cluster.panic_threshold_percent == 0 {
                assert_eq!(picked.is_some(), has_available, "{}", told());
                assert!(picked.is_none_or(|at| view.is_available(at)), "{}", told());
            } else {
                assert!(
                    picked.is_some() || !(0..count).any(|at| usable(&at)),
                    "{}",
                    told()
                );
            }
            assert!(picked.is_none_or(|at| usable(&at)), "{}", told());
        }
    }
}
