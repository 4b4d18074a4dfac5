//! The proxy that the requests of test cases are shown to: the configuration under test, completed
//! where it leans on documents that are not at hand.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_yaml::Value;

use crate::compile::names::{MESH, is_subset, is_wildcard, resolve_gateway, resolve_short_name};
use crate::diagnostic::Diagnostic;
use crate::explain::wording;
use crate::settings::{Overrides, Role};
use crate::snapshot::{
    ConnectionFacts, Decision, Direction, DnsTable, Listener, Mismatch, RequestFacts, Route,
    RouteTable, Snapshot, Trace, VirtualHost, path, without_port,
};
use crate::source::SourceFile;
use crate::yaml::{self, Document};

/// One request of a case.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'r> {
    pub method: &'r str,
    pub authority: &'r str,
    /// With its query.
    pub target: &'r str,
    pub headers: &'r Vec<(String, String)>,
    pub gateway: Option<&'r str>,
    pub port: Option<u16>,
    pub scheme: Option<&'r str>,
}

/// What the proxy does with a request.
#[derive(Debug, Clone)]
pub(super) struct Decided<'s> {
    pub virtual_host: Option<&'s VirtualHost>,
    pub route: Option<&'s Route>,
    /// [`Route::identity`] of the routes before it, and why they do not match.
    pub passed_over: Vec<(u64, String)>,
    /// Why there is no route.
    pub reason: String,
}

pub(super) struct Proxy {
    pub documents: Vec<Document>,
    pub domain_suffix: String,
    /// For either side of the mesh, the one that the configuration is for first.
    snapshots: Vec<(Role, Snapshot)>,
}

impl Proxy {
    /// # Errors
    ///
    /// What is wrong with a configuration that is refused.
    pub(super) fn load(
        files: &[SourceFile],
        overrides: &Overrides,
    ) -> Result<Self, Vec<Diagnostic>> {
        let loaded = crate::load(files, overrides, &DnsTable::default());
        let Some(plain) = loaded.snapshot else {
            return Err(loaded.diagnostics);
        };
        let own = plain.settings.role;
        let other = match own {
            Role::Gateway => Role::Sidecar,
            Role::Sidecar => Role::Gateway,
        };
        let (documents, _) = yaml::parse(files);
        let domain_suffix = plain.settings.domain_suffix.clone();
        let mut completed = files.to_vec();
        completed.push(SourceFile {
            path: String::new(),
            text: additions(&documents),
        });
        let mut snapshots = Vec::new();
        for role in [own, other] {
            let overrides = Overrides {
                role: Some(role),
                ..overrides.clone()
            };
            let loaded = crate::load(&completed, &overrides, &DnsTable::default());
            snapshots.extend(loaded.snapshot.map(|snapshot| (role, snapshot)));
        }
        if snapshots.is_empty() {
            snapshots.push((own, plain));
        }
        Ok(Self {
            documents,
            domain_suffix,
            snapshots,
        })
    }

