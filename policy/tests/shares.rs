//! Weighted destinations and balancers: who gets how much, in which order.

mod support;

use ringroad_policy::snapshot::{
    Balancer, BalancerState, Cluster, Endpoint, EndpointAddress, EndpointView, PickRequest, Random,
    Snapshot, SplitState,
};
use support::*;

const HOST: &str = "reviews.default.svc.cluster.local";

fn split_config(weights: &[u32]) -> String {
    let mut subsets = String::from("host: reviews\nsubsets:\n");
    let mut spec = String::from("hosts: ['*']\ngateways: [edge]\nhttp:\n- name: split\n  route:\n");
    for (index, weight) in weights.iter().enumerate() {
        let name = format!("v{}", index + 1);
        subsets += &format!("- {{name: {name}, labels: {{version: {name}}}}}\n");
        spec +=
            &format!("  - {{destination: {{host: reviews, subset: {name}}}, weight: {weight}}}\n");
    }
    format!(
        "{GATEWAY}{}{}{}",
        service(HOST, 9080, weights.len() as u8),
        destination_rule("reviews", &subsets),
        rule("split", &spec)
    )
}

/// The destinations of `count` requests of one worker.
fn picks(snapshot: &Snapshot, seed: u64, count: usize) -> Vec<usize> {
    let request = get("any", "/");
    let route = request.route(table(snapshot, 8080)).unwrap();
    let mut state = SplitState::new(snapshot);
    let mut random = Random::new(seed);
    (0..count)
        .map(|_| route.pick_destination(&mut state, &mut random))
        .collect()
}

