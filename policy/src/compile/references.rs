//! References to nothing, whether or not a listener of this process would follow them.

use std::collections::HashMap;

use super::Compiler;
use super::findings::Findings;
use super::gateway_tables::resolved_hosts;
use super::names::{
    MESH, cluster_name, is_subset, is_wildcard, overlap, resolve_gateway, resolve_short_name,
};
use super::registry::Service;
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::Object;
use crate::resource::gateway::Gateway;
use crate::resource::virtual_service::{Destination, VirtualService};
use crate::schema::nearest;
use crate::settings::{ProxySettings, Role};
use crate::source::FieldPath;

/// Warns of gateways, hosts, ports and subsets that VirtualServices name and nobody declares.
pub fn report(compiler: &mut Compiler<'_>) {
    report_gateways(compiler);
    let resources = compiler.resources;
    for object in &resources.virtual_services {
        for (index, rule) in object.spec.http.iter().enumerate() {
            let place = || FieldPath::root().field("spec").field("http").index(index);
            let matches = rule.r#match.iter().map(|one| one.gateways.as_slice());
            let from = NamingRule {
                object,
                matches: matches.collect(),
            };
            for (at, route) in rule.route.iter().enumerate() {
                let place = || place().field("route").index(at).field("destination");
                let to = (&route.destination, Carried::Requests);
                report_destination(compiler, &from, to, place);
            }
            if let Some(mirror) = &rule.mirror {
                let to = (mirror, Carried::Copies);
                report_destination(compiler, &from, to, || place().field("mirror"));
            }
            for (at, mirror) in rule.mirrors.iter().enumerate() {
                if let Some(destination) = &mirror.destination {
                    let place = || place().field("mirrors").index(at).field("destination");
                    let to = (destination, Carried::Copies);
                    report_destination(compiler, &from, to, place);
                }
            }
        }
        let tls = object.spec.tls.iter().enumerate();
        let tls = tls.map(|(index, rule)| ("tls", index, &rule.r#match, &rule.route));
        let tcp = object.spec.tcp.iter().enumerate();
        let tcp = tcp.map(|(index, rule)| ("tcp", index, &rule.r#match, &rule.route));
        for (list, index, matches, routes) in tls.chain(tcp) {
            let matches = matches.iter().map(|one| one.gateways.as_slice());
            let from = NamingRule {
                object,
                matches: matches.collect(),
            };
            for (at, route) in routes.iter().enumerate() {
                let place = || {
                    let rule = FieldPath::root().field("spec").field(list).index(index);
                    rule.field("route").index(at).field("destination")
                };
                let to = (&route.destination, Carried::Connections);
                report_destination(compiler, &from, to, place);
            }
        }
    }
}

/// The rule that names a destination.
struct NamingRule<'r> {
    object: &'r Object<VirtualService>,
    /// The gateways that each of its matches names.
    matches: Vec<&'r [String]>,
}

impl NamingRule<'_> {
    /// Whether this proxy has routes of it, by what it is and by the gateways that are named.
    fn is_here(&self, compiler: &Compiler<'_>) -> bool {
        let of_object = self.object.spec.gateways.as_slice();
        let listens = |reference: &str| {
            let name = resolve_gateway(reference, &self.object.metadata.namespace);
            let mut gateways = compiler.resources.gateways.iter();
            gateways.any(|gateway| {
                name == format!("{}/{}", gateway.metadata.namespace, gateway.metadata.name)
                    && compiler.settings.selected_by(&gateway.spec.selector)
            })
        };
        let is_of = |named: &[String]| {
            let named = if named.is_empty() { of_object } else { named };
            match compiler.settings.role {
                Role::Sidecar => named.is_empty() || named.iter().any(|one| one == MESH),
                Role::Gateway => named.iter().any(|one| one != MESH && listens(one)),
            }
        };
        match self.matches.is_empty() {
            true => is_of(&[]),
            false => self.matches.iter().any(|named| is_of(named)),
        }
    }
}

/// Whether some DestinationRule, seen from here or not, gives the host this subset.
fn has_subset_somewhere(compiler: &Compiler<'_>, host: &str, subset: &str) -> bool {
    compiler.resources.destination_rules.iter().any(|rule| {
        let suffix = &compiler.settings.domain_suffix;
        let of = resolve_short_name(&rule.spec.host, &rule.metadata.namespace, suffix);
        of.eq_ignore_ascii_case(host) && rule.spec.subsets.iter().any(|one| one.name == subset)
    })
}

/// What goes to a destination.
#[derive(Clone, Copy)]
enum Carried {
    Requests,
    /// Of requests that go elsewhere too.
    Copies,
    /// Their bytes, whatever they are.
    Connections,
}

impl Carried {
    /// What comes of a destination that is not there.
    fn loss(self) -> &'static str {
        match self {
            Self::Requests => "requests get 503 NC",
            Self::Copies => "the copies are lost, the requests are not touched",
            Self::Connections => "connections are closed",
        }
    }
}

fn report_gateways(compiler: &mut Compiler<'_>) {
    let gateways = compiler.resources.gateways.iter();
    let known: Gateways<'_> = gateways
        .map(|object| {
            let name = format!("{}/{}", object.metadata.namespace, object.metadata.name);
            (name, GatewayHosts::of(object))
        })
        .collect();
    for object in &compiler.resources.virtual_services {
        report_unbound_hosts(compiler.settings, object, &known, &mut compiler.findings);
        for (index, reference) in object.spec.gateways.iter().enumerate() {
            let resolved = resolve_gateway(reference, &object.metadata.namespace);
            if resolved == MESH || known.contains_key(&resolved) {
                continue;
            }
            let place = FieldPath::root()
                .field("spec")
                .field("gateways")
                .index(index);
            let message = format!("there is no gateway `{resolved}`: this binds nothing");
            let help = "name a Gateway as `namespace/name`, or `mesh`";
            let place = Place::Field(object.metadata.origin(place));
            let warning = Diagnostic::warning("unknown-gateway", place, message);
            compiler.findings.add(warning.with_help(help));
        }
    }
}

/// Gateways by `namespace/name`.
type Gateways<'r> = HashMap<String, GatewayHosts<'r>>;

/// Warns where no server of a gateway has a host of the VirtualService that names it, and of hosts
/// that none of its gateways has.
fn report_unbound_hosts(
    settings: &ProxySettings,
    object: &Object<VirtualService>,
    known: &Gateways<'_>,
    findings: &mut Findings,
) {
    let namespace = object.metadata.namespace.as_str();
    let hosts = resolved_hosts(object, settings);
    let field = |name: &str| FieldPath::root().field("spec").field(name);
    let mut is_bound = vec![false; hosts.len()];
    let mut knows_all = !object.spec.gateways.is_empty();
    let mut binds_all = true;
    for (index, reference) in object.spec.gateways.iter().enumerate() {
        let name = resolve_gateway(reference, namespace);
        let Some(gateway) = known.get(&name) else {
            // The mesh has every host.
            knows_all = false;
            continue;
        };
        let mut binds = false;
        for (host, is_bound) in hosts.iter().zip(&mut is_bound) {
            let covers = gateway.covers(host, namespace);
            *is_bound |= covers;
            binds |= covers;
        }
        if !binds && !hosts.is_empty() {
            binds_all = false;
            let message = format!(
                "gateway `{name}` has none of these hosts for namespace `{namespace}`: nothing \
                 is bound there"
            );
            let place = Place::Field(object.metadata.origin(field("gateways").index(index)));
            let servers = gateway.object.metadata.origin(field("servers"));
            let warning = Diagnostic::warning("host-not-in-gateway", place, message)
                .with_help("add a host to `hosts` of a server, or name a host that it has")
                .with_related(servers, "the servers of the gateway");
            findings.add(warning);
        }
    }
    if !knows_all || !binds_all {
        return;
    }
    for (index, (host, is_bound)) in hosts.iter().zip(is_bound).enumerate() {
        if !is_bound {
            let message = format!("no gateway of this VirtualService has the host `{host}`");
            let place = Place::Field(object.metadata.origin(field("hosts").index(index)));
            let help = "add it to `hosts` of a server of the gateway, or remove it";
            findings
                .add(Diagnostic::warning("host-not-in-gateway", place, message).with_help(help));
        }
    }
}

/// The hosts of a gateway's servers, with the namespace whose VirtualServices may bind to each;
/// `None` is any. Exact hosts can be looked up.
struct GatewayHosts<'r> {
    object: &'r Object<Gateway>,
    exact: HashMap<&'r str, Vec<Option<&'r str>>>,
    wildcards: Vec<(&'r str, Option<&'r str>)>,
}

