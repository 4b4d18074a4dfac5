//! Gateway. Istio: `ValidateGateway`.

use super::names::{check_wildcard_domain, is_dns_label, is_partial_wildcard, report_host};
use super::protocol;
use super::server_tls;
use super::values::{UNIX, check_ip, check_port, check_unix_listener, is_ip, report_missing};
use crate::resource::protocol::Protocol;
use crate::schema::{Node, Report};

pub(super) fn check(root: &Node<'_>, report: &mut Report<'_>) {
    let metadata = root.get("metadata");
    let name = metadata.get("name");
    if !is_dns_label(name.text()) {
        let message = format!("`{}` is no name of a gateway", name.text());
        let help = "write letters, digits and inner `-`, at most 63 of them";
        report.error("invalid-name", &name, message, help);
    }
    let spec = root.get("spec");
    let servers = spec.get("servers");
    if servers.is_empty() {
        report_missing(
            &spec,
            "the gateway has no servers",
            "write `servers:`",
            report,
        );
    }
    let all: Vec<Node<'_>> = servers.items().collect();
    for (at, server) in all.iter().enumerate() {
        check_server(server, report);
        let port = server.get("port");
        let name = port.get("name");
        let has_same_name = |earlier: &Node<'_>| {
            let port = earlier.get("port");
            port.is_set() && port.get("name").text() == name.text()
        };
        if port.is_set() && all[..at].iter().any(has_same_name) {
            let message = format!("the port name `{}` is there twice", name.text());
            let node = if name.is_set() { &name } else { &port };
            report.error(
                "duplicate-value",
                node,
                message,
                "give each port its own name",
            );
        }
    }
}

fn check_server(server: &Node<'_>, report: &mut Report<'_>) {
    let hosts = server.get("hosts");
    if hosts.is_empty() {
        let help = "write `hosts:`, such as `[\"*\"]`";
        report_missing(server, "the server has no hosts", help, report);
    }
    for host in hosts.items() {
        check_scoped_host(&host, Scope::Gateway, report);
    }
    let port = server.get("port");
    let bind = server.get("bind");
    let is_unix = bind.text().starts_with(UNIX);
    if !port.is_set() {
        let help = "write `port:` with `number:`, `name:` and `protocol:`";
        report_missing(server, "the server has no port", help, report);
    } else {
        check_server_port(&port, is_unix, report);
    }
    if is_unix {
        let help = "write an IP address, or remove `bind`, and a `number:` from 1 to 65535";
        check_unix_listener(&bind, help, report);
    } else if !bind.text().is_empty() {
        check_ip(&bind, report);
    }
    let tls = server.get("tls");
    server_tls::check(&tls, report);
    let Some(protocol) = Protocol::named(port.get("protocol").text()) else {
        return;
    };
    check_tls_fits(server, &tls, protocol, report);
}

fn check_server_port(port: &Node<'_>, is_unix: bool, report: &mut Report<'_>) {
    protocol::check(&port.get("protocol"), report);
    let number = port.get("number");
    if !is_unix {
        check_port(port, "number", report);
    } else if number.integer() != 0 {
        let message = "a Unix socket has no port number";
        let help = "remove `bind` to listen at this port; with a Unix socket, which nothing listens \
                    at yet, it is `number: 0`";
        report.error("conflicting-fields", &number, message, help);
    }
    let target = port.get("targetPort");
    if target.integer() > 0 {
        let message = "`targetPort` has no meaning here";
        report.key_error("conflicting-fields", &target, message, "remove it");
    }
    if port.get("name").text().is_empty() {
        report_missing(port, "the port has no name", "write `name:`", report);
    }
}

/// Which protocols go with `tls`.
fn check_tls_fits(server: &Node<'_>, tls: &Node<'_>, protocol: Protocol, report: &mut Report<'_>) {
    let redirect = tls.get("httpsRedirect");
    if redirect.is_true() && !protocol.is_http() {
        let message = "only HTTP servers redirect to HTTPS";
        report.key_warning("no-effect", &redirect, message, "remove `httpsRedirect`");
    }
    if protocol.is_tls() {
        if !tls.is_set() {
            let message = "a server of HTTPS or TLS has no `tls`";
            let help = "write `tls:` with a `mode:` and certificates";
            report_missing(server, message, help, report);
        }
        return;
    }
    if !tls.is_set() {
        return;
    }
    if !protocol.is_http() {
        let message = "only HTTPS and TLS servers have `tls`";
        let help = "write `protocol: TLS`, or remove `tls`";
        report.key_error("conflicting-fields", tls, message, help);
        return;
    }
    let passes_through = ["", "PASSTHROUGH", "AUTO_PASSTHROUGH"];
    let files = ["caCertificates", "privateKey", "serverCertificate"];
    let has_files = files.iter().any(|name| !tls.get(name).text().is_empty());
    if !passes_through.contains(&tls.get("mode").text()) || has_files {
        let message = "a server of plain HTTP terminates no TLS";
        let help = "write `protocol: HTTPS`; beside HTTP, `tls` has `httpsRedirect` alone";
        report.key_error("conflicting-fields", tls, message, help);
    }
}

/// Who names `namespace/host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The namespace may be left out, and IP addresses are hosts.
    Gateway,
    /// `~namespace/host` takes a host out.
    Sidecar,
}

/// `namespace/host`, where the namespace is one, `.` or `*`.
pub(super) fn check_scoped_host(node: &Node<'_>, scope: Scope, report: &mut Report<'_>) {
    let text = node.text();
    let (namespace, host) = match text.split_once('/') {
        Some((namespace, host)) => (Some(namespace), host),
        None => (None, text),
    };
    let is_namespace = match (namespace, scope) {
        (None, Scope::Gateway) => true,
        (None, Scope::Sidecar) | (Some(""), _) => false,
        (Some(namespace), Scope::Gateway) => is_scope(namespace),
        (Some(namespace), Scope::Sidecar) => {
            let namespace = namespace.strip_prefix('~').unwrap_or(namespace);
            namespace.is_empty() || is_scope(namespace)
        }
    };
    if !is_namespace {
        let message = format!("`{text}` has no namespace before its host");
        let help = "write `namespace/host`, `./host` or `*/host`";
        report.error("invalid-host", node, message, help);
    }
    if host.is_empty() {
        let message = format!("`{text}` names no host");
        let help = match namespace {
            Some(namespace) => format!("write `{namespace}/*` for all hosts"),
            None => "write `*` for all hosts".to_string(),
        };
        report.error("invalid-host", node, message, help);
    } else if host != "*" && !host.contains('.') {
        let message = format!("`{text}` names its host by a short name, which is of no namespace");
        let own = &report.document().namespace;
        let full = format!("{host}.{own}.svc.cluster.local");
        let help = match scope {
            Scope::Gateway => format!(
                "write the name that clients use, such as `{host}.example.com`, or the full one of \
                 a service, `{full}`; short names are for VirtualServices and DestinationRules"
            ),
            Scope::Sidecar => format!(
                "write the full name of the service, such as `{}/{full}`",
                namespace.unwrap_or("*")
            ),
        };
        report.error("invalid-host", node, message, help);
    } else if let Err(problem) = check_wildcard_domain(host) {
        if scope == Scope::Sidecar || !is_ip(host) {
            report_host(node, &problem, report);
        }
    } else if is_partial_wildcard(host) {
        report_host(
            node,
            "has a wildcard that stands for a part of a label",
            report,
        );
    }
}

fn is_scope(namespace: &str) -> bool {
    namespace == "*" || namespace == "." || is_dns_label(namespace)
}
