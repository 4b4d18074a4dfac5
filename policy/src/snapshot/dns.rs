//! Names in, addresses out: what the resolver of the engine exchanges with a snapshot.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::Snapshot;
use super::cluster::{
    Cluster, Discovery, DnsTarget, Endpoint, EndpointAddress, first_of_each_address,
};

/// A name that some cluster needs resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsName {
    pub name: String,
    /// The ports that endpoints of this name have, in order.
    pub ports: Vec<u16>,
}

/// The addresses of names, as far as they are known. A name that is missing has no endpoints yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsTable {
    answers: BTreeMap<String, Vec<IpAddr>>,
}

impl DnsTable {
    /// Notes the addresses of a name in the order of the answer; whether anything changed.
    pub fn set(&mut self, name: &str, addresses: Vec<IpAddr>) -> bool {
        if self.answers.get(name) == Some(&addresses) {
            return false;
        }
        self.answers.insert(name.to_string(), addresses);
        true
    }

    /// The addresses of a name; empty when it is not resolved.
    pub fn addresses(&self, name: &str) -> &[IpAddr] {
        self.answers.get(name).map_or(&[], Vec::as_slice)
    }

    /// Forgets the names for which `keep` is false.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.answers.retain(|name, _| keep(name));
    }
}

impl Snapshot {
    /// This snapshot with the endpoints of DNS clusters taken from `table`. Route tables and all
    /// clusters whose endpoints stay the same, in whatever order name servers tell them this time,
    /// are shared.
    pub fn with_resolved(&self, table: &DnsTable) -> Snapshot {
        let mut next = self.clone();
        for cluster in &mut next.clusters {
            let Some(endpoints) = resolve(&cluster.discovery, table) else {
                continue;
            };
            if !are_the_same(&endpoints, &cluster.endpoints) {
                Arc::make_mut(cluster).set_endpoints(endpoints);
            }
        }
        next
    }
}

/// Whether both are the same endpoints, each of which stands in a list once.
fn are_the_same(one: &[Endpoint], other: &[Endpoint]) -> bool {
    let has = |endpoint| other.contains(endpoint);
    one == other || one.len() == other.len() && one.iter().all(has)
}

/// The endpoints that follow from answers, or `None` for clusters that need none.
fn resolve(discovery: &Discovery, table: &DnsTable) -> Option<Vec<Endpoint>> {
    let endpoint = |target: &DnsTarget, address: IpAddr| Endpoint {
        address: EndpointAddress::Socket(SocketAddr::new(address, target.port)),
        ..target.template.clone()
    };
    let addresses = |target: &DnsTarget| match target.name.parse() {
        Ok(literal) => vec![literal],
        Err(_) => table.addresses(&target.name).to_vec(),
    };
    match discovery {
        Discovery::Static | Discovery::OriginalDestination => None,
        Discovery::StrictDns(targets) => {
            let each = targets.iter().flat_map(|target| {
                addresses(target)
                    .into_iter()
                    .map(move |ip| endpoint(target, ip))
            });
            Some(first_of_each_address(each))
        }
        Discovery::LogicalDns(targets) => {
            let first = targets.first().and_then(|target| {
                addresses(target)
                    .first()
                    .map(|address| endpoint(target, *address))
            });
            Some(first.into_iter().collect())
        }
    }
}

/// The names that clusters need, each once, in order.
pub(super) fn names(clusters: &[Arc<Cluster>]) -> Vec<DnsName> {
    let mut names: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
    for cluster in clusters {
        let (Discovery::StrictDns(targets) | Discovery::LogicalDns(targets)) = &cluster.discovery
        else {
            continue;
        };
        for target in targets
            .iter()
            .filter(|target| target.name.parse::<IpAddr>().is_err())
        {
            let ports = names.entry(&target.name).or_default();
            if let Err(at) = ports.binary_search(&target.port) {
                ports.insert(at, target.port);
            }
        }
    }
    let each = names.into_iter();
    each.map(|(name, ports)| DnsName {
        name: name.to_string(),
        ports,
    })
    .collect()
}
