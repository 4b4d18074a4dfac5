//! The proxy that the requests of test cases are shown to: the configuration under test, completed
//! where it leans on documents that are not at hand.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_yaml::Value;

use crate::compile::names::{MESH, resolve_gateway, resolve_short_name};
use crate::diagnostic::Diagnostic;
use crate::inquiry::{Decided, Inquiry, Rank, Refusal};
use crate::settings::{self, Overrides, Role};
use crate::snapshot::{Direction, DnsTable, Listener, Snapshot, without_port};
use crate::source::SourceFile;
use crate::yaml::{self, Document};

/// What is told about rules that are not taken over from delegates.
const DELEGATE_CODES: [&str; 2] = ["delegate-conflict", "delegate-not-exported"];

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

pub(super) struct Proxy {
    pub documents: Vec<Document>,
    pub domain_suffix: String,
    /// Warnings about rules that are not taken over from delegates.
    pub left_out: Vec<Diagnostic>,
    /// What a process with this configuration would be; `None` where nothing in it says so.
    role: Option<Role>,
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
        let mut left_out = loaded.diagnostics;
        left_out.retain(|found| DELEGATE_CODES.contains(&found.code));
        Ok(Self {
            role: says_role(&documents, overrides).then_some(own),
            left_out,
            documents,
            domain_suffix,
            snapshots,
        })
    }

    /// The route for a request, by the listener that knows its host best: that has it exactly
    /// rather than by a wildcard, and by a long wildcard rather than by a short one. Where it is
    /// known whether the process is a gateway or a sidecar, only what that has is asked.
    pub(super) fn decide(&self, request: &Request<'_>) -> Decided<'_> {
        self.decide_as(self.role_for(request), request)
    }

    /// What this process would be, if the other one takes the request and this one does not.
    pub(super) fn is_for_other_role(&self, request: &Request<'_>) -> Option<Role> {
        let own = self.role_for(request)?;
        let other = match own {
            Role::Gateway => Role::Sidecar,
            Role::Sidecar => Role::Gateway,
        };
        let there = self.decide_as(Some(other), request);
        let is_written = there.route.is_some_and(|route| route.origin.is_some());
        (is_written && !there.is_for_unknown_hosts()).then_some(own)
    }

    /// A case that names who receives its requests is asked of that.
    fn role_for(&self, request: &Request<'_>) -> Option<Role> {
        self.role.filter(|_| request.gateway.is_none())
    }

    fn decide_as(&self, role: Option<Role>, request: &Request<'_>) -> Decided<'_> {
        let best = self.best(role, request);
        if let Some((Rank::Exact, decided)) = best {
            return decided;
        }
        // A short name means what it means to the VirtualServices that write it.
        for name in self.full_names(without_port(request.authority)) {
            let request = Request {
                authority: &name,
                ..*request
            };
            if let Some((Rank::Exact, decided)) = self.best(role, &request) {
                return decided;
            }
        }
        best.map_or_else(
            || Decided::refused(Refusal::NoListener),
            |(_, decided)| decided,
        )
    }

    fn best(&self, only: Option<Role>, request: &Request<'_>) -> Option<(Rank, Decided<'_>)> {
        let mut best: Option<((Rank, bool, bool), Decided<'_>)> = None;
        let is_running = |role: Role| only.is_none_or(|only| only == role);
        for (role, snapshot) in self.snapshots.iter().filter(|(role, _)| is_running(*role)) {
            let inquiry = Inquiry {
                method: request.method,
                authority: request.authority,
                target: request.target,
                headers: request.headers,
                paths: snapshot.settings.path_normalization,
                scheme: request.scheme,
            };
            let listeners = snapshot.listeners.iter();
            for listener in listeners.filter(|listener| is_asked(listener, *role, request)) {
                let port = listener.address.port();
                let named = request.authority.rsplit_once(':').map(|(_, port)| port);
                let is_other_port = named.is_some_and(|named| named != port.to_string());
                for table in listener.route_tables() {
                    let decided = inquiry.decide_by(table, listener.direction);
                    let rank = (decided.rank, decided.redirects, is_other_port);
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

/// Whether the configuration says what its process is: a part of one, of VirtualServices alone, does
/// not.
fn says_role(documents: &[Document], overrides: &Overrides) -> bool {
    let mut documents = documents.iter();
    overrides.role.is_some()
        || documents.any(|document| {
            let is_settings = document.kind == settings::KIND;
            document.kind == "Gateway" && document.api_version.starts_with(ISTIO_NETWORKING)
                || is_settings && !document.value["spec"]["role"].is_null()
        })
}

const ISTIO_NETWORKING: &str = "networking.istio.io/";

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
