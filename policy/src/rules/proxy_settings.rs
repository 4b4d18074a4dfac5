//! ProxySettings: names, addresses and limits. Values of a wrong type are passed over: they are
//! reported already.

use std::net::{IpAddr, SocketAddr};

use serde_yaml::Value;

use super::names::{check_fqdn, is_dns_label};
use crate::schema::{Node, Report, check_duration, check_integer, nearest};
use crate::settings::{InterceptionSettings, LimitInfo, LimitUnit, Limits};
use crate::yaml::kind_of;

/// Longest trust domain. SPIFFE ID section 2.1.
const MAX_TRUST_DOMAIN_BYTES: usize = 255;

pub(super) fn check(spec: &Node<'_>, report: &mut Report<'_>) {
    check_namespace(&spec.get("namespace"), report);
    check_namespace(&spec.get("rootNamespace"), report);
    check_trust_domain(&spec.get("trustDomain"), report);
    for alias in spec.get("trustDomainAliases").items() {
        check_trust_domain(&alias, report);
    }
    check_domain_suffix(&spec.get("domainSuffix"), report);
    check_admin_address(&spec.get("adminAddress"), report);
    for server in spec.get("dns").get("servers").items() {
        check_name_server(&server, report);
    }
    for address in spec.get("workload").get("addresses").items() {
        check_workload_address(&address, report);
    }
    check_locality(&spec.get("workload").get("locality"), report);
    check_doors(&spec.get("interception"), report);
    let topology = spec.get("gatewayTopology");
    for (name, node) in topology.get("proxyProtocol").entries() {
        let message = format!("unknown field `{name}`");
        let help = "write `proxyProtocol: {}`: it has no fields";
        report.key_error("unknown-field", &node, message, help);
    }
    for (name, limit) in spec.get("limits").entries() {
        check_limit(name, &limit, report);
    }
}

/// Kubernetes: names of namespaces are DNS labels in lower case.
fn check_namespace(namespace: &Node<'_>, report: &mut Report<'_>) {
    let Some(text) = namespace.value().as_str() else {
        return;
    };
    let is_upper = |byte: u8| byte.is_ascii_uppercase();
    if !is_dns_label(text) || text.bytes().any(is_upper) {
        let message = format!("`{}: {text}` is no name of a namespace", namespace.name());
        let help = "write lower-case letters, digits and inner `-`, at most 63 of them, such as \
                    `shop`";
        report.error("invalid-settings", namespace, message, help);
    }
}

/// Istio: `ValidateTrustDomain`.
fn check_trust_domain(domain: &Node<'_>, report: &mut Report<'_>) {
    let Some(text) = domain.value().as_str() else {
        return;
    };
    let labels = text.strip_suffix('.').unwrap_or(text);
    let is_domain = text.len() <= MAX_TRUST_DOMAIN_BYTES && labels.split('.').all(is_dns_label);
    if !is_domain {
        let message = format!("`{text}` is no trust domain");
        let help = "write DNS labels with dots between them, such as `cluster.local`";
        report.error("invalid-settings", domain, message, help);
    }
}

fn check_domain_suffix(suffix: &Node<'_>, report: &mut Report<'_>) {
    let Some(text) = suffix.value().as_str() else {
        return;
    };
    let problem = match check_fqdn(text) {
        // Names are then completed by their namespace alone.
        _ if text.is_empty() => return,
        Err(problem) => problem,
        Ok(()) if text.ends_with('.') => "ends in a dot".to_string(),
        Ok(()) => return,
    };
    let message = format!("the domain suffix `{text}` {problem}");
    let help = "write what follows `svc.` in the names of services, such as `cluster.local`";
    report.error("invalid-settings", suffix, message, help);
}

fn check_admin_address(address: &Node<'_>, report: &mut Report<'_>) {
    let Some(text) = address.value().as_str() else {
        return;
    };
    if text.parse::<SocketAddr>().is_err() {
        let message = format!("`{text}` is no address with a port");
        let help = match text.parse::<IpAddr>() {
            Ok(ip) => format!("add the port: \"{}\"", SocketAddr::new(ip, 15000)),
            Err(_) => "write an IP address and a port, such as \"127.0.0.1:15000\"".to_string(),
        };
        report.error("invalid-settings", address, message, help);
    }
}

