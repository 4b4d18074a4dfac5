//! Security policies that do nothing, or something else than they seem to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Compiler;
use super::authorization::{is_dry_run, provider};
use super::policy_targets::applies;
use super::registry::Port;
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::authorization_policy::{
    AccessRule, Action, AuthorizationPolicy, PolicyTarget, Source,
};
use crate::resource::kubernetes::PortOrName;
use crate::resource::{Metadata, Object};
use crate::settings::Role;
use crate::snapshot::Listener;
use crate::source::FieldPath;

/// Warns of AuthorizationPolicies whose provider nobody defines, that allow nothing, that deny all
/// TCP, or whose HTTP fields meet ports of TCP, and of policies of all kinds that select no
/// workload.
pub fn report(compiler: &mut Compiler<'_>, listeners: &[Arc<Listener>]) {
    let resources = compiler.resources;
    // What a sidecar does not know it carries as bytes.
    let has_tcp = compiler.settings.role == Role::Sidecar
        || listeners.iter().any(|listener| listener.carries_bytes());
    for object in &resources.authorization_policies {
        report_provider(compiler, object);
        report_tcp(compiler, object);
        if has_tcp {
            report_denied_tcp(compiler, object);
        }
        report_selector(compiler, &object.metadata, &object.spec.target);
    }
    for object in &resources.request_authentications {
        report_selector(compiler, &object.metadata, &object.spec.target);
    }
    report_allowing_nothing(compiler);
}

fn warn(
    compiler: &mut Compiler<'_>,
    code: &'static str,
    place: Place,
    message: String,
    help: &str,
) {
    let warning = Diagnostic::warning(code, place, message);
    compiler.findings.add(warning.with_help(help));
}

/// A provider that is not defined, or cannot be reached.
fn report_provider(compiler: &mut Compiler<'_>, object: &Object<AuthorizationPolicy>) {
    let spec = &object.spec;
    let Some(named) = spec
        .provider
        .as_ref()
        .filter(|_| spec.action == Action::Custom)
    else {
        return;
    };
    let settings = compiler.settings;
    let name = &named.name;
    let (registry, clusters) = (&compiler.registry, &compiler.clusters);
    let message = match (
        settings.extension_providers.get(name),
        provider(name, settings, registry, clusters),
    ) {
        (None, _) => {
            format!("nobody defines the provider `{name}`: what the rules match is denied")
        }
        (Some(known), None) => format!(
            "nobody declares `{}`, the service of provider `{name}`: what the rules match is denied",
            known.service
        ),
        (Some(known), Some(found)) if found.cluster.is_none() => format!(
            "`{}`, the service of provider `{name}`, has no port {}: each check fails",
            known.service, known.port
        ),
        _ => return,
    };
    let field = FieldPath::root()
        .field("spec")
        .field("provider")
        .field("name");
    let place = Place::Field(object.metadata.origin(field));
    let help = "add the provider to `extensionProviders` of ProxySettings, with a service that a \
                Service or ServiceEntry declares";
    warn(compiler, "unknown-provider", place, message, help);
}

/// ALLOW policies that have no rules among them: everything is denied.
fn report_allowing_nothing(compiler: &mut Compiler<'_>) {
    let settings = compiler.settings;
    let allowing: Vec<_> = compiler
        .resources
        .authorization_policies
        .iter()
        .filter(|object| {
            object.spec.action == Action::Allow
                && !is_dry_run(&object.metadata)
                && applies(&object.metadata, &object.spec.target, settings)
        })
        .collect();
    if allowing.iter().any(|object| !object.spec.rules.is_empty()) {
        return;
    }
    let Some(first) = allowing.first() else {
        return;
    };
    let place = Place::Field(first.metadata.origin(FieldPath::root().field("spec")));
    let message = "no ALLOW policy has rules, so all requests are denied".to_string();
    let help = "write `rules:` for what may pass here or in another policy; `rules: [{}]` is every \
                request";
    warn(compiler, "allows-nothing", place, message, help);
}

/// Rules for ports that carry TCP alone, and ask for HTTP.
fn report_tcp(compiler: &mut Compiler<'_>, object: &Object<AuthorizationPolicy>) {
    for (at, rule) in object.spec.rules.iter().enumerate() {
        let Some(asked) = http_only_field(rule) else {
            continue;
        };
        let ports: Vec<u16> = rule
            .to
            .iter()
            .flat_map(|to| &to.operation.ports)
            .filter_map(|port| port.parse().ok())
            .collect();
        let is_tcp = |port: &u16| carries_tcp_alone(compiler, &object.metadata.namespace, *port);
        let names_ports = rule.to.iter().all(|to| !to.operation.ports.is_empty());
        if ports.is_empty() || !names_ports || !ports.iter().all(is_tcp) {
            continue;
        }
        let message = match object.spec.action {
            Action::Allow => {
                format!("the ports carry TCP, which has no {asked}: the rule allows nothing there")
            }
            _ => format!(
                "the ports carry TCP, which has no {asked}: the rule holds for every connection there"
            ),
        };
        let field = FieldPath::root().field("spec").field("rules").index(at);
        let place = Place::Field(object.metadata.origin(field));
        let help = "ask for `ports`, `principals`, `namespaces` or `ipBlocks` alone, or name the \
                    port of the service for its protocol, such as `http-web`";
        warn(compiler, "http-only-field", place, message, help);
    }
}

