//! VirtualServices of the mesh that come to no virtual host of this sidecar.

use super::Compiler;
use super::names::{MESH, is_wildcard, overlap, resolve_gateway};
use super::sidecar_scope::{MeshRule, Scope};
use crate::diagnostic::{Diagnostic, Place};
use crate::source::FieldPath;

/// Warns of rules whose hosts are of no service, and of rules with wildcards whose every service
/// goes by a more specific rule. `Compiler::bound_rules` has those that came to something.
pub fn report(scope: &Scope<'_>, compiler: &mut Compiler<'_>) {
    let mut told = Vec::new();
    for egress in &scope.egress {
        for (at, rule) in egress.rules.iter().enumerate() {
            if compiler.bound_rules.contains(&rule.index) || !is_for_sidecars_alone(rule) {
                continue;
            }
            let has_service = |host: &String| has_service(host, compiler);
            let covers_any = rule.hosts.iter().any(has_service);
            if !covers_any {
                // A way out to nothing at all is another matter.
                if !egress.services.is_empty() {
                    told.push(of_no_service(rule, compiler));
                }
                continue;
            }
            let services = egress.services.iter();
            let services = services.map(|one| &compiler.registry.services[*one].host);
            let mut winners = services
                .filter(|service| rule.hosts.iter().any(|host| overlap(service, host)))
                .map(|service| egress.most_specific.get(service).copied());
            let Some(Some(winner)) = winners.next() else {
                continue;
            };
            let is_all_wild = rule.hosts.iter().all(|host| is_wildcard(host));
            let all_taken =
                winner != at && winners.all(|other| other.is_some_and(|other| other != at));
            if is_all_wild && all_taken {
                told.push(of_lost_hosts(rule, &egress.rules[winner]));
            }
        }
    }
    for warning in told {
        compiler.findings.add(warning);
    }
}

/// Whether it has routes of requests and nothing else, for no gateway.
fn is_for_sidecars_alone(rule: &MeshRule<'_>) -> bool {
    let spec = &rule.object.spec;
    let namespace = &rule.object.metadata.namespace;
    let mut gateways = spec.gateways.iter();
    !rule.hosts.is_empty()
        && !spec.http.is_empty()
        && spec.tls.is_empty()
        && spec.tcp.is_empty()
        && gateways.all(|name| resolve_gateway(name, namespace) == MESH)
}

/// Whether anybody declares a service that the host covers, seen from here or not.
fn has_service(host: &String, compiler: &Compiler<'_>) -> bool {
    let registry = &compiler.registry;
    if registry.find(host, "").is_some() || compiler.hidden_hosts.contains(host) {
        return true;
    }
    let mut seen = registry.services.iter().map(|service| &service.host);
    let mut hidden = compiler.hidden_hosts.iter();
    let covers = |service: &String| is_wildcard(host) && overlap(service, host);
    seen.any(covers) || hidden.any(covers)
}

fn of_no_service(rule: &MeshRule<'_>, compiler: &Compiler<'_>) -> Diagnostic {
    let settings = compiler.settings;
    let first = rule.hosts.first().map_or("", String::as_str);
    let reason = match rule.hosts.as_slice() {
        [only] => compiler.unexported.reason(only, settings),
        hosts => format!("nobody declares any of the hosts {}", hosts.join(", ")),
    };
    let message = format!(
        "{reason}, and no listener here is on port 80, where a sidecar takes any host: this rule \
         is bound nowhere"
    );
    let warning = Diagnostic::warning("unbound-rule", hosts_of(rule), message);
    let otherwise = || super::references::unknown_host_help(compiler, first);
    let asked = if rule.hosts.len() == 1 { first } else { "" };
    compiler
        .unexported
        .help(warning, asked, settings, otherwise)
}

fn of_lost_hosts(rule: &MeshRule<'_>, winner: &MeshRule<'_>) -> Diagnostic {
    let message = format!(
        "every service that {} covers goes by a VirtualService with a more specific host, and a \
         sidecar does not merge them: nothing is left for this one",
        rule.hosts.join(", ")
    );
    let note = "the hosts of one that is more specific";
    let hosts = FieldPath::root().field("spec").field("hosts");
    Diagnostic::warning("unbound-rule", hosts_of(rule), message)
        .with_help("repeat its routes in the more specific ones, or remove it")
        .with_related(winner.object.metadata.origin(hosts), note)
}

fn hosts_of(rule: &MeshRule<'_>) -> Place {
    let hosts = FieldPath::root().field("spec").field("hosts");
    Place::Field(rule.object.metadata.origin(hosts))
}
