//! Where endpoints are, and what order and shares follow from it.

use std::collections::BTreeMap;

use super::zones::ZoneAware;
use crate::snapshot::Endpoint;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";

/// A place. Empty parts are unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locality {
    pub region: String,
    pub zone: String,
    pub subzone: String,
}

/// How the place of an endpoint counts. Istio: `localityLbSetting`, as it comes out for this proxy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LocalityPolicy {
    pub order: LocalityOrder,
    /// Within a priority the place is chosen first, by its weight; else all endpoints of the
    /// priority are alike.
    pub is_weighted: bool,
    /// The first priority keeps requests in their zone.
    pub zones: Option<ZoneAware>,
}

/// Which endpoints come first.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum LocalityOrder {
    /// All are alike.
    #[default]
    None,
    /// Places such as `region/*` and their shares of the requests; what is in no such place gets
    /// none. Istio: the rule of `distribute` for this proxy's place.
    Shares(Vec<(String, u32)>),
    /// Those further away are taken in the measure in which nearer ones fail.
    Priorities(LocalityPriorities),
}

/// What makes an endpoint near.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LocalityPriorities {
    /// Labels and the values that a near endpoint has; the earlier one differs, the further away
    /// it is. Istio: `failoverPriority`.
    pub labels: Vec<(String, String)>,
    /// Then endpoints of the same subzone come first, of the same zone, of the same region.
    pub own_place: Option<Locality>,
    /// Of that place only the region counts.
    pub by_region: bool,
    /// The region that comes before others behind the own one. Istio: `failover`.
    pub next_region: Option<String>,
}

impl Locality {
    /// Of `region`, `region/zone` or `region/zone/subzone`.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(4, '/').map(str::to_string);
        let mut part = || parts.next().unwrap_or_default();
        Self {
            region: part(),
            zone: part(),
            subzone: part(),
        }
    }

    /// Whether nothing is known of it.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it lies in a place such as `*`, `region`, `region/*` or `region/zone/*`.
    pub fn is_in(&self, place: &str) -> bool {
        let place = Self::parse(place);
        let region = place.region == "*" || place.region == self.region;
        let part = |wanted: &str, own: &str| wanted.is_empty() || wanted == "*" || wanted == own;
        region && part(&place.zone, &self.zone) && part(&place.subzone, &self.subzone)
    }

    /// 0 for the same subzone, 1 for the same zone, 2 for the same region, 3 for another region.
    fn distance(&self, other: &Self) -> usize {
        if self.region != other.region {
            3
        } else if self.zone != other.zone {
            2
        } else {
            usize::from(self.subzone != other.subzone)
        }
    }
}

impl std::fmt::Display for Locality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{}/{}/{}", self.region, self.zone, self.subzone);
        f.write_str(text.trim_end_matches('/'))
    }
}

/// Endpoints of one place and one priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// `region/zone/subzone`.
    pub locality: String,
    /// The share of the place, beside those of the same priority.
    pub weight: u32,
    /// Indices of endpoints.
    pub members: Vec<u32>,
}

/// The endpoints in groups, those of the first priority first; priorities are without gaps.
/// Istio: `ApplyLocalityLoadBalancer`.
pub(super) fn arrange(endpoints: &[Endpoint], policy: &LocalityPolicy) -> Vec<Vec<Group>> {
    let places = by_place(endpoints);
    match &policy.order {
        LocalityOrder::None => vec![places],
        LocalityOrder::Shares(shares) => vec![share_out(places, shares)],
        LocalityOrder::Priorities(priorities) => {
            let mut levels: BTreeMap<usize, Vec<Group>> = BTreeMap::new();
            for place in places {
                for (rank, group) in priorities.rank(place, endpoints) {
                    levels.entry(rank).or_default().push(group);
                }
            }
            levels.into_values().collect()
        }
    }
}

fn by_place(endpoints: &[Endpoint]) -> Vec<Group> {
    let mut places: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (at, endpoint) in endpoints.iter().enumerate() {
        let place = places.entry(&endpoint.locality).or_default();
        place.push(at as u32);
    }
    let group = |(locality, members): (&str, Vec<u32>)| Group::of(locality, members, endpoints);
    places.into_iter().map(group).collect()
}

impl Group {
    fn of(locality: &str, members: Vec<u32>, endpoints: &[Endpoint]) -> Self {
        let weights = members.iter().map(|at| endpoints[*at as usize].weight);
        Self {
            locality: locality.to_string(),
            weight: weights.fold(0, u32::saturating_add),
            members,
        }
    }
}

/// Each share is split between the places that it covers, by their weights.
fn share_out(mut places: Vec<Group>, shares: &[(String, u32)]) -> Vec<Group> {
    let mut kept = Vec::new();
    for (pattern, share) in shares {
        let covers = |group: &mut Group| Locality::parse(&group.locality).is_in(pattern);
        let covered: Vec<Group> = places.extract_if(.., covers).collect();
        let total: u64 = covered.iter().map(|group| u64::from(group.weight)).sum();
        for group in covered {
            let part = (u64::from(group.weight) * u64::from(*share)).div_ceil(total.max(1));
            let weight = u32::try_from(part).unwrap_or(u32::MAX);
            kept.push(Group { weight, ..group });
        }
    }
    kept.sort_by(|a, b| a.locality.cmp(&b.locality));
    kept
}

/// How many ranks there are for places: four distances, and regions behind the next one.
const RANKS_OF_PLACE: usize = 5;

impl LocalityPriorities {
    fn rank(&self, place: Group, endpoints: &[Endpoint]) -> Vec<(usize, Group)> {
        let far = self.own_place.as_ref().map_or(0, |own| {
            let there = Locality::parse(&place.locality);
            let distance = match self.by_region {
                true if own.region == there.region => 0,
                _ => own.distance(&there),
            };
            let is_passed_over = |next: &String| distance == 3 && there.region != *next;
            distance + usize::from(self.next_region.as_ref().is_some_and(is_passed_over))
        });
        let mut by_labels: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for member in place.members {
            let endpoint = &endpoints[member as usize];
            let differs = |(label, near): &(String, String)| {
                label_of(&endpoint.labels, &endpoint.locality, label) != *near
            };
            let first_difference = self.labels.iter().position(differs);
            let rank = first_difference.map_or(0, |at| self.labels.len() - at);
            by_labels.entry(rank).or_default().push(member);
        }
        let groups = by_labels.into_iter().map(|(rank, members)| {
            let group = Group::of(&place.locality, members, endpoints);
            (rank * RANKS_OF_PLACE + far, group)
        });
        groups.collect()
    }
}

/// The value of a label, where those of a place follow from the place; empty when it has none.
pub fn label_of(labels: &BTreeMap<String, String>, locality: &str, name: &str) -> String {
    let place = Locality::parse(locality);
    let of_place = match name {
        REGION => place.region,
        ZONE => place.zone,
        SUBZONE => place.subzone,
        _ => String::new(),
    };
    match of_place.is_empty() {
        true => labels.get(name).cloned().unwrap_or_default(),
        false => of_place,
    }
}

/// `region/zone/subzone`, as written or as Kubernetes and Istio label it; empty when it is unknown.
pub fn locality_of(written: &str, labels: &BTreeMap<String, String>) -> String {
    if !written.is_empty() {
        return written.to_string();
    }
    if let Some(label) = labels.get("istio-locality") {
        return label.replace('.', "/");
    }
    let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let place = Locality {
        region: label(REGION),
        zone: label(ZONE),
        subzone: label(SUBZONE),
    };
    place.to_string()
}
