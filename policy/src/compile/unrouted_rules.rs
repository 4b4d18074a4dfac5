//! VirtualServices of which no table has a route, since what they are bound to or the services of
//! their hosts are not there, as in a folder that is checked by itself.

use super::Compiler;
use super::delegates::Rule;
use super::http_match::conditions;
use super::routes::is_unfiltered;
use super::unreachable::{self, Candidate};
use crate::snapshot::RouteMatch;
use crate::source::Origin;

/// Warns of their routes that could never be reached, as the tables do for the others.
pub fn report(compiler: &mut Compiler<'_>) {
    let rules = std::mem::take(&mut compiler.http_rules);
    let objects = compiler.resources.virtual_services.iter();
    for (object, rules) in objects.zip(&rules) {
        let (Some(host), false) = (
            object.spec.hosts.first(),
            compiler.findings.is_routed(object.metadata.document),
        ) else {
            continue;
        };
        let routes: Vec<(RouteMatch, Origin)> = rules.iter().flat_map(routes_of).collect();
        let candidates = routes.iter().map(|(matches, origin)| Candidate {
            matches,
            origin: Some(origin),
            destination: None,
        });
        unreachable::report(host, candidates, &mut compiler.findings);
    }
    compiler.http_rules = rules;
}

/// Without matches of some ports, gateways or workloads alone.
fn routes_of(rule: &Rule<'_>) -> Vec<(RouteMatch, Origin)> {
    let written = &rule.route.r#match;
    if written.is_empty() {
        return vec![(RouteMatch::any(), rule.origin())];
    }
    let everywhere = written.iter().enumerate();
    let everywhere = everywhere.filter(|(_, condition)| is_unfiltered(condition));
    everywhere
        .filter_map(|(at, condition)| Some((conditions(condition).ok()?, rule.match_origin(at))))
        .collect()
}
