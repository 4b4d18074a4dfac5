//! WorkloadEntry, WorkloadGroup, and the endpoints of a ServiceEntry.

use super::headers::check_plain_name;
use super::names::{check_fqdn, check_labels_of};
use super::service_entry::check_endpoint_ports;
use super::values::{UNIX, check_not_negative, check_port, check_unix_path, is_ip, report_missing};
use crate::schema::{Node, Report};

/// What an address may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addresses {
    IpOrUnix,
    /// Names, too: which resolution it is for is not known.
    Any,
}

pub(super) fn check_entry(spec: &Node<'_>, report: &mut Report<'_>) {
    check_endpoint(spec, None, Addresses::Any, report);
}

/// `service_ports` are the names of the ports of the service, where it is known.
pub(super) fn check_endpoint(
    endpoint: &Node<'_>,
    service_ports: Option<&[&str]>,
    addresses: Addresses,
    report: &mut Report<'_>,
) {
    let address = endpoint.get("address");
    let text = address.text();
    let network = endpoint.get("network");
    if text.is_empty() {
        if network.text().is_empty() {
            report_missing(endpoint, "there is no address", "write `address:`", report);
            return;
        }
        let message = "without an address it is reached by the gateway of its network alone";
        report.warning("no-effect", endpoint, message, "write `address:`");
    }
    let is_unix = text.starts_with(UNIX);
    if is_unix {
        check_unix_path(&address, report);
        if !endpoint.get("ports").is_empty() {
            let message = "a Unix socket has no ports";
            report.error("conflicting-fields", &address, message, "remove `ports`");
        }
        if service_ports.is_some_and(|ports| ports.len() != 1) {
            let message = "a Unix socket serves one port, and the service has several or none";
            let help = "write a ServiceEntry with one port for it";
            report.error("conflicting-fields", &address, message, help);
        }
    } else if !text.is_empty() && !is_ip(text) {
        let (is_fine, help) = match addresses {
            Addresses::IpOrUnix => (false, "write an IP address, or `resolution: DNS`"),
            Addresses::Any => (
                check_fqdn(text).is_ok(),
                "write an IP address, a DNS name or `unix:///path`",
            ),
        };
        if !is_fine {
            let message = format!("`{text}` is no address of an endpoint");
            report.error("invalid-address", &address, message, help);
        }
    }
    check_endpoint_ports(endpoint, service_ports, report);
    check_labels_of(&endpoint.get("labels"), report);
}

pub(super) fn check_group(spec: &Node<'_>, report: &mut Report<'_>) {
    if !spec.get("template").is_set() {
        report_missing(
            spec,
            "the group has no template",
            "write `template:`",
            report,
        );
    }
    let metadata = spec.get("metadata");
    check_labels_of(&metadata.get("labels"), report);
    let probe = spec.get("probe");
    if probe.is_set() {
        check_probe(&probe, report);
    }
}

fn check_probe(probe: &Node<'_>, report: &mut Report<'_>) {
    for name in [
        "periodSeconds",
        "initialDelaySeconds",
        "timeoutSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        check_not_negative(&probe.get(name), report);
    }
    let (http, tcp) = (probe.get("httpGet"), probe.get("tcpSocket"));
    let (exec, grpc) = (probe.get("exec"), probe.get("grpc"));
    if http.is_set() {
        check_port(&http, "port", report);
        let scheme = http.get("scheme");
        if !["", "HTTP", "HTTPS"].contains(&scheme.text()) {
            let message = format!("`{}` is no scheme of a probe", scheme.text());
            report.error("unknown-value", &scheme, message, "write `HTTP` or `HTTPS`");
        }
        for header in http.get("httpHeaders").items() {
            check_plain_name(&header.get("name"), false, report);
        }
    } else if tcp.is_set() {
        check_port(&tcp, "port", report);
    } else if exec.is_set() {
        if exec.get("command").is_empty() {
            report_missing(
                &exec,
                "the probe has no command",
                "write `command:`",
                report,
            );
        }
    } else if !grpc.is_set() {
        let help = "write `httpGet:`, `tcpSocket:`, `exec:` or `grpc:`";
        report_missing(probe, "the probe checks nothing", help, report);
    }
}
