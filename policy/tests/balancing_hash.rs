//! Rings and tables of hashes: which endpoint a key meets.

#[path = "support/picks.rs"]
mod picks;

use picks::*;
use ringroad_policy::snapshot::{AllAvailable, Balancer, Cluster, Endpoint, PickRequest, Random};
use std::collections::HashSet;
use std::net::SocketAddr;

const RING: Balancer = Balancer::RingHash { minimum_size: 1024 };
const MAGLEV: Balancer = Balancer::Maglev { table_size: 65_537 };

/// Six endpoints on ports 90 to 95, as in Envoy's own tests.
fn ports_of_envoy() -> Vec<Endpoint> {
    let ports = 90..96;
    ports
        .map(|port| endpoint(([127, 0, 0, 1], port).into()))
        .collect()
}

#[test]
fn a_ring_has_the_points_of_envoys() {
    let cluster = cluster(Balancer::RingHash { minimum_size: 12 }, ports_of_envoy());
    let points: [(u64, usize); 12] = [
        (833_437_586_790_550_860, 94),
        (928_266_305_478_181_108, 92),
        (1_033_482_794_131_418_490, 90),
        (3_551_244_743_356_806_947, 95),
        (3_851_675_632_748_031_481, 93),
        (5_583_722_120_771_150_861, 91),
        (6_311_230_543_546_372_928, 91),
        (7_700_377_290_971_790_572, 93),
        (13_144_177_310_400_110_813, 95),
        (13_444_792_449_719_432_967, 92),
        (15_516_499_411_664_133_160, 94),
        (16_117_243_373_044_804_889, 90),
    ];
    for (at, (hash, port)) in points.iter().enumerate() {
        assert_eq!(cluster.endpoint_of_hash(*hash), Some(port - 90), "{hash}");
        let next = points[(at + 1) % points.len()].1;
        assert_eq!(cluster.endpoint_of_hash(hash + 1), Some(next - 90));
    }
    assert_eq!(cluster.endpoint_of_hash(0), Some(4));
    assert_eq!(cluster.endpoint_of_hash(u64::MAX), Some(4));
}

#[test]
fn a_maglev_table_has_the_slots_of_envoys() {
    let cluster = cluster(Balancer::Maglev { table_size: 7 }, ports_of_envoy());
    let slots: Vec<_> = (0..7).map(|hash| cluster.endpoint_of_hash(hash)).collect();
    assert_eq!(slots, [2, 4, 0, 1, 5, 0, 3].map(Some));
}

/// The share of keys whose endpoint is another one in `after`.
fn moved(before: &Cluster, after: &Cluster, keys: &[Option<u64>]) -> f64 {
    let address = |cluster: &Cluster, key: &Option<u64>| {
        let at = cluster.endpoint_of_hash(key.unwrap_or(0)).unwrap();
        cluster.endpoints[at].address.clone()
    };
    let moved = keys
        .iter()
        .filter(|key| address(before, key) != address(after, key));
    moved.count() as f64 / keys.len() as f64
}

#[test]
fn one_endpoint_of_100_more_or_less_moves_few_keys() {
    for (balancer, most) in [(RING, 0.02), (MAGLEV, 0.03)] {
        let mut sum = 0.0;
        let mut cases = 0.0;
        for seed in 0..25 {
            let mut random = Random::new(seed);
            let mut addresses = HashSet::new();
            while addresses.len() < 101 {
                let bits = random.next_u64();
                let ip = [
                    10,
                    (bits >> 8) as u8,
                    (bits >> 16) as u8,
                    (bits >> 24) as u8,
                ];
                addresses.insert(SocketAddr::from((ip, 8080)));
            }
            let mut endpoints: Vec<Endpoint> = addresses.into_iter().map(endpoint).collect();
            random.shuffle(&mut endpoints);
            let keys = keys(4_000, seed);
            let of = |count: usize| cluster(balancer, endpoints[..count].to_vec());
            let (fewer, hundred, more) = (of(99), of(100), of(101));
            sum += moved(&hundred, &fewer, &keys) + moved(&hundred, &more, &keys);
            cases += 2.0;
        }
        let average = sum / cases;
        assert!(average <= most, "{balancer:?} moves {average}");
        // Whoever moved nothing would not balance.
        assert!(average >= 0.005, "{balancer:?} moves {average}");
    }
}

