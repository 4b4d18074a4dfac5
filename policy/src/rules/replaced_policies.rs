//! A `trafficPolicy` that takes the place of another as a whole, where it looks as if the two
//! added up. Istio: `MergeTrafficPolicy`, which replaces block by block for a subset and
//! everything for a port.

use serde_yaml::Value;

use crate::schema::{Node, Report};
use crate::source::{FieldPath, Origin};

/// Blocks that a subset's policy replaces one by one.
const BLOCKS: [&str; 7] = [
    "loadBalancer",
    "connectionPool",
    "outlierDetection",
    "tls",
    "tunnel",
    "proxyProtocol",
    "retryBudget",
];
/// Blocks that the settings of a port replace all together.
const BLOCKS_OF_A_PORT: [&str; 4] = ["loadBalancer", "connectionPool", "outlierDetection", "tls"];

pub(super) fn check(spec: &Node<'_>, report: &mut Report<'_>) {
    let whole = spec.get("trafficPolicy");
    check_ports(&[whole], report);
    let subsets = spec.get("subsets");
    for subset in subsets.items() {
        let policy = subset.get("trafficPolicy");
        for name in BLOCKS {
            check_block(&whole.get(name), &policy.get(name), &subset, report);
        }
        check_ports(&[policy, whole], report);
    }
}

/// A block of a subset that stands in for that of the rule.
fn check_block(wide: &Node<'_>, narrow: &Node<'_>, subset: &Node<'_>, report: &mut Report<'_>) {
    if !wide.is_set() || !narrow.is_set() {
        return;
    }
    let lost = lost(narrow.name(), wide.value(), narrow.value());
    if lost.is_empty() {
        return;
    }
    let message = format!(
        "this `{}` replaces that of the whole rule, so subset `{}` loses {}",
        narrow.name(),
        subset.get("name").text(),
        listed(&lost)
    );
    let help = format!("repeat {} here", in_full(&lost));
    let note = "this block does not count for the subset";
    report.replaced(narrow, message, help, origin_of(wide, report), note);
}

/// Settings of ports. `levels` are the policies that they replace, the nearest first; only the
/// first one's ports are looked at.
fn check_ports(levels: &[Node<'_>], report: &mut Report<'_>) {
    let Some(own) = levels.first() else { return };
    let ports = own.get("portLevelSettings");
    for settings in ports.items() {
        let mut all_lost = Vec::new();
        let mut first = None;
        for name in BLOCKS_OF_A_PORT {
            let Some(level) = levels.iter().find(|level| level.get(name).is_set()) else {
                continue;
            };
            let wide = level.get(name);
            let narrow = settings.get(name);
            let lost = lost(name, wide.value(), narrow.value());
            if !lost.is_empty() && first.is_none() {
                first = Some(origin_of(&wide, report));
            }
            all_lost.extend(
                lost.into_iter()
                    .map(|(path, value)| (format!("{name}.{path}"), value)),
            );
        }
        let Some(first) = first else { continue };
        let port = settings.get("port");
        let number = port.get("number").integer();
        let message = format!(
            "settings of a port replace the whole policy, so port {number} loses {}",
            listed(&all_lost)
        );
        let help = format!("repeat {} here", in_full(&all_lost));
        let note = "this does not count for the port";
        report.replaced(&settings, message, help, first, note);
    }
}

fn origin_of(node: &Node<'_>, report: &Report<'_>) -> Origin {
    Origin {
        document: report.document().id,
        field: node.path(),
    }
}

/// What `wide` says and `narrow` does not, as paths within the block `name`.
fn lost(name: &str, wide: &Value, narrow: &Value) -> Vec<(String, String)> {
    if name == "tls" && !narrow.is_null() && narrow.get("mode") != wide.get("mode") {
        // Another mode has fields of its own: here nobody expects the old ones to stay.
        return Vec::new();
    }
    let mut leaves = Vec::new();
    collect(wide, narrow, &FieldPath::root(), &mut leaves);
    if name == "loadBalancer" {
        let chooses = |field: &str| narrow.get(field).is_some_and(|value| !value.is_null());
        if chooses("simple") || chooses("consistentHash") {
            leaves.retain(|(path, _)| path != "simple" && !path.starts_with("consistentHash"));
        }
    }
    leaves
}

fn collect(wide: &Value, narrow: &Value, path: &FieldPath, leaves: &mut Vec<(String, String)>) {
    match wide {
        Value::Null => {}
        Value::Mapping(fields) => {
            for (key, value) in fields {
                let Some(key) = key.as_str() else { continue };
                let other = narrow.get(key).unwrap_or(&Value::Null);
                collect(value, other, &path.field(key), leaves);
            }
        }
        _ if narrow.is_null() => leaves.push((path.to_string(), scalar(wide))),
        _ => {}
    }
}

/// A value as it may be repeated; empty for a list.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        _ => String::new(),
    }
}

fn listed(lost: &[(String, String)]) -> String {
    let names: Vec<String> = lost.iter().map(|(path, _)| format!("`{path}`")).collect();
    names.join(", ")
}

fn in_full(lost: &[(String, String)]) -> String {
    let each = lost.iter().map(|(path, value)| match value.as_str() {
        "" => format!("`{path}`"),
        value => format!("`{path}: {value}`"),
    });
    each.collect::<Vec<_>>().join(", ")
}
