//! Routes that an earlier route of the same virtual host leaves nothing to.

use std::collections::HashMap;

use super::findings::{Findings, NAMESAKE_HELP};
use crate::diagnostic::{Diagnostic, Place};
use crate::snapshot::{
    HeaderMatch, HeaderName, PathMatch, QueryMatch, Route, RouteMatch, StringMatch, ValueMatch,
};
use crate::source::Origin;

/// How many earlier routes a route is compared with at most. More of them on one and the same
/// path are rare, and a warning that is left out is better than a slow load.
const MAX_COMPARED: usize = 64;

/// A route, as far as this looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'r> {
    pub matches: &'r RouteMatch,
    pub origin: Option<&'r Origin>,
    /// Where it goes to: of the rules of a delegate, which all have the match that delegates, this
    /// tells one from the other.
    pub destination: Option<&'r Origin>,
}

impl<'r> From<&'r Route> for Candidate<'r> {
    fn from(route: &'r Route) -> Self {
        Self {
            matches: &route.matches,
            origin: route.origin.as_ref(),
            destination: route
                .destinations()
                .first()
                .and_then(|to| to.origin.as_ref()),
        }
    }
}

/// Earlier routes by the path that they ask for.
#[derive(Default)]
struct Earlier<'r> {
    exact: HashMap<&'r str, Vec<Candidate<'r>>>,
    prefix: HashMap<&'r str, Vec<Candidate<'r>>>,
    /// Regular expressions and matches that ignore case: asked one by one.
    other: Vec<Candidate<'r>>,
}

/// Warns of routes whose every request an earlier one takes: its path is implied, and so is each
/// of its conditions on headers and query parameters.
pub fn report<'r>(
    virtual_host: &str,
    routes: impl IntoIterator<Item = Candidate<'r>>,
    findings: &mut Findings,
) {
    let mut earlier = Earlier::default();
    let mut seen: Vec<[Option<&Origin>; 2]> = Vec::new();
    for route in routes {
        // Where two gateways share a port, the rules for both are there twice.
        let own = [route.origin, route.destination];
        let is_repeated = || seen.contains(&own);
        match (earlier.taker(route), route.origin) {
            (Some(taker), Some(origin)) if !is_repeated() => {
                let rule_of = |route: Candidate<'_>| route.destination.map(Origin::rule);
                let rules = (rule_of(route), rule_of(taker));
                let (origin, taken_by) = match (taker.origin == route.origin, &rules) {
                    (true, (Some(rule), taken_by)) => (rule, taken_by.as_ref()),
                    _ => (origin, taker.origin),
                };
                let warning = unreachable(virtual_host, origin, taken_by, findings);
                findings.add(warning);
            }
            (Some(_), _) => {}
            (None, _) => earlier.add(route),
        }
        seen.push(own);
    }
}

fn unreachable(
    virtual_host: &str,
    origin: &Origin,
    taken_by: Option<&Origin>,
    findings: &Findings,
) -> Diagnostic {
    const HELP: &str = "put it before the more general route, or remove it";
    let (by, help) = match taken_by {
        Some(Origin { document, field }) if *document == origin.document => {
            (format!("`{field}` takes all its requests"), HELP)
        }
        Some(Origin { document, .. }) if findings.are_namesakes(*document, origin.document) => {
            let name = findings.name_of(*document).unwrap_or_default();
            let by = format!("another document of the name `{name}` takes all its requests");
            (by, NAMESAKE_HELP)
        }
        _ => (
            "an older VirtualService takes all its requests".to_string(),
            HELP,
        ),
    };
    let message = format!("this route of `{virtual_host}` is never reached: {by}");
    let place = Place::Field(origin.clone());
    let warning = Diagnostic::warning("unreachable-route", place, message).with_help(help);
    match taken_by {
        Some(taken_by) => warning.with_related(taken_by.clone(), "this route takes them"),
        None => warning,
    }
}

impl<'r> Earlier<'r> {
    fn add(&mut self, route: Candidate<'r>) {
        match &route.matches.path {
            PathMatch::Exact(path) => self.exact.entry(path).or_default().push(route),
            PathMatch::Prefix(path) => self.prefix.entry(path).or_default().push(route),
            _ => self.other.push(route),
        }
    }

