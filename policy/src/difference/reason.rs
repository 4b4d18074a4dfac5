//! Why two configurations treat a request differently.

use crate::explain::wording::of_conditions;
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

/// The same route in the other configuration: of one name and the same conditions, else of the
/// same conditions, else of one name.
pub(super) fn counterpart<'s>(route: &Route, host: &'s VirtualHost) -> Option<&'s Route> {
    let conditions = of_conditions(&route.matches);
    let same = |other: &&Route| of_conditions(&other.matches) == conditions;
    let named = |other: &&Route| !route.name.is_empty() && other.name == route.name;
    let all = host.routes();
    all.iter()
        .find(|other| same(other) && named(other))
        .or_else(|| {
            all.iter()
                .find(|other| same(other) && other.name == route.name)
        })
        .or_else(|| all.iter().find(same))
        .or_else(|| all.iter().find(named))
}

/// Why the new decision is another one than the old.
pub(super) fn of(old: &Decided<'_>, new: &Decided<'_>) -> Vec<Part> {
    let text = |text: String| Part::Text(text);
    let Some(new_host) = new.virtual_host else {
        return vec![text(format!("now {}", new.reason()))];
    };
    let Some(old_host) = old.virtual_host else {
        return vec![
            text(format!("before, {}; now ", old.reason())),
            Part::NewRoute,
            text(format!(" of virtual host {} takes it", new_host.name)),
        ];
    };
    let (old_route, new_route) = match (old.route, new.route) {
        (Some(old_route), Some(new_route)) => (old_route, new_route),
        (None, Some(_)) => {
            return vec![
                text(format!("before, {}; now ", old.reason())),
                Part::NewRoute,
                text(" takes it".to_string()),
            ];
        }
        (Some(old_route), None) => {
            let mut parts = vec![Part::OldRoute];
            parts.push(text(match what_became(old_route, new_host, new) {
                Some(reason) => format!(" {reason}, and no other takes it"),
                None => " is gone, and no other takes it".to_string(),
            }));
            return parts;
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
    let same = counterpart(old_route, new_host);
    if same.is_some_and(|same| same.identity == new_route.identity) {
        return vec![Part::NewRoute, text(" was changed".to_string())];
    }
    match what_became(old_route, new_host, new) {
        Some(reason) => vec![
            Part::OldRoute,
            text(format!(" {reason}; now ")),
            Part::NewRoute,
            text(" takes it".to_string()),
        ],
        None => vec![
            Part::OldRoute,
            text(" is gone; now ".to_string()),
            Part::NewRoute,
            text(" takes it".to_string()),
        ],
    }
}

/// Why the counterpart of a route is not taken; `None` where there is none.
fn what_became(old: &Route, host: &VirtualHost, new: &Decided<'_>) -> Option<String> {
    let same = counterpart(old, host)?;
    let mut passed = new.passed_over.iter();
    Some(
        match passed.find(|passed| passed.identity == same.identity) {
            Some(passed) => format!("no longer matches ({})", passed.because),
            None => "comes later".to_string(),
        },
    )
}
