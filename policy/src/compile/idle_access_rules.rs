//! Rules of AuthorizationPolicies that no request meets here: they ask for tokens where none is
//! looked at, for certificates where none is asked for, or for ports that nobody listens at.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Compiler;
use super::policy_targets::applies;
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::authorization_policy::{AccessRule, Action, AuthorizationPolicy};
use crate::resource::{Metadata, Object};
use crate::settings::Role;
use crate::snapshot::{FilterChains, Listener, ListenerKind};
use crate::source::FieldPath;

/// What the proxy at hand knows of who asks.
struct Known {
    /// Issuers of tokens that are looked at; `None` where tokens of any issuer are.
    issuers: Option<BTreeSet<String>>,
    /// Whether some clients are asked for certificates.
    has_certificates: bool,
    /// Those of a gateway; of a sidecar any port may be.
    ports: Option<BTreeSet<u16>>,
}

/// Warns of each field that is never met. Policies for other workloads are not judged.
pub fn report(compiler: &mut Compiler<'_>, listeners: &[Arc<Listener>]) {
    let settings = compiler.settings;
    let known = Known {
        issuers: issuers(compiler),
        has_certificates: settings.role == Role::Sidecar
            || listeners
                .iter()
                .any(|listener| asks_for_certificates(listener)),
        ports: (settings.role == Role::Gateway).then(|| {
            listeners
                .iter()
                .map(|listener| listener.address.port())
                .collect()
        }),
    };
    let resources = compiler.resources;
    for object in &resources.authorization_policies {
        let namespace = &object.metadata.namespace;
        if applies(&object.metadata, &object.spec.target, settings) {
            report_rules(compiler, object, &known);
        } else if is_of_nobody(compiler, namespace) {
            let place = object.metadata.origin(FieldPath::root().field("spec"));
            let message = format!(
                "the policy is for workloads of namespace `{namespace}`, and this one is of `{}`",
                settings.namespace
            );
            let help = format!(
                "write `namespace: {}` in its metadata, or `{}` for all workloads",
                settings.namespace, settings.root_namespace
            );
            let warning = Diagnostic::warning("selects-nothing", Place::Field(place), message);
            compiler.findings.add(warning.with_help(help));
        }
    }
}

/// Whether no service of a namespace is known, and the workload at hand is of another.
fn is_of_nobody(compiler: &Compiler<'_>, namespace: &str) -> bool {
    let settings = compiler.settings;
    let mut services = compiler.registry.services.iter();
    namespace != settings.namespace
        && namespace != settings.root_namespace
        && !compiler.registry.services.is_empty()
        && services.all(|service| service.namespace != namespace)
}

fn issuers(compiler: &Compiler<'_>) -> Option<BTreeSet<String>> {
    let policies = compiler.resources.request_authentications.iter();
    let applying =
        policies.filter(|object| applies(&object.metadata, &object.spec.target, compiler.settings));
    let issuers: BTreeSet<String> = applying
        .flat_map(|object| &object.spec.jwt_rules)
        .map(|rule| rule.issuer.clone())
        .collect();
    // A rule without an issuer takes any.
    (!issuers.contains("")).then_some(issuers)
}

fn asks_for_certificates(listener: &Listener) -> bool {
    let asks = |chains: &FilterChains| {
        let mut servers = chains.all().filter_map(|chain| chain.tls.as_ref());
        servers.any(|tls| tls.trust.is_some())
    };
    match &listener.kind {
        ListenerKind::Http(_) => false,
        ListenerKind::Chains(chains) => asks(chains),
        ListenerKind::Intercepted(_) => true,
    }
}

fn report_rules(compiler: &mut Compiler<'_>, object: &Object<AuthorizationPolicy>, known: &Known) {
    for (at, rule) in object.spec.rules.iter().enumerate() {
        let field = FieldPath::root().field("spec").field("rules").index(at);
        let mut found = Vec::new();
        find_tokens(rule, &field, known, &mut found);
        find_certificates(rule, &field, known, &mut found);
        find_ports(rule, &field, known, &mut found);
        let outcome = match object.spec.action {
            Action::Allow => "so this allows nobody",
            _ => "so no request meets this",
        };
        for (field, why, help) in found {
            warn(
                compiler,
                &object.metadata,
                field,
                &format!("{why}, {outcome}"),
                help,
            );
        }
    }
}

