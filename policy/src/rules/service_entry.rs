//! ServiceEntry. Istio: `ValidateServiceEntry`.

use super::names::{
    check_dns_label, check_fqdn, check_host, check_labels_of, is_partial_wildcard, is_wildcard,
    report_host, report_host_with,
};
use super::protocol;
use super::selectors::check_workload_selector;
use super::values::{check_ip_or_cidr, check_port, check_port_number, is_ip, report_missing};
use super::visibility::{Exported, check_export_to};
use super::workload::{Addresses, check_endpoint};
use crate::resource::protocol::Protocol;
use crate::schema::{Node, Report};

pub(super) fn check(spec: &Node<'_>, report: &mut Report<'_>) {
    let hosts = spec.get("hosts");
    let addresses = spec.get("addresses");
    let ports = spec.get("ports");
    let endpoints = spec.get("endpoints");
    let selector = spec.get("workloadSelector");
    let resolution = spec.get("resolution");
    let mode = match resolution.text() {
        "" => "NONE",
        mode => mode,
    };
    check_workload_selector(&selector, report);
    if selector.is_set() && endpoints.is_set() {
        let message = "`workloadSelector` and `endpoints` cannot be written both";
        report.key_error(
            "conflicting-fields",
            &endpoints,
            message,
            "keep one of the two",
        );
    }
    if hosts.is_empty() {
        report_missing(spec, "the service has no hosts", "write `hosts:`", report);
    }
    for host in hosts.items() {
        check_service_host(&host, mode, report);
    }
    for address in addresses.items() {
        check_ip_or_cidr(&address, report);
        if address.text().contains('/') && !["NONE", "STATIC"].contains(&mode) {
            let message = format!("resolution {mode} takes no ranges of addresses");
            let help = "write single addresses, or `resolution: STATIC` or `NONE`";
            report.error("conflicting-fields", &address, message, help);
        }
    }
    check_ports(&ports, report);
    if ports.is_empty() {
        let message = "without ports no request gets to these hosts";
        report.key_warning("no-effect", &hosts, message, "write `ports:`");
    }
    if addresses.is_empty() && !is_given_addresses(mode, report) {
        warn_of_tcp_without_address(&ports, report);
    }
    let names: Vec<&str> = port_names(&ports);
    match mode {
        "NONE" => {
            if !endpoints.is_empty() {
                let message = "resolution NONE sends requests to where the client meant them";
                let help = "write `resolution: STATIC` or `DNS`, or remove `endpoints`";
                report.key_error("conflicting-fields", &endpoints, message, help);
            }
            if selector.is_set() {
                let message = "resolution NONE has no endpoints, so it selects none";
                let help = "write `resolution: STATIC`";
                report.key_warning("no-effect", &selector, message, help);
            }
        }
        "STATIC" => {
            for endpoint in endpoints.items() {
                check_endpoint(&endpoint, Some(&names), Addresses::IpOrUnix, report);
            }
        }
        "DNS" | "DNS_ROUND_ROBIN" => check_dns(spec, mode, &names, report),
        "DYNAMIC_DNS" => check_dynamic_dns(spec, report),
        _ => {}
    }
    check_many_hosts(&hosts, &ports, mode, report);
    check_export_to(&spec.get("exportTo"), Exported::ServiceEntry, report);
}

fn port_names<'n>(ports: &'n Node<'n>) -> Vec<&'n str> {
    let items = ports.value().as_sequence().into_iter().flatten();
    items
        .filter_map(|port| port.get("name")?.as_str())
        .collect()
}

fn check_service_host(host: &Node<'_>, mode: &str, report: &mut Report<'_>) {
    if host.text() == "*" {
        report_host(host, "would be every service", report);
    } else if check_host(host, report) && is_partial_wildcard(host.text()) && mode != "DYNAMIC_DNS"
    {
        let message = format!("`{}` has a wildcard for a part of a label", host.text());
        let help = "write `*.example.com` for all names below a domain";
        report.warning("partial-wildcard", host, message, help);
    }
}

fn check_ports(ports: &Node<'_>, report: &mut Report<'_>) {
    let all: Vec<Node<'_>> = ports.items().collect();
    for (at, port) in all.iter().enumerate() {
        let (name, number) = (port.get("name"), port.get("number"));
        let earlier = &all[..at];
        let is_same_name = |port: &Node<'_>| port.get("name").text() == name.text();
        let is_same_number = |port: &Node<'_>| port.get("number").integer() == number.integer();
        if name.is_set() && earlier.iter().any(is_same_name) {
            let message = format!("the port name `{}` is there twice", name.text());
            report.error(
                "duplicate-value",
                &name,
                message,
                "give each port its own name",
            );
        }
        if number.is_set() && earlier.iter().any(is_same_number) {
            let message = format!("the port {} is there twice", number.integer());
            report.error("duplicate-value", &number, message, "keep one of the two");
        }
        let target = port.get("targetPort");
        if target.integer() != 0 {
            check_port_number(&target, report);
        }
        check_dns_label(&name, "name of a port", report);
        protocol::check_optional(&port.get("protocol"), report);
        check_port(port, "number", report);
    }
}

/// Whether Istio gives a service without addresses some of its own. A label can forbid it.
fn is_given_addresses(mode: &str, report: &Report<'_>) -> bool {
    const LABEL: &str = "networking.istio.io/enable-autoallocate-ip";
    let label = report.document().labels.get(LABEL);
    mode != "NONE" && !label.is_some_and(|value| value.eq_ignore_ascii_case("false"))
}

