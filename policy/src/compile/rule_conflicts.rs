//! DestinationRules that govern nothing, or that keep another one from governing.

use std::collections::BTreeSet;

use super::Compiler;
use super::findings::Findings;
use super::names::{is_subset, is_wildcard, resolve_short_name};
use super::policy_fields;
use super::registry::Service;
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::Object;
use crate::resource::destination_rule::DestinationRule;
use crate::source::{FieldPath, Origin};

/// A rule and its host, fully qualified and lower-case.
struct Rule<'r> {
    object: &'r Object<DestinationRule>,
    host: String,
}

/// Warns of rules for hosts that nobody declares, of ports that a host has not, of second rules for
/// one host, and of rules that keep a wider one away as a whole.
pub fn report(compiler: &mut Compiler<'_>) {
    let suffix = &compiler.settings.domain_suffix;
    let of = |object| {
        let Object { metadata, spec }: &Object<DestinationRule> = object;
        let host = resolve_short_name(&spec.host, &metadata.namespace, suffix);
        let host = host.to_ascii_lowercase();
        Rule { object, host }
    };
    let resources = compiler.resources;
    let rules: Vec<Rule<'_>> = resources.destination_rules.iter().map(of).collect();
    for rule in &rules {
        report_unknown_host(rule, compiler);
        report_unknown_ports(rule, compiler);
    }
    let root = compiler.settings.root_namespace.as_str();
    let own = compiler.settings.namespace.as_str();
    let findings = &mut compiler.findings;
    let mut first_of_host = std::collections::HashMap::new();
    for rule in &rules {
        let namespace = rule.namespace();
        let selector = rule.object.spec.workload_selector.as_ref();
        let selector = selector.map(|selector| &selector.match_labels);
        let same = first_of_host.entry((&rule.host, namespace, selector));
        let earlier: &mut Vec<&Rule<'_>> = same.or_default();
        report_dropped(rule, earlier, findings);
        earlier.push(rule);
    }
    // Exact hosts of the root namespace keep to themselves, so that a long list stays cheap.
    let mut of_root = std::collections::HashMap::new();
    for rule in rules.iter().filter(|rule| rule.namespace() == root) {
        of_root.entry(rule.host.as_str()).or_insert(rule);
    }
    for narrow in &rules {
        if let Some(wide) = of_root.get(narrow.host.as_str())
            && narrow.keeps_away(wide, root)
        {
            let of_host: Vec<_> = compiler.registry.all(&narrow.host).collect();
            let is_own = |service: &&Service| service.namespace == narrow.namespace();
            let is_asked_first = narrow.namespace() == own || of_host.iter().all(is_own);
            if is_asked_first && !of_host.is_empty() {
                report_unasked(narrow, wide, findings);
            }
            report_replaced(narrow, wide, findings);
        }
    }
    for wide in rules.iter().filter(|rule| is_wildcard(&rule.host)) {
        for narrow in &rules {
            if narrow.host != wide.host && narrow.keeps_away(wide, root) {
                report_replaced(narrow, wide, findings);
            }
        }
    }
}

impl Rule<'_> {
    fn namespace(&self) -> &str {
        &self.object.metadata.namespace
    }

    fn origin(&self, field: &str) -> Origin {
        let place = FieldPath::root().field("spec").field(field);
        self.object.metadata.origin(place)
    }

    /// Whether services of this rule are looked up here first, and the wider rule never is.
    fn keeps_away(&self, wide: &Rule<'_>, root: &str) -> bool {
        let same_namespace = self.namespace() == wide.namespace();
        let is_narrower = match same_namespace {
            true => self.host != wide.host && is_subset(&self.host, &wide.host),
            false => wide.namespace() == root && is_subset(&self.host, &wide.host),
        };
        let selects = |rule: &Rule<'_>| rule.object.spec.workload_selector.is_some();
        is_narrower && !selects(self) && !selects(wide)
    }
}

fn report_unknown_host(rule: &Rule<'_>, compiler: &mut Compiler<'_>) {
    let registry = &compiler.registry;
    let mut services = registry.services.iter();
    // Declared, and kept from this workload by its Sidecar.
    let is_hidden = compiler.hidden_hosts.contains(&rule.host);
    let is_known = is_hidden
        || registry.find(&rule.host, rule.namespace()).is_some()
        || is_wildcard(&rule.host) && services.any(|s| is_subset(&s.host, &rule.host));
    if !is_known {
        let reason = compiler.unexported.reason(&rule.host, compiler.settings);
        let message = format!("{reason}: this rule governs nothing");
        let place = Place::Field(rule.origin("host"));
        let warning = Diagnostic::warning("unknown-host", place, message);
        let otherwise = || super::references::unknown_host_help(compiler, &rule.host);
        let settings = compiler.settings;
        let unexported = &compiler.unexported;
        let warning = unexported.help(warning, &rule.host, settings, otherwise);
        compiler.findings.add(warning);
    }
}

