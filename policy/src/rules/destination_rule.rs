//! DestinationRule. Istio: `ValidateDestinationRule`.

use super::idle_limits::{check_least_retries, check_max_retries};
use super::layer4_routes::check_subset_name;
use super::names::{check_host, check_labels_of};
use super::replaced_policies;
use super::selectors::check_selector;
use super::traffic_policy;
use super::visibility::{Exported, check_export_to};
use crate::schema::{Node, Report};

pub(super) fn check(spec: &Node<'_>, report: &mut Report<'_>) {
    check_host(&spec.get("host"), report);
    let policy = spec.get("trafficPolicy");
    traffic_policy::check(&policy, report);
    let has_budget = policy.get("retryBudget").is_set();
    check_max_retries(&policy, has_budget, report);
    check_least_retries(&policy.get("retryBudget"), report);
    let subsets = spec.get("subsets");
    let mut names: Vec<&str> = Vec::new();
    let items: Vec<Node<'_>> = subsets.items().collect();
    for subset in &items {
        let name = subset.get("name");
        if name.is_set() && names.contains(&name.text()) {
            let message = format!("the subset `{}` is there twice", name.text());
            report.error(
                "duplicate-value",
                &name,
                message,
                "give each subset its own name",
            );
        }
        if name.is_set() {
            check_subset_name(&name, report);
        }
        check_labels_of(&subset.get("labels"), report);
        let own = subset.get("trafficPolicy");
        traffic_policy::check(&own, report);
        let has_budget = has_budget || own.get("retryBudget").is_set();
        check_max_retries(&own, has_budget, report);
        check_least_retries(&own.get("retryBudget"), report);
        names.push(subset.value()["name"].as_str().unwrap_or_default());
    }
    let selector = spec.get("workloadSelector");
    let exported = if selector.is_set() {
        Exported::Selecting
    } else {
        Exported::Plain
    };
    check_export_to(&spec.get("exportTo"), exported, report);
    check_selector(&selector, report);
    replaced_policies::check(spec, report);
}
