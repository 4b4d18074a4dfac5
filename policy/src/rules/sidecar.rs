//! Sidecar. Istio: `ValidateSidecar`.

use super::gateway::{Scope, check_scoped_host};
use super::layer4_routes::check_destination;
use super::names::{check_dns_label, check_fqdn, report_host};
use super::protocol;
use super::selectors::check_workload_selector;
use super::server_tls;
use super::traffic_policy::check_connection_pool;
use super::values::{
    UNIX, check_ip, check_port_number, check_unix_listener, check_unix_path, is_port,
    report_missing,
};
use crate::resource::protocol::Protocol;
use crate::schema::{Node, Report};

pub(super) fn check(spec: &Node<'_>, report: &mut Report<'_>) {
    check_workload_selector(&spec.get("workloadSelector"), report);
    let (ingress, egress) = (spec.get("ingress"), spec.get("egress"));
    let outbound = spec.get("outboundTrafficPolicy");
    let pool = spec.get("inboundConnectionPool");
    if ingress.is_empty() && egress.is_empty() && !outbound.is_set() && !pool.is_set() {
        let help = "write `egress:`, `ingress:` or `outboundTrafficPolicy:`";
        report_missing(spec, "the sidecar changes nothing", help, report);
    }
    check_ingress(&ingress, report);
    check_connection_pool(&pool, report);
    check_egress(&egress, report);
    check_outbound(&outbound, report);
}

/// The number of a listener's port; 0 if there is none.
fn port_number(listener: &Node<'_>) -> i64 {
    listener.get("port").get("number").integer()
}

fn report_same_port(number: &Node<'_>, report: &mut Report<'_>) {
    let message = format!("the port {} has a listener already", number.integer());
    report.error(
        "duplicate-value",
        number,
        message,
        "give each listener its own port",
    );
}

fn check_listener_port(port: &Node<'_>, report: &mut Report<'_>) {
    let target = port.get("targetPort");
    if target.integer() > 0 {
        let message = "`targetPort` has no meaning here";
        report.key_error("conflicting-fields", &target, message, "remove it");
    }
    let name = port.get("name");
    if !name.text().is_empty() {
        check_dns_label(&name, "name of a port", report);
    }
    protocol::check_optional(&port.get("protocol"), report);
}

fn check_ingress(ingress: &Node<'_>, report: &mut Report<'_>) {
    let all: Vec<Node<'_>> = ingress.items().collect();
    for (at, listener) in all.iter().enumerate() {
        let port = listener.get("port");
        if !port.is_set() {
            let help = "write `port:` with `number:`, `name:` and `protocol:`";
            report_missing(listener, "the listener has no port", help, report);
            continue;
        }
        check_listener_port(&port, report);
        let number = port.get("number");
        if number.is_set() {
            check_port_number(&number, report);
        } else {
            report_missing(&port, "the port has no number", "write `number:`", report);
        }
        let mut earlier = all[..at].iter();
        if earlier.any(|earlier| port_number(earlier) == number.integer()) {
            report_same_port(&number, report);
        }
        let bind = listener.get("bind");
        if !bind.text().is_empty() {
            check_ip(&bind, report);
        }
        check_default_endpoint(&listener.get("defaultEndpoint"), report);
        let protocol = Protocol::named(port.get("protocol").text());
        let tls = listener.get("tls");
        if tls.is_set() {
            check_ingress_tls(&tls, protocol, report);
        }
        let pool = listener.get("connectionPool");
        check_connection_pool(&pool, report);
        let http = pool.get("http");
        if http.is_set() && !protocol.is_some_and(Protocol::is_http) {
            let message = "the port is not HTTP, so only the `tcp` settings count";
            report.key_warning("no-effect", &http, message, "write `protocol: HTTP`");
        }
    }
}

/// `127.0.0.1:port`, `0.0.0.0:port`, `[::1]:port`, `[::]:port`, `:port` or `unix:///path`.
fn check_default_endpoint(endpoint: &Node<'_>, report: &mut Report<'_>) {
    const HOSTS: [&str; 5] = ["", "127.0.0.1", "0.0.0.0", "[::1]", "[::]"];
    let text = endpoint.text();
    if text.is_empty() {
        return;
    }
    if text.starts_with(UNIX) {
        check_unix_path(endpoint, report);
        return;
    }
    let is_endpoint = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| HOSTS.contains(&host) && port.parse().is_ok_and(is_port));
    if !is_endpoint {
        let message = format!("`{text}` is no endpoint of the workload");
        let help = "write `127.0.0.1:PORT`, `0.0.0.0:PORT`, `[::1]:PORT`, `[::]:PORT` or \
                    `unix:///path`";
        report.error("invalid-address", endpoint, message, help);
    }
}

