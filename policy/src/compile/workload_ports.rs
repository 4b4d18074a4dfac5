//! Ports of WorkloadEntries that no service has.

use std::collections::{BTreeMap, BTreeSet};

use super::Compiler;
use super::names::selects;
use super::registry::labels_of_entry;
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::kubernetes::PortOrName;
use crate::source::FieldPath;

/// Whose workloads are chosen by labels, and what its ports are called.
struct Choice<'r> {
    namespace: &'r str,
    labels: &'r BTreeMap<String, String>,
    ports: BTreeSet<&'r str>,
}

/// Warns of each name in `ports` that is no port of any service that has the workload.
pub fn report(compiler: &mut Compiler<'_>) {
    let resources = compiler.resources;
    let entries = resources.service_entries.iter().filter_map(|object| {
        Some(Choice {
            namespace: &object.metadata.namespace,
            labels: &object.spec.workload_selector.as_ref()?.labels,
            ports: object
                .spec
                .ports
                .iter()
                .map(|port| port.name.as_str())
                .collect(),
        })
    });
    let services = resources.services.iter().map(|object| {
        let ports = object.spec.ports.iter().flat_map(|port| {
            let target = match &port.target_port {
                Some(PortOrName::Name(name)) => name,
                _ => &port.name,
            };
            [port.name.as_str(), target]
        });
        Choice {
            namespace: &object.metadata.namespace,
            labels: &object.spec.selector,
            ports: ports.collect(),
        }
    });
    let services = services.filter(|choice| !choice.labels.is_empty());
    let choices: Vec<Choice<'_>> = entries.chain(services).collect();
    for workload in &resources.workload_entries {
        if workload.spec.ports.is_empty() {
            continue;
        }
        let labels = labels_of_entry(workload);
        let mut known: BTreeSet<&str> = BTreeSet::new();
        for choice in &choices {
            if choice.namespace == workload.metadata.namespace && selects(choice.labels, &labels) {
                known.extend(&choice.ports);
            }
        }
        // Nobody has it, or nobody that says what ports there are.
        if known.is_empty() {
            continue;
        }
        let names: Vec<&str> = known
            .iter()
            .copied()
            .filter(|name| !name.is_empty())
            .collect();
        for name in workload
            .spec
            .ports
            .keys()
            .filter(|name| !known.contains(name.as_str()))
        {
            let place = FieldPath::root().field("spec").field("ports").field(name);
            let place = Place::Key(workload.metadata.origin(place));
            let message = format!("no service that has this workload has a port `{name}`");
            let help = format!("write one of {}, or remove it", names.join(", "));
            let warning = Diagnostic::warning("unknown-port", place, message);
            compiler.findings.add(warning.with_help(help));
        }
    }
}
