//! VirtualServices that come to nothing at a gateway, since they name none, or one without servers
//! for their routes, or are kept from its namespace; and Gateways that are for other workloads.

use std::collections::HashSet;

use super::Compiler;
use super::names::{MESH, is_exported, resolve_gateway};
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::Object;
use crate::resource::gateway::{Gateway, Server};
use crate::resource::protocol::Protocol;
use crate::resource::virtual_service::VirtualService;
use crate::settings::Role;
use crate::source::FieldPath;

/// Warns of all of them.
pub fn report(compiler: &mut Compiler<'_>) {
    let resources = compiler.resources;
    if compiler.settings.role == Role::Gateway {
        report_unselected(compiler);
        report_unnamed(compiler);
    }
    for object in &resources.virtual_services {
        let namespace = &object.metadata.namespace;
        let names = object.spec.gateways.iter();
        let names: Vec<String> = names.map(|name| resolve_gateway(name, namespace)).collect();
        let mut known: Vec<&Object<Gateway>> = Vec::new();
        for name in names.iter().filter(|name| *name != MESH) {
            let mut gateways = resources.gateways.iter();
            known.extend(gateways.find(|gateway| name_of(gateway) == *name));
        }
        let Some(first) = known.first() else { continue };
        if compiler.settings.role == Role::Gateway {
            report_hidden(object, first, compiler);
        }
        // Others may have such servers, and the mesh takes all kinds.
        if known.len() == names.len() {
            report_kinds(object, &known, compiler);
        }
    }
}

fn name_of(gateway: &Object<Gateway>) -> String {
    let metadata = &gateway.metadata;
    format!("{}/{}", metadata.namespace, metadata.name)
}

/// Warns of Gateways whose selector asks for other labels than this workload has.
fn report_unselected(compiler: &mut Compiler<'_>) {
    let settings = compiler.settings;
    let gateways = compiler.resources.gateways.iter();
    for object in gateways.filter(|object| !settings.selected_by(&object.spec.selector)) {
        let own = settings.workload.labels.iter();
        let own: Vec<String> = own
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        let own = match own.is_empty() {
            true => "none".to_string(),
            false => own.join(", "),
        };
        let message = format!(
            "the selector asks for other labels than those of this workload, which are {own}: none \
             of these servers listens here"
        );
        let field = FieldPath::root().field("spec").field("selector");
        let place = Place::Key(object.metadata.origin(field));
        let help = "write labels that the workload has, correct `workload.labels` of ProxySettings, \
                    or keep the Gateways of other workloads elsewhere";
        let warning = Diagnostic::warning("selects-nothing", place, message);
        compiler.findings.add(warning.with_help(help));
    }
}

/// Whether a VirtualService is for sidecars alone, as it is when it names no gateway.
pub fn is_for_mesh(object: &Object<VirtualService>) -> bool {
    let namespace = &object.metadata.namespace;
    let mut gateways = object.spec.gateways.iter();
    // Without hosts it is for others to delegate to.
    !object.spec.hosts.is_empty() && gateways.all(|name| resolve_gateway(name, namespace) == MESH)
}

/// Warns of VirtualServices that no gateway can take, since they name none. In a directory that
/// sidecars share there are such on purpose: a word is said where nothing is bound here at all, or
/// where a server has the very host.
fn report_unnamed(compiler: &mut Compiler<'_>) {
    let resources = compiler.resources;
    let known: Vec<String> = resources.gateways.iter().map(name_of).collect();
    let is_bound = |object: &Object<VirtualService>| {
        let namespace = &object.metadata.namespace;
        let mut gateways = object.spec.gateways.iter();
        gateways.any(|name| known.contains(&resolve_gateway(name, namespace)))
    };
    let binds_nothing = !resources.virtual_services.iter().any(is_bound);
    let servers = resources.gateways.iter();
    let servers = servers.flat_map(|gateway| &gateway.spec.servers);
    let served: HashSet<&str> = servers
        .flat_map(|server| &server.hosts)
        .map(|host| host.split_once('/').map_or(host.as_str(), |(_, host)| host))
        .filter(|host| *host != "*")
        .collect();
    let unnamed = resources.virtual_services.iter();
    let unnamed = unnamed.filter(|one| one.spec.gateways.is_empty() && is_for_mesh(one));
    for object in unnamed {
        let mut hosts = object.spec.hosts.iter();
        if !binds_nothing && !hosts.any(|host| served.contains(host.as_str())) {
            continue;
        }
        let place = Place::Key(object.metadata.origin(FieldPath::root().field("spec")));
        let message = "without `gateways` a VirtualService is for sidecars, and this is a gateway: \
                       it is bound nowhere";
        let help = match known.as_slice() {
            [] => "write `gateways:` with the Gateway that is to take it".to_string(),
            [only] => format!("write `gateways: [{only}]`"),
            [first, rest @ ..] => {
                let more = if rest.len() > 1 { ", ..." } else { "" };
                format!("write `gateways: [{first}]`, or one of {}{more}", rest[0])
            }
        };
        let warning = Diagnostic::warning("unbound-rule", place, message);
        compiler.findings.add(warning.with_help(help));
    }
}

