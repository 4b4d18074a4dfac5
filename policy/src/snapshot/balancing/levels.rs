//! The endpoints of a cluster by priority and place: what balancers choose from, made when the
//! endpoints are known.

use super::EndpointView;
use super::hash_table::{HashTable, Part};
use super::locality::{Group, LocalityPolicy, arrange};
use crate::snapshot::{Balancer, Endpoint};

/// How much more than its share a priority or place is trusted to carry. Envoy:
/// `overprovisioning_factor`, 140 %: requests spill over below 72 % of available endpoints.
pub const OVERPROVISIONING_PERCENT: u32 = 140;

/// Endpoints of one priority.
#[derive(Debug, Clone)]
pub(crate) struct Level {
    /// By place.
    pub(super) groups: Vec<Group>,
    /// For balancers that hash.
    pub(super) table: Option<HashTable>,
}

impl Level {
    pub(super) fn members(&self) -> impl Iterator<Item = u32> + '_ {
        let groups = self.groups.iter();
        groups.flat_map(|group| group.members.iter().copied())
    }

    /// Available endpoints, and all.
    pub(super) fn count(&self, view: &impl EndpointView) -> (u32, u32) {
        self.members().fold((0, 0), |(available, all), at| {
            let is_available = view.is_available(at as usize);
            (available + u32::from(is_available), all + 1)
        })
    }
}

/// Never empty.
pub(super) fn levels_of(
    endpoints: &[Endpoint],
    policy: &LocalityPolicy,
    balancer: Balancer,
) -> Vec<Level> {
    let mut arranged = arrange(endpoints, policy);
    if arranged.is_empty() {
        arranged.push(Vec::new());
    }
    let level = |groups: Vec<Group>| {
        let parts = match balancer.is_hashing() {
            true => parts_of(&groups, endpoints, policy.is_weighted),
            false => Vec::new(),
        };
        Level {
            table: HashTable::build(balancer, &parts, endpoints),
            groups,
        }
    };
    arranged.into_iter().map(level).collect()
}

fn parts_of(groups: &[Group], endpoints: &[Endpoint], is_weighted: bool) -> Vec<Part> {
    let weight_of = |at: u32| f64::from(endpoints[at as usize].weight.max(1));
    let sum_of = |group: &Group| group.members.iter().map(|at| weight_of(*at)).sum::<f64>();
    let all: f64 = match is_weighted {
        true => groups.iter().map(|group| f64::from(group.weight)).sum(),
        false => groups.iter().map(sum_of).sum(),
    };
    let mut parts = Vec::new();
    for group in groups {
        // In the order of Envoy's arithmetic, whose roundings decide about a point.
        let (share, sum) = match is_weighted {
            true => (f64::from(group.weight) / all, sum_of(group)),
            false => (1.0, all),
        };
        let of_group = group.members.iter().map(|at| Part {
            member: *at,
            weight: weight_of(*at) * share / sum,
        });
        parts.extend(of_group.filter(|part| part.weight > 0.0));
    }
    parts
}
