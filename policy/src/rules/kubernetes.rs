//! Service and EndpointSlice, as Kubernetes validates them.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::values::{check_ip, check_port_number, report_missing};
use crate::schema::{Node, Report};

pub(super) fn check_service(spec: &Node<'_>, report: &mut Report<'_>) {
    let name = spec.get("externalName");
    if spec.get("type").text() == "ExternalName" && name.text().is_empty() {
        let at = if name.is_set() { &name } else { spec };
        let message = "a Service of type ExternalName has no `externalName`";
        let help = "write the host that it stands for, `externalName: api.example.com`";
        report_missing(at, message, help, report);
    }
    let one = spec.get("clusterIP");
    let several = spec.get("clusterIPs");
    for address in std::iter::once(one).chain(several.items()) {
        if !["", "None"].contains(&address.text()) {
            check_ip(&address, report);
        }
    }
    check_ports(&spec.get("ports"), report);
}

fn check_ports(ports: &Node<'_>, report: &mut Report<'_>) {
    let ports: Vec<Node<'_>> = ports.items().collect();
    let mut names = HashSet::new();
    let mut numbers = HashSet::new();
    for port in &ports {
        let (name, number, target) = (port.get("name"), port.get("port"), port.get("targetPort"));
        if !name.text().is_empty() && !names.insert(name.text()) {
            let message = format!("the port name `{}` is there twice", name.text());
            let help = "give each port its own name";
            report.error("duplicate-value", &name, message, help);
        }
        let protocol = match port.get("protocol").text() {
            "" => "TCP",
            protocol => protocol,
        };
        if !numbers.insert((protocol, number.integer())) {
            let message = format!("the port {} of {protocol} is there twice", number.integer());
            report.error("duplicate-value", &number, message, "keep one of the two");
        }
        if target.value().is_number() {
            check_port_number(&target, report);
        }
    }
}

pub(super) fn check_endpoint_slice(slice: &Node<'_>, report: &mut Report<'_>) {
    let family = slice.get("addressType").text();
    for endpoint in slice.get("endpoints").items() {
        let addresses = endpoint.get("addresses");
        if addresses.is_empty() {
            let message = "an endpoint has no address";
            let help = "write one, `addresses: [10.0.0.1]`, or remove the endpoint";
            report.error("too-few-items", &addresses, message, help);
        }
        for address in addresses.items() {
            let text = address.text();
            let (is_fine, example) = match family {
                "IPv4" => (text.parse::<Ipv4Addr>().is_ok(), "10.0.0.1"),
                "IPv6" => (text.parse::<Ipv6Addr>().is_ok(), "2001:db8::1"),
                _ => continue,
            };
            if !is_fine {
                let message = format!("`{text}` is no address of `addressType: {family}`");
                let help = format!("write an IP address such as `{example}`, its port in `ports`");
                report.error("invalid-address", &address, message, help);
            }
        }
    }
}