/// Rules of DENY with HTTP attributes alone, which hold for every connection (Istio:
/// `ValidateAuthorizationPolicy`).
fn report_denied_tcp(compiler: &mut Compiler<'_>, object: &Object<AuthorizationPolicy>) {
    if object.spec.action != Action::Deny {
        return;
    }
    for (at, rule) in object.spec.rules.iter().enumerate() {
        let holds = match rule.to.is_empty() {
            true => !rule.from.is_empty() && !rule.from.iter().any(|from| has_tcp(&from.source)),
            false => rule.to.iter().all(|to| {
                let operation = &to.operation;
                operation.ports.is_empty() && operation.not_ports.is_empty()
            }),
        };
        if !holds {
            continue;
        }
        let field = FieldPath::root().field("spec").field("rules").index(at);
        let place = Place::Field(object.metadata.origin(field));
        let message = "TCP has none of these attributes, so this denies all TCP traffic";
        let help = "write `to: [{operation: {ports: [...]}}]` with the ports that are meant";
        warn(compiler, "denies-tcp", place, message.to_string(), help);
    }
}

/// Whether a source asks for something that connections of TCP have.
fn has_tcp(source: &Source) -> bool {
    let lists = [
        &source.principals,
        &source.not_principals,
        &source.namespaces,
        &source.not_namespaces,
        &source.service_accounts,
        &source.not_service_accounts,
        &source.ip_blocks,
        &source.not_ip_blocks,
        &source.remote_ip_blocks,
        &source.not_remote_ip_blocks,
    ];
    lists.iter().any(|list| !list.is_empty())
}

/// Something that a rule asks for and connections of TCP do not have.
fn http_only_field(rule: &AccessRule) -> Option<&'static str> {
    let operations = rule.to.iter().map(|to| &to.operation);
    for operation in operations {
        if !operation.methods.is_empty() || !operation.not_methods.is_empty() {
            return Some("methods");
        }
        if !operation.paths.is_empty() || !operation.not_paths.is_empty() {
            return Some("paths");
        }
        if !operation.hosts.is_empty() || !operation.not_hosts.is_empty() {
            return Some("hosts");
        }
    }
    let sources = rule.from.iter().map(|from| &from.source);
    for source in sources {
        if !source.request_principals.is_empty() || !source.not_request_principals.is_empty() {
            return Some("tokens");
        }
    }
    let mut keys = rule.when.iter().map(|when| when.key.as_str());
    keys.find_map(|key| match key {
        _ if key.starts_with("request.headers[") => Some("headers"),
        _ if key.starts_with("request.auth.") => Some("tokens"),
        _ => None,
    })
}

/// Whether services of a namespace have this port, and none of them for HTTP.
fn carries_tcp_alone(compiler: &Compiler<'_>, namespace: &str, number: u16) -> bool {
    let root = &compiler.settings.root_namespace;
    let services = compiler.registry.services.iter();
    let own = services.filter(|service| service.namespace == namespace || namespace == root);
    let mut ports = own
        .flat_map(|service| &service.ports)
        .filter(|port| listens_on(port) == u32::from(number))
        .peekable();
    ports.peek().is_some() && ports.all(|port| port.protocol.is_tcp())
}

/// The port of the workload behind a port of a service, as far as it is written as a number.
fn listens_on(port: &Port) -> u32 {
    match &port.target {
        Some(PortOrName::Number(number)) => *number,
        _ => port.number,
    }
}

/// A selector that no workload has which is known from the documents.
fn report_selector(compiler: &mut Compiler<'_>, metadata: &Metadata, target: &PolicyTarget) {
    let Some(selector) = &target.selector else {
        return;
    };
    let wanted = &selector.match_labels;
    if wanted.is_empty() {
        return;
    }
    let namespace = &metadata.namespace;
    let is_root = *namespace == compiler.settings.root_namespace;
    let here = |known: &str| is_root || known == namespace;
    let mut is_somebody_known = false;
    let mut fits = |labels: &BTreeMap<String, String>, is_complete: bool| {
        is_somebody_known = true;
        wanted.iter().all(|(key, value)| match labels.get(key) {
            Some(known) => known == value,
            // A Service selects by some of the labels of its workloads.
            None => !is_complete,
        })
    };
    let settings = compiler.settings;
    let own = &settings.workload.labels;
    let is_own = settings.selects_by_labels && here(&settings.namespace) && fits(own, true);
    let mut registry = compiler.registry.services.iter();
    let is_found = is_own
        || registry.any(|service| {
            here(&service.namespace)
                && (service.has_labels(wanted)
                    || !service.selector.is_empty() && fits(&service.selector, false))
        });
    if is_found || !is_somebody_known {
        return;
    }
    let field = FieldPath::root().field("spec").field("selector");
    let place = Place::Field(metadata.origin(field));
    let message = format!(
        "no workload of namespace `{namespace}` has these labels: the policy is for nobody"
    );
    let help = "write labels that a Service selects by, or those of the workload";
    warn(compiler, "selects-nothing", place, message, help);
}
