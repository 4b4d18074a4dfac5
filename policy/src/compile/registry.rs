//! The service registry: every host that somebody declared, its ports and its endpoints.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use super::balancing::{TRAFFIC_DISTRIBUTION, TrafficDistribution};
use super::endpoint_slices::{is_of_service, sources_of_slice};
use super::names::{is_exported, selects};
use super::service_merge::{Unmerged, at_ports_of, merge};
use super::workload::labels_of_workload;
use crate::resource::kubernetes::{self, PortOrName};
use crate::resource::protocol::Protocol;
use crate::resource::service_entry::{ServiceEntry, WorkloadEntry};
use crate::resource::{Metadata, Object, Resources};
use crate::settings::{ProxySettings, WorkloadIdentity};
use crate::snapshot::{DnsTarget, Endpoint, EndpointAddress, ServiceLabels, locality_of};
use crate::source::{FieldPath, Origin};

/// How the endpoints of a service are found. Istio: ServiceEntry `resolution`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    Static,
    Dns,
    DnsRoundRobin,
    /// Where the client addressed it.
    Passthrough,
}

const NETWORK: &str = "topology.istio.io/network";

/// A host in one namespace.
#[derive(Debug, Clone)]
pub struct Service {
    /// Fully qualified, lower-case.
    pub host: String,
    /// For metrics: the name of the Kubernetes Service, or the host.
    pub name: String,
    pub namespace: String,
    pub ports: Vec<Port>,
    pub resolution: Resolution,
    pub is_kubernetes: bool,
    /// Outside of the mesh: nobody there speaks its mTLS.
    pub is_external: bool,
    /// Identities that its workloads may have. Istio: `subjectAltNames`.
    pub subject_alt_names: Vec<String>,
    /// Virtual addresses that stand for the service.
    pub addresses: Vec<String>,
    pub origin: Origin,
    /// Hosts of ExternalName services that lead here.
    pub aliases: Vec<String>,
    /// Set for an ExternalName service: the host that it leads to.
    pub alias_of: Option<String>,
    /// The host at the end, where that is an alias too; `None` where there is no end.
    pub leads_to: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Which endpoints it prefers.
    pub traffic_distribution: Option<TrafficDistribution>,
    /// Labels of the workloads behind it, where it chooses them by labels.
    pub selector: BTreeMap<String, String>,
    /// Of a ServiceEntry, as written.
    pub export_to: Vec<String>,
    pub(super) sources: Vec<Source>,
}

/// A port of a service.
#[derive(Debug, Clone)]
pub struct Port {
    pub number: u32,
    pub name: String,
    pub protocol: Protocol,
    pub target: Option<PortOrName>,
}

/// Endpoints as they were written: where they listen depends on the port that is asked for.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub address: String,
    pub ports: SourcePorts,
    pub endpoint: Endpoint,
}

#[derive(Debug, Clone)]
pub(super) enum SourcePorts {
    /// By the name of the service's port, else the port's target or its number.
    Named(BTreeMap<String, u32>),
    /// Only the ports listed, by the name of the service's port.
    Only(BTreeMap<String, u32>),
    /// Only those of a ServiceEntry.
    OfEntry(Vec<EntryPort>),
}

/// A port of a ServiceEntry, and where an endpoint of it takes connections for that.
#[derive(Debug, Clone)]
pub(super) struct EntryPort {
    pub name: String,
    pub number: u32,
    pub target: u32,
}

/// All services that are visible to the workload at hand.
#[derive(Debug, Default)]
pub struct Registry {
    pub services: Vec<Service>,
    /// ServiceEntries whose ports do not count.
    pub unmerged: Vec<Unmerged>,
    pub(super) by_host: HashMap<String, Vec<usize>>,
}

impl Registry {
    pub fn new(resources: &Resources, settings: &ProxySettings) -> Self {
        let mut registry = Self::default();
        for service in &resources.services {
            registry.add_kubernetes(service, resources, settings);
        }
        for entry in &resources.service_entries {
            registry.add_entry(entry, resources, settings);
        }
        registry.follow_aliases();
        registry.link_aliases();
        registry
    }

    /// The service of a host, as a rule of `namespace` means it: of that namespace if there is
    /// one, else Kubernetes' before others, else the oldest.
    pub fn find(&self, host: &str, namespace: &str) -> Option<&Service> {
        let candidates = self.by_host.get(&host.to_ascii_lowercase())?;
        let services = || candidates.iter().map(|at| &self.services[*at]);
        services()
            .find(|service| service.namespace == namespace)
            .or_else(|| services().find(|service| service.is_kubernetes))
            .or_else(|| services().next())
    }