fn warn_of_tcp_without_address(ports: &Node<'_>, report: &mut Report<'_>) {
    for port in ports.items() {
        if matches!(port.get("protocol").text(), "" | "TCP") {
            let message = "connections by TCP name no host, so only an address tells them apart";
            let help = "write `addresses:`, or a protocol such as HTTP or TLS";
            report.warning("tcp-without-address", &port, message, help);
        }
    }
}

fn check_dns(spec: &Node<'_>, mode: &str, names: &[&str], report: &mut Report<'_>) {
    let hosts = spec.get("hosts");
    let endpoints = spec.get("endpoints");
    let hosts_to_resolve = hosts.items().filter(|_| endpoints.is_empty());
    for host in hosts_to_resolve {
        if let Err(problem) = check_fqdn(host.text())
            && host.text() != "*"
        {
            let problem = format!("{problem}, so it cannot be resolved without `endpoints`");
            let help =
                "write a name without a wildcard, such as `reviews.example.com`, or `endpoints`";
            report_host_with(&host, &problem, help, report);
        }
    }
    if mode == "DNS_ROUND_ROBIN" && endpoints.len() > 1 {
        let message = "resolution DNS_ROUND_ROBIN has one endpoint at most";
        let help = "keep one, or write `resolution: DNS`";
        report.key_error("conflicting-fields", &endpoints, message, help);
    }
    for endpoint in endpoints.items() {
        let address = endpoint.get("address");
        if !is_ip(address.text()) && check_fqdn(address.text()).is_err() {
            let message = format!("`{}` is no name and no IP address", address.text());
            let node = if address.is_set() {
                &address
            } else {
                &endpoint
            };
            let help = "write a DNS name or an IP address";
            report.error("invalid-address", node, message, help);
        }
        check_labels_of(&endpoint.get("labels"), report);
        check_endpoint_ports(&endpoint, Some(names), report);
    }
    let addresses = spec.get("addresses");
    let ports = spec.get("ports");
    let is_tcp = |port: Node<'_>| {
        let protocol = Protocol::named(port.get("protocol").text());
        protocol.is_some_and(Protocol::is_tcp)
    };
    if !addresses.is_empty() && hosts.len() > 1 && ports.items().any(is_tcp) {
        let message = "several hosts share the addresses, and TCP does not tell them apart";
        report.warning(
            "no-effect",
            &hosts,
            message,
            "write one ServiceEntry for each host",
        );
    }
}

/// `ports` of an endpoint: numbers by the names of the service's ports.
pub(super) fn check_endpoint_ports(
    endpoint: &Node<'_>,
    service_ports: Option<&[&str]>,
    report: &mut Report<'_>,
) {
    let ports = endpoint.get("ports");
    for (name, port) in ports.entries() {
        if service_ports.is_some_and(|known| !known.contains(&name)) {
            let message = format!("the service has no port `{name}`");
            let help = "write the name of one of its `ports`";
            report.key_error("unknown-port", &port, message, help);
        }
        if !super::names::is_dns_label(name) {
            let message = format!("`{name}` is no name of a port");
            let help = "write letters, digits and inner `-`";
            report.key_error("invalid-name", &port, message, help);
        }
        check_port_number(&port, report);
    }
}

fn check_dynamic_dns(spec: &Node<'_>, report: &mut Report<'_>) {
    for host in spec.get("hosts").items() {
        if !is_wildcard(host.text()) {
            let problem = "is no wildcard, which resolution DYNAMIC_DNS is for";
            let help = "write a wildcard, such as `*.example.com`, or `resolution: DNS`";
            report_host_with(&host, problem, help, report);
        }
    }
    for name in ["addresses", "endpoints"] {
        let list = spec.get(name);
        if !list.is_empty() {
            let message = format!("resolution DYNAMIC_DNS has no `{name}`");
            let help = format!("remove `{name}`: the requested host is resolved");
            report.key_error("conflicting-fields", &list, message, help);
        }
    }
    for port in spec.get("ports").items() {
        let protocol = port.get("protocol");
        let is_carried = ["http", "tls", "grpc", "http2"]
            .iter()
            .any(|name| protocol.text().eq_ignore_ascii_case(name));
        if !is_carried {
            let message = "resolution DYNAMIC_DNS needs a protocol that names the host";
            let node = if protocol.is_set() { &protocol } else { &port };
            report.error(
                "unknown-value",
                node,
                message,
                "write HTTP, HTTP2, GRPC or TLS",
            );
        }
    }
    let waypoint = report.document().labels.get("istio.io/use-waypoint");
    let uses_waypoint =
        waypoint.is_some_and(|name| !name.is_empty() && !name.eq_ignore_ascii_case("none"));
    let location = spec.get("location");
    if uses_waypoint && location.text() == "MESH_INTERNAL" {
        let message = "resolution DYNAMIC_DNS inside the mesh does not go with a waypoint";
        let help = "write `location: MESH_EXTERNAL`";
        report.error("conflicting-fields", &location, message, help);
    }
}

/// With HTTP and TLS the client names the host; with TCP it does not.
fn check_many_hosts(hosts: &Node<'_>, ports: &Node<'_>, mode: &str, report: &mut Report<'_>) {
    if mode == "NONE" || hosts.len() < 2 {
        return;
    }
    let names_host = |port: Node<'_>| {
        let protocol = Protocol::named(port.get("protocol").text());
        protocol.is_some_and(|protocol| protocol.is_http() || protocol.is_tls())
    };
    if !ports.items().all(names_host) {
        let message = "several hosts share a port whose protocol does not tell them apart";
        let help = "write one ServiceEntry for each host, or an HTTP or TLS protocol";
        report.error("conflicting-fields", hosts, message, help);
    }
}
