//! Which workloads or objects a policy is for.

use super::values::report_missing;
use crate::schema::{Node, Report};

/// `selector.matchLabels` of the policies.
pub(super) fn check_selector(selector: &Node<'_>, report: &mut Report<'_>) {
    check_labels(selector, "matchLabels", report);
}

/// `workloadSelector.labels` of Sidecar and ServiceEntry.
pub(super) fn check_workload_selector(selector: &Node<'_>, report: &mut Report<'_>) {
    check_labels(selector, "labels", report);
}

fn check_labels(selector: &Node<'_>, field: &str, report: &mut Report<'_>) {
    if !selector.is_set() {
        return;
    }
    let labels = selector.get(field);
    if labels.is_empty() {
        let message = "a selector without labels selects everything";
        let help = format!("write `{field}:` with the labels to select, or remove the selector");
        report.warning("empty-selector", selector, message, help);
    }
    for (key, value) in labels.entries() {
        if key.is_empty() {
            let message = "a label without a name selects nothing";
            report.key_error(
                "invalid-label",
                &value,
                message,
                "write the name of a label",
            );
        }
        if key.contains('*') {
            let message = format!("the label `{key}` has a wildcard");
            let help = "write the whole name: a selector compares labels as they are";
            report.key_error("invalid-label", &value, message, help);
        } else if value.text().contains('*') {
            let message = format!("the value `{}` has a wildcard", value.text());
            let help = "write the whole value: a selector compares labels as they are";
            report.error("invalid-label", &value, message, help);
        }
    }
}

/// `selector`, `targetRef` and `targetRefs`, of which one may be used.
pub(super) fn check_targets(spec: &Node<'_>, report: &mut Report<'_>) {
    let selector = spec.get("selector");
    let target = spec.get("targetRef");
    let targets = spec.get("targetRefs");
    let written = [selector.is_set(), target.is_set(), !targets.is_empty()];
    if written.iter().filter(|written| **written).count() > 1 {
        let node = if target.is_set() { &target } else { &targets };
        let message = "a selector and target references are written both";
        let help = "keep one of `selector`, `targetRef` and `targetRefs`";
        report.key_error("conflicting-fields", node, message, help);
    }
    check_selector(&selector, report);
    if target.is_set() {
        check_target(&target, report);
    }
    for target in targets.items() {
        if target.is_set() {
            check_target(&target, report);
        }
    }
}

fn check_target(target: &Node<'_>, report: &mut Report<'_>) {
    const ALLOWED: [(&str, &str); 4] = [
        ("", "Service"),
        ("networking.istio.io", "ServiceEntry"),
        ("gateway.networking.k8s.io", "Gateway"),
        ("gateway.networking.k8s.io", "GatewayClass"),
    ];
    let (kind, group) = (target.get("kind"), target.get("group"));
    if target.get("name").text().is_empty() {
        report_missing(target, "a target has no name", "write `name:`", report);
    }
    let namespace = target.get("namespace");
    if !namespace.text().is_empty() {
        let message = "a target is always in the namespace of the policy";
        report.error(
            "conflicting-fields",
            &namespace,
            message,
            "remove `namespace`",
        );
    }
    let group_text = match group.text() {
        "core" => "",
        group => group,
    };
    if !ALLOWED.contains(&(group_text, kind.text())) {
        let message = format!(
            "a policy has no targets of kind `{}/{}`",
            group.text(),
            kind.text()
        );
        let help = "write a Service (group \"\"), a ServiceEntry (group networking.istio.io), or \
                    a Gateway or GatewayClass (group gateway.networking.k8s.io)";
        report.error("unknown-value", &kind, message, help);
    }
}
