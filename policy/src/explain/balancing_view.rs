//! How a cluster chooses among its endpoints.

use super::effects::{Setting, milliseconds, setting};
use super::places::Places;
use crate::snapshot::{Balancer, Cluster, HashPolicy, LocalityOrder, LocalityPolicy, WarmUp};

/// What holds for all requests.
pub(super) fn settings(cluster: &Cluster, places: &Places) -> Vec<Setting> {
    let written = || places.of_optional(&cluster.policy_origins.load_balancer);
    let name = cluster.balancer.as_str();
    let balancer = match cluster.balancer {
        Balancer::RingHash { minimum_size } => format!("{name}, at least {minimum_size} points"),
        Balancer::Maglev { table_size } => format!("{name}, {table_size} slots"),
        _ => name.to_string(),
    };
    let mut list = vec![setting("load balancer", balancer, written())];
    if cluster.balancer.is_hashing() {
        let value = match &cluster.hash_policy {
            Some(policy) => of_policy(policy),
            None => "none: endpoints are drawn".to_string(),
        };
        list.push(setting("hash key", value, written()));
    }
    if let Some(value) = of_locality(&cluster.locality) {
        // Failover by place comes with outlier detection, where nobody has written it.
        let origins = &cluster.policy_origins;
        let origin = origins.load_balancer.as_ref();
        let origin = origin.or(origins.outlier_detection.as_ref()).cloned();
        list.push(setting("locality", value, places.of_optional(&origin)));
    }
    if let Some(warm_up) = &cluster.warm_up {
        list.push(setting("warm-up", of_warm_up(warm_up), written()));
    }
    list
}

fn of_policy(policy: &HashPolicy) -> String {
    match policy {
        HashPolicy::Header(name) => format!("header `{name}`"),
        HashPolicy::SourceIp => "address of the client".to_string(),
        HashPolicy::QueryParameter(name) => format!("query parameter `{name}`"),
        HashPolicy::Cookie(cookie) => {
            let made = match cookie.ttl_s {
                None => return format!("cookie `{}`", cookie.name),
                Some(0) => "made for the session when it is absent".to_string(),
                Some(ttl_s) => format!("made for {ttl_s}s when it is absent"),
            };
            let path = Some(("Path", cookie.path.as_str())).filter(|(_, path)| !path.is_empty());
            let attributes = cookie.attributes.iter();
            let attributes = attributes.map(|(name, value)| (name.as_str(), value.as_str()));
            let with: String = path
                .into_iter()
                .chain(attributes)
                .map(|(name, value)| match value {
                    "" => format!("; {name}"),
                    value => format!("; {name}={value}"),
                })
                .collect();
            format!("cookie `{}`, {made}{with}", cookie.name)
        }
    }
}

fn of_locality(policy: &LocalityPolicy) -> Option<String> {
    match &policy.order {
        LocalityOrder::None => None,
        LocalityOrder::Shares(shares) => {
            let each = shares
                .iter()
                .map(|(place, share)| format!("{share}% to {place}"));
            Some(each.collect::<Vec<_>>().join(", "))
        }
        LocalityOrder::Priorities(priorities) => {
            let labels = priorities.labels.iter();
            let mut first: Vec<String> = labels
                .map(|(label, value)| format!("{label}={value}"))
                .collect();
            if let Some(own) = &priorities.own_place {
                let own = own.to_string();
                first.push(match own.is_empty() {
                    true => "no known place".to_string(),
                    false => own,
                });
            }
            let next = priorities.next_region.iter();
            let next = next.map(|region| format!(", then region {region}"));
            let next: String = next.collect();
            let zones = policy.zones.as_ref().map_or(
                "",
                |_| ", by region; within it, in the own zone as far as its endpoints carry it",
            );
            Some(format!(
                "nearest first, from {}{next}{zones}",
                first.join(", ")
            ))
        }
    }
}

fn of_warm_up(warm_up: &WarmUp) -> String {
    let time = milliseconds(warm_up.duration_ms);
    let least = warm_up.least * 100.0;
    let aggression = warm_up.aggression;
    format!("new endpoints from {least}% to 100% in {time}, aggression {aggression}")
}
