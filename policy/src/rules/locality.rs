//! Balancing by locality: `region/zone/subzone`.

use crate::schema::{Node, Report};

const TOPOLOGY_LABELS: [&str; 3] = [
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
];

/// `localityLbSetting`. Istio: `ValidateLocalityLbSetting`.
pub(super) fn check_setting(setting: &Node<'_>, has_outlier: bool, report: &mut Report<'_>) {
    let distribute = setting.get("distribute");
    let failover = setting.get("failover");
    let priority = setting.get("failoverPriority");
    let enabled = setting.get("enabled");
    if enabled.is_set() && !enabled.is_true() {
        for field in [&distribute, &failover, &priority] {
            if !field.is_empty() {
                let message = format!("beside `enabled: false`, `{}` has no effect", field.name());
                report.key_warning("no-effect", field, message, "keep one of the two");
            }
        }
    }
    if !distribute.is_empty() && !failover.is_empty() {
        let message = "`distribute` and `failover` cannot be written both";
        report.key_error(
            "conflicting-fields",
            &failover,
            message,
            "keep one of the two",
        );
        return;
    }
    if !failover.is_empty() {
        for label in priority.items() {
            if TOPOLOGY_LABELS.contains(&label.text()) {
                let message = format!("`failover` orders by `{}` already", label.text());
                let help = "remove the label, or `failover`";
                report.error("conflicting-fields", &label, message, help);
            }
        }
    }
    for rule in distribute.items() {
        let shares = rule.get("to");
        let mut total: i64 = 0;
        for (_, share) in shares.entries() {
            total = total.saturating_add(share.integer());
            if !(1..=100).contains(&share.integer()) {
                let message = format!("{} is no share of a locality", share.integer());
                report.error(
                    "invalid-weight",
                    &share,
                    message,
                    "write a number from 1 to 100",
                );
            }
        }
        if total != 100 {
            let message = format!("the shares of the localities sum to {total}");
            let node = if shares.is_set() { &shares } else { &rule };
            report.error(
                "invalid-weight",
                node,
                message,
                "write shares that sum to 100",
            );
        }
        let localities: Vec<_> = shares.entries().collect();
        check_localities(localities.iter().map(|(name, node)| (*name, node)), report);
    }
    let rules: Vec<Node<'_>> = distribute.items().collect();
    let sources: Vec<Node<'_>> = rules.iter().map(|rule| rule.get("from")).collect();
    check_localities(sources.iter().map(|node| (node.text(), node)), report);
    check_failover(&failover, report);
    warn_without_outlier(setting, has_outlier, report);
}

/// `zoneAwareLbSetting`. Istio: `ValidateZoneAwareLbSetting`.
pub(super) fn check_zone_aware(setting: &Node<'_>, has_outlier: bool, report: &mut Report<'_>) {
    for label in setting.get("failoverPriority").items() {
        if TOPOLOGY_LABELS.contains(&label.text()) {
            let message = format!("zones are ordered by `{}` already", label.text());
            report.error("conflicting-fields", &label, message, "remove the label");
        }
    }
    check_failover(&setting.get("failover"), report);
    warn_without_outlier(setting, has_outlier, report);
}

fn warn_without_outlier(setting: &Node<'_>, has_outlier: bool, report: &mut Report<'_>) {
    let fails_over =
        !setting.get("failover").is_empty() || !setting.get("failoverPriority").is_empty();
    if fails_over && !has_outlier {
        let message = "without `outlierDetection` nothing tells when to fail over";
        report.warning("no-effect", setting, message, "write `outlierDetection:`");
    }
}

fn check_failover(failover: &Node<'_>, report: &mut Report<'_>) {
    for rule in failover.items() {
        let (from, to) = (rule.get("from"), rule.get("to"));
        if from.text() == to.text() {
            let message = format!("the region `{}` fails over to itself", from.text());
            report.error("invalid-locality", &rule, message, "name two regions");
        }
        for region in [&from, &to] {
            if region.text().contains(['/', '*']) {
                let message = format!("`{}` is no region", region.text());
                let help = "write a region alone, without `/` and `*`";
                report.error("invalid-locality", region, message, help);
            }
        }
    }
}

/// Localities of which none may be empty in a part, or cover another.
fn check_localities<'n>(
    localities: impl Iterator<Item = (&'n str, &'n Node<'n>)>,
    report: &mut Report<'_>,
) {
    let mut seen: Vec<&str> = Vec::new();
    for (locality, node) in localities {
        let has_bad_wildcard =
            locality.trim_end_matches('*').contains('*') || locality.matches('*').count() > 1;
        if has_bad_wildcard || locality.splitn(3, '/').any(str::is_empty) {
            let message = format!("`{locality}` is no locality");
            let help = "write `region`, `region/zone` or `region/zone/subzone`; `*` may end it";
            report.error("invalid-locality", node, message, help);
            continue;
        }
        let covering = |earlier: &&&str| covers(earlier, locality) || covers(locality, earlier);
        if let Some(earlier) = seen.iter().find(covering) {
            let message = format!("`{locality}` and `{earlier}` overlap");
            report.error("duplicate-value", node, message, "keep one of the two");
        }
        seen.push(locality);
    }
}

/// Whether every place in `narrow` is in `wide`.
fn covers(wide: &str, narrow: &str) -> bool {
    let wide = wide.trim_end_matches("/*");
    wide == "*" || {
        let rest = narrow.strip_prefix(wide);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}
