//! The last step of a virtual host: identities, split slots, and what can never be reached.

use std::collections::HashSet;
use std::collections::hash_map::{DefaultHasher, HashMap};
use std::hash::{Hash, Hasher};

use super::findings::Findings;
use crate::diagnostic::{Diagnostic, Place};
use crate::snapshot::{PathMatch, Route, VirtualHost};
use crate::source::Origin;

/// Hands out split slots.
#[derive(Debug, Default)]
pub struct Splits {
    /// Identity of the route by slot.
    pub identities: Vec<u64>,
}

impl Splits {
    /// A virtual host whose routes know their identity and their slot.
    pub fn finish(
        &mut self,
        table: &str,
        name: String,
        domains: Vec<String>,
        mut routes: Vec<Route>,
        findings: &mut Findings,
    ) -> VirtualHost {
        let mut of_host = DefaultHasher::new();
        (table, &name).hash(&mut of_host);
        let mut seen: HashMap<u64, u32> = HashMap::with_capacity(routes.len());
        for route in &mut routes {
            let mut hasher = of_host.clone();
            route.name.hash(&mut hasher);
            let ordinal = seen.entry(hasher.finish()).or_default();
            ordinal.hash(&mut hasher);
            *ordinal += 1;
            route.identity = hasher.finish();
            if route.destinations().len() > 1 {
                route.split_slot = self.identities.len() as u32;
                self.identities.push(route.identity);
            }
        }
        report_unreachable(&name, &routes, findings);
        VirtualHost::new(name, domains, routes)
    }
}

/// Warns of routes that an earlier one leaves nothing to: one with no condition but a path that
/// the later route's path implies.
fn report_unreachable(virtual_host: &str, routes: &[Route], findings: &mut Findings) {
    let mut prefixes: HashSet<&str> = HashSet::new();
    let mut exact: HashSet<&str> = HashSet::new();
    let mut by_path: HashMap<&str, &Origin> = HashMap::new();
    for route in routes {
        let path = match &route.matches.path {
            PathMatch::Exact(path) => Some((path.as_str(), true)),
            PathMatch::Prefix(path) => Some((path.as_str(), false)),
            _ if prefixes.contains("/") => Some(("/", false)),
            _ => None,
        };
        let Some((path, is_exact)) = path else {
            continue;
        };
        let shadow = (is_exact && exact.contains(path))
            .then_some(path)
            .or_else(|| {
                let mut ends = (0..=path.len()).filter(|end| path.is_char_boundary(*end));
                ends.find(|end| prefixes.contains(&path[..*end]))
                    .map(|end| &path[..end])
            });
        if let (Some(shadow), Some(origin)) = (shadow, &route.origin) {
            let by = match by_path.get(shadow) {
                Some(Origin { document, field }) if *document == origin.document => {
                    format!("`{field}` takes all its requests")
                }
                _ => "an older VirtualService takes all its requests".to_string(),
            };
            let message = format!("this route of `{virtual_host}` is never reached: {by}");
            let place = Place::Field(origin.clone());
            let help = "put it before the more general route, or remove it";
            findings.add(Diagnostic::warning("unreachable-route", place, message).with_help(help));
        } else if route.matches.headers.is_empty() && route.matches.query.is_empty() {
            if is_exact { &mut exact } else { &mut prefixes }.insert(path);
            if let Some(origin) = &route.origin {
                by_path.entry(path).or_insert(origin);
            }
        }
    }
}
