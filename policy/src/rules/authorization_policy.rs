//! AuthorizationPolicy. Istio: `ValidateAuthorizationPolicy`.

use super::authorization_values::{
    check_attribute, check_path_templates, check_ports, check_service_accounts, check_trust_domains,
};
use super::selectors::check_targets;
use super::unmatchable_values;
use super::values::{check_ip_or_cidr, check_no_empty_text, report_missing};
use crate::schema::{Node, Report};

pub(super) fn check(spec: &Node<'_>, report: &mut Report<'_>) {
    check_targets(spec, report);
    let rules = spec.get("rules");
    let provider = spec.get("provider");
    let action = match spec.get("action").text() {
        "" => "ALLOW".to_string(),
        action => action.to_string(),
    };
    let is_custom = action == "CUSTOM";
    if (is_custom || action == "DENY") && rules.is_empty() {
        let message = format!("without rules, the action {action} never applies");
        let help = "write `rules:`; `rules: [{}]` is every request";
        report_missing(spec, message, help, report);
    }
    if is_custom && !rules.is_empty() && provider.get("name").text().is_empty() {
        let help = "write `provider: {name: ...}`";
        report_missing(spec, "the action CUSTOM has no provider", help, report);
    }
    if provider.is_set() && !is_custom {
        let message = format!("the action {action} has no provider");
        let help = "write `action: CUSTOM`, or remove `provider`";
        report.key_error("conflicting-fields", &provider, message, help);
    }
    for rule in rules.items() {
        if !rule.is_set() {
            let help = "write `{}` for a rule that matches everything";
            report.error("empty-value", &rule, "a rule has nothing in it", help);
            continue;
        }
        check_rule(&rule, &action, report);
    }
}

fn check_rule(rule: &Node<'_>, action: &str, report: &mut Report<'_>) {
    let is_custom = action == "CUSTOM";
    for (name, inner) in [("from", "source"), ("to", "operation")] {
        let list = rule.get(name);
        if list.is_set() && list.is_empty() {
            let message = format!("`{name}` is empty");
            let help = format!("write an item with `{inner}:`, or remove `{name}`");
            report.error("empty-value", &list, message, help);
        }
        for item in list.items() {
            let value = item.get(inner);
            if !value.is_set() {
                let message = format!("an item of `{name}` has no `{inner}`");
                let help = format!("write `{inner}:`");
                report_missing(&item, message, &help, report);
                continue;
            }
            match inner {
                "source" => check_source(&value, is_custom, report),
                _ => check_operation(&value, report),
            }
            unmatchable_values::check(&value, report);
        }
    }
    for condition in rule.get("when").items() {
        check_condition(&condition, is_custom, report);
    }
}

/// Lists of a source that TCP connections have, too.
const TCP_SOURCE: [&str; 10] = [
    "principals",
    "notPrincipals",
    "namespaces",
    "notNamespaces",
    "serviceAccounts",
    "notServiceAccounts",
    "ipBlocks",
    "notIpBlocks",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
];
const OTHER_SOURCE: [&str; 4] = [
    "requestPrincipals",
    "notRequestPrincipals",
    "trustDomains",
    "notTrustDomains",
];

fn check_source(source: &Node<'_>, is_custom: bool, report: &mut Report<'_>) {
    let is_written = |names: &[&str]| names.iter().any(|name| !source.get(name).is_empty());
    if !is_written(&TCP_SOURCE) && !is_written(&OTHER_SOURCE) {
        let help = "write what it matches, such as `principals:`";
        report_missing(source, "the source matches nothing", help, report);
    }
    let identities = &TCP_SOURCE[..4];
    let accounts = &TCP_SOURCE[4..6];
    if is_written(accounts) && is_written(identities) {
        let message = "service accounts stand beside principals or namespaces";
        let help = "keep one of the two: an account has its namespace, as in `ns/account`";
        report.error("conflicting-fields", source, message, help);
    }
    for name in TCP_SOURCE.iter().chain(&OTHER_SOURCE) {
        let list = source.get(name);
        let is_ip = name.to_ascii_lowercase().ends_with("ipblocks");
        if is_custom && !is_ip && !list.is_empty() {
            let message = format!("the action CUSTOM does not look at `{name}`");
            let help = "remove it: the provider is asked before identities are known";
            report.key_error("conflicting-fields", &list, message, help);
        }
        match *name {
            "serviceAccounts" | "notServiceAccounts" => check_service_accounts(&list, report),
            "trustDomains" | "notTrustDomains" => check_trust_domains(&list, report),
            _ if is_ip => list
                .items()
                .for_each(|item| check_ip_or_cidr(&item, report)),
            _ => check_no_empty_text(&list, report),
        }
    }
}

fn check_operation(operation: &Node<'_>, report: &mut Report<'_>) {
    const PORTS: [&str; 2] = ["ports", "notPorts"];
    const PATHS: [&str; 2] = ["paths", "notPaths"];
    const OTHERS: [&str; 4] = ["methods", "notMethods", "hosts", "notHosts"];
    let mut all = PORTS.iter().chain(&PATHS).chain(&OTHERS);
    if all.all(|name| operation.get(name).is_empty()) {
        let help = "write what it matches, such as `methods:`";
        report_missing(operation, "the operation matches nothing", help, report);
    }
    for name in PORTS {
        let ports = operation.get(name);
        check_ports(&ports, report);
    }
    for name in PATHS {
        check_no_empty_text(&operation.get(name), report);
        check_path_templates(&operation.get(name), report);
    }
    for name in OTHERS {
        check_no_empty_text(&operation.get(name), report);
    }
}

fn check_condition(condition: &Node<'_>, is_custom: bool, report: &mut Report<'_>) {
    const IDENTITY: [&str; 4] = [
        "source.namespace",
        "source.serviceAccount",
        "source.trustDomain",
        "source.principal",
    ];
    let key = condition.get("key");
    let name = key.text();
    if name.is_empty() {
        let help = "write `key:`, such as `request.headers[x-version]`";
        report_missing(condition, "the condition has no key", help, report);
        return;
    }
    if is_custom && (IDENTITY.contains(&name) || name.starts_with("request.auth.")) {
        let message = format!("the action CUSTOM does not look at `{name}`");
        let help = "remove it: the provider is asked before identities are known";
        report.error("conflicting-fields", &key, message, help);
    }
    let (values, not_values) = (condition.get("values"), condition.get("notValues"));
    if values.is_empty() && not_values.is_empty() {
        let help = "write `values:` or `notValues:`";
        report_missing(condition, "the condition has no values", help, report);
        return;
    }
    if check_attribute(&key, report) {
        for list in [&values, &not_values] {
            super::authorization_values::check_attribute_values(name, list, report);
        }
    }
}