    /// The route for a request, by the listener that knows its host best: that has it exactly
    /// rather than by a wildcard, and by a long wildcard rather than by a short one.
    pub(super) fn decide(&self, request: &Request<'_>) -> Decided<'_> {
        let best = self.best(request);
        if let Some((Rank::Exact, decided)) = best {
            return decided;
        }
        // A short name means what it means to the VirtualServices that write it.
        for name in self.full_names(without_port(request.authority)) {
            let request = Request {
                authority: &name,
                ..*request
            };
            if let Some((Rank::Exact, decided)) = self.best(&request) {
                return decided;
            }
        }
        best.map_or_else(|| refused("nothing listens for it"), |(_, decided)| decided)
    }

    fn best(&self, request: &Request<'_>) -> Option<(Rank, Decided<'_>)> {
        let mut best: Option<((Rank, bool, bool), Decided<'_>)> = None;
        for (role, snapshot) in &self.snapshots {
            for listener in snapshot
                .listeners
                .iter()
                .filter(|l| is_asked(l, *role, request))
            {
                let port = listener.address.port();
                let named = request.authority.rsplit_once(':').map(|(_, port)| port);
                let is_other_port = named.is_some_and(|named| named != port.to_string());
                for table in listener.route_tables() {
                    let (decided, rank, redirects) = decide_by(table, request);
                    let rank = (rank, redirects, is_other_port);
                    if best.as_ref().is_none_or(|(known, _)| rank < *known) {
                        best = Some((rank, decided));
                    }
                }
            }
        }
        best.map(|((rank, _, _), decided)| (rank, decided))
    }

    /// What a name without a dot may stand for.
    fn full_names(&self, host: &str) -> Vec<String> {
        let mut names = BTreeSet::new();
        if !host.contains('.') {
            for service in virtual_services(&self.documents) {
                if texts(&service.value["spec"]["hosts"]).any(|written| written == host) {
                    names.insert(resolve_short_name(
                        host,
                        &service.namespace,
                        &self.domain_suffix,
                    ));
                }
            }
        }
        names.into_iter().collect()
    }
}

/// How well a virtual host fits a host; the least is best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Exact,
    /// By how many characters the wildcard falls short of the longest one there can be.
    Wildcard(usize),
    /// Any host, by a rule of the mesh for what nobody declares.
    Unknown,
    None,
}

fn is_asked(listener: &Listener, role: Role, request: &Request<'_>) -> bool {
    let is_gateway_asked = match request.gateway {
        None => true,
        Some(MESH) => role == Role::Sidecar,
        Some(name) => listener.gateways.iter().any(|known| known == name),
    };
    let is_port = request
        .port
        .is_none_or(|port| listener.address.port() == port);
    listener.direction != Direction::Inbound && is_gateway_asked && is_port
}

/// The decision of one table, how well it knows the host, and whether it only redirects to HTTPS.
fn decide_by<'s>(table: &'s RouteTable, request: &Request<'_>) -> (Decided<'s>, Rank, bool) {
    let (target, query) = match request.target.split_once('?') {
        Some((target, query)) => (target, Some(query)),
        None => (request.target, None),
    };
    let normal = match path::normalize(target) {
        Ok(normal) => normal,
        Err(error) => return (refused(&format!("400: {error}")), Rank::None, false),
    };
    let facts = RequestFacts {
        method: request.method,
        scheme: request.scheme.unwrap_or("http"),
        authority: request.authority,
        path: &normal,
        query,
        headers: request.headers,
        connection: ConnectionFacts::UNKNOWN,
    };
    let mut watch = Watch {
        facts,
        passed_over: Vec::new(),
    };
    let mut decision = table.route_traced(&facts, &mut watch);
    let redirects = matches!(decision, Decision::HttpsRedirect(_));
    if redirects && request.scheme.is_none() {
        let facts = RequestFacts {
            scheme: "https",
            ..facts
        };
        watch.facts = facts;
        decision = table.route_traced(&facts, &mut watch);
    }
    let (virtual_host, route, reason) = match decision {
        Decision::Route {
            virtual_host,
            route,
        } => (Some(virtual_host), Some(route), ""),
        Decision::NoRoute(virtual_host) => (Some(virtual_host), None, "no route matches: 404 NR"),
        Decision::HttpsRedirect(virtual_host) => (
            Some(virtual_host),
            None,
            "the server redirects to https: 301",
        ),
        Decision::NoVirtualHost => (None, None, "no virtual host has this host: 404 NR"),
    };
    let host = without_port(request.authority).to_ascii_lowercase();
    let rank = virtual_host.map_or(Rank::None, |found| rank(found, route, &host));
    let mut decided = Decided {
        virtual_host,
        route,
        passed_over: watch.passed_over,
        reason: reason.to_string(),
    };
    if rank == Rank::Unknown {
        decided.route = None;
        decided.reason = "no VirtualService or service has this host".to_string();
    }
    (decided, rank, redirects)
}