    /// Services of a host, the one that wins first.
    pub fn all(&self, host: &str) -> impl Iterator<Item = &Service> {
        let found = self.by_host.get(host).map_or(&[][..], Vec::as_slice);
        let services = found.iter().map(|at| &self.services[*at]);
        let (kubernetes, others): (Vec<_>, Vec<_>) = services.partition(|s| s.is_kubernetes);
        kubernetes.into_iter().chain(others)
    }

    /// The service of a host that a workload of `namespace` sees by default: of its namespace, else
    /// Kubernetes', else the oldest.
    pub fn best(&self, host: &str, namespace: &str) -> Option<usize> {
        let candidates = self.by_host.get(host)?.iter().copied();
        candidates.min_by_key(|at| {
            let service = &self.services[*at];
            (service.namespace != namespace, !service.is_kubernetes)
        })
    }

    /// Keeps these services and forgets the rest; where each is now.
    pub fn keep(&mut self, kept: &BTreeSet<usize>) -> HashMap<usize, usize> {
        let mut moved = HashMap::new();
        let all = std::mem::take(&mut self.services);
        self.by_host.clear();
        for (at, mut service) in all.into_iter().enumerate() {
            if kept.contains(&at) {
                service.aliases.clear();
                let now = self.services.len();
                moved.insert(at, now);
                self.by_host
                    .entry(service.host.clone())
                    .or_default()
                    .push(now);
                self.services.push(service);
            }
        }
        self.link_aliases();
        moved
    }

    fn add(&mut self, service: Service) {
        let known = self.by_host.entry(service.host.clone()).or_default();
        for at in known.iter() {
            let same = &mut self.services[*at];
            if same.namespace == service.namespace && same.alias_of.is_none() {
                self.unmerged.extend(merge(same, service));
                return;
            }
        }
        known.push(self.services.len());
        self.services.push(service);
    }

    fn add_entry(
        &mut self,
        entry: &Object<ServiceEntry>,
        resources: &Resources,
        settings: &ProxySettings,
    ) {
        let Object { metadata, spec } = entry;
        if !is_exported(&spec.export_to, &metadata.namespace, &settings.namespace) {
            return;
        }
        let of_entry = |source| at_ports_of(spec, source);
        let mut sources: Vec<Source> = spec
            .endpoints
            .iter()
            .map(|endpoint| of_entry(source_of(endpoint, None, metadata)))
            .collect();
        if let Some(selector) = &spec.workload_selector {
            let selected = resources.workload_entries.iter().filter(|workload| {
                workload.metadata.namespace == metadata.namespace
                    && selects(&selector.labels, &labels_of_entry(workload))
            });
            sources.extend(selected.map(source_of_entry).map(of_entry));
        }
        let resolution = match spec.resolution.as_deref() {
            Some("STATIC") => Resolution::Static,
            Some("DNS") => Resolution::Dns,
            Some("DNS_ROUND_ROBIN") => Resolution::DnsRoundRobin,
            _ => Resolution::Passthrough,
        };
        let ports = spec.ports.iter().map(|port| Port {
            number: port.number,
            name: port.name.clone(),
            protocol: Protocol::parse(&port.protocol),
            target: (port.target_port > 0).then_some(PortOrName::Number(port.target_port)),
        });
        let ports: Vec<Port> = ports.collect();
        for host in &spec.hosts {
            let host = host.to_ascii_lowercase();
            let by_name = matches!(resolution, Resolution::Dns | Resolution::DnsRoundRobin);
            let mut sources = sources.clone();
            if sources.is_empty() && by_name && spec.workload_selector.is_none() {
                let itself = WorkloadEntry {
                    address: host.clone(),
                    ..WorkloadEntry::default()
                };
                sources.push(of_entry(source_of(&itself, None, metadata)));
            }
            self.add(Service {
                name: host.clone(),
                host,
                namespace: metadata.namespace.clone(),
                ports: ports.clone(),
                resolution,
                is_kubernetes: false,
                is_external: spec.location.as_deref() != Some("MESH_INTERNAL"),
                subject_alt_names: spec.subject_alt_names.clone(),
                addresses: spec.addresses.clone(),
                origin: metadata.origin(FieldPath::root().field("spec").field("hosts")),
                aliases: Vec::new(),
                alias_of: None,
                leads_to: None,
                labels: metadata.labels.clone(),
                traffic_distribution: distribution_of(metadata, None),
                selector: spec
                    .workload_selector
                    .as_ref()
                    .map(|selector| selector.labels.clone())
                    .unwrap_or_default(),
                export_to: spec.export_to.clone(),
                sources,
            });
        }
    }

