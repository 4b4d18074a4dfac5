//! Telemetry. Istio: `ValidateTelemetry`.

use super::cel;
use super::selectors::check_targets;
use super::values::{check_range, report_missing};
use crate::schema::{Node, Report};

pub(super) fn check(spec: &Node<'_>, report: &mut Report<'_>) {
    check_targets(spec, report);
    for metrics in spec.get("metrics").items() {
        check_providers(&metrics, report);
        for over in metrics.get("overrides").items() {
            check_override(&over, report);
        }
    }
    let tracing = spec.get("tracing");
    if tracing.len() > 1 {
        let message = "only the first tracing configuration counts";
        report.warning("no-effect", &tracing, message, "write one");
    }
    for item in tracing.items() {
        check_tracing(&item, report);
    }
    for logging in spec.get("accessLogging").items() {
        check_providers(&logging, report);
        let filter = logging.get("filter");
        let expression = filter.get("expression");
        if filter.is_set()
            && let Err(problem) = cel::parse(expression.text())
        {
            let message = format!("this is no CEL expression: {problem}");
            let node = if expression.is_set() {
                &expression
            } else {
                &filter
            };
            let help = "write an expression such as `response.code >= 400`";
            report.error("invalid-expression", node, message, help);
        }
    }
}

fn check_providers(parent: &Node<'_>, report: &mut Report<'_>) {
    for provider in parent.get("providers").items() {
        if provider.get("name").text().is_empty() {
            report_missing(
                &provider,
                "the provider has no name",
                "write `name:`",
                report,
            );
        }
    }
}

fn check_override(over: &Node<'_>, report: &mut Report<'_>) {
    let tags = over.get("tagOverrides");
    for (name, tag) in tags.entries() {
        let value = tag.get("value");
        if !tag.is_set() {
            let message = format!("the tag `{name}` has nothing in it");
            report.error(
                "empty-value",
                &tag,
                message,
                "write `operation:` and `value:`",
            );
            continue;
        }
        let removes = tag.get("operation").text() == "REMOVE";
        if removes && !value.text().is_empty() {
            let message = format!("the tag `{name}` is removed, so it has no value");
            report.key_error("conflicting-fields", &value, message, "remove `value`");
        } else if !removes && value.text().is_empty() {
            let help = "write `value:` with an expression, or `operation: REMOVE`";
            let message = format!("the tag `{name}` has no value");
            report_missing(&tag, message, help, report);
        }
    }
    let selected = over.get("match");
    let custom = selected.get("customMetric");
    if custom.is_set() && custom.text().is_empty() {
        let message = "the metric has no name";
        report.error(
            "empty-value",
            &custom,
            message,
            "write the name of a metric",
        );
    }
}

fn check_tracing(tracing: &Node<'_>, report: &mut Report<'_>) {
    let providers = tracing.get("providers");
    if providers.len() > 1 {
        let message = "only the first provider counts";
        report.warning("no-effect", &providers, message, "write one");
    }
    check_providers(tracing, report);
    check_range(&tracing.get("randomSamplingPercentage"), 0.0, 100.0, report);
    let tags = tracing.get("customTags");
    for (name, tag) in tags.entries() {
        if name.is_empty() || !tag.is_set() {
            let message = format!("the tag `{name}` has no name or nothing in it");
            let help = "write a name, and `literal:`, `header:` or `environment:`";
            report.error("empty-value", &tag, message, help);
        }
        for (source, field) in [
            ("literal", "value"),
            ("header", "name"),
            ("environment", "name"),
        ] {
            let source = tag.get(source);
            if source.is_set() && source.get(field).text().is_empty() {
                let message = format!("the tag `{name}` has no `{field}`");
                report_missing(&source, message, "write it", report);
            }
        }
    }
}
