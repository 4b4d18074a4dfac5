//! `exportTo`: which namespaces see an object.

use super::names::is_dns_label;
use crate::schema::{Node, Report};

/// What else holds for the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exported {
    Plain,
    /// May be visible to no one (`~`).
    ServiceEntry,
    /// A DestinationRule with a workload selector, which is for its own namespace alone.
    Selecting,
}

pub(super) fn check_export_to(list: &Node<'_>, exported: Exported, report: &mut Report<'_>) {
    let own = report.document().namespace.clone();
    let mut seen: Vec<&str> = Vec::new();
    for item in list.items() {
        let written = item.text();
        let namespace = if written == "." {
            own.as_str()
        } else {
            written
        };
        if seen.contains(&namespace) {
            let message = format!("`{written}` names the namespace `{namespace}` again");
            report.error("duplicate-value", &item, message, "remove one of the two");
            continue;
        }
        let may_be_none = exported == Exported::ServiceEntry && written == "~";
        if !may_be_none && written != "*" && !is_dns_label(namespace) {
            let message = format!("`{written}` is no namespace");
            let help = "write `.` for the own namespace, `*` for all, or the name of a namespace";
            report.error("invalid-name", &item, message, help);
            continue;
        }
        seen.push(namespace);
    }
    for (alone, meaning) in [("*", "everyone"), ("~", "no one")] {
        if seen.contains(&alone) && list.len() > 1 {
            let message = format!("`{alone}` exports to {meaning}, so nothing else fits beside it");
            let help = format!("keep `{alone}` alone, or remove it");
            report.error("conflicting-fields", list, message, help);
        }
    }
    let is_own_alone = seen.len() == 1 && seen[0] == own;
    if exported == Exported::Selecting && !seen.is_empty() && !is_own_alone {
        let message = "a rule with a workloadSelector is for its own namespace alone";
        let help = "write `exportTo: [\".\"]`, or remove it";
        report.error("conflicting-fields", list, message, help);
    }
}
