//! Keeping requests in the zone that they come from, as long as its endpoints get no more than
//! their share.

use std::collections::BTreeMap;

use super::Locality;

/// Fewer available endpoints than this are not told apart by zone, where nothing else is written.
pub const DEFAULT_MIN_CLUSTER_SIZE: u32 = 6;

/// What the shares of zones follow from. Istio: `zoneAwareLbSetting`.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneAware {
    /// Where this proxy is.
    pub own: Locality,
    /// How many proxies like this one there are in each place, itself among them: the requests are
    /// taken to come from all of them alike. Empty when it is not known.
    pub proxies: BTreeMap<String, u32>,
    /// Below so many available endpoints all are alike.
    pub min_cluster_size: u32,
}

/// Parts of one; four digits of a share are looked at, as Envoy does.
const PARTS: u64 = 10_000;

impl ZoneAware {
    /// The weight of each place for requests of this proxy, from the number of its available
    /// endpoints; `None` when all endpoints are to be alike. The local place gets everything if it
    /// has at least the share of endpoints that its proxies are of all proxies; otherwise what it
    /// can take, and the rest goes where there is room. Envoy:
    /// `ZoneAwareLoadBalancerBase::regenerateLocalityRoutingStructures`.
    pub fn weights(&self, available: &[(&str, u32)]) -> Option<Vec<f64>> {
        let own = self.own.to_string();
        let proxies = |place: &str| u64::from(self.proxies.get(place).copied().unwrap_or(0));
        let endpoints: u64 = available.iter().map(|(_, count)| u64::from(*count)).sum();
        let all_proxies: u64 = self.proxies.values().map(|count| u64::from(*count)).sum();
        if available.len() < 2
            || self.proxies.len() < 2
            || proxies(&own) == 0
            || endpoints < u64::from(self.min_cluster_size.max(1))
        {
            return None;
        }
        let parts_of = |(place, count): &(&str, u32)| {
            let upstream = PARTS * u64::from(*count) / endpoints;
            let local = PARTS * proxies(place) / all_proxies;
            (*place == own, upstream, local)
        };
        let places: Vec<(bool, u64, u64)> = available.iter().map(parts_of).collect();
        let local = places.iter().find(|(is_own, _, _)| *is_own);
        let stays = match local {
            Some((_, upstream, local)) if *upstream > 0 && upstream >= local => 1.0,
            Some((_, upstream, local)) if *local > 0 => *upstream as f64 / *local as f64,
            _ => 0.0,
        };
        let room = |(is_own, upstream, local): &(bool, u64, u64)| match is_own {
            true => 0,
            false => upstream.saturating_sub(*local),
        };
        let all_room: u64 = places.iter().map(room).sum();
        let leaves = |place: &(bool, u64, u64)| match all_room {
            0 => 1.0 / places.len() as f64,
            all => room(place) as f64 / all as f64,
        };
        let weight = |place: &(bool, u64, u64)| {
            let kept = if place.0 { stays } else { 0.0 };
            kept + (1.0 - stays) * leaves(place)
        };
        Some(places.iter().map(weight).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones(own: &str, proxies: &[(&str, u32)]) -> ZoneAware {
        let proxies = proxies.iter();
        ZoneAware {
            own: Locality::parse(own),
            proxies: proxies.map(|(place, n)| (place.to_string(), *n)).collect(),
            min_cluster_size: DEFAULT_MIN_CLUSTER_SIZE,
        }
    }

    #[test]
    fn a_zone_that_can_carry_its_share_keeps_all() {
        let even = zones("r/a", &[("r/a", 1), ("r/b", 1)]);
        assert_eq!(
            even.weights(&[("r/a", 3), ("r/b", 3)]),
            Some(vec![1.0, 0.0])
        );
        assert_eq!(
            even.weights(&[("r/a", 5), ("r/b", 3)]),
            Some(vec![1.0, 0.0])
        );
    }

    /// The example of Envoy's own description: 40 %, 40 % and 20 % of the proxies, 25 %, 50 % and
    /// 25 % of the endpoints.
    #[test]
    fn a_short_zone_gives_to_those_that_have_room() {
        let proxies = [("r/a", 4), ("r/b", 4), ("r/c", 2)];
        let weights = zones("r/a", &proxies).weights(&[("r/a", 5), ("r/b", 10), ("r/c", 5)]);
        let weights = weights.expect("zones count");
        let expected = [0.625, 0.375 * 2.0 / 3.0, 0.375 / 3.0];
        for (weight, expected) in weights.iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-9, "{weights:?}");
        }
    }

    #[test]
    fn without_endpoints_of_its_own_a_zone_is_served_by_the_others() {
        let zones = zones("r/a", &[("r/a", 1), ("r/b", 1)]);
        assert_eq!(
            zones.weights(&[("r/a", 0), ("r/b", 8)]),
            Some(vec![0.0, 1.0])
        );
        assert_eq!(
            zones.weights(&[("r/b", 4), ("r/c", 4)]),
            Some(vec![0.0, 1.0])
        );
    }

    #[test]
    fn all_endpoints_are_alike_where_zones_tell_nothing() {
        let even = [("r/a", 3), ("r/b", 3)];
        let few = [("r/a", 3), ("r/b", 2)];
        let here = zones("r/a", &[("r/a", 1), ("r/b", 1)]);
        assert_eq!(here.weights(&few), None, "too few endpoints");
        assert_eq!(here.weights(&[("r/a", 9)]), None, "one zone");
        assert_eq!(zones("r/a", &[]).weights(&even), None, "proxies unknown");
        let alone = zones("r/a", &[("r/a", 2)]);
        assert_eq!(alone.weights(&even), None, "all proxies in one zone");
        let nowhere = zones("r/c", &[("r/a", 1), ("r/b", 1)]);
        assert_eq!(nowhere.weights(&even), None, "this one is not among them");
    }
}