fn check_ingress_tls(tls: &Node<'_>, protocol: Option<Protocol>, report: &mut Report<'_>) {
    for name in [
        "subjectAltNames",
        "credentialName",
        "credentialNames",
        "tlsCertificates",
    ] {
        let field = tls.get(name);
        if !field.text().is_empty() || !field.is_empty() {
            let message = format!("a sidecar's ingress has no `{name}`");
            let help = "write `serverCertificate:`, `privateKey:` and `caCertificates:`";
            report.key_error("conflicting-fields", &field, message, help);
        }
    }
    let redirect = tls.get("httpsRedirect");
    if redirect.is_true() {
        let message = "a sidecar's ingress does not redirect to HTTPS";
        report.key_error("conflicting-fields", &redirect, message, "remove it");
    }
    let mode = tls.get("mode");
    if ["ISTIO_MUTUAL", "AUTO_PASSTHROUGH"].contains(&mode.text()) {
        let message = format!("a sidecar's ingress has no mode {}", mode.text());
        report.error(
            "conflicting-fields",
            &mode,
            message,
            "write SIMPLE or MUTUAL",
        );
    }
    if !protocol.is_some_and(Protocol::is_tls) {
        let message = "only HTTPS and TLS ports have `tls`";
        let help = "write `protocol: HTTPS` or `TLS`, or remove `tls`";
        report.key_error("conflicting-fields", tls, message, help);
    }
    server_tls::check(tls, report);
}

fn check_egress(egress: &Node<'_>, report: &mut Report<'_>) {
    let all: Vec<Node<'_>> = egress.items().collect();
    for (at, listener) in all.iter().enumerate() {
        let port = listener.get("port");
        if port.is_set() {
            check_egress_port(listener, &port, &all[..at], report);
        } else if at + 1 != all.len() {
            let message = "a listener without a port takes what the others leave";
            let help = "make it the last one, and the only one without a port";
            report.error("conflicting-fields", listener, message, help);
        }
        let hosts = listener.get("hosts");
        if hosts.is_empty() {
            let help = "write `hosts:`, such as `[\"./*\"]`";
            report_missing(listener, "the listener has no hosts", help, report);
        }
        for host in hosts.items() {
            check_scoped_host(&host, Scope::Sidecar, report);
        }
        warn_covered_hosts(&hosts, report);
    }
}

fn check_egress_port(
    listener: &Node<'_>,
    port: &Node<'_>,
    earlier: &[Node<'_>],
    report: &mut Report<'_>,
) {
    check_listener_port(port, report);
    let number = port.get("number");
    let bind = listener.get("bind");
    let has_same_port = |earlier: &Node<'_>| {
        earlier.get("port").is_set() && port_number(earlier) == number.integer()
    };
    let mut same_port = earlier.iter().filter(|earlier| has_same_port(earlier));
    if number.integer() != 0 {
        check_port_number(&number, report);
        if same_port.next().is_some() {
            report_same_port(&number, report);
        }
        if !bind.text().is_empty() {
            check_ip(&bind, report);
        }
        return;
    }
    if !bind.text().starts_with(UNIX) {
        let message = "a listener with the port 0 has no Unix socket to bind";
        let help = "write a `number:` from 1 to 65535";
        report.error("invalid-port", port, message, help);
    } else {
        let help = "write a `number:` from 1 to 65535, and an IP address or no `bind`";
        check_unix_listener(&bind, help, report);
    }
    if same_port.any(|earlier| earlier.get("bind").text() == bind.text()) {
        let message = format!("`{}` has a listener already", bind.text());
        let node = if bind.is_set() { &bind } else { listener };
        report.error(
            "duplicate-value",
            node,
            message,
            "give each listener its own socket",
        );
    }
    let capture = listener.get("captureMode");
    if !["", "DEFAULT", "NONE"].contains(&capture.text()) {
        let message = "traffic of a Unix socket cannot be captured";
        report.error(
            "conflicting-fields",
            &capture,
            message,
            "write DEFAULT or NONE",
        );
    }
}

/// Hosts that an earlier one of the list covers. `.` is the namespace of whoever the Sidecar is for,
/// which in the root namespace is everybody, so it covers itself alone.
fn warn_covered_hosts(hosts: &Node<'_>, report: &mut Report<'_>) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for host in hosts.items() {
        let text = host.text();
        let Some(scope) = text.split_once('/').filter(|_| !text.starts_with('~')) else {
            continue;
        };
        let overlaps = |earlier: &&(&str, &str)| {
            let same_namespace = earlier.0 == scope.0;
            let same_name = earlier.1 == scope.1 || earlier.1 == "*" || scope.1 == "*";
            let everything = ("*", "*");
            same_namespace && same_name || **earlier == everything || scope == everything
        };
        if let Some((namespace, name)) = seen.iter().find(overlaps) {
            let message = format!("`{text}` and `{namespace}/{name}` overlap");
            report.warning("duplicate-value", &host, message, "keep the wider one");
        }
        seen.push(scope);
    }
}

fn check_outbound(policy: &Node<'_>, report: &mut Report<'_>) {
    let proxy = policy.get("egressProxy");
    if !proxy.is_set() {
        return;
    }
    if policy.get("mode").text() != "ALLOW_ANY" {
        let message = "an egress proxy is for unknown hosts, which only ALLOW_ANY lets pass";
        report.key_error(
            "conflicting-fields",
            &proxy,
            message,
            "write `mode: ALLOW_ANY`",
        );
        return;
    }
    let host = proxy.get("host");
    if let Err(problem) = check_fqdn(host.text()) {
        report_host(&host, &problem, report);
    }
    if !proxy.get("port").is_set() {
        let help = "write `port: {number: ...}`";
        report_missing(&proxy, "the egress proxy has no port", help, report);
    } else if check_fqdn(host.text()).is_ok() {
        check_destination(&proxy, report);
    }
}
