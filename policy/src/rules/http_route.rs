//! One item of `http` in a VirtualService. Istio: `validateHTTPRoute`.

use super::headers::{self, check_matched_name, check_operations, check_string_match};
use super::http_actions;
use super::idle_fields;
use super::layer4_routes::{check_destination, check_weights};
use super::names::{check_dns_label, check_labels_of};
use super::rewritten_targets;
use super::values::{check_port_number, check_range, report_missing};
use super::virtual_service::{Context, check_gateway_names};
use crate::schema::{Node, Report};

pub(super) fn check(route: &Node<'_>, context: &Context<'_>, report: &mut Report<'_>) {
    check_action(route, context, report);
    let conditions = route.get("match");
    for condition in conditions.items() {
        check_match(&condition, report);
    }
    check_operations(&route.get("headers"), report);
    http_actions::check_cors(&route.get("corsPolicy"), report);
    http_actions::check_fault(&route.get("fault"), report);
    check_mirrors(route, report);
    http_actions::check_redirect(&route.get("redirect"), &conditions, report);
    http_actions::check_direct_response(&route.get("directResponse"), report);
    http_actions::check_retries(&route.get("retries"), report);
    http_actions::check_rewrite(&route.get("rewrite"), report);
    check_authority(route, report);
    let destinations = route.get("route");
    for destination in destinations.items() {
        check_operations(&destination.get("headers"), report);
    }
    check_weights(&destinations, report);
    idle_fields::check(route, report);
}

/// One of `route`, `redirect`, `directResponse` and `delegate` says what happens.
fn check_action(route: &Node<'_>, context: &Context<'_>, report: &mut Report<'_>) {
    let delegate = route.get("delegate");
    let forward = route.get("route");
    let redirect = route.get("redirect");
    let direct = route.get("directResponse");
    let mut conflict = |with: &Node<'_>, what: &str| {
        let message = format!("`{}` and `{what}` cannot be in one route", with.name());
        let help = format!("keep `{}` or `{what}`", with.name());
        report.key_error("conflicting-fields", with, message, help);
    };
    if delegate.is_set() && !context.is_delegate {
        for other in [&redirect, &forward] {
            if other.is_set() {
                conflict(other, "delegate");
            }
        }
        return;
    }
    if delegate.is_set() {
        let message = "a delegate cannot delegate further";
        let help = "write `route:`, `redirect:` or `directResponse:`";
        report.key_error("conflicting-fields", &delegate, message, help);
    }
    let mut conflict = |with: &Node<'_>, what: &str| {
        let message = format!("`{}` and `{what}` cannot be in one route", with.name());
        let help = format!("keep `{}` or `{what}`", with.name());
        report.key_error("conflicting-fields", with, message, help);
    };
    let answers = if redirect.is_set() {
        &redirect
    } else {
        &direct
    };
    if answers.is_set() {
        if !forward.is_empty() {
            conflict(&forward, answers.name());
        }
        for other in [&route.get("fault"), &route.get("rewrite")] {
            if other.is_set() {
                conflict(other, answers.name());
            }
        }
        if redirect.is_set() && direct.is_set() {
            conflict(&direct, "redirect");
        }
    } else if forward.is_empty() && !delegate.is_set() {
        let help = "write `route:`, `redirect:` or `directResponse:`";
        report_missing(route, "this route leads nowhere", help, report);
    }
}

fn check_match(condition: &Node<'_>, report: &mut Report<'_>) {
    let with = condition.get("headers");
    for (name, value) in with.entries() {
        check_matched_name(name, &value, report);
        check_string_match(&value, false, report);
        if !value.is_set() {
            let message = format!("the header `{name}` is matched by nothing");
            let help = "write `{}` to ask that the header is there";
            report.error("empty-value", &value, message, help);
        }
    }
    let without = condition.get("withoutHeaders");
    for (name, value) in without.entries() {
        check_matched_name(name, &value, report);
        // `*` is no regular expression: it stands for any value.
        if value.get("regex").text() != "*" {
            check_string_match(&value, false, report);
        }
    }
    check_string_match(&condition.get("uri"), true, report);
    for name in ["scheme", "method", "authority"] {
        check_string_match(&condition.get(name), false, report);
    }
    let parameters = condition.get("queryParams");
    for (_, value) in parameters.entries() {
        check_string_match(&value, false, report);
    }
    let port = condition.get("port");
    if port.integer() != 0 {
        check_port_number(&port, report);
    }
    check_labels_of(&condition.get("sourceLabels"), report);
    check_gateway_names(&condition.get("gateways"), report);
    let namespace = condition.get("sourceNamespace");
    if !namespace.text().is_empty() {
        check_dns_label(&namespace, "namespace", report);
    }
}

fn check_mirrors(route: &Node<'_>, report: &mut Report<'_>) {
    let (mirror, mirrors) = (route.get("mirror"), route.get("mirrors"));
    for name in ["mirrorPercent", "mirror_percent"] {
        let percent = route.get(name);
        if percent.is_set() {
            let message = format!("`{name}` is deprecated");
            let help = "write `mirrorPercentage: {value: ...}`";
            report.key_warning("deprecated-field", &percent, message, help);
            check_range(&percent, 0.0, 100.0, report);
        }
    }
    let old_name = route.get("mirror_percent");
    if old_name.is_set() && route.get("mirrorPercent").is_set() {
        let message = "`mirror_percent` and `mirrorPercent` are two names of one field";
        report.key_error("conflicting-fields", &old_name, message, "remove it");
    }
    let percentage = route.get("mirrorPercentage");
    check_range(&percentage.get("value"), 0.0, 100.0, report);
    if mirror.is_set() {
        check_destination(&mirror, report);
        let is_answered = route.get("delegate").is_set();
        if !mirrors.is_empty() && !is_answered {
            let message = "`mirror` and `mirrors` cannot be in one route";
            let help = "make `mirror` an item of `mirrors`";
            report.key_error("conflicting-fields", &mirrors, message, help);
        }
    }
    for item in mirrors.items() {
        let destination = item.get("destination");
        if destination.is_set() {
            check_destination(&destination, report);
        } else {
            let help = "write `destination:` with a `host:`";
            report_missing(&item, "a mirror has no destination", help, report);
        }
        let percentage = item.get("percentage");
        check_range(&percentage.get("value"), 0.0, 100.0, report);
    }
}

/// The authority of a request is rewritten in one place at most.
fn check_authority(route: &Node<'_>, report: &mut Report<'_>) {
    let rewrite = route.get("rewrite");
    let operations = route.get("headers");
    let request = operations.get("request");
    let (set, add) = (request.get("set"), request.get("add"));
    let mut rewrites = usize::from(!rewrite.get("authority").text().is_empty());
    for (name, value) in set.entries().chain(add.entries()) {
        if !headers::is_authority(name) || value.text().is_empty() {
            continue;
        }
        rewrites += 1;
        rewritten_targets::check_authority(&value, report);
        if rewrites == 2 {
            let message = "the authority of the request is set in two places";
            let help = "set it by `rewrite.authority` alone";
            report.key_error("conflicting-fields", &value, message, help);
        }
    }
}