fn warn(
    compiler: &mut Compiler<'_>,
    metadata: &Metadata,
    field: FieldPath,
    message: &str,
    help: &'static str,
) {
    let place = Place::Field(metadata.origin(field));
    let warning = Diagnostic::warning("never-matches", place, message);
    compiler.findings.add(warning.with_help(help));
}

/// A field, why it is never met, and what to write.
type Found = (FieldPath, String, &'static str);

fn find_tokens(rule: &AccessRule, field: &FieldPath, known: &Known, found: &mut Vec<Found>) {
    const NO_TOKENS: &str = "no RequestAuthentication with `jwtRules` applies here, and no token is \
                             looked at";
    const ADD_RULES: &str = "add a RequestAuthentication in the namespace of the workload or in the \
                             root namespace";
    let has_none = known.issuers.as_ref().is_some_and(BTreeSet::is_empty);
    for (at, from) in rule.from.iter().enumerate() {
        let source = field.clone().field("from").index(at).field("source");
        let principals = &from.source.request_principals;
        if !principals.is_empty() && has_none {
            let field = source.field("requestPrincipals");
            found.push((field, NO_TOKENS.to_string(), ADD_RULES));
            continue;
        }
        for (at, principal) in principals.iter().enumerate() {
            let is_exact = !principal.starts_with('*') && !principal.ends_with('*');
            let why = match principal.rsplit_once('/') {
                None if is_exact => format!("`{principal}` is no ISSUER/SUBJECT of a token"),
                Some(_) if is_exact && !is_by_some(principal, known) => {
                    format!("no `jwtRules` that apply here have the issuer of `{principal}`")
                }
                _ => continue,
            };
            let field = source.clone().field("requestPrincipals").index(at);
            let help = "write the `issuer` of a rule, `/`, and the subject";
            found.push((field, why, help));
        }
    }
    for (at, when) in rule.when.iter().enumerate() {
        let asks_token = when.key.starts_with("request.auth.") && !when.values.is_empty();
        if asks_token && has_none {
            let field = field.clone().field("when").index(at).field("key");
            found.push((field, NO_TOKENS.to_string(), ADD_RULES));
        }
    }
}

/// Whether `ISSUER/SUBJECT` can be of an issuer that is looked at.
fn is_by_some(principal: &str, known: &Known) -> bool {
    let Some(issuers) = &known.issuers else {
        return true;
    };
    let mut issuers = issuers.iter();
    issuers.any(|issuer| {
        let rest = principal.strip_prefix(issuer.as_str());
        rest.is_some_and(|rest| rest.starts_with('/'))
    })
}

fn find_certificates(rule: &AccessRule, field: &FieldPath, known: &Known, found: &mut Vec<Found>) {
    if known.has_certificates {
        return;
    }
    for (at, from) in rule.from.iter().enumerate() {
        let source = &from.source;
        let of_certificates = [
            ("principals", &source.principals),
            ("namespaces", &source.namespaces),
            ("serviceAccounts", &source.service_accounts),
            ("trustDomains", &source.trust_domains),
        ];
        for (name, list) in of_certificates {
            if !list.is_empty() {
                let source = field.clone().field("from").index(at).field("source");
                let why = "no server here asks clients for a certificate".to_string();
                let help = "write `tls: {mode: MUTUAL}` or `ISTIO_MUTUAL` at a server of the Gateway, \
                            or ask for something that clients without a certificate have";
                found.push((source.field(name), why, help));
            }
        }
    }
}

fn find_ports(rule: &AccessRule, field: &FieldPath, known: &Known, found: &mut Vec<Found>) {
    let Some(known) = &known.ports else {
        return;
    };
    for (at, to) in rule.to.iter().enumerate() {
        let ports = &to.operation.ports;
        let mut numbers = ports.iter().filter_map(|port| port.parse::<u16>().ok());
        if !ports.is_empty() && !numbers.any(|port| known.contains(&port)) {
            let operation = field.clone().field("to").index(at).field("operation");
            let listens: Vec<String> = known.iter().map(ToString::to_string).collect();
            let why = match listens.is_empty() {
                true => "this gateway listens at no port".to_string(),
                false => format!("this gateway listens at {}", listens.join(", ")),
            };
            let help = "write the port of a server of a Gateway";
            found.push((operation.field("ports"), why, help));
        }
    }
}