    /// The first of the earlier routes that takes all requests of this one.
    fn taker(&self, route: Candidate<'_>) -> Option<Candidate<'r>> {
        let path = match &route.matches.path {
            PathMatch::Exact(path) | PathMatch::Prefix(path) => path.as_str(),
            // Whatever else is asked of a path, it begins with a slash.
            _ => "/",
        };
        let exact = self.exact.get(path).into_iter().flatten();
        let ends = (0..=path.len()).filter(|end| path.is_char_boundary(*end));
        let prefixes = ends.filter_map(|end| self.prefix.get(&path[..end]));
        let candidates = exact.chain(prefixes.flatten()).chain(&self.other);
        candidates
            .take(MAX_COMPARED)
            .find(|earlier| covers(earlier.matches, route.matches))
            .copied()
    }
}

/// Whether every request that `narrow` matches is matched by `wide` as well. Never says so
/// wrongly; may miss what only a comparison of regular expressions would show.
fn covers(wide: &RouteMatch, narrow: &RouteMatch) -> bool {
    let implied = |condition: &HeaderMatch| {
        let mut known = narrow.headers.iter();
        known.any(|known| implies_header(known, condition))
    };
    let implied_query = |condition: &QueryMatch| {
        let mut known = narrow.query.iter();
        known.any(|known| {
            known.name == condition.name && implies_value(&known.value, &condition.value)
        })
    };
    implies_path(&narrow.path, &wide.path)
        && wide.headers.iter().all(implied)
        && wide.query.iter().all(implied_query)
}

fn implies_path(narrow: &PathMatch, wide: &PathMatch) -> bool {
    if let PathMatch::Prefix(prefix) | PathMatch::PrefixIgnoreCase(prefix) = wide
        && prefix == "/"
    {
        return true;
    }
    match (narrow, wide) {
        (_, PathMatch::Regex(regex)) if regex.text() == ".*" => true,
        (PathMatch::Exact(path), _) => wide.is_match(path),
        (PathMatch::Prefix(a), PathMatch::Prefix(b)) => a.starts_with(b.as_str()),
        (PathMatch::Prefix(a) | PathMatch::PrefixIgnoreCase(a), PathMatch::PrefixIgnoreCase(b)) => {
            begins_with_ignoring_case(a, b)
        }
        (PathMatch::ExactIgnoreCase(a), PathMatch::PrefixIgnoreCase(b)) => {
            begins_with_ignoring_case(a, b)
        }
        (PathMatch::ExactIgnoreCase(a), PathMatch::ExactIgnoreCase(b)) => a.eq_ignore_ascii_case(b),
        (PathMatch::Regex(a), PathMatch::Regex(b)) => a.text() == b.text(),
        _ => false,
    }
}

fn begins_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.len() >= prefix.len()
        && text.as_bytes()[..prefix.len()].eq_ignore_ascii_case(prefix.as_bytes())
}

fn implies_header(narrow: &HeaderMatch, wide: &HeaderMatch) -> bool {
    if narrow.name != wide.name {
        return false;
    }
    match (narrow.inverted, wide.inverted) {
        (false, false) => implies_value(&narrow.value, &wide.value),
        // What is not in the wider set is not in the narrower one either. Absence is looked at
        // apart from values, so that only like is compared with like.
        (true, true) => match (&narrow.value, &wide.value) {
            (ValueMatch::Present, ValueMatch::Present) => true,
            (ValueMatch::Text(outer), ValueMatch::Text(inner)) => implies_text(inner, outer),
            _ => false,
        },
        // It has one value, and that is not the excluded one. A field that comes several times is
        // joined with commas and is that value all the same.
        (false, true) => match (&narrow.value, &wide.value) {
            (ValueMatch::Text(StringMatch::Exact(value)), ValueMatch::Text(excluded)) => {
                !excluded.is_match(value.as_bytes())
            }
            _ => false,
        },
        (true, false) => matches!(wide.value, ValueMatch::Present) && is_always_there(&wide.name),
    }
}

fn is_always_there(name: &HeaderName) -> bool {
    !matches!(name, HeaderName::Field(_) | HeaderName::Claim { .. })
}

fn implies_value(narrow: &ValueMatch, wide: &ValueMatch) -> bool {
    match (narrow, wide) {
        (_, ValueMatch::Present) => true,
        (ValueMatch::Present, ValueMatch::Text(_)) => false,
        (ValueMatch::Text(narrow), ValueMatch::Text(wide)) => implies_text(narrow, wide),
    }
}

fn implies_text(narrow: &StringMatch, wide: &StringMatch) -> bool {
    match (narrow, wide) {
        (StringMatch::Exact(text), _) => wide.is_match(text.as_bytes()),
        (StringMatch::Prefix(a), StringMatch::Prefix(b)) => a.starts_with(b.as_str()),
        (StringMatch::Regex(a), StringMatch::Regex(b)) => a.text() == b.text(),
        (_, StringMatch::Regex(regex)) => regex.text() == ".*",
        _ => false,
    }
}
