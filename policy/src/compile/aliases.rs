//! Services of type ExternalName: other names of a host.

use std::collections::HashMap;

use super::findings::Findings;
use super::registry::{Registry, Service};
use crate::diagnostic::{Diagnostic, Place};
use crate::source::{FieldPath, Origin};

/// How many names lead on from one another at most. Longer chains count as circles.
const MAX_CHAIN: usize = 100;

impl Registry {
    /// What an alias leads to in the end, if somebody declares it.
    pub fn find_concrete(&self, alias: &Service) -> Option<&Service> {
        self.find(alias.leads_to.as_deref()?, &alias.namespace)
    }

    /// The service whose ports and subsets count for a destination that names `named`. `None` is
    /// an alias of an alias, of which a destination follows one alone (Istio:
    /// `GetDestinationCluster`).
    pub fn behind<'s>(&'s self, named: &'s Service) -> Option<&'s Service> {
        match named.alias_of == named.leads_to {
            true => self.find_concrete(named).or(Some(named)),
            false => None,
        }
    }

    /// Follows each alias of an alias to its end (Istio: `resolveServiceAliases`).
    pub(super) fn follow_aliases(&mut self) {
        let aliases = self.services.iter();
        let next: HashMap<String, String> = aliases
            .filter_map(|service| Some((service.host.clone(), service.alias_of.clone()?)))
            .collect();
        for service in &mut self.services {
            let first = service.alias_of.as_ref();
            let mut chain = std::iter::successors(first, |host| next.get(*host)).take(MAX_CHAIN);
            service.leads_to = chain.find(|host| !next.contains_key(*host)).cloned();
        }
    }

    /// Tells each concrete service its aliases.
    pub(super) fn link_aliases(&mut self) {
        let aliases: Vec<(String, String)> = self
            .services
            .iter()
            .filter_map(|service| Some((service.leads_to.clone()?, service.host.clone())))
            .collect();
        for (concrete, alias) in aliases {
            for at in self.by_host.get(&concrete).cloned().unwrap_or_default() {
                self.services[at].aliases.push(alias.clone());
            }
        }
    }
}

/// Warns of aliases that lead to nothing but each other.
pub fn report_circles(registry: &Registry, findings: &mut Findings) {
    for service in &registry.services {
        let Some(target) = service
            .alias_of
            .as_ref()
            .filter(|_| service.leads_to.is_none())
        else {
            continue;
        };
        let field = FieldPath::root().field("spec").field("externalName");
        let document = service.origin.document;
        let place = Place::Field(Origin { document, field });
        let message = format!(
            "`{}` leads to `{target}`, and on from name to name in a circle: nothing is reached by it",
            service.host
        );
        let help = "write a host that is not of type ExternalName in one of them";
        findings.add(Diagnostic::warning("unknown-host", place, message).with_help(help));
    }
}
