//! Which route of one configuration is which of the other.

use std::collections::HashMap;

use super::Side;
use crate::explain::wording::of_conditions;
use crate::snapshot::{Cluster, Route};
use crate::source::{DocumentId, Origin};
use crate::yaml;

/// The documents of a configuration: kind, and `namespace/name`.
#[derive(Debug, Default)]
pub(super) struct Services(HashMap<DocumentId, (String, String)>);

impl Services {
    pub(super) fn of(side: Side<'_>) -> Self {
        let (documents, _) = yaml::parse(side.files);
        let named = documents.into_iter();
        let named = named.map(|one| {
            let name = format!("{}/{}", one.namespace, one.name);
            (one.id, (one.kind, name))
        });
        Self(named.collect())
    }

    /// Empty for a route that the mesh adds by itself.
    pub(super) fn name_of(&self, route: &Route) -> &str {
        let origin = route.origin.as_ref();
        origin.map_or("", |origin| self.name_at(origin))
    }

    /// Of the document that holds this.
    pub(super) fn name_at(&self, origin: &Origin) -> &str {
        let known = self.0.get(&origin.document);
        known.map_or("", |(_, name)| name.as_str())
    }

    /// The DestinationRules that say something about a cluster.
    pub(super) fn rules_of(&self, cluster: &Cluster) -> Vec<&str> {
        let written = &cluster.policy_origins;
        let tls = cluster.tls.as_ref().and_then(|tls| tls.origin.as_ref());
        let origins = [
            &written.subset,
            &written.load_balancer,
            &written.connection_pool,
            &written.upstream_protocol,
            &written.retry_budget,
            &written.proxy_protocol,
            &written.outlier_detection,
        ];
        let origins = origins.into_iter().flatten().chain(tls);
        let known = origins.filter_map(|origin| self.0.get(&origin.document));
        let rules = known.filter(|(kind, _)| kind == "DestinationRule");
        let mut names: Vec<&str> = rules.map(|(_, name)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// By what a route is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key<'s> {
    service: &'s str,
    name: &'s str,
    conditions: String,
}

/// What two routes have to share, the surest sign first. Each gives a text to compare, or nothing
/// for a route that has no such sign.
const SIGNS: [fn(&Key<'_>) -> Option<String>; 5] = [
    |key| Some(format!("{}\0{}\0{}", key.service, key.name, key.conditions)),
    |key| Some(format!("{}\0{}", key.service, key.conditions)),
    |key| (!key.name.is_empty()).then(|| format!("{}\0{}", key.service, key.name)),
    |key| Some(format!("{}\0{}", key.name, key.conditions)),
    |key| Some(key.conditions.clone()),
];

/// For each old route the new one that is the same, each new one once: of the same VirtualService,
/// name and conditions, else of fewer of these.
pub(super) fn matched(
    old: (&[Route], &Services),
    new: (&[Route], &Services),
) -> Vec<Option<usize>> {
    let keys = |(routes, services): (&[Route], &Services)| -> Vec<(String, String, String)> {
        let each = routes.iter().map(|route| {
            let service = services.name_of(route).to_string();
            (service, route.name.clone(), of_conditions(&route.matches))
        });
        each.collect()
    };
    let (old_keys, new_keys) = (keys(old), keys(new));
    let key = |(service, name, conditions): &(String, String, String)| -> [Option<String>; 5] {
        let key = Key {
            service,
            name,
            conditions: conditions.clone(),
        };
        SIGNS.map(|sign| sign(&key))
    };
    let old_signs: Vec<_> = old_keys.iter().map(key).collect();
    let new_signs: Vec<_> = new_keys.iter().map(key).collect();
    let mut partners = vec![None; old_signs.len()];
    let mut is_taken = vec![false; new_signs.len()];
    for sign in 0..SIGNS.len() {
        let mut free: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, signs) in new_signs.iter().enumerate().rev() {
            if let (false, Some(text)) = (is_taken[at], &signs[sign]) {
                free.entry(text).or_default().push(at);
            }
        }
        for (partner, signs) in partners.iter_mut().zip(&old_signs) {
            if partner.is_none()
                && let Some(text) = &signs[sign]
                && let Some(at) = free.get_mut(text.as_str()).and_then(Vec::pop)
            {
                *partner = Some(at);
                is_taken[at] = true;
            }
        }
    }
    partners
}

/// Which of the matched routes kept their order: the longest rising run of places, so that as few
/// as can be count as moved.
pub(super) fn in_order(matched: &[Option<usize>]) -> Vec<bool> {
    // The last old route of the best run of each length, by the least place it ends at.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; matched.len()];
    for (at, partner) in matched.iter().enumerate() {
        let Some(place) = partner else { continue };
        let length = ends.partition_point(|end| matched[*end] < Some(*place));
        before[at] = length.checked_sub(1).map(|length| ends[length]);
        if length == ends.len() {
            ends.push(at);
        } else {
            ends[length] = at;
        }
    }
    let mut kept = vec![false; matched.len()];
    let mut next = ends.last().copied();
    while let Some(at) = next {
        kept[at] = true;
        next = before[at];
    }
    // Routes without a partner did not move.
    for (kept, partner) in kept.iter_mut().zip(matched) {
        *kept |= partner.is_none();
    }
    kept
}