impl<'r> GatewayHosts<'r> {
    fn of(object: &'r Object<Gateway>) -> Self {
        let mut hosts = Self {
            object,
            exact: HashMap::new(),
            wildcards: Vec::new(),
        };
        for host in object.spec.servers.iter().flat_map(|server| &server.hosts) {
            let (owner, host) = match host.split_once('/') {
                None => (None, host.as_str()),
                Some(("*", host)) => (None, host),
                Some((".", host)) => (Some(object.metadata.namespace.as_str()), host),
                Some((owner, host)) => (Some(owner), host),
            };
            match is_wildcard(host) {
                true => hosts.wildcards.push((host, owner)),
                false => hosts.exact.entry(host).or_default().push(owner),
            }
        }
        hosts
    }

    /// Whether a VirtualService of `namespace` with this host binds to a server.
    fn covers(&self, host: &str, namespace: &str) -> bool {
        let may_bind = |owner: &Option<&str>| owner.is_none_or(|owner| owner == namespace);
        let mut wildcards = self.wildcards.iter();
        if wildcards.any(|(known, owner)| may_bind(owner) && overlap(known, host)) {
            return true;
        }
        if is_wildcard(host) {
            let mut exact = self.exact.iter();
            return exact
                .any(|(known, owners)| is_subset(known, host) && owners.iter().any(may_bind));
        }
        self.exact
            .get(host)
            .is_some_and(|owners| owners.iter().any(may_bind))
    }
}

