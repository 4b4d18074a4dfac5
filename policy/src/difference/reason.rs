//! Why two configurations treat a request differently.

use super::Side;
use super::fate::ChangedCluster;
use super::left_out::LeftOut;
use super::same_route::{Services, matched};
use crate::inquiry::Decided;
use crate::snapshot::{Route, VirtualHost};

/// How a reason names a route, so that the places can be looked up later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    /// The route taken, of the old or the new configuration.
    OldRoute,
    NewRoute,
}

/// The VirtualServices of both sides.
pub(super) type BothServices<'s> = (&'s Services, &'s Services);

/// The same route in the other configuration.
fn counterpart<'s>(
    route: &Route,
    old: &VirtualHost,
    new: &'s VirtualHost,
    services: BothServices<'_>,
) -> Option<&'s Route> {
    let at = old
        .routes()
        .iter()
        .position(|known| known.identity == route.identity)?;
    let partners = matched((old.routes(), services.0), (new.routes(), services.1));
    new.routes().get(partners[at]?)
}

/// Whether both decisions take the same route.
pub(super) fn is_counterpart(
    old: &Decided<'_>,
    new: &Decided<'_>,
    services: BothServices<'_>,
) -> bool {
    let (Some(old_host), Some(new_host)) = (old.virtual_host, new.virtual_host) else {
        return false;
    };
    let (Some(old_route), Some(new_route)) = (old.route, new.route) else {
        return false;
    };
    let same = counterpart(old_route, old_host, new_host, services);
    old_host.name == new_host.name && same.is_some_and(|same| same.identity == new_route.identity)
}

/// Why the new decision is another one than the old.
pub(super) fn of(old: &Decided<'_>, new: &Decided<'_>, services: BothServices<'_>) -> Vec<Part> {
    let text = |text: String| Part::Text(text);
    let left_out = left_out(old, new, services);
    let Some(new_host) = new.virtual_host else {
        let now = text(format!("now {}", new.reason()));
        return match left_out {
            Some(left_out) => vec![Part::OldRoute, text(format!(" {left_out}; ")), now],
            None => vec![now],
        };
    };
    let Some(old_host) = old.virtual_host else {
        return vec![
            text(format!("before, {}; now ", old.reason())),
            Part::NewRoute,
            text(format!(" of virtual host {} takes it", new_host.name)),
        ];
    };
    let old_route = match (old.route, new.route) {
        (Some(old_route), Some(_)) => old_route,
        (None, Some(_)) => {
            return vec![
                text(format!("before, {}; now ", old.reason())),
                Part::NewRoute,
                text(" takes it".to_string()),
            ];
        }
        (Some(old_route), None) => {
            let reason = what_became(old_route, (old_host, new_host), new, services)
                .or(left_out)
                .unwrap_or_else(|| "is gone".to_string());
            let outcome = text(format!(" {reason}, and no other takes it"));
            return vec![Part::OldRoute, outcome];
        }
        (None, None) => return vec![text(format!("now {}", new.reason()))],
    };
    if old_host.name != new_host.name {
        return vec![
            text(format!(
                "the host belongs to virtual host {} now, not to {}: ",
                new_host.name, old_host.name
            )),
            Part::NewRoute,
            text(" takes it".to_string()),
        ];
    }
    if is_counterpart(old, new, services) {
        return vec![Part::NewRoute, text(" was changed".to_string())];
    }
    let reason = what_became(old_route, (old_host, new_host), new, services)
        .or(left_out)
        .unwrap_or_else(|| "is gone".to_string());
    vec![
        Part::OldRoute,
        text(format!(" {reason}; now ")),
        Part::NewRoute,
        text(" takes it".to_string()),
    ]
}

/// Why the new configuration leaves out the route that was taken, if it has it.
fn left_out(old: &Decided<'_>, new: &Decided<'_>, services: BothServices<'_>) -> Option<String> {
    let left_out = LeftOut {
        virtual_host: new.virtual_host,
        rules: new.left_out,
        services: services.1,
    };
    let found = left_out.find(old.route?, services.0, &old.virtual_host?.domains)?;
    Some(format!("is left out ({})", found.because))
}

/// What changed behind a route that is the same: its clusters, and the rules that say so.
pub(super) fn of_clusters(
    changed: &[ChangedCluster<'_>],
    sides: [Side<'_>; 2],
    services: BothServices<'_>,
) -> Vec<Part> {
    let mut told: Vec<String> = Vec::new();
    for one in changed {
        let [old, new] = sides.map(|side| side.snapshot.cluster_named(one.name));
        let old = old.map(|cluster| services.0.rules_of(cluster));
        let new = new.map(|cluster| services.1.rules_of(cluster));
        let mut rules: Vec<&str> = new.into_iter().chain(old).flatten().collect();
        rules.sort_unstable();
        rules.dedup();
        let by = match one.has_other_settings && !rules.is_empty() {
            true => format!(" by DestinationRule {}", rules.join(", ")),
            false => String::new(),
        };
        told.push(match one.has_other_settings {
            true => format!("cluster {} was changed{by}", one.name),
            false => format!("the endpoints of cluster {} were changed", one.name),
        });
    }
    let text = format!("the route is the same; {}", told.join("; "));
    vec![Part::Text(text)]
}

/// Why the counterpart of a route is not taken; `None` where there is none.
fn what_became(
    old: &Route,
    (old_host, new_host): (&VirtualHost, &VirtualHost),
    new: &Decided<'_>,
    services: BothServices<'_>,
) -> Option<String> {
    let same = counterpart(old, old_host, new_host, services)?;
    let mut passed = new.passed_over.iter();
    Some(
        match passed.find(|passed| passed.identity == same.identity) {
            Some(passed) => format!("no longer matches ({})", passed.because),
            None => "comes later".to_string(),
        },
    )
}
