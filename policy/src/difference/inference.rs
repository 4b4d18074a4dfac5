//! What a request must have been like that the log shows after the proxy worked on it: headers
//! that are not recorded, and the host before it was rewritten.

use super::Side;
use super::access_log::Recorded;
use crate::inquiry::{Decided, Inquiry, Refusal};
use crate::snapshot::{HeaderName, Listener, Route, StringMatch, ValueMatch};

/// The request as its client sent it, as far as the log and the configuration that it was written
/// under tell, and the decision of that configuration. Where nothing explains the log, this is what
/// was recorded, and the decision is not consistent with it.
pub(super) fn as_asked<'s>(side: Side<'s>, recorded: &Recorded) -> (Recorded, Decided<'s>) {
    let decided = decide(side, recorded, false);
    if is_consistent(decided.route, recorded) {
        return (recorded.clone(), decided);
    }
    let found = with_headers(side, recorded, &decided).or_else(|| with_host(side, recorded));
    found.unwrap_or_else(|| (recorded.clone(), decided))
}

/// Whether the log may have been written by this decision.
pub(super) fn is_consistent(route: Option<&Route>, recorded: &Recorded) -> bool {
    let Some(route) = route else {
        return recorded.cluster.is_none() && recorded.route_name.is_none();
    };
    let name = recorded.route_name.as_deref();
    let mut destinations = route.destinations().iter();
    let goes_there = match &recorded.cluster {
        None => true,
        Some(cluster) => destinations.any(|to| to.cluster_name == *cluster),
    };
    // A line with neither tells nothing.
    let tells = name.is_some() || recorded.cluster.is_some();
    goes_there && (!tells || name.unwrap_or("") == route.name)
}

/// Headers that explain what the log shows: those that the route asks for which the request must
/// have taken.
fn with_headers<'s>(
    side: Side<'s>,
    recorded: &Recorded,
    plain: &Decided<'s>,
) -> Option<(Recorded, Decided<'s>)> {
    for route in plain.virtual_host?.routes() {
        if !is_consistent(Some(route), recorded) {
            continue;
        }
        let mut headers = recorded.headers.clone();
        for condition in route.matches.headers.iter().filter(|one| !one.inverted) {
            if let HeaderName::Field(name) = &condition.name
                && !headers.iter().any(|(known, _)| known == name)
            {
                let value = match &condition.value {
                    ValueMatch::Present => String::new(),
                    ValueMatch::Text(StringMatch::Exact(text) | StringMatch::Prefix(text)) => {
                        text.clone()
                    }
                    // Often the expression is just a word; the decision tells.
                    ValueMatch::Text(StringMatch::Regex(regex)) => regex.text().to_string(),
                };
                headers.push((name.clone(), value));
            }
        }
        let asked = Recorded {
            headers,
            ..recorded.clone()
        };
        let decided = decide(side, &asked, false);
        if decided
            .route
            .is_some_and(|taken| taken.identity == route.identity)
        {
            return Some((asked, decided));
        }
    }
    None
}

/// The host that a route has rewritten to the one in the log, if only one virtual host has such
/// routes and is for a host by name.
fn with_host<'s>(side: Side<'s>, recorded: &Recorded) -> Option<(Recorded, Decided<'s>)> {
    let listeners = listeners(side, recorded.port, false).into_iter();
    let tables = listeners.flat_map(|listener| listener.route_tables());
    let virtual_hosts = tables.flat_map(|table| table.virtual_hosts());
    let mut rewriting = virtual_hosts.filter(|virtual_host| {
        let mut routes = virtual_host.routes().iter();
        routes.any(|route| is_consistent(Some(route), recorded) && rewrites_to(route, recorded))
    });
    let virtual_host = rewriting.next().filter(|_| rewriting.next().is_none())?;
    let by_name = |domain: &&String| !domain.contains('*');
    let asked = Recorded {
        authority: virtual_host.domains.iter().find(by_name)?.clone(),
        ..recorded.clone()
    };
    let decided = decide(side, &asked, false);
    match decided.route {
        Some(route) if is_consistent(Some(route), recorded) && rewrites_to(route, recorded) => {
            Some((asked, decided))
        }
        _ => with_headers(side, &asked, &decided),
    }
}

fn rewrites_to(route: &Route, recorded: &Recorded) -> bool {
    let mut hosts = route.destinations().iter();
    hosts.any(|to| route.host_rewrite_of(to) == Some(recorded.authority.as_str()))
}

pub(super) fn by_port<'s>(side: Side<'s>, port: Option<u16>) -> impl Iterator<Item = &'s Listener> {
    let listeners = side.snapshot.listeners.iter();
    let of_port = listeners.filter(move |listener| Some(listener.address.port()) == port);
    of_port.map(AsRef::as_ref)
}

/// The decision of one side. `needs_port` says that the port has to be there: it is in the other
/// configuration.
pub(super) fn decide<'s>(side: Side<'s>, recorded: &Recorded, needs_port: bool) -> Decided<'s> {
    let inquiry = Inquiry {
        method: &recorded.method,
        authority: &recorded.authority,
        target: &recorded.target,
        headers: &recorded.headers,
        paths: side.snapshot.settings.path_normalization,
        scheme: Some(if recorded.is_tls { "https" } else { "http" }),
    };
    let listeners = listeners(side, recorded.port, needs_port);
    let decided = listeners.iter().flat_map(|listener| {
        let tables = listener.route_tables().into_iter();
        tables.map(|table| inquiry.decide_by(table, listener.direction))
    });
    let best = decided.min_by_key(|decided| decided.rank);
    best.unwrap_or_else(|| Decided::refused(Refusal::NoListener))
}

fn listeners(side: Side<'_>, port: Option<u16>, needs_port: bool) -> Vec<&Listener> {
    let of_port: Vec<&Listener> = by_port(side, port).collect();
    if of_port.is_empty() && !needs_port {
        return side.snapshot.listeners.iter().map(AsRef::as_ref).collect();
    }
    of_port
}
