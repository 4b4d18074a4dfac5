//! Rules of `tcp` that come after one that takes all connections.

use std::collections::{BTreeMap, HashSet};

use super::Compiler;
use super::gateway_bindings::is_for_mesh;
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::virtual_service::Layer4Match;
use crate::settings::Role;
use crate::source::{FieldPath, Origin};

/// Which rules the servers of gateways have come to, and which of them they passed over.
#[derive(Debug, Default)]
pub struct ByteRules {
    taken: HashSet<Origin>,
    /// By the place of the rule: the one that was taken in its stead.
    passed_over: BTreeMap<String, (Origin, Origin)>,
}

impl ByteRules {
    /// A server has `rules` that suit it, by the places where they are written. The first takes
    /// all connections.
    pub fn note(&mut self, rules: &[Origin]) {
        let [taken, passed_over @ ..] = rules else {
            return;
        };
        self.taken.insert(taken.clone());
        for rule in passed_over {
            let known = self.passed_over.entry(format!("{rule:?}"));
            known.or_insert_with(|| (rule.clone(), taken.clone()));
        }
    }
}

/// Warns of rules that no connection comes to.
pub fn report(compiler: &mut Compiler<'_>) {
    let ByteRules { taken, passed_over } = std::mem::take(&mut compiler.byte_rules);
    let mut dead: Vec<(Origin, Origin)> = passed_over.into_values().collect();
    dead.retain(|(rule, _)| !taken.contains(rule));
    if compiler.settings.role == Role::Sidecar {
        dead = dead_in_mesh(compiler);
    }
    for (rule, by) in dead {
        let message = "no connection comes to this rule: another one takes all of its port";
        let help = "put the more special rule first, give the two ports of their own, or remove it";
        let warning = Diagnostic::warning("unreachable-route", Place::Field(rule), message)
            .with_help(help)
            .with_related(by, "this rule takes them");
        compiler.findings.add(warning);
    }
}

/// Rules of one VirtualService of the mesh behind one without conditions. What others of the same
/// host have is no business of theirs.
fn dead_in_mesh(compiler: &Compiler<'_>) -> Vec<(Origin, Origin)> {
    let is_any = |one: &Layer4Match| {
        one.port == 0
            && one.destination_subnets.is_empty()
            && one.source_labels.is_empty()
            && one.source_namespace.is_empty()
            && one.gateways.is_empty()
    };
    let objects = compiler.resources.virtual_services.iter();
    let mut dead = Vec::new();
    for object in objects.filter(|object| is_for_mesh(object)) {
        let rules = &object.spec.tcp;
        let takes_all = |at: &usize| {
            let matches = &rules[*at].r#match;
            matches.is_empty() || matches.iter().any(is_any)
        };
        let Some(first) = (0..rules.len()).find(takes_all) else {
            continue;
        };
        let origin = |at: usize| {
            let rules = FieldPath::root().field("spec").field("tcp");
            object.metadata.origin(rules.index(at))
        };
        dead.extend((first + 1..rules.len()).map(|at| (origin(at), origin(first))));
    }
    dead
}