#[test]
fn an_endpoint_that_is_out_moves_its_own_keys_alone_and_spreads_them() {
    for balancer in [RING, MAGLEV] {
        let endpoints = (1..=10).map(|at| endpoint(([10, 0, 0, at], 80).into()));
        let cluster = cluster(balancer, endpoints.collect());
        let keys = keys(20_000, 3);
        let request = PickRequest::default();
        let before = picks(&cluster, &AllAvailable, request, keys.iter().copied());
        let after = picks(&cluster, &without([4]), request, keys.iter().copied());
        let mut heirs = HashSet::new();
        for (before, after) in before.iter().zip(&after) {
            match before {
                Some(4) => {
                    assert_ne!(*after, Some(4));
                    heirs.insert(*after);
                }
                before => assert_eq!(before, after),
            }
        }
        assert!(heirs.len() > 5, "{balancer:?}: {heirs:?}");
        assert_eq!(
            picks(&cluster, &without(0..10), request, keys.into_iter().take(1)),
            [None]
        );
    }
}

#[test]
fn weights_are_shares_of_keys() {
    for balancer in [RING, MAGLEV] {
        let weighted = [1, 2, 5].map(|weight| Endpoint {
            weight,
            ..endpoint(([10, 0, 1, weight as u8], 80).into())
        });
        let cluster = cluster(balancer, weighted.to_vec());
        let counts = counts(&cluster, &AllAvailable, PickRequest::default());
        for (count, expected) in counts.iter().zip([1_250_usize, 2_500, 6_250]) {
            assert!(
                count.abs_diff(expected) < expected / 4,
                "{balancer:?}: {counts:?}"
            );
        }
    }
}

#[test]
fn a_retry_of_a_key_goes_elsewhere_only_if_it_is_to_and_can() {
    for balancer in [RING, MAGLEV] {
        let endpoints = (1..=5).map(|at| endpoint(([10, 0, 0, at], 80).into()));
        let cluster = cluster(balancer, endpoints.collect());
        for key in keys(500, 9) {
            let pick = |tried: &[usize], avoids_tried| {
                let request = PickRequest {
                    tried,
                    avoids_tried,
                    ..PickRequest::default()
                };
                picks(&cluster, &AllAvailable, request, [key].into_iter())[0].unwrap()
            };
            let first = pick(&[], true);
            assert_eq!(pick(&[first], false), first);
            let second = pick(&[first], true);
            assert_ne!(second, first);
            // The same for every worker and proxy.
            assert_eq!(pick(&[first], true), second);
            assert_eq!(pick(&[0, 1, 2, 3, 4], true), first);
        }
    }
}

/// 1, 7 and 2 of 10: with 7 × (1 ÷ 10) in place of 7 ÷ 10 the last one loses a point to rounding.
#[test]
fn points_of_a_ring_are_counted_with_the_roundings_of_envoy() {
    let endpoints = (1u8..).zip([1, 7, 2]).map(|(host, weight)| Endpoint {
        weight,
        ..endpoint(([10, 0, 0, host], 80).into())
    });
    let cluster = cluster(RING, endpoints.collect());
    let owner = |point: &str| {
        let hash = twox_hash::XxHash64::oneshot(0, point.as_bytes());
        cluster.endpoint_of_hash(hash)
    };
    for (point, at) in [("1:80_102", 0), ("2:80_721", 1), ("3:80_205", 2)] {
        assert_eq!(owner(&format!("10.0.0.{point}")), Some(at), "{point}");
    }
}
