//! PeerAuthentication. Istio: `ValidatePeerAuthentication`.

use super::selectors::check_selector;
use super::values::{is_port, report_missing};
use crate::schema::{Node, Report};

pub(super) fn check(spec: &Node<'_>, report: &mut Report<'_>) {
    let selector = spec.get("selector");
    let ports = spec.get("portLevelMtls");
    check_selector(&selector, report);
    if ports.is_set() && ports.is_empty() {
        let help = "write a port and its mode, or remove it";
        report_missing(&ports, "`portLevelMtls` has no ports", help, report);
    }
    if !ports.is_empty() && selector.get("matchLabels").is_empty() {
        let message = "ports are of workloads, and this policy selects none";
        let help = "write `selector:` with `matchLabels:`";
        report.key_error("conflicting-fields", &ports, message, help);
    }
    for (name, port) in ports.entries() {
        if !name.parse().is_ok_and(is_port) {
            let message = format!("`{name}` is no port");
            report.key_error("invalid-port", &port, message, "ports go from 1 to 65535");
        }
    }
}