/// Settings for ports that the service does not have.
fn report_unknown_ports(rule: &Rule<'_>, compiler: &mut Compiler<'_>) {
    let services = compiler.registry.all(&rule.host);
    // What an alias leads to has ports of its own.
    let declared = services.filter(|service| service.alias_of.is_none());
    let ports = declared.flat_map(|service| &service.ports);
    let known: BTreeSet<u32> = ports.map(|port| port.number).collect();
    if known.is_empty() {
        return;
    }
    let spec = &rule.object.spec;
    let subsets = spec.subsets.iter().enumerate().map(|(at, subset)| {
        let place = FieldPath::root().field("spec").field("subsets").index(at);
        (place, &subset.traffic_policy)
    });
    let own = (FieldPath::root().field("spec"), &spec.traffic_policy);
    for (place, policy) in std::iter::once(own).chain(subsets) {
        let settings = policy.iter().flat_map(|policy| &policy.port_level_settings);
        for (at, setting) in settings.enumerate() {
            let number = setting.port.number;
            if known.contains(&number) {
                continue;
            }
            let names: Vec<String> = known.iter().map(u32::to_string).collect();
            let names = names.join(", ");
            let message = format!("`{}` has no port {number}, only {names}", rule.host);
            let field = place.field("trafficPolicy").field("portLevelSettings");
            let field = field.index(at).field("port");
            let place = Place::Field(rule.object.metadata.origin(field));
            let warning = Diagnostic::warning("unknown-port", place, message);
            let help =
                format!("write one of {names}: the port of the service, not of its endpoints");
            compiler.findings.add(warning.with_help(help));
        }
    }
}

/// What a rule says again after older ones for the same host.
fn report_dropped(rule: &Rule<'_>, earlier: &[&Rule<'_>], findings: &mut Findings) {
    let with_policy = earlier
        .iter()
        .find(|other| other.object.spec.traffic_policy.is_some());
    if let (Some(winner), Some(_)) = (with_policy, &rule.object.spec.traffic_policy) {
        let message = format!(
            "an older DestinationRule for `{}` has a traffic policy: this one is dropped, not \
             added to it",
            rule.host
        );
        let place = Place::Field(rule.origin("trafficPolicy"));
        let warning = Diagnostic::warning("duplicate-rule", place, message)
            .with_help("write both into one DestinationRule")
            .with_related(winner.origin("trafficPolicy"), "the policy that counts");
        findings.add(warning);
    }
    for (at, subset) in rule.object.spec.subsets.iter().enumerate() {
        let winner = earlier.iter().find_map(|other| {
            let mut subsets = other.object.spec.subsets.iter();
            let index = subsets.position(|known| known.name == subset.name)?;
            Some((other, index))
        });
        let Some((winner, index)) = winner else {
            continue;
        };
        let message = format!(
            "an older DestinationRule for `{}` has the subset `{}`: this one is dropped",
            rule.host, subset.name
        );
        let place = |rule: &Rule<'_>, index: usize| {
            let Origin { document, field } = rule.origin("subsets");
            let field = field.index(index);
            Origin { document, field }
        };
        let warning = Diagnostic::warning("duplicate-rule", Place::Field(place(rule, at)), message)
            .with_help("remove one of the two, or give it a name of its own")
            .with_related(place(winner, index), "the subset that counts");
        findings.add(warning);
    }
}

/// A rule of the root namespace for a host that has one of its own: nobody comes to look at it.
fn report_unasked(narrow: &Rule<'_>, wide: &Rule<'_>, findings: &mut Findings) {
    let message = format!(
        "the rule of namespace `{}` for this host is looked at first, so this one never is",
        narrow.namespace()
    );
    let warning = Diagnostic::warning("no-effect", Place::Field(wide.origin("host")), message)
        .with_help("write both into one DestinationRule, or remove this one")
        .with_related(narrow.origin("host"), "the rule that counts");
    findings.add(warning);
}

/// The blocks and fields of a wider rule that a narrower one does not have.
fn report_replaced(narrow: &Rule<'_>, wide: &Rule<'_>, findings: &mut Findings) {
    let Some(policy) = &wide.object.spec.traffic_policy else {
        return;
    };
    let lost = policy_fields::lost(policy, narrow.object.spec.traffic_policy.as_ref());
    if lost.is_empty() {
        return;
    }
    let listed: Vec<String> = lost.iter().map(|one| format!("`{one}`")).collect();
    let message = format!(
        "for `{}` this rule counts alone: {} of the rule for `{}` in namespace `{}` is not \
         inherited",
        narrow.host,
        listed.join(", "),
        wide.host,
        wide.namespace()
    );
    let help = format!("repeat {} here", listed.join(", "));
    let warning = Diagnostic::warning(
        "policy-replaced",
        Place::Field(narrow.origin("host")),
        message,
    )
    .with_help(help)
    .with_related(wide.origin("trafficPolicy"), "what is not inherited");
    findings.add(warning);
}