fn rank(found: &VirtualHost, route: Option<&Route>, host: &str) -> Rank {
    /// Longer than any host.
    const LONGEST: usize = 1 << 16;
    let is_of_nobody = route.is_some_and(|route| route.origin.is_none());
    if found.domains.iter().any(|domain| domain == host) {
        return Rank::Exact;
    }
    let wildcards = found.domains.iter().filter(|domain| is_wildcard(domain));
    let covering = wildcards.filter(|domain| is_subset(host, domain));
    match covering.map(String::len).max() {
        Some(1) if is_of_nobody => Rank::Unknown,
        Some(length) => Rank::Wildcard(LONGEST - length.min(LONGEST)),
        None => Rank::Wildcard(LONGEST),
    }
}

fn refused<'s>(reason: &str) -> Decided<'s> {
    Decided {
        virtual_host: None,
        route: None,
        passed_over: Vec::new(),
        reason: reason.to_string(),
    }
}

/// Follows the matcher.
struct Watch<'r> {
    facts: RequestFacts<'r>,
    passed_over: Vec<(u64, String)>,
}

impl Trace for Watch<'_> {
    const WATCHING: bool = true;

    fn passed_over(&mut self, route: &Route, mismatch: Mismatch<'_>) {
        let because = wording::of_mismatch(mismatch, &self.facts);
        self.passed_over.push((route.identity, because));
    }
}

pub(super) fn virtual_services(documents: &[Document]) -> impl Iterator<Item = &Document> {
    documents.iter().filter(|d| d.kind == "VirtualService")
}

pub(super) fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let items = value.as_sequence().into_iter().flatten();
    items.filter_map(Value::as_str)
}

/// What VirtualServices lean on and the configuration does not have: tests are often run on a part
/// of it. Gateways that they name get one that has every host, delegates that they name answer by
/// themselves, and the mesh gets a port 80, at which Istio honours hosts that nobody declares.
fn additions(documents: &[Document]) -> String {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {name: port-80, namespace: routing-tests}\n\
         spec:\n  hosts: [port-80.routing-tests.invalid]\n  resolution: NONE\n  \
         ports: [{number: 80, name: http, protocol: HTTP}]\n",
    );
    let named = |kind: &'static str| {
        let of_kind = documents.iter().filter(move |d| d.kind == kind);
        of_kind.map(|d| format!("{}/{}", d.namespace, d.name))
    };
    let mut known: BTreeSet<String> = named("Gateway").collect();
    let mut services: BTreeSet<String> = named("VirtualService").collect();
    let mut count = 0;
    for service in virtual_services(documents) {
        let spec = &service.value["spec"];
        for reference in texts(&spec["gateways"]) {
            let name = resolve_gateway(reference, &service.namespace);
            if name != MESH && known.insert(name.clone()) {
                count += 1;
                // An address of its own, so that it is merged with no other.
                let address = format!("127.77.{}.{}", count / 256, count % 256);
                write_head(&mut text, "Gateway", &name);
                let _ = write!(
                    text,
                    "spec:\n  servers:\n  - port: {{number: 80, name: http, protocol: HTTP}}\n    \
                     bind: {address}\n    hosts: [\"*\"]\n"
                );
            }
        }
        for rule in spec["http"].as_sequence().into_iter().flatten() {
            let delegate = &rule["delegate"];
            let Some(name) = delegate["name"].as_str() else {
                continue;
            };
            let namespace = delegate["namespace"]
                .as_str()
                .filter(|text| !text.is_empty());
            let name = format!("{}/{name}", namespace.unwrap_or(&service.namespace));
            if services.insert(name.clone()) {
                write_head(&mut text, "VirtualService", &name);
                text += "spec:\n  http:\n  - directResponse: {status: 200}\n";
            }
        }
    }
    text
}

fn write_head(text: &mut String, kind: &str, name: &str) {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let _ = write!(
        text,
        "---\napiVersion: networking.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: {}, namespace: {}}}\n",
        quoted(name),
        quoted(namespace)
    );
}
