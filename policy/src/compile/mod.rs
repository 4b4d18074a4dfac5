//! Resources → one snapshot, as Istio would have told Envoy, and warnings about what Istio leaves
//! silent: references to nothing, duplicates, and what can never be reached.

mod admin_address;
mod advice;
mod aliases;
mod authentication;
mod authorization;
mod balancing;
mod base64;
mod byte_rules;
mod claim_matches;
mod client_tls;
mod clusters;
mod delegates;
mod destination_rules;
mod duplicate_services;
mod endpoint_slices;
mod findings;
mod gateway_bindings;
mod gateway_chains;
mod gateway_tables;
mod gateways;
mod header_operations;
mod http_match;
mod idle_access_rules;
mod idle_destination_rules;
mod idle_http_policies;
mod idle_imports;
mod idle_ports;
mod impossible_matches;
mod layer4;
pub(crate) mod names;
mod no_endpoints;
mod other_role;
mod peer_authentication;
mod peer_findings;
mod policy_fields;
mod policy_findings;
mod policy_targets;
mod reached;
mod references;
mod registry;
mod retry_headers;
mod route_list;
mod route_policies;
mod routes;
mod rule_conflicts;
mod server_tls;
mod service_merge;
mod shared_certificates;
mod sidecar;
mod sidecar_bytes;
mod sidecar_inbound;
mod sidecar_outbound;
mod sidecar_scope;
mod sidecar_tables;
mod unbound_rules;
mod unexported;
mod unknown_destinations;
mod unreachable;
mod unrouted_rules;
mod virtual_hosts;
mod workload;
mod workload_ports;

use std::collections::HashSet;
use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::resource::virtual_service::VirtualService;
use crate::resource::{Object, Resources};
use crate::settings::{ProxySettings, Role};
use crate::snapshot::{Access, DnsTable, Secrets, Snapshot};

pub(crate) use route_policies::default_retry;

use balancing::{ProxyPlaces, proxy_places};
use byte_rules::ByteRules;
use clusters::Clusters;
use destination_rules::RuleIndex;
use findings::Findings;
use peer_authentication::PeerModes;
use reached::Reached;
use registry::Registry;
pub(crate) use route_policies::FAULT_SIDE;
use sidecar_scope::Scope;
use unexported::Unexported;
use virtual_hosts::Splits;

/// What the parts of the compiler share.
struct Compiler<'r> {
    resources: &'r Resources,
    settings: &'r ProxySettings,
    registry: Registry,
    policies: RuleIndex<'r>,
    peers: PeerModes,
    clusters: Clusters,
    splits: Splits,
    findings: Findings,
    /// Of each VirtualService, in their order.
    http_rules: Vec<Vec<delegates::Rule<'r>>>,
    /// Where the proxies of this workload are.
    proxies: ProxyPlaces,
    /// Hosts that are declared, but not imported by the Sidecar at hand.
    hidden_hosts: HashSet<String>,
    /// VirtualServices with routes in some table of this sidecar, or with none for it at all.
    bound_rules: HashSet<usize>,
    /// Hosts that are declared, but not for this namespace.
    unexported: Unexported,
    /// What the servers of gateways that carry bytes have come to.
    byte_rules: ByteRules,
}