fn check_name_server(server: &Node<'_>, report: &mut Report<'_>) {
    let Some(text) = server.value().as_str() else {
        return;
    };
    if text.parse::<IpAddr>().is_err() && text.parse::<SocketAddr>().is_err() {
        let message = format!("`{text}` is no address of a name server");
        let help = "write an IP address, perhaps with a port: 10.0.0.2, \"10.0.0.2:5353\" or \
                    \"[2001:db8::1]:5353\"";
        report.error("invalid-settings", server, message, help);
    }
}

fn check_workload_address(address: &Node<'_>, report: &mut Report<'_>) {
    let Some(text) = address.value().as_str() else {
        return;
    };
    if text.parse::<IpAddr>().is_err() {
        let message = format!("`{text}` is no IP address");
        let help = "write an address without a port, such as 10.0.0.1 or \"2001:db8::1\"";
        report.error("invalid-settings", address, message, help);
    }
}

fn check_locality(locality: &Node<'_>, report: &mut Report<'_>) {
    let Some(text) = locality.value().as_str() else {
        return;
    };
    if text.is_empty() || text.split('/').count() > 3 || text.starts_with('/') {
        let message = format!("`{text}` is no locality");
        let help = "write `region`, `region/zone` or `region/zone/subzone`";
        report.error("invalid-settings", locality, message, help);
    }
}

/// What comes from the workload and what goes to it are told apart by the port alone.
fn check_doors(interception: &Node<'_>, report: &mut Report<'_>) {
    let default = InterceptionSettings::default();
    let (outbound, inbound) = (
        interception.get("outboundPort"),
        interception.get("inboundPort"),
    );
    let number = |port: &Node<'_>, default: u16| match port.is_set() {
        true => port.integer(),
        false => i64::from(default),
    };
    let outbound_port = number(&outbound, default.outbound_port);
    let written = if outbound.is_set() { outbound } else { inbound };
    if outbound_port == number(&inbound, default.inbound_port) {
        let message = format!("`outboundPort` and `inboundPort` are both {outbound_port}");
        let help = format!(
            "write two ports that differ: {} and {} are those of Istio",
            default.outbound_port, default.inbound_port
        );
        report.error("invalid-settings", &written, message, help);
    }
}

fn check_limit(name: &str, node: &Node<'_>, report: &mut Report<'_>) {
    let Some(limit) = Limits::info(name) else {
        let names = Limits::TABLE.iter().map(|limit| limit.name);
        let message = format!("there is no limit `{name}`");
        let help = match nearest(name, names) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "docs/configuration.md lists the limits".to_string(),
        };
        return report.key_error("unknown-field", node, message, help);
    };
    match (limit.unit, node.value()) {
        (_, Value::Null) => {}
        (LimitUnit::Duration, _) => check_duration(node, limit.lowest, report),
        (_, Value::Number(number)) if !number.is_f64() => {
            check_integer(node, limit.lowest as i64, limit.highest as i64, report);
        }
        (_, value) => {
            let unit = match limit.unit {
                LimitUnit::Bytes => "a number of bytes",
                _ => "a whole number",
            };
            let message = format!("`{name}` is {}, expected {unit}", kind_of(value));
            let meant = value.as_str().and_then(|text| meant_number(limit, text));
            let help = match meant {
                Some(number) => format!("write it as {unit}: {number}"),
                None => format!("write {unit}, such as the default: {}", limit.default),
            };
            report.error("wrong-type", node, message, help);
        }
    }
}

/// The number that a text such as `64KiB` or `"100"` stands for.
fn meant_number(limit: &LimitInfo, text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim_start().to_ascii_lowercase();
    let factor: u64 = match (limit.unit, unit.trim_end_matches('b').trim_end_matches('i')) {
        (_, "") if unit.is_empty() || limit.unit == LimitUnit::Bytes => 1,
        (LimitUnit::Bytes, "k") => 1 << 10,
        (LimitUnit::Bytes, "m") => 1 << 20,
        (LimitUnit::Bytes, "g") => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}
