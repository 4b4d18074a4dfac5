//! VirtualService. Istio: `ValidateVirtualService`.

use super::names::{
    check_fqdn, check_wildcard_domain, hosts_overlap, is_dns_label, is_wildcard, report_host,
};
use super::values::{is_ip, report_missing};
use super::visibility::{Exported, check_export_to};
use super::{duplicate_matches, headers, http_route, layer4_routes};
use crate::compile::names::{MESH, resolve_gateway};
use crate::schema::{Node, Report};

/// What the routes of a VirtualService need to know of it.
pub(super) struct Context<'n> {
    pub hosts: Vec<&'n str>,
    /// Without hosts it is only reached from other VirtualServices.
    pub is_delegate: bool,
    /// Bound to gateways and not to the mesh.
    pub is_for_gateways: bool,
    /// Whether a TLS route matches by SNI.
    matches_sni: bool,
}

pub(super) fn check(spec: &Node<'_>, report: &mut Report<'_>) {
    let hosts = spec.get("hosts");
    let gateways = spec.get("gateways");
    let (http, tls, tcp) = (spec.get("http"), spec.get("tls"), spec.get("tcp"));
    let names_mesh = gateways.texts().any(|gateway| gateway == "mesh");
    let context = Context {
        hosts: hosts.texts().collect(),
        is_delegate: hosts.is_empty(),
        is_for_gateways: !gateways.is_empty() && !names_mesh,
        matches_sni: tls.items().any(|route| {
            let conditions = route.get("match");
            let mut conditions = conditions.items();
            conditions.any(|condition| !condition.get("sniHosts").is_empty())
        }),
    };
    if context.is_delegate {
        for (list, what) in [(&gateways, "gateways"), (&tls, "tls"), (&tcp, "tcp")] {
            if !list.is_empty() {
                let message = format!("without `hosts` it is a delegate, which has no `{what}`");
                let help = format!("write `hosts:`, or remove `{what}`");
                report.key_error("conflicting-fields", list, message, help);
            }
        }
    }
    check_gateway_names(&gateways, report);
    if !context.is_for_gateways {
        refuse_claims(&http, report);
    }
    check_hosts(&hosts, &context, report);
    if http.is_empty() && tls.is_empty() && tcp.is_empty() {
        let message = "it has no routes";
        report_missing(spec, message, "write `http:`, `tls:` or `tcp:`", report);
    }
    for route in http.items() {
        http_route::check(&route, &context, report);
    }
    for route in tls.items() {
        layer4_routes::check_tls(&route, &context, report);
    }
    for route in tcp.items() {
        layer4_routes::check_tcp(&route, &context, report);
    }
    for routes in [&http, &tls, &tcp] {
        check_bound_gateways(routes, &gateways, &context, report);
        duplicate_matches::check(routes, report);
    }
    check_export_to(&spec.get("exportTo"), Exported::Plain, report);
}

fn check_hosts(hosts: &Node<'_>, context: &Context<'_>, report: &mut Report<'_>) {
    let mut all_are_hosts = true;
    for host in hosts.items() {
        let text = host.text();
        match context.check_host(text, context.matches_sni) {
            Err(_) if is_ip(text) => {}
            Err(problem) => {
                all_are_hosts = false;
                report_host(&host, &problem, report);
            }
            Ok(()) if text == "*" && !context.is_for_gateways => {
                all_are_hosts = false;
                let message = "in the mesh, `*` would take the traffic of every service";
                let help = "name the hosts, or bind it to gateways alone";
                report.error("invalid-host", &host, message, help);
            }
            Ok(()) => {}
        }
    }
    if all_are_hosts {
        check_overlaps(hosts, report);
    }
}

/// Reports hosts of which one covers the other. Plain names are compared by a set, so that a long
/// list of them stays cheap.
fn check_overlaps(hosts: &Node<'_>, report: &mut Report<'_>) {
    let mut plain = std::collections::HashSet::new();
    let mut wildcards: Vec<&str> = Vec::new();
    let all: Vec<Node<'_>> = hosts.items().collect();
    for (at, host) in all.iter().enumerate() {
        let text = host.text();
        let earlier = if is_wildcard(text) {
            let mut earlier = all[..at].iter().map(Node::text);
            earlier.find(|earlier| hosts_overlap(earlier, text))
        } else if plain.contains(text) {
            Some(text)
        } else {
            let mut earlier = wildcards.iter().copied();
            earlier.find(|earlier| hosts_overlap(earlier, text))
        };
        if let Some(earlier) = earlier {
            let message = format!("the hosts `{earlier}` and `{text}` cover the same names");
            let help = "keep one of them, or move one to a VirtualService of its own";
            report.error("duplicate-value", host, message, help);
        }
        if is_wildcard(text) {
            wildcards.push(text);
        } else {
            plain.insert(text);
        }
    }
}