/// Compiles what validation has let pass. The diagnostics hold an error only for what validation
/// overlooked; then the snapshot must not be used.
pub fn compile(
    resources: &Resources,
    settings: Arc<ProxySettings>,
    resolved: &DnsTable,
) -> (Snapshot, Vec<Diagnostic>) {
    let mut compiler = Compiler {
        resources,
        settings: &settings,
        registry: Registry::new(resources, &settings),
        policies: RuleIndex::new(resources, &settings),
        peers: PeerModes::new(resources, &settings),
        clusters: Clusters::default(),
        splits: Splits::default(),
        findings: Findings::default(),
        http_rules: Vec::new(),
        proxies: ProxyPlaces::default(),
        hidden_hosts: HashSet::new(),
        bound_rules: HashSet::new(),
        unexported: Unexported::new(resources, &settings),
        byte_rules: ByteRules::default(),
    };
    compiler.findings.name_all(&resources.virtual_services);
    compiler.http_rules = delegates::rules(resources, &settings, &mut compiler.findings);
    // Before a sidecar leaves out what it does not see.
    compiler.proxies = proxy_places(&compiler.registry, &settings);
    aliases::report_circles(&compiler.registry, &mut compiler.findings);
    duplicate_services::report(&compiler.registry, &mut compiler.findings);
    duplicate_services::report_protocols(resources, &settings, &mut compiler.findings);
    let (listeners, doors) = match settings.role {
        Role::Gateway => {
            compiler.build_clusters();
            let listeners = gateways::build_listeners(&mut compiler);
            shared_certificates::report(&listeners, &mut compiler.findings);
            (listeners, None)
        }
        Role::Sidecar => {
            let mut registry = std::mem::take(&mut compiler.registry);
            // Its own ports are those of all services, whatever it sees of others.
            let own_ports = sidecar_inbound::ports_of_services(&registry, &settings);
            let mut scope = Scope::new(&compiler, &mut registry);
            compiler.hidden_hosts = std::mem::take(&mut scope.hidden);
            compiler.registry = registry;
            compiler.build_clusters();
            let (listeners, doors) = sidecar::build_listeners(&scope, own_ports, &mut compiler);
            unbound_rules::report(&scope, &mut compiler);
            (listeners, Some(doors))
        }
    };
    references::report(&mut compiler);
    impossible_matches::report(&mut compiler);
    claim_matches::report(&mut compiler);
    gateway_bindings::report(&mut compiler);
    byte_rules::report(&mut compiler);
    idle_imports::report(&mut compiler);
    idle_ports::report(&mut compiler);
    unknown_destinations::report(&mut compiler);
    unrouted_rules::report(&mut compiler);
    rule_conflicts::report(&mut compiler);
    policy_findings::report(&mut compiler, &listeners);
    idle_access_rules::report(&mut compiler, &listeners);
    peer_findings::report(&mut compiler, &listeners);
    advice::report(&listeners, &compiler.clusters.list, &mut compiler.findings);
    let reached = Reached::new(&listeners, doors.as_ref());
    idle_http_policies::report(&reached, &compiler.clusters.list, &mut compiler.findings);
    idle_destination_rules::report(&reached, &mut compiler);
    no_endpoints::report(&reached, &mut compiler);
    other_role::report(&mut compiler);
    workload_ports::report(&mut compiler);
    let Compiler {
        registry,
        clusters,
        splits,
        mut findings,
        ..
    } = compiler;
    let access = Access {
        authentication: authentication::authentication(
            &resources.request_authentications,
            &settings,
            &mut findings,
        ),
        authorization: authorization::authorization(
            &resources.authorization_policies,
            &settings,
            &registry,
            &clusters,
        )
        .map(Arc::new),
    };
    let mut snapshot = Snapshot::new(
        settings.clone(),
        listeners,
        clusters.list,
        splits.identities,
        resolved,
    )
    .with_access(access);
    snapshot.secrets = Arc::new(secrets(resources));
    snapshot.doors = doors;
    admin_address::report(&snapshot, &resources.proxy_settings, &mut findings);
    (snapshot, findings.into_list())
}

/// What `Secret` documents hold, decoded.
fn secrets(resources: &Resources) -> Secrets {
    let mut secrets = Secrets::default();
    for object in &resources.secrets {
        let encoded = object.spec.data.iter();
        let decoded = encoded.filter_map(|(key, text)| Some((key.clone(), base64::decode(text)?)));
        let plain = object.spec.string_data.iter();
        let plain = plain.map(|(key, text)| (key.clone(), text.clone().into_bytes()));
        let entries = decoded.chain(plain).collect();
        secrets.insert(&object.metadata.namespace, &object.metadata.name, entries);
    }
    secrets
}

impl<'r> Compiler<'r> {
    fn build_clusters(&mut self) {
        self.clusters = Clusters::new(
            &self.registry,
            &self.policies,
            &self.peers,
            self.settings,
            &self.proxies,
            &mut self.findings,
        );
    }

    /// The VirtualServices that `applies`, with their index: first those that only the namespace
    /// of the workload sees, then those exported to it by name, then those for all.
    fn virtual_services(
        &self,
        applies: impl Fn(&Object<VirtualService>) -> bool,
    ) -> Vec<(usize, &'r Object<VirtualService>)> {
        let rank = |object: &Object<VirtualService>| {
            let export_to = &object.spec.export_to;
            if export_to.is_empty() || export_to.iter().any(|target| target == "*") {
                2
            } else if export_to.iter().any(|target| target == ".") {
                0
            } else {
                1
            }
        };
        let all = self.resources.virtual_services.iter().enumerate();
        let mut selected: Vec<_> = all.filter(|(_, object)| applies(object)).collect();
        selected.sort_by_key(|(_, object)| rank(object));
        selected
    }
}
