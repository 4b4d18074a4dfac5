//! Services of type ExternalName: other names of a host.

use super::registry::{Registry, Service};

impl Registry {
    /// What an alias leads to, if somebody declares it.
    pub fn find_concrete(&self, alias: &Service) -> Option<&Service> {
        self.find(alias.alias_of.as_deref()?, &alias.namespace)
    }

    /// The service whose ports and subsets count for a destination that names `named`. `None` is
    /// an alias of an alias, of which a destination follows one alone (Istio:
    /// `GetDestinationCluster`).
    pub fn behind<'s>(&'s self, named: &'s Service) -> Option<&'s Service> {
        match self.find_concrete(named) {
            Some(other) if other.alias_of.is_some() => None,
            concrete => concrete.or(Some(named)),
        }
    }

    pub(super) fn link_aliases(&mut self) {
        let aliases: Vec<(String, String)> = self
            .services
            .iter()
            .filter_map(|service| Some((service.alias_of.clone()?, service.host.clone())))
            .collect();
        for (concrete, alias) in aliases {
            for at in self.by_host.get(&concrete).cloned().unwrap_or_default() {
                self.services[at].aliases.push(alias.clone());
            }
        }
    }
}
