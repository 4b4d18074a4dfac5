//! Routes that a configuration has written and leaves out, since their match cannot hold there: they
//! are not gone.

use super::same_route::Services;
use crate::compile::names::overlap;
use crate::snapshot::{ExcludedRoute, ExcludedRule, Route, VirtualHost};

/// What one side leaves out.
#[derive(Clone, Copy)]
pub(super) struct LeftOut<'s, 'n> {
    /// Of the virtual host at hand, if there is one.
    pub virtual_host: Option<&'s VirtualHost>,
    /// Of the table: VirtualServices without any route there.
    pub rules: &'s [ExcludedRule],
    pub services: &'n Services,
}

impl<'s> LeftOut<'s, '_> {
    /// The same route as one of the other side: of the same VirtualService and name, at best written
    /// in the same place.
    pub(super) fn find(
        &self,
        route: &Route,
        of_other: &Services,
        domains: &[String],
    ) -> Option<&'s ExcludedRoute> {
        let service = of_other.name_of(route);
        let field = route.origin.as_ref().map(|origin| &origin.field)?;
        let is_same = |one: &&ExcludedRoute| {
            !service.is_empty()
                && self.services.name_at(&one.origin) == service
                && one.name == route.name
        };
        let is_in_place = |one: &ExcludedRoute| one.origin.field == *field;
        let rules = self.rules.iter().filter(|rule| {
            let mut hosts = rule.hosts.iter();
            hosts.any(|host| domains.iter().any(|domain| overlap(host, domain)))
        });
        let of_host = self.virtual_host.map_or(&[][..], |host| &host.excluded);
        let all = of_host.iter().chain(rules.flat_map(|rule| &rule.routes));
        let same: Vec<&ExcludedRoute> = all.filter(is_same).collect();
        let in_place = same.iter().find(|one| is_in_place(one));
        let by_name = same.first().filter(|_| !route.name.is_empty());
        in_place.or(by_name).copied()
    }
}
