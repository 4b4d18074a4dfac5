//! The last step of a virtual host: identities, split slots, and what can never be reached.

use std::collections::hash_map::{DefaultHasher, HashMap};
use std::hash::{Hash, Hasher};

use super::findings::Findings;
use super::route_list::RouteList;
use super::unreachable::{self, Candidate};
use crate::snapshot::VirtualHost;

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
        list: RouteList,
        findings: &mut Findings,
    ) -> VirtualHost {
        let RouteList {
            mut routes,
            excluded,
        } = list;
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
            if let Some(prefix) = &route.stats_name {
                route.stats_name = Some(format!("vhost.{name}.route.{prefix}").into());
            }
            if route.destinations().len() > 1 {
                route.split_slot = self.identities.len() as u32;
                self.identities.push(route.identity);
            }
        }
        unreachable::report(&name, routes.iter().map(Candidate::from), findings);
        let mut virtual_host = VirtualHost::new(name, domains, routes);
        virtual_host.excluded = excluded;
        virtual_host
    }
}