fn report_destination(
    compiler: &mut Compiler<'_>,
    from: &NamingRule<'_>,
    (destination, carried): (&Destination, Carried),
    place: impl Fn() -> FieldPath,
) {
    let settings = compiler.settings;
    let metadata = &from.object.metadata;
    let suffix = &settings.domain_suffix;
    let host = resolve_short_name(&destination.host, &metadata.namespace, suffix);
    let host = host.to_ascii_lowercase();
    let port = destination
        .port
        .as_ref()
        .map(|port| port.number)
        .filter(|port| *port > 0);
    let subset = &destination.subset;
    let loss = carried.loss();
    let registry = &compiler.registry;
    let named = registry.find(&host, &metadata.namespace);
    let hidden = &compiler.hidden_hosts;
    let (code, place, message, help) = match named.map(|named| (named, registry.behind(named))) {
        // The rule is not for this sidecar either: what a rule names is imported with it.
        None if hidden.contains(&host) => return,
        None => {
            let place = Place::Field(metadata.origin(place().field("host")));
            let reason = compiler.unexported.reason(&host, settings);
            let warning = Diagnostic::warning("unknown-host", place, format!("{reason}: {loss}"));
            let otherwise = || unknown_host_help(compiler, &host);
            let warning = compiler
                .unexported
                .help(warning, &host, settings, otherwise);
            compiler.findings.add(warning);
            return;
        }
        Some((named, None)) => (
            "unknown-host",
            place().field("host"),
            format!(
                "`{host}` is an ExternalName of `{}`, which is one too, and a destination follows \
                 one alone: {loss}",
                named.alias_of.as_deref().unwrap_or_default()
            ),
            "name the host that is meant in the end".to_string(),
        ),
        Some((named, Some(_)))
            if named
                .alias_of
                .as_ref()
                .is_some_and(|to| hidden.contains(to)) =>
        {
            return;
        }
        Some((_, Some(service))) => {
            let has_subset = |port: u32| {
                compiler
                    .clusters
                    .id(&cluster_name(port, subset, &service.host))
                    .is_some()
            };
            match port {
                Some(port) if service.port(port).is_none() => (
                    "unknown-port",
                    place(),
                    match service.host == host {
                        true => format!("`{host}` has no port {port}: {loss}"),
                        false => {
                            let to = &service.host;
                            format!("`{host}` leads to `{to}`, which has no port {port}: {loss}")
                        }
                    },
                    choice_of_ports(service),
                ),
                _ if subset.is_empty() || service.ports.iter().any(|p| has_subset(p.number)) => {
                    return;
                }
                // Who has the route may see the rule.
                _ if has_subset_somewhere(compiler, &service.host, subset)
                    && !from.is_here(compiler) =>
                {
                    return;
                }
                _ => (
                    "unknown-subset",
                    place().field("subset"),
                    format!("no DestinationRule for `{host}` has the subset `{subset}`: {loss}"),
                    choice_of_subsets(compiler, service),
                ),
            }
        }
    };
    let place = Place::Field(metadata.origin(place));
    compiler
        .findings
        .add(Diagnostic::warning(code, place, message).with_help(help));
}

