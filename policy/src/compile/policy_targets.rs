//! Which security policies are for the workload at hand.

use crate::resource::Metadata;
use crate::resource::authorization_policy::PolicyTarget;
use crate::settings::ProxySettings;

/// The label by which a workload belongs to a Gateway of the Gateway API.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// Whether a policy applies: it stands in the root namespace or in that of the workload, and
/// selects the workload. Istio: `ShouldAttachPolicy`.
pub fn applies(metadata: &Metadata, target: &PolicyTarget, settings: &ProxySettings) -> bool {
    let namespace = &metadata.namespace;
    if *namespace != settings.root_namespace && *namespace != settings.namespace {
        return false;
    }
    let mut targets = target.target_refs.iter().chain(&target.target_ref);
    let has_targets = !target.target_refs.is_empty() || target.target_ref.is_some();
    match settings.workload.labels.get(GATEWAY_NAME) {
        Some(gateway) if has_targets => targets.any(|target| {
            *namespace == settings.namespace
                && target.group == "gateway.networking.k8s.io"
                && target.kind == "Gateway"
                && target.name == *gateway
        }),
        None if has_targets => false,
        _ => match &target.selector {
            Some(selector) => settings.selected_by(&selector.match_labels),
            None => true,
        },
    }
}
