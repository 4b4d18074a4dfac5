//! PeerAuthentications that do not count, or where nothing comes in by this proxy: in each case plain
//! text may be taken where somebody has written STRICT.

use std::sync::Arc;

use super::Compiler;
use super::registry::{Port, Service};
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::kubernetes::PortOrName;
use crate::resource::peer_authentication::PeerAuthentication;
use crate::resource::{Metadata, Object};
use crate::settings::Role;
use crate::snapshot::{Direction, Listener};
use crate::source::{FieldPath, Origin};

type Policy = Object<PeerAuthentication>;

/// Warns of each of them.
pub fn report(compiler: &mut Compiler<'_>, listeners: &[Arc<Listener>]) {
    let policies = &compiler.resources.peer_authentications;
    for (at, policy) in policies.iter().enumerate() {
        if labels_of(policy).is_some()
            && policy.metadata.namespace == compiler.settings.root_namespace
        {
            report_root_selector(compiler, &policy.metadata);
            continue;
        }
        match policies[..at]
            .iter()
            .find(|older| is_for_same(older, policy))
        {
            Some(older) => report_duplicate(compiler, policy, older),
            None => report_ports(compiler, policy),
        }
    }
    report_unused(compiler, listeners);
}

fn warn(compiler: &mut Compiler<'_>, code: &'static str, at: Origin, message: &str, help: &str) {
    let warning = Diagnostic::warning(code, Place::Field(at), message);
    compiler.findings.add(warning.with_help(help));
}

/// A field of `spec`.
fn origin(metadata: &Metadata, field: &str) -> Origin {
    metadata.origin(FieldPath::root().field("spec").field(field))
}

/// The labels that it selects by, sorted; `None` where it is for all workloads.
fn labels_of(policy: &Policy) -> Option<Vec<(&String, &String)>> {
    let selector = policy.spec.selector.as_ref()?;
    let mut labels: Vec<_> = selector.match_labels.iter().collect();
    labels.sort_unstable();
    (!labels.is_empty()).then_some(labels)
}

fn is_for_same(one: &Policy, other: &Policy) -> bool {
    one.metadata.namespace == other.metadata.namespace && labels_of(one) == labels_of(other)
}

fn report_root_selector(compiler: &mut Compiler<'_>, metadata: &Metadata) {
    let message = format!(
        "`{}` is the root namespace, where a policy with a selector counts for no workload",
        metadata.namespace
    );
    let help = "put it into the namespace of the workloads";
    let at = origin(metadata, "selector");
    warn(compiler, "no-effect", at, &message, help);
}

/// Of two for the same workloads the oldest counts alone.
fn report_duplicate(compiler: &mut Compiler<'_>, policy: &Policy, older: &Policy) {
    let message = format!(
        "the older PeerAuthentication `{}` is for the same workloads: this one does not count",
        older.metadata.name
    );
    let place = |policy: &Policy| policy.metadata.origin(FieldPath::root().field("spec"));
    let warning = Diagnostic::warning("duplicate-rule", Place::Field(place(policy)), message)
        .with_help("write both into one document")
        .with_related(place(older), "the policy that counts");
    compiler.findings.add(warning);
}

/// Ports that are those of a Service, where they have to be those of the workload.
fn report_ports(compiler: &mut Compiler<'_>, policy: &Policy) {
    let Some(selector) = policy.spec.selector.as_ref() else {
        return;
    };
    let wanted = &selector.match_labels;
    let is_of_workload = |service: &&Service| {
        let mut labels = service.selector.iter();
        service.namespace == policy.metadata.namespace
            && !service.selector.is_empty()
            && labels.all(|(key, value)| wanted.get(key) == Some(value))
    };
    let services: Vec<&Service> = compiler
        .registry
        .services
        .iter()
        .filter(is_of_workload)
        .collect();
    let ports: Vec<&Port> = services.iter().flat_map(|service| &service.ports).collect();
    let mut found = Vec::new();
    for number in policy.spec.port_level_mtls.keys() {
        let listens = |port: &&&Port| match &port.target {
            Some(PortOrName::Number(target)) => target == number,
            Some(PortOrName::Name(_)) => true,
            None => port.number == *number,
        };
        let of_service = ports.iter().find(|port| port.number == *number);
        let (Some(port), None) = (of_service, ports.iter().find(listens)) else {
            continue;
        };
        if let Some(PortOrName::Number(target)) = &port.target {
            found.push((*number, *target));
        }
    }
    for (number, target) in found {
        let message = format!(
            "{number} is the port of a Service; its workloads listen at {target}, and ports here are \
             theirs"
        );
        let ports = FieldPath::root().field("spec").field("portLevelMtls");
        let place = Place::Key(policy.metadata.origin(ports.field(&number.to_string())));
        let warning = Diagnostic::warning("no-effect", place, message);
        let help = format!("write `{target}`");
        compiler.findings.add(warning.with_help(help));
    }
}

/// A policy for this very workload or its namespace, where the proxy sees no connections to it.
fn report_unused(compiler: &mut Compiler<'_>, listeners: &[Arc<Listener>]) {
    let settings = compiler.settings;
    let is_looked_at = listeners
        .iter()
        .any(|listener| listener.direction == Direction::Inbound);
    if is_looked_at || settings.namespace == settings.root_namespace {
        return;
    }
    let (message, help) = match settings.role {
        Role::Gateway => (
            "this proxy is a gateway, whose servers say by themselves how clients are verified: it \
             takes plain text as before",
            "write `tls: {mode: MUTUAL}` at the servers of the Gateway, or leave it to the sidecars of \
             the namespace",
        ),
        Role::Sidecar => (
            "no connection to the workload passes this proxy, so none is kept out",
            "write `interception: {mode: REDIRECT}` in ProxySettings, or a Sidecar with `ingress:`",
        ),
    };
    for policy in &compiler.resources.peer_authentications {
        let selector = policy.spec.selector.as_ref();
        let is_own = policy.metadata.namespace == settings.namespace
            && selector.is_none_or(|selector| settings.selected_by(&selector.match_labels));
        let mode = policy
            .spec
            .mtls
            .as_ref()
            .and_then(|mtls| mtls.mode.as_deref());
        if is_own && mode == Some("STRICT") {
            let at = origin(&policy.metadata, "mtls");
            warn(compiler, "no-effect", at, message, help);
        }
    }
}