/// What to write for a host that nobody declares: one of its name in another namespace, or of
/// nearly its name, if there is one.
pub fn unknown_host_help(compiler: &Compiler<'_>, host: &str) -> String {
    /// With so many findings nobody is helped by guesses, which cost a look at each service.
    const MANY_FINDINGS: usize = 100;
    let plain = "add a ServiceEntry or Service with this host, or correct the name";
    let (name, rest) = host.split_once('.').unwrap_or((host, ""));
    if compiler.findings.len() > MANY_FINDINGS || is_wildcard(host) {
        return plain.to_string();
    }
    let hosts = || compiler.registry.services.iter().map(|s| s.host.as_str());
    // A name without a dot is completed wherever a rule writes it, so nobody can name this service.
    if hosts().any(|other| other == name) {
        return format!(
            "give the ServiceEntry of `{name}` a host with a dot, such as `{name}.example.com`, and \
             write that here: a name without dots is a Kubernetes service of the rule's own \
             namespace"
        );
    }
    let hosts = || hosts().filter(|other| other.contains('.') && *other != host);
    let parts = || hosts().map(|host| host.split_once('.').unwrap_or((host, "")));
    let namesake = parts().find(|(other, _)| *other == name);
    if let Some((name, rest)) = namesake {
        return format!(
            "did you mean `{name}.{rest}`? A name without dots is one of the rule's own namespace"
        );
    }
    let neighbours = parts().filter(|(_, other)| *other == rest);
    match nearest(name, neighbours.map(|(name, _)| name)) {
        Some(near) if name.len() > 2 => {
            format!("did you mean `{near}`? Else add a ServiceEntry or Service with this host")
        }
        _ => plain.to_string(),
    }
}

/// What to write for a subset of a service.
fn choice_of_subsets(compiler: &Compiler<'_>, service: &Service) -> String {
    let clusters = compiler.clusters.list.iter();
    let mut names: Vec<&str> = clusters
        .filter(|cluster| cluster.service.host == service.host && !cluster.subset.is_empty())
        .map(|cluster| cluster.subset.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    match names.is_empty() {
        true => "add the subset to the DestinationRule of this host".to_string(),
        false => format!(
            "add it to the DestinationRule, or write one of {}",
            names.join(", ")
        ),
    }
}

/// What to write for a port of a service.
pub fn choice_of_ports(service: &Service) -> String {
    let ports: Vec<String> = service
        .ports
        .iter()
        .map(|port| port.number.to_string())
        .collect();
    match ports.is_empty() {
        true => format!("write `ports:` where `{}` is declared", service.host),
        false => format!("set `port.number` to one of {}", ports.join(", ")),
    }
}
