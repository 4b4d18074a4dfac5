//! What is written for a sidecar at a gateway, and the other way round; and Sidecars that another
//! one stands before.

use std::collections::HashMap;

use super::Compiler;
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::Object;
use crate::resource::sidecar::Sidecar;
use crate::settings::Role;
use crate::source::{FieldPath, Origin};

/// Warns of all of it.
pub fn report(compiler: &mut Compiler<'_>) {
    report_settings(compiler);
    match compiler.settings.role {
        Role::Gateway => report_sidecars(compiler),
        Role::Sidecar => {
            report_gateways(compiler);
            report_second_sidecars(compiler);
        }
    }
}

fn warn(compiler: &mut Compiler<'_>, place: Place, message: &str, help: &str) {
    let warning = Diagnostic::warning("no-effect", place, message);
    compiler.findings.add(warning.with_help(help));
}

fn report_settings(compiler: &mut Compiler<'_>) {
    let resources = compiler.resources;
    for object in &resources.proxy_settings {
        let spec = &object.spec;
        let interception = &spec.interception;
        let has_doors = interception.mode.is_some()
            || interception.outbound_port.is_some()
            || interception.inbound_port.is_some();
        let (role, fields) = match compiler.settings.role {
            Role::Gateway => (
                "a gateway",
                vec![
                    (
                        "outboundTrafficPolicy",
                        spec.outbound_traffic_policy.is_some(),
                    ),
                    ("interception", has_doors),
                    (
                        "protocolDetectionTimeout",
                        spec.protocol_detection_timeout.is_some(),
                    ),
                ],
            ),
            Role::Sidecar => (
                "a sidecar",
                vec![(
                    "gatewayTopology",
                    spec.gateway_topology.proxy_protocol.is_some(),
                )],
            ),
        };
        for (name, _) in fields.iter().filter(|(_, is_written)| *is_written) {
            let place = FieldPath::root().field("spec").field(name);
            let place = Place::Key(object.metadata.origin(place));
            let message = format!("this process is {role}, for which `{name}` means nothing");
            warn(
                compiler,
                place,
                &message,
                "remove it, or write the `role` that is meant",
            );
        }
    }
}

fn report_sidecars(compiler: &mut Compiler<'_>) {
    let resources = compiler.resources;
    for object in &resources.sidecars {
        let place = Place::Key(object.metadata.origin(FieldPath::root().field("spec")));
        let message = "this process is a gateway, which goes by no Sidecar";
        let help = "remove it, or write `role: sidecar` in ProxySettings";
        warn(compiler, place, message, help);
    }
}

/// One warning for all of them: a sidecar may be given what is there for a whole mesh.
fn report_gateways(compiler: &mut Compiler<'_>) {
    let Some(first) = compiler.resources.gateways.first() else {
        return;
    };
    let place = Place::Key(first.metadata.origin(FieldPath::root().field("spec")));
    let message = "this process is a sidecar: no Gateway counts here, and no rule that is bound to \
                   Gateways alone";
    let help = "keep them out of the directory, or write `role: gateway` in ProxySettings";
    warn(compiler, place, message, help);
}

/// Of the Sidecars for the same workloads the first counts.
fn report_second_sidecars(compiler: &mut Compiler<'_>) {
    let resources = compiler.resources;
    let mut first: HashMap<(&str, Option<String>), Origin> = HashMap::new();
    let mut told = Vec::new();
    for object in &resources.sidecars {
        let Object { metadata, spec } = object;
        let selector = |spec: &Sidecar| {
            let selector = spec.workload_selector.as_ref()?;
            Some(format!("{:?}", selector.labels))
        };
        let origin = metadata.origin(FieldPath::root().field("spec"));
        let key = (metadata.namespace.as_str(), selector(spec));
        let Some(winner) = first.get(&key) else {
            first.insert(key, origin);
            continue;
        };
        let message = "an older Sidecar of this namespace is for the same workloads: this one is \
                       for nobody";
        let warning = Diagnostic::warning("no-effect", Place::Key(origin), message)
            .with_help("write both into one, or give them different `workloadSelector`s")
            .with_related(winner.clone(), "the Sidecar that counts");
        told.push(warning);
    }
    for warning in told {
        compiler.findings.add(warning);
    }
}
