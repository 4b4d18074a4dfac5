//! `tcp[]` and `tls[]` of a VirtualService: where the bytes of a connection go.

use super::Compiler;
use super::clusters::Clusters;
use super::destination_rules::RuleIndex;
use super::names::{cluster_name, resolve_short_name};
use super::registry::{Registry, Service};
use crate::resource::Metadata;
use crate::resource::virtual_service::{Destination, RouteDestination};
use crate::settings::{ProxySettings, duration};
use crate::snapshot::{TcpDestination, TcpRoute};
use crate::source::{FieldPath, Origin};

/// How long a connection may be silent where nobody says otherwise. Envoy: `idle_timeout` of the
/// TCP proxy.
pub const DEFAULT_IDLE_TIMEOUT_MS: u64 = 3_600_000;

/// What routes of bytes are compiled for.
#[derive(Clone, Copy)]
pub struct Layer4Scope<'a> {
    pub settings: &'a ProxySettings,
    pub registry: &'a Registry,
    pub clusters: &'a Clusters,
    pub policies: &'a RuleIndex<'a>,
    /// The port as it was written at the gateway, or of the services of a sidecar's listener.
    pub listen_port: u32,
}

/// A rule of `tcp` or `tls`.
pub struct Layer4Rule<'a> {
    pub metadata: &'a Metadata,
    /// In that document.
    pub place: FieldPath,
    pub route: &'a [RouteDestination],
}

impl<'r> Compiler<'r> {
    pub fn layer4(&self, listen_port: u32) -> Layer4Scope<'_> {
        Layer4Scope {
            settings: self.settings,
            registry: &self.registry,
            clusters: &self.clusters,
            policies: &self.policies,
            listen_port,
        }
    }
}

impl Layer4Scope<'_> {
    /// The route of a rule; `None` when no destination of it has a weight.
    pub fn route(&self, rule: &Layer4Rule<'_>) -> Option<TcpRoute> {
        let Layer4Rule {
            metadata,
            place,
            route,
        } = rule;
        let first = self.service_of(&route.first()?.destination, metadata);
        let mut destinations = Vec::new();
        for (index, written) in route.iter().enumerate() {
            if route.len() > 1 && written.weight <= 0 {
                continue;
            }
            let service = self.service_of(&written.destination, metadata);
            let name = self.cluster_of(&written.destination, metadata, service);
            destinations.push(TcpDestination {
                cluster: self.clusters.id(&name),
                cluster_name: name,
                weight: u32::try_from(written.weight).unwrap_or(u32::MAX).max(1),
                origin: Some(metadata.origin(place.field("route").index(index))),
            });
        }
        let name = match destinations.as_slice() {
            [] => return None,
            [only] if route.len() == 1 => only.cluster_name.clone(),
            _ => format!("{}.{}", metadata.name, metadata.namespace),
        };
        let origin = Some(metadata.origin(place.clone()));
        Some(self.with_times(name, destinations, origin, first))
    }

    /// A route to one cluster, with the times of its service if it is one's.
    pub fn route_to(&self, cluster_name: String, service: Option<&Service>) -> TcpRoute {
        let destination = TcpDestination {
            cluster: self.clusters.id(&cluster_name),
            cluster_name: cluster_name.clone(),
            weight: 1,
            origin: None,
        };
        self.with_times(cluster_name, vec![destination], None, service)
    }

    /// Istio asks the DestinationRule of the first destination, without its subsets and ports.
    fn with_times(
        &self,
        name: String,
        destinations: Vec<TcpDestination>,
        origin: Option<Origin>,
        service: Option<&Service>,
    ) -> TcpRoute {
        let rule = service.and_then(|service| self.policies.find(service));
        let policy = rule.and_then(|rule| rule.policy);
        let tcp = policy.and_then(|policy| policy.value.connection_pool.as_ref()?.tcp.as_ref());
        let ms = |text: &Option<String>| duration::parse_ms(text.as_deref()?).ok();
        let idle = tcp.and_then(|tcp| ms(&tcp.idle_timeout));
        TcpRoute {
            name,
            destinations,
            idle_timeout_ms: Some(idle.unwrap_or(DEFAULT_IDLE_TIMEOUT_MS)).filter(|ms| *ms > 0),
            max_connection_duration_ms: tcp
                .and_then(|tcp| ms(&tcp.max_connection_duration))
                .filter(|ms| *ms > 0),
            origin,
        }
    }

    fn service_of(&self, destination: &Destination, metadata: &Metadata) -> Option<&Service> {
        let host = self.host_of(destination, metadata);
        self.registry.find(&host, &self.settings.namespace)
    }

    fn host_of(&self, destination: &Destination, metadata: &Metadata) -> String {
        let suffix = &self.settings.domain_suffix;
        resolve_short_name(&destination.host, &metadata.namespace, suffix).to_ascii_lowercase()
    }

    /// The port that is written, else the only one of the service, else that of the listener.
    fn cluster_of(
        &self,
        destination: &Destination,
        metadata: &Metadata,
        service: Option<&Service>,
    ) -> String {
        let written = destination.port.as_ref().map(|port| port.number);
        let port = match (written.filter(|port| *port > 0), service) {
            (Some(port), _) => port,
            (None, Some(service)) if service.ports.len() == 1 => service.ports[0].number,
            (None, _) => self.listen_port,
        };
        let host = self.host_of(destination, metadata);
        let target = service.and_then(|service| service.alias_of.clone());
        cluster_name(port, &destination.subset, &target.unwrap_or(host))
    }
}