impl Context<'_> {
    /// A host of the VirtualService or of an SNI match. A gateway between meshes also takes names
    /// of the form `outbound_.80_.v1_.reviews.default.svc`.
    pub(super) fn check_host(&self, host: &str, may_be_sni: bool) -> Result<(), String> {
        let is_generated = host.starts_with("outbound_");
        if !self.is_for_gateways || !may_be_sni || !is_generated {
            return check_wildcard_domain(host);
        }
        let mut parts = host.splitn(4, '_').skip(1);
        let port = parts.next().map(|port| port.trim_matches('.'));
        let name = parts.nth(1).map(|name| name.trim_matches('.'));
        let has_port = port.is_some_and(|port| port.contains(|c: char| c.is_ascii_digit()));
        let has_name = name.is_some_and(|name| name.contains(|c: char| c.is_ascii_alphabetic()));
        if has_port && has_name {
            Ok(())
        } else {
            Err("does not have the form `outbound_.PORT_.SUBSET_.HOST`".to_string())
        }
    }
}

/// `name`, `namespace/name`, and the form of old, `name.namespace.svc.cluster.local`. Istio stops
/// at the first name without a namespace, so what follows one is no more than warned about.
pub(super) fn check_gateway_names(gateways: &Node<'_>, report: &mut Report<'_>) {
    let mut is_looked_at = true;
    for gateway in gateways.items() {
        let text = gateway.text();
        let refuse = |message: String, report: &mut Report<'_>| {
            let help = "write `name` or `namespace/name`";
            if is_looked_at {
                report.error("invalid-name", &gateway, message, help);
            } else {
                report.warning("invalid-name", &gateway, message, help);
            }
        };
        let Some((namespace, name)) = text.split_once('/') else {
            if let Err(problem) = check_fqdn(text) {
                refuse(format!("the gateway `{text}` {problem}"), report);
            } else if let Some((name, rest)) = text.split_once('.') {
                let namespace = rest.split('.').next().unwrap_or_default();
                let message = format!("`{text}` is the old form of a gateway's name");
                let help = format!("write `{namespace}/{name}`");
                report.warning("deprecated-value", &gateway, message, help);
            }
            is_looked_at = false;
            continue;
        };
        if !is_dns_label(namespace) || !is_dns_label(name) {
            refuse(format!("`{text}` is no name of a gateway"), report);
        }
    }
}

/// Gateways of matches that the VirtualService itself is not bound to: they never ask it.
fn check_bound_gateways(
    routes: &Node<'_>,
    bound: &Node<'_>,
    context: &Context<'_>,
    report: &mut Report<'_>,
) {
    if context.is_delegate {
        return;
    }
    let namespace = report.document().namespace.clone();
    let resolved = |gateway: &str| resolve_gateway(gateway, &namespace);
    let mut known: Vec<String> = bound.texts().map(resolved).collect();
    if known.is_empty() {
        known.push(MESH.to_string());
    }
    for route in routes.items() {
        let conditions = route.get("match");
        for condition in conditions.items() {
            for gateway in condition.get("gateways").items() {
                let name = resolved(gateway.text());
                if !known.contains(&name) {
                    let message = format!(
                        "the VirtualService is not bound to `{name}`, so this holds nowhere for it"
                    );
                    let help = "add it to `gateways` of the VirtualService, or remove it here";
                    report.warning("never-matches", &gateway, message, help);
                }
            }
        }
    }
}

/// Tokens are only checked at gateways, so that only they can route by claims.
fn refuse_claims(http: &Node<'_>, report: &mut Report<'_>) {
    for route in http.items() {
        let conditions = route.get("match");
        for condition in conditions.items() {
            let with = condition.get("headers");
            let without = condition.get("withoutHeaders");
            for (name, value) in with.entries().chain(without.entries()) {
                if headers::is_jwt_claim(name) {
                    let message = "only gateways route by the claims of a token";
                    let help = "write `gateways:`, without `mesh` among them";
                    report.key_error("conflicting-fields", &value, message, help);
                }
            }
        }
    }
}