fn report_hidden(
    object: &Object<VirtualService>,
    gateway: &Object<Gateway>,
    compiler: &mut Compiler<'_>,
) {
    let here = &compiler.settings.namespace;
    if is_exported(&object.spec.export_to, &object.metadata.namespace, here) {
        return;
    }
    let message = format!(
        "this keeps the VirtualService from namespace `{here}`, in which the gateway `{}` runs: it \
         binds nothing",
        name_of(gateway)
    );
    let place = FieldPath::root().field("spec").field("exportTo");
    let place = Place::Field(object.metadata.origin(place));
    let help = format!("add `{here}` or `*`");
    let warning = Diagnostic::warning("no-effect", place, message);
    compiler.findings.add(warning.with_help(help));
}

/// The kind of routes that a server takes; none with `AUTO_PASSTHROUGH`, which goes by the server
/// name alone.
fn kind_of(server: &Server) -> Option<&'static str> {
    let protocol = Protocol::parse(&server.port.protocol);
    let tls = server.tls.as_ref();
    match tls.filter(|tls| tls.passes_through()) {
        _ if protocol.is_http() => Some("http"),
        Some(tls) if tls.mode.as_deref() == Some("AUTO_PASSTHROUGH") => None,
        Some(_) => Some("tls"),
        None if protocol == Protocol::Https => Some("http"),
        None => Some("tcp"),
    }
}

fn report_kinds(
    object: &Object<VirtualService>,
    gateways: &[&Object<Gateway>],
    compiler: &mut Compiler<'_>,
) {
    let spec = &object.spec;
    let lists = [
        ("http", spec.http.is_empty()),
        ("tls", spec.tls.is_empty()),
        ("tcp", spec.tcp.is_empty()),
    ];
    for (list, _) in lists.iter().filter(|(_, is_empty)| !is_empty) {
        let mut servers = gateways.iter().flat_map(|gateway| &gateway.spec.servers);
        if servers.any(|server| kind_of(server) == Some(list)) {
            if *list == "http" {
                report_redirected(object, gateways, compiler);
            }
            continue;
        }
        let servers = match *list {
            "http" => "HTTP, or HTTPS that ends there",
            "tls" => "TLS or HTTPS with the mode PASSTHROUGH",
            _ => "TCP, or TLS that ends there",
        };
        let names: Vec<String> = gateways.iter().map(|gateway| name_of(gateway)).collect();
        let message = format!(
            "`{list}` routes need a server of {servers}, and {} has none: they bind nothing",
            names.join(", ")
        );
        let place = FieldPath::root().field("spec").field(list);
        let place = Place::Key(object.metadata.origin(place));
        let help =
            "write the routes as the servers of the gateway take them, or change its servers";
        let warning = Diagnostic::warning("no-effect", place, message);
        compiler.findings.add(warning.with_help(help));
    }
}

/// Warns of routes at servers that send everybody to HTTPS before any route is asked.
fn report_redirected(
    object: &Object<VirtualService>,
    gateways: &[&Object<Gateway>],
    compiler: &mut Compiler<'_>,
) {
    let redirects = |server: &Server| {
        let protocol = Protocol::parse(&server.port.protocol);
        protocol.is_http() && server.tls.as_ref().is_some_and(|tls| tls.https_redirect)
    };
    let servers = gateways.iter().flat_map(|gateway| {
        let servers = gateway.spec.servers.iter().enumerate();
        servers.map(move |(at, server)| (*gateway, at, server))
    });
    let mut servers = servers.filter(|(.., server)| kind_of(server) == Some("http"));
    let Some((gateway, at, first)) = servers.next() else {
        return;
    };
    if !redirects(first) || !servers.all(|(.., server)| redirects(server)) {
        return;
    }
    let field = |name: &str| FieldPath::root().field("spec").field(name);
    let message = "all servers that it is bound to redirect to HTTPS before a route is asked";
    let help = "add a server of protocol HTTPS to the Gateway, or remove `httpsRedirect`";
    let server = gateway.metadata.origin(field("servers").index(at));
    let place = Place::Key(object.metadata.origin(field("http")));
    let warning = Diagnostic::warning("no-effect", place, message)
        .with_help(help)
        .with_related(server, "a server that redirects");
    compiler.findings.add(warning);
}
