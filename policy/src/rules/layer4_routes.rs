//! Destinations, and the routes of `tls` and `tcp` in a VirtualService.

use super::idle_fields::check_only_weight;
use super::names::{check_host, check_labels_of, host_covers, is_dns_label, report_host};
use super::values::{check_ip_or_cidr, check_port, check_port_number, is_ip, report_missing};
use super::virtual_service::{Context, check_gateway_names};
use crate::schema::{Node, Report};

/// `host`, `subset` and `port`.
pub(super) fn check_destination(destination: &Node<'_>, report: &mut Report<'_>) {
    let host = destination.get("host");
    if host.text() == "*" {
        report_host(&host, "is no single destination", report);
    } else if host.is_set() {
        check_host(&host, report);
    } else {
        report_missing(
            destination,
            "a destination has no host",
            "write `host:`",
            report,
        );
    }
    let subset = destination.get("subset");
    if !subset.text().is_empty() {
        check_subset_name(&subset, report);
    }
    let port = destination.get("port");
    if port.is_set() {
        check_port(&port, "number", report);
    }
}

pub(super) fn check_subset_name(name: &Node<'_>, report: &mut Report<'_>) {
    if !is_dns_label(name.text()) {
        let message = format!("`{}` is no name of a subset", name.text());
        let help = "write letters, digits and inner `-`, such as `v1`";
        report.error("invalid-name", name, message, help);
    }
}

/// Destinations with weights. One destination takes everything, whatever its weight.
pub(super) fn check_weights(destinations: &Node<'_>, report: &mut Report<'_>) {
    let mut total: i64 = 0;
    for item in destinations.items() {
        let destination = item.get("destination");
        if destination.is_set() {
            check_destination(&destination, report);
        } else {
            let help = "write `destination:` with a `host:`";
            report_missing(&item, "a route has no destination", help, report);
        }
        let weight = item.get("weight");
        total = total.saturating_add(weight.integer());
        if weight.integer() < 0 {
            let message = format!("the weight {} is negative", weight.integer());
            let help = "write its share of the requests, such as `weight: 10`, or 0 for none";
            report.error("invalid-weight", &weight, message, help);
        }
    }
    if destinations.len() > 1 && total == 0 {
        let message = format!(
            "the weights of {} destinations sum to 0, so no request goes anywhere",
            destinations.len()
        );
        let help = "write a `weight:` for each; the shares follow from their sum";
        report.error("invalid-weight", destinations, message, help);
    }
}

pub(super) fn check_tls(route: &Node<'_>, context: &Context<'_>, report: &mut Report<'_>) {
    let conditions = route.get("match");
    if conditions.is_empty() {
        let help = "write `match:` with `sniHosts:`";
        report_missing(route, "a TLS route has no match", help, report);
    }
    for condition in conditions.items() {
        let sni_hosts = condition.get("sniHosts");
        if sni_hosts.is_empty() {
            let help = "write `sniHosts:` with hosts of this VirtualService";
            report_missing(&condition, "a TLS match has no SNI hosts", help, report);
        }
        for host in sni_hosts.items() {
            check_sni_host(&host, context, report);
        }
        check_connection(&condition, context, report);
    }
    check_forward(route, "TLS", report);
}

pub(super) fn check_tcp(route: &Node<'_>, context: &Context<'_>, report: &mut Report<'_>) {
    let conditions = route.get("match");
    for condition in conditions.items() {
        check_connection(&condition, context, report);
    }
    check_forward(route, "TCP", report);
}

fn check_forward(route: &Node<'_>, what: &str, report: &mut Report<'_>) {
    // No field of the definitions, and yet in use: Istio reads over it.
    let name = route.get("name");
    if name.is_set() {
        let message = format!("a {what} route has no name");
        let help = "remove it: only routes of `http` are named";
        report.key_warning("no-effect", &name, message, help);
    }
    let destinations = route.get("route");
    if destinations.is_empty() {
        let message = format!("a {what} route leads nowhere");
        report_missing(route, message, "write `route:` with a destination", report);
    }
    check_weights(&destinations, report);
    check_only_weight(route, "connection", report);
    for destination in destinations.items().filter(|_| destinations.len() > 1) {
        if destination.get("weight").integer() == 0 {
            let message = "this destination has weight 0 beside others and gets no connection";
            let help = "give it a weight, or remove it";
            report.warning("zero-weight", &destination, message, help);
        }
    }
}

/// What `tls` and `tcp` matches have in common.
fn check_connection(condition: &Node<'_>, context: &Context<'_>, report: &mut Report<'_>) {
    if context.is_for_gateways {
        // Istio: `l4SingleMatch`.
        for name in ["destinationSubnets", "sourceLabels", "sourceNamespace"] {
            let field = condition.get(name);
            if !field.is_empty() || !field.text().is_empty() {
                let message =
                    format!("at a gateway `{name}` is not looked at: the match holds without it");
                let help = "remove it, or match by `port`, `gateways` or `sniHosts`";
                report.key_warning("no-effect", &field, message, help);
            }
        }
    }
    for subnet in condition.get("destinationSubnets").items() {
        check_ip_or_cidr(&subnet, report);
    }
    let port = condition.get("port");
    if port.integer() != 0 {
        check_port_number(&port, report);
    }
    check_labels_of(&condition.get("sourceLabels"), report);
    check_gateway_names(&condition.get("gateways"), report);
}

fn check_sni_host(host: &Node<'_>, context: &Context<'_>, report: &mut Report<'_>) {
    let text = host.text();
    if let Err(problem) = context.check_host(text, true) {
        if is_ip(text) {
            let message = format!("clients do not send an address such as `{text}` as SNI");
            report.warning("no-effect", host, message, "write a name");
        } else {
            report_host(host, &problem, report);
        }
        return;
    }
    if !context.hosts.iter().any(|wide| host_covers(wide, text)) {
        let message = format!("the SNI host `{text}` is none of the hosts of the VirtualService");
        let help = format!("add it to `hosts`, which has {}", context.hosts.join(", "));
        report.error("invalid-host", host, message, help);
    }
}
