//! What documents mean, kind by kind: the rules that Istio's own validation adds to names and
//! types. The walk over the table comes first; here every value has the type that it should have,
//! and durations and the ranges of the table are right.
//!
//! A rule names what is wrong where it is written. What Istio only warns about is a warning.

mod authorization_policy;
mod authorization_values;
mod cel;
mod cut_short;
mod destination_rule;
mod duplicate_matches;
mod gateway;
mod headers;
mod http_actions;
mod http_route;
mod idle_fields;
mod idle_limits;
mod json_web_keys;
mod kubernetes;
mod layer4_routes;
mod locality;
mod names;
mod peer_authentication;
mod protocol;
mod proxy_settings;
pub(crate) mod regex;
mod replaced_policies;
mod request_authentication;
mod rewritten_targets;
mod selectors;
mod server_tls;
mod service_entry;
mod sidecar;
mod telemetry;
mod traffic_policy;
mod unmatchable_values;
mod values;
mod virtual_service;
mod visibility;
mod wasm_plugin;
mod workload;

use crate::schema::{Node, Report};
use crate::settings;

/// Checks a document of a kind that the table knows, whose names and types are right.
pub fn check(root: &Node<'_>, report: &mut Report<'_>) {
    let document = report.document();
    let spec = root.get("spec");
    if document.api_version == settings::API_VERSION && document.kind == settings::KIND {
        return proxy_settings::check(&spec, report);
    }
    match document.kind.as_str() {
        "Service" if document.api_version == "v1" => {
            return kubernetes::check_service(&spec, report);
        }
        "EndpointSlice" => return kubernetes::check_endpoint_slice(root, report),
        _ => {}
    }
    if !document.api_version.contains(".istio.io/") {
        return;
    }
    check_dry_run(root, report);
    match document.kind.as_str() {
        "VirtualService" => virtual_service::check(&spec, report),
        "DestinationRule" => destination_rule::check(&spec, report),
        "Gateway" => gateway::check(root, report),
        "ServiceEntry" => service_entry::check(&spec, report),
        "WorkloadEntry" => workload::check_entry(&spec, report),
        "WorkloadGroup" => workload::check_group(&spec, report),
        "Sidecar" => sidecar::check(&spec, report),
        "ProxyConfig" => {
            selectors::check_selector(&spec.get("selector"), report);
            values::check_not_negative(&spec.get("concurrency"), report);
        }
        "PeerAuthentication" => peer_authentication::check(&spec, report),
        "AuthorizationPolicy" => authorization_policy::check(&spec, report),
        "RequestAuthentication" => request_authentication::check(&spec, report),
        "Telemetry" => telemetry::check(&spec, report),
        "WasmPlugin" => wasm_plugin::check(&spec, report),
        "EnvoyFilter" => {
            selectors::check_workload_selector(&spec.get("workloadSelector"), report);
        }
        _ => {}
    }
}

/// The annotation that lets a policy only log. Istio: `checkDryRunAnnotation`.
fn check_dry_run(root: &Node<'_>, report: &mut Report<'_>) {
    const DRY_RUN: &str = "istio.io/dry-run";
    const BOOLEANS: [&str; 12] = [
        "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False",
    ];
    let metadata = root.get("metadata");
    let annotations = metadata.get("annotations");
    let dry_run = annotations.get(DRY_RUN);
    if !dry_run.is_set() {
        return;
    }
    let kind = report.document().kind.as_str();
    let spec = root.get("spec");
    let action = spec.get("action");
    if kind != "AuthorizationPolicy" {
        let message = format!("a {kind} has no dry run");
        let help = "remove the annotation: only an AuthorizationPolicy has it";
        report.key_error("conflicting-fields", &dry_run, message, help);
    } else if !["", "ALLOW", "DENY"].contains(&action.text()) {
        let message = format!("the action {} has no dry run", action.text());
        let help = "remove the annotation: only ALLOW and DENY have it";
        report.key_error("conflicting-fields", &dry_run, message, help);
    } else if !BOOLEANS.contains(&dry_run.text()) {
        let message = format!("`{}` is neither true nor false", dry_run.text());
        report.error("unknown-value", &dry_run, message, "write \"true\"");
    }
}