#[test]
fn shares_are_exact_to_a_request_after_every_hand_and_within_half_a_point_in_every_thousand() {
    let weights: [&[u32]; 8] = [
        &[90, 10],
        &[1, 1],
        &[333, 667],
        &[1, 999],
        &[50, 30, 20],
        &[1, 1, 1, 1, 1, 1, 1],
        &[17, 23, 60, 1, 3],
        &[2_000_000_000, 2_000_000_000],
    ];
    for weights in weights {
        let snapshot = snapshot(&split_config(weights));
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        for seed in 0..20 {
            let picks = picks(&snapshot, seed, 5_000);
            for (destination, weight) in weights.iter().enumerate() {
                let share = f64::from(*weight) / total;
                let hits: Vec<usize> = picks
                    .iter()
                    .map(|picked| usize::from(*picked == destination))
                    .collect();
                let mut sum = 0;
                let sums: Vec<usize> = std::iter::once(0)
                    .chain(hits.iter().map(|hit| {
                        sum += hit;
                        sum
                    }))
                    .collect();
                // Hands are of ten requests, or of the largest multiple of the sum below that.
                let reduced = if weights.len() == 7 { 7 } else { 10 };
                for end in (0..sums.len()).step_by(reduced) {
                    let error = sums[end] as f64 - share * end as f64;
                    assert!(
                        error.abs() < 1.0,
                        "{weights:?} seed {seed} after {end}: {error}"
                    );
                }
                for start in (0..sums.len() - 1000).step_by(7) {
                    let error = (sums[start + 1000] - sums[start]) as f64 - share * 1000.0;
                    assert!(
                        error.abs() <= 5.0,
                        "{weights:?} seed {seed} from {start}: {error}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_client_that_alternates_between_two_urls_sees_every_version_of_each() {
    for weights in [&[50, 50][..], &[90, 10], &[80, 20], &[1, 1, 1]] {
        let snapshot = snapshot(&split_config(weights));
        let picks = picks(&snapshot, 7, 4_000);
        for parity in 0..2 {
            let seen: Vec<usize> = picks.iter().copied().skip(parity).step_by(2).collect();
            for (destination, weight) in weights.iter().enumerate() {
                let hits = seen.iter().filter(|picked| **picked == destination).count() as f64;
                let total: u32 = weights.iter().sum();
                let share = f64::from(*weight) / f64::from(total);
                let found = hits / seen.len() as f64;
                assert!(
                    (found - share).abs() < share * 0.3,
                    "{weights:?}: {found} of {share}"
                );
            }
        }
    }
}

#[test]
fn the_order_differs_from_hand_to_hand_and_repeats_with_the_seed() {
    let snapshot = snapshot(&split_config(&[50, 50]));
    let first = picks(&snapshot, 1, 1_000);
    assert_eq!(first, picks(&snapshot, 1, 1_000));
    assert_ne!(first, picks(&snapshot, 2, 1_000));
    let hands: std::collections::HashSet<&[usize]> = first.chunks(10).collect();
    assert!(hands.len() > 50, "{} different hands of 100", hands.len());
}

#[test]
fn eight_workers_together_stay_within_half_a_point_of_a_thousand() {
    let snapshot = snapshot(&split_config(&[99, 1]));
    for round in 0..50_u64 {
        let rare: usize = (0..8)
            .map(|worker| {
                picks(&snapshot, round * 100 + worker, 125)
                    .iter()
                    .sum::<usize>()
            })
            .sum();
        assert!((5..=15).contains(&rare), "{rare} of 1000 instead of 10");
    }
}

#[test]
fn a_reload_keeps_the_place_in_a_split_and_new_weights_count_at_once() {
    let old = snapshot(&split_config(&[999, 1]));
    let request = get("any", "/");
    let mut random = Random::new(3);
    let mut state = SplitState::new(&old);
    let mut rare = 0;
    for reload in 0..100 {
        let next = snapshot(&split_config(&[999, 1]));
        let route = request.route(table(&next, 8080)).unwrap();
        for _ in 0..100 {
            rare += route.pick_destination(&mut state, &mut random);
        }
        state = state.adopt(&next, &snapshot(&split_config(&[999, 1])));
        assert!(
            rare <= reload / 10 + 1,
            "{rare} rare picks after {reload} reloads"
        );
    }
    assert!(
        (9..=11).contains(&rare),
        "{rare} of 10,000 with a share of 10"
    );
    let even = snapshot(&split_config(&[50, 50]));
    let mut state = state.adopt(&old, &even);
    let route = request.route(table(&even, 8080)).unwrap();
    let second: usize = (0..100)
        .map(|_| route.pick_destination(&mut state, &mut random))
        .sum();
    assert!((49..=51).contains(&second));
}

#[test]
fn a_hand_that_is_being_dealt_does_not_outlive_its_weights() {
    let old = snapshot(&split_config(&[90, 10]));
    let new = snapshot(&split_config(&[10, 90]));
    let request = get("any", "/");
    for seed in 0..50 {
        let mut random = Random::new(seed);
        let mut state = SplitState::new(&old);
        let route = request.route(table(&old, 8080)).unwrap();
        for _ in 0..=seed % 10 {
            route.pick_destination(&mut state, &mut random);
        }
        let mut state = state.adopt(&old, &new);
        let route = request.route(table(&new, 8080)).unwrap();
        let first: usize = (0..10)
            .map(|_| 1 - route.pick_destination(&mut state, &mut random))
            .sum();
        assert!(first <= 2, "{first} of 10 for the old weights, seed {seed}");
    }
}

struct View {
    out: Vec<usize>,
    active: Vec<u32>,
}

impl EndpointView for View {
    fn is_available(&self, index: usize) -> bool {
        !self.out.contains(&index)
    }

    fn active_requests(&self, index: usize) -> u32 {
        self.active.get(index).copied().unwrap_or(0)
    }

    fn availability_version(&self) -> u64 {
        0
    }
}

fn cluster(balancer: Balancer, weights: &[u32]) -> Cluster {
    let mut cluster = Cluster::new("c".to_string());
    cluster.balancer = balancer;
    let endpoints = weights.iter().enumerate().map(|(index, weight)| Endpoint {
        weight: *weight,
        ..Endpoint::at(EndpointAddress::Socket(
            ([10, 0, 0, index as u8], 80).into(),
        ))
    });
    cluster.set_endpoints(endpoints.collect());
    cluster
}

fn counts(cluster: &Cluster, view: &View, tried: &[usize], picks: usize) -> Vec<usize> {
    let mut counts = vec![0; cluster.endpoints.len()];
    let mut state = BalancerState::default();
    let mut random = Random::new(11);
    let request = PickRequest {
        tried,
        avoids_tried: true,
        ..PickRequest::default()
    };
    for _ in 0..picks {
        if let Some(at) = cluster.pick_endpoint(&mut state, view, &mut random, &request) {
            counts[at] += 1;
        }
    }
    counts
}

const ALL: [Balancer; 3] = [
    Balancer::RoundRobin,
    Balancer::LeastRequest,
    Balancer::Random,
];

fn idle() -> View {
    View {
        out: Vec::new(),
        active: Vec::new(),
    }
}

#[test]
fn round_robin_takes_turns_from_a_random_start() {
    let cluster = cluster(Balancer::RoundRobin, &[1, 1, 1]);
    assert_eq!(counts(&cluster, &idle(), &[], 300), [100, 100, 100]);
    let starts: std::collections::HashSet<_> = (0..50)
        .map(|seed| {
            let mut state = BalancerState::default();
            let first = PickRequest::default();
            cluster.pick_endpoint(&mut state, &idle(), &mut Random::new(seed), &first)
        })
        .collect();
    assert_eq!(starts.len(), 3);
}

#[test]
fn weights_are_exact_shares_where_endpoints_take_turns() {
    for balancer in [Balancer::RoundRobin, Balancer::LeastRequest] {
        let counts = counts(&cluster(balancer, &[1, 2, 5]), &idle(), &[], 8_000);
        for (count, expected) in counts.iter().zip([1_000_usize, 2_000, 5_000]) {
            assert!(count.abs_diff(expected) <= 1, "{balancer:?}: {counts:?}");
        }
    }
}

#[test]
fn draws_by_random_leave_weights_out_as_those_of_envoy_do() {
    let counts = counts(&cluster(Balancer::Random, &[1, 2, 5]), &idle(), &[], 9_000);
    assert!(
        counts.iter().all(|count| count.abs_diff(3_000) < 200),
        "{counts:?}"
    );
}

#[test]
fn unavailable_endpoints_get_nothing_and_the_others_share_evenly() {
    let view = View {
        out: vec![1],
        active: Vec::new(),
    };
    for balancer in ALL {
        let counts = counts(&cluster(balancer, &[1, 1, 1, 1]), &view, &[], 3_000);
        assert_eq!(counts[1], 0);
        for at in [0, 2, 3] {
            assert!(counts[at].abs_diff(1_000) < 120, "{balancer:?}: {counts:?}");
        }
    }
}

#[test]
fn none_available_is_none_unless_the_panic_threshold_says_otherwise() {
    let view = View {
        out: vec![0, 1],
        active: Vec::new(),
    };
    for balancer in ALL {
        let mut cluster = cluster(balancer, &[1, 1]);
        assert_eq!(counts(&cluster, &view, &[], 10), [0, 0]);
        cluster.panic_threshold_percent = 50;
        assert_eq!(counts(&cluster, &view, &[], 10).iter().sum::<usize>(), 10);
    }
}

#[test]
fn tried_endpoints_are_left_out_as_long_as_another_is_there() {
    for balancer in ALL {
        let cluster = cluster(balancer, &[1, 1, 1]);
        assert_eq!(counts(&cluster, &idle(), &[0, 2], 50), [0, 50, 0]);
        assert_eq!(
            counts(&cluster, &idle(), &[0, 1, 2], 50)
                .iter()
                .sum::<usize>(),
            50
        );
        let view = View {
            out: vec![1],
            active: Vec::new(),
        };
        let only_tried_left = counts(&cluster, &view, &[0, 2], 50);
        assert_eq!(
            (only_tried_left[1], only_tried_left.iter().sum::<usize>()),
            (0, 50)
        );
    }
}

#[test]
fn least_request_avoids_the_busy() {
    let view = View {
        out: Vec::new(),
        active: vec![64, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    };
    let counts = counts(
        &cluster(Balancer::LeastRequest, &[1; 10]),
        &view,
        &[],
        10_000,
    );
    // Only when both draws hit the busy one: one in a hundred.
    assert!(counts[0] < 300, "{counts:?}");
}