    fn add_kubernetes(
        &mut self,
        service: &Object<kubernetes::Service>,
        resources: &Resources,
        settings: &ProxySettings,
    ) {
        let Object { metadata, spec } = service;
        let Metadata {
            name, namespace, ..
        } = metadata;
        let host = super::names::resolve_short_name(name, namespace, &settings.domain_suffix);
        if !is_exported(
            &exports_of_service(metadata),
            namespace,
            &settings.namespace,
        ) {
            return;
        }
        let ports = spec.ports.iter().map(|port| Port {
            number: port.port,
            name: port.name.clone(),
            protocol: Protocol::of_service_port(
                port.port,
                &port.name,
                &port.protocol,
                port.app_protocol.as_deref(),
            ),
            target: port.target_port.clone(),
        });
        let is_external = spec.r#type == "ExternalName";
        let headless = spec.cluster_ip == "None";
        let mut addresses: Vec<String> = spec.cluster_ips.clone();
        if addresses.is_empty() {
            addresses.push(spec.cluster_ip.clone());
        }
        addresses.retain(|address| address.parse::<IpAddr>().is_ok());
        let resolution = match (is_external, headless) {
            (true, _) => Resolution::Dns,
            (false, true) => Resolution::Passthrough,
            (false, false) => Resolution::Static,
        };
        let mut sources = Vec::new();
        for slice in &resources.endpoint_slices {
            if is_of_service(slice, name, namespace) {
                sources_of_slice(slice, settings, &mut sources);
            }
        }
        if !spec.selector.is_empty() {
            let selected = resources.workload_entries.iter().filter(|workload| {
                workload.metadata.namespace == *namespace
                    && selects(&spec.selector, &labels_of_entry(workload))
            });
            sources.extend(selected.map(source_of_entry));
        }
        self.add(Service {
            host: host.to_ascii_lowercase(),
            name: name.clone(),
            namespace: namespace.clone(),
            ports: ports.collect(),
            resolution,
            is_kubernetes: true,
            is_external,
            subject_alt_names: Vec::new(),
            addresses,
            origin: metadata.origin(FieldPath::root().field("metadata").field("name")),
            aliases: Vec::new(),
            leads_to: None,
            alias_of: is_external.then(|| spec.external_name.to_ascii_lowercase()),
            labels: metadata.labels.clone(),
            traffic_distribution: distribution_of(metadata, spec.traffic_distribution.as_deref()),
            selector: spec.selector.clone(),
            export_to: Vec::new(),
            sources,
        });
    }
}

/// `exportTo` of a Kubernetes Service, which is an annotation.
pub(super) fn exports_of_service(metadata: &Metadata) -> Vec<String> {
    let written = metadata.annotations.get("networking.istio.io/exportTo");
    let targets = written.map(|list| list.split(',').map(|target| target.trim().to_string()));
    targets.map(Iterator::collect).unwrap_or_default()
}

fn distribution_of(metadata: &Metadata, field: Option<&str>) -> Option<TrafficDistribution> {
    let annotation = metadata.annotations.get(TRAFFIC_DISTRIBUTION);
    TrafficDistribution::of(field, annotation.map(String::as_str))
}

/// Endpoints of one port of a service.
#[derive(Debug, Clone, Default)]
pub struct PortEndpoints {
    pub fixed: Vec<Endpoint>,
    pub named: Vec<DnsTarget>,
}

impl PortEndpoints {
    /// All of them, those whose addresses are not known yet without.
    pub fn known(self) -> Vec<Endpoint> {
        let mut known = self.fixed;
        let unresolved = self.named.into_iter().map(|target| target.template);
        known.extend(unresolved.filter(|endpoint| endpoint.address == UNPLACED));
        known
    }
}

impl Service {
    pub fn labels_for_metrics(&self) -> ServiceLabels {
        ServiceLabels {
            host: self.host.clone(),
            name: self.name.clone(),
            namespace: self.namespace.clone(),
        }
    }

    pub fn port(&self, number: u32) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// Endpoints for a port whose labels include those of the selector.
    pub fn endpoints(&self, port: &Port, selector: &BTreeMap<String, String>) -> PortEndpoints {
        let mut found = PortEndpoints::default();
        for source in self
            .sources
            .iter()
            .filter(|s| selects(selector, &s.endpoint.labels))
        {
            let Some(number) = source.port(port, self.resolution) else {
                continue;
            };
            if let Some(path) = source.address.strip_prefix("unix://") {
                let address = EndpointAddress::Unix(path.to_string());
                found.fixed.push(Endpoint {
                    address,
                    ..source.endpoint.clone()
                });
            } else if let Ok(ip) = source.address.parse::<IpAddr>() {
                let address = EndpointAddress::Socket(SocketAddr::new(ip, number));
                found.fixed.push(Endpoint {
                    address,
                    ..source.endpoint.clone()
                });
                let name = source.address.clone();
                let template = source.endpoint.clone();
                found.named.push(DnsTarget {
                    name,
                    port: number,
                    template,
                });
            } else {
                let name = source.address.trim_end_matches('.').to_ascii_lowercase();
                let template = source.endpoint.clone();
                found.named.push(DnsTarget {
                    name,
                    port: number,
                    template,
                });
            }
        }
        found
    }

