//! VirtualServices that name a gateway and get nothing from it: it has no server for their kind of
//! routes, or they are kept from its namespace.

use super::Compiler;
use super::names::{MESH, is_exported, resolve_gateway};
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::Object;
use crate::resource::gateway::{Gateway, Server};
use crate::resource::protocol::Protocol;
use crate::resource::virtual_service::VirtualService;
use crate::settings::Role;
use crate::source::FieldPath;

/// Warns of both.
pub fn report(compiler: &mut Compiler<'_>) {
    let resources = compiler.resources;
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
