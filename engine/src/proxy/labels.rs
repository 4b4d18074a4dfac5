//! Istio's metric labels for the two ends of a request.

use crate::stats::PeerLabels;
use ringroad_policy::settings::ProxySettings;
use ringroad_policy::snapshot::{Cluster, Direction, Endpoint, PeerIdentity, WorkloadLabels};

/// The labels that stay the same for all requests of one client to one endpoint; `identity` is that
/// of the client. On the way in the workload is the destination, and of the client only its
/// identity is known.
pub fn peer_labels(
    settings: &ProxySettings,
    direction: Direction,
    cluster: Option<&Cluster>,
    endpoint: Option<&Endpoint>,
    identity: Option<&PeerIdentity>,
) -> PeerLabels {
    let inbound = direction == Direction::Inbound;
    let nobody = WorkloadLabels::default();
    let own = WorkloadLabels {
        name: settings.workload.name.clone(),
        namespace: settings.namespace.clone(),
        app: settings.workload.app.clone(),
        version: settings.workload.version.clone(),
        ..WorkloadLabels::default()
    };
    let there = endpoint.map_or(&nobody, |endpoint| &endpoint.workload);
    let (source, destination) = match inbound {
        true => (&nobody, &own),
        false => (&own, there),
    };
    let service = cluster.map(|cluster| &cluster.service);
    let source_principal = match identity.filter(|_| inbound) {
        Some(identity) => format!("spiffe://{}", identity.principal),
        None => "unknown".to_string(),
    };
    let security = match (inbound, identity) {
        (false, _) => "unknown",
        (true, None) => "none",
        (true, Some(_)) => "mutual_tls",
    };
    PeerLabels(vec![
        (
            "reporter",
            if inbound { "destination" } else { "source" }.to_string(),
        ),
        ("source_workload", known(&source.name)),
        ("source_canonical_service", canonical_name(source)),
        ("source_canonical_revision", canonical_revision(source)),
        ("source_workload_namespace", known(&source.namespace)),
        ("source_principal", source_principal),
        ("source_app", known(&source.app)),
        ("source_version", known(&source.version)),
        ("source_cluster", known(&source.cluster)),
        ("destination_workload", known(&destination.name)),
        (
            "destination_workload_namespace",
            known(&destination.namespace),
        ),
        ("destination_principal", "unknown".to_string()),
        ("destination_app", known(&destination.app)),
        ("destination_version", known(&destination.version)),
        (
            "destination_service",
            known(service.map_or("", |s| &s.host)),
        ),
        ("destination_canonical_service", canonical_name(destination)),
        (
            "destination_canonical_revision",
            canonical_revision(destination),
        ),
        (
            "destination_service_name",
            known(cluster.map_or("", service_name)),
        ),
        (
            "destination_service_namespace",
            known(service.map_or("", |s| &s.namespace)),
        ),
        ("destination_cluster", known(&destination.cluster)),
        ("request_protocol", "http".to_string()),
        ("grpc_response_status", String::new()),
        ("connection_security_policy", security.to_string()),
    ])
}

fn known(value: &str) -> String {
    match value {
        "" => "unknown".to_string(),
        value => value.to_string(),
    }
}

fn canonical_name(workload: &WorkloadLabels) -> String {
    let names = [&workload.canonical_name, &workload.app, &workload.name];
    let first = names.into_iter().find(|value| !value.is_empty());
    known(first.map_or("", String::as_str))
}

fn canonical_revision(workload: &WorkloadLabels) -> String {
    match workload.canonical_revision.as_str() {
        "" if workload.version.is_empty() => "latest".to_string(),
        "" => workload.version.clone(),
        revision => revision.to_string(),
    }
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
    let PeerLabels(mut labels) = peer_labels(settings, direction, cluster, endpoint, identity);
    labels.retain(|(name, _)| *name != "grpc_response_status");
    for (name, value) in &mut labels {
        if *name == "request_protocol" {
            *value = "tcp".to_string();
        }
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
