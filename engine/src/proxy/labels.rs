//! Istio's metric labels for the two ends of a request.

use crate::stats::PeerLabels;
use ringroad_policy::settings::ProxySettings;
use ringroad_policy::snapshot::{Cluster, Direction, Endpoint, PeerIdentity, WorkloadLabels};

/// The labels that stay the same for all requests to one endpoint.
pub fn peer_labels(
    settings: &ProxySettings,
    direction: Direction,
    cluster: Option<&Cluster>,
    endpoint: Option<&Endpoint>,
) -> PeerLabels {
    let known = |value: &str| {
        if value.is_empty() {
            "unknown".to_string()
        } else {
            value.to_string()
        }
    };
    let revision = |value: &str| if value.is_empty() { "latest" } else { value }.to_string();
    let inbound = direction == Direction::Inbound;
    let own = &settings.workload;
    let nobody = WorkloadLabels::default();
    let there = endpoint.map_or(&nobody, |endpoint| &endpoint.workload);
    let service = cluster.map(|cluster| &cluster.service);
    let canonical = |name: &str, app: &str, workload: &str| {
        let first = [name, app, workload]
            .into_iter()
            .find(|value| !value.is_empty());
        known(first.unwrap_or_default())
    };
    PeerLabels(vec![
        (
            "reporter",
            if inbound { "destination" } else { "source" }.to_string(),
        ),
        ("source_workload", known(&own.name)),
        (
            "source_canonical_service",
            canonical("", &own.app, &own.name),
        ),
        ("source_canonical_revision", revision(&own.version)),
        ("source_workload_namespace", known(&settings.namespace)),
        ("source_principal", "unknown".to_string()),
        ("source_app", known(&own.app)),
        ("source_version", known(&own.version)),
        ("source_cluster", "unknown".to_string()),
        ("destination_workload", known(&there.name)),
        ("destination_workload_namespace", known(&there.namespace)),
        ("destination_principal", "unknown".to_string()),
        ("destination_app", known(&there.app)),
        ("destination_version", known(&there.version)),
        (
            "destination_service",
            known(service.map_or("", |s| &s.host)),
        ),
        (
            "destination_canonical_service",
            canonical(&there.canonical_name, &there.app, &there.name),
        ),
        (
            "destination_canonical_revision",
            revision(&there.canonical_revision),
        ),
        (
            "destination_service_name",
            known(cluster.map_or("", service_name)),
        ),
        (
            "destination_service_namespace",
            known(service.map_or("", |s| &s.namespace)),
        ),
        ("destination_cluster", known(&there.cluster)),
        ("request_protocol", "http".to_string()),
        ("grpc_response_status", String::new()),
        (
            "connection_security_policy",
            if inbound { "none" } else { "unknown" }.to_string(),
        ),
    ])
}

/// The service's name. What leads to no service goes by the cluster, such as `PassthroughCluster`.
fn service_name(cluster: &Cluster) -> &str {
    match cluster.service.name.as_str() {
        "" if !cluster.name.contains('|') => &cluster.name,
        name => name,
    }
}

/// The labels of connections that are no HTTP; `identity` is that of the client.
pub fn tcp_labels(
    settings: &ProxySettings,
    direction: Direction,
    cluster: Option<&Cluster>,
    endpoint: Option<&Endpoint>,
    identity: Option<&PeerIdentity>,
) -> PeerLabels {
    let PeerLabels(mut labels) = peer_labels(settings, direction, cluster, endpoint);
    labels.retain(|(name, _)| *name != "grpc_response_status");
    let mut set = |name: &str, value: String| {
        let label = labels.iter_mut().find(|(known, _)| *known == name);
        if let Some((_, known)) = label {
            *known = value;
        }
    };
    set("request_protocol", "tcp".to_string());
    if let (Direction::Inbound, Some(identity)) = (direction, identity) {
        set(
            "source_principal",
            format!("spiffe://{}", identity.principal),
        );
        set("connection_security_policy", "mutual_tls".to_string());
    }
    PeerLabels(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_no_service_goes_by_its_cluster() {
        let named = |name: &str| service_name(&Cluster::new(name.to_string())).to_string();
        assert_eq!(named("PassthroughCluster"), "PassthroughCluster");
        assert_eq!(named("outbound|80||a.test"), "");
        let labels = tcp_labels(
            &ProxySettings::default(),
            Direction::Inbound,
            Some(&Cluster::new("InboundPassthroughCluster".to_string())),
            None,
            PeerIdentity::from_spiffe("spiffe://cluster.local/ns/a/sa/b").as_ref(),
        );
        for wanted in [
            ("reporter", "destination"),
            ("source_principal", "spiffe://cluster.local/ns/a/sa/b"),
            ("destination_service_name", "InboundPassthroughCluster"),
            ("connection_security_policy", "mutual_tls"),
            ("request_protocol", "tcp"),
        ] {
            let mut known = labels.0.iter();
            assert!(
                known.any(|(name, value)| (*name, value.as_str()) == wanted),
                "{wanted:?}: {labels:?}"
            );
        }
    }
}