    /// The port of its workloads behind a port of the service.
    pub fn target_of(&self, number: u32) -> Option<u32> {
        match &self.port(number)?.target {
            Some(PortOrName::Number(target)) => Some(*target),
            Some(PortOrName::Name(_)) => None,
            None => Some(number),
        }
    }

    /// Whether its endpoints come and go, so that none now does not mean that there are none.
    pub fn chooses_endpoints(&self) -> bool {
        self.is_kubernetes || !self.selector.is_empty()
    }

    /// The port at which a workload takes connections for a port of the service, if it is one of
    /// the service's workloads: by an address of an endpoint, or by labels.
    pub fn target_at(&self, port: &Port, workload: &WorkloadIdentity) -> Option<u16> {
        let of_workload = |source: &&Source| {
            let address = source.address.parse();
            address.is_ok_and(|ip: IpAddr| workload.addresses.contains(&ip))
        };
        if let Some(source) = self.sources.iter().find(of_workload) {
            return source.port(port, self.resolution);
        }
        let selected = !self.selector.is_empty() && selects(&self.selector, &workload.labels);
        let target = selected.then(|| self.target_of(port.number)).flatten();
        target.and_then(|target| u16::try_from(target).ok())
    }

    /// Whether some endpoint has all of these labels.
    pub fn has_labels(&self, selector: &BTreeMap<String, String>) -> bool {
        self.sources
            .iter()
            .any(|source| selects(selector, &source.endpoint.labels))
    }

    /// The address and the place of each endpoint.
    pub fn places(&self) -> impl Iterator<Item = (&str, &str)> {
        let sources = self.sources.iter();
        sources.map(|source| (source.address.as_str(), source.endpoint.locality.as_str()))
    }

    /// Whether an endpoint of this service is the workload that has these addresses.
    pub fn runs_at(&self, addresses: &[IpAddr]) -> bool {
        self.sources.iter().any(|source| {
            source
                .address
                .parse()
                .is_ok_and(|ip: IpAddr| addresses.contains(&ip))
        })
    }
}

impl Source {
    fn port(&self, port: &Port, resolution: Resolution) -> Option<u16> {
        let by_number = matches!(resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        let is_meant = |known: &&EntryPort| match by_number {
            // Istio: `LegacyClusterPortKey`, and `ServicePortName`.
            true => known.number == port.number,
            false => known.name == port.name,
        };
        let number = match &self.ports {
            SourcePorts::OfEntry(ports) => ports.iter().find(is_meant)?.target,
            SourcePorts::Only(ports) => *ports.get(&port.name)?,
            SourcePorts::Named(ports) => match (ports.get(&port.name), &port.target) {
                (Some(number), _) => *number,
                (None, Some(PortOrName::Number(number))) => *number,
                (None, Some(PortOrName::Name(name))) => *ports.get(name)?,
                (None, None) => port.number,
            },
        };
        u16::try_from(number).ok()
    }
}

/// Both its own labels and those of its object, which win (Istio, `ConvertWorkloadEntry`).
pub(super) fn labels_of_entry(workload: &Object<WorkloadEntry>) -> BTreeMap<String, String> {
    let mut labels = workload.spec.labels.clone();
    labels.extend(workload.metadata.labels.clone());
    labels
}

fn source_of_entry(workload: &Object<WorkloadEntry>) -> Source {
    let mut spec = workload.spec.clone();
    spec.labels = labels_of_entry(workload);
    source_of(&spec, Some(&workload.metadata.name), &workload.metadata)
}

fn source_of(entry: &WorkloadEntry, name: Option<&str>, metadata: &Metadata) -> Source {
    Source {
        address: entry.address.clone(),
        ports: SourcePorts::Named(entry.ports.clone()),
        endpoint: Endpoint {
            weight: entry.weight.max(1),
            locality: locality_of(&entry.locality, &entry.labels),
            workload: labels_of_workload(&entry.labels, name, &metadata.namespace),
            labels: labels_with_network(entry),
            service_account: entry.service_account.clone(),
            ..Endpoint::at(UNPLACED)
        },
    }
}

/// Replaced as soon as the port is known.
pub(super) const UNPLACED: EndpointAddress = EndpointAddress::Unix(String::new());

/// The network that an endpoint is written to be in is one of its labels, as Istio has it.
fn labels_with_network(entry: &WorkloadEntry) -> BTreeMap<String, String> {
    let mut labels = entry.labels.clone();
    if !entry.network.is_empty() {
        labels.insert(NETWORK.to_string(), entry.network.clone());
    }
    labels
}
