//! Istio's metric labels for the two ends of a request.

use crate::stats::{PeerLabels, Principals};
use ringroad_policy::settings::ProxySettings;
use ringroad_policy::snapshot::{
    Cluster, ConnectionFacts, Direction, Endpoint, PeerIdentity, WorkloadLabels,
};

/// Whom certificates name at the two ends of a connection: on the way in of the client's, else of
/// that to the endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ends<'a> {
    /// The SPIFFE id of our own.
    pub own: Option<&'a str>,
    pub peer: Option<&'a PeerIdentity>,
}

impl<'a> Ends<'a> {
    pub fn of_client(facts: &'a ConnectionFacts) -> Self {
        Self {
            own: facts.own_id.as_deref(),
            peer: facts.identity.as_deref(),
        }
    }

    pub fn of_endpoint(met: Option<&'a Principals>) -> Self {
        Self {
            own: met.and_then(|met| met.own.as_deref()),
            peer: met.and_then(|met| met.peer.as_ref()),
        }
    }
}

/// The labels that stay the same for all requests of one client to one endpoint. On the way in the
/// workload is the destination, and of the client only its identity is known.
pub fn peer_labels(
    settings: &ProxySettings,
    direction: Direction,
    cluster: Option<&Cluster>,
    endpoint: Option<&Endpoint>,
    ends: Ends<'_>,
) -> PeerLabels {
    let inbound = direction == Direction::Inbound;
    let nobody = WorkloadLabels::default();
    let own = WorkloadLabels {
        name: settings.workload.name.clone(),
        namespace: settings.namespace.clone(),
        app: settings.workload.app.clone(),
        version: settings.workload.version.clone(),
        canonical_name: own_label(settings, "service.istio.io/canonical-name"),
        canonical_revision: own_label(settings, "service.istio.io/canonical-revision"),
        ..WorkloadLabels::default()
    };
    let there = endpoint.map_or(&nobody, |endpoint| &endpoint.workload);
    let (source, destination) = match inbound {
        true => (&nobody, &own),
        false => (&own, there),
    };
    let service = cluster.map(|cluster| &cluster.service);
    let own_id = known(ends.own.unwrap_or_default());
    let peer_id = match ends.peer {
        Some(identity) => format!("spiffe://{}", identity.principal),
        None => "unknown".to_string(),
    };
    let (source_principal, destination_principal) = match inbound {
        true => (peer_id, own_id),
        false => (own_id, peer_id),
    };
    // What a certificate says of its holder goes before what is known of the endpoint.
    let certified = ends.peer.map_or("", |peer| &peer.namespace);
    let namespace_of = |workload: &WorkloadLabels, is_peer: bool| match certified {
        namespace if is_peer && !namespace.is_empty() => namespace.to_string(),
        _ => known(&workload.namespace),
    };
    let service_host = service.map_or("", |service| service.host.as_str());
    let service_name = cluster.map_or("", service_name);
    let named_or_own = |name: &str| match name {
        "" if inbound => canonical_name(&own),
        name => known(name),
    };
    let security = match (inbound, ends.peer) {
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
        ("source_workload_namespace", namespace_of(source, inbound)),
        ("source_principal", source_principal),
        ("source_app", known(&source.app)),
        ("source_version", known(&source.version)),
        ("source_cluster", known(&source.cluster)),
        ("destination_workload", known(&destination.name)),
        (
            "destination_workload_namespace",
            namespace_of(destination, !inbound),
        ),
        ("destination_principal", destination_principal),
        ("destination_app", known(&destination.app)),
        ("destination_version", known(&destination.version)),
        ("destination_service", named_or_own(service_host)),
        ("destination_canonical_service", canonical_name(destination)),
        (
            "destination_canonical_revision",
            canonical_revision(destination),
        ),
        ("destination_service_name", named_or_own(service_name)),
        (
            "destination_service_namespace",
            known(match inbound {
                true => &own.namespace,
                false => service.map_or("", |service| &service.namespace),
            }),
        ),
        ("destination_cluster", known(&destination.cluster)),
        ("request_protocol", "http".to_string()),
        ("grpc_response_status", String::new()),
        ("connection_security_policy", security.to_string()),
    ])
}

fn own_label(settings: &ProxySettings, name: &str) -> String {
    let labels = &settings.workload.labels;
    labels.get(name).cloned().unwrap_or_default()
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

/// The labels of connections that are no HTTP.
pub fn tcp_labels(
    settings: &ProxySettings,
    direction: Direction,
    cluster: Option<&Cluster>,
    endpoint: Option<&Endpoint>,
    ends: Ends<'_>,
) -> PeerLabels {
    let PeerLabels(mut labels) = peer_labels(settings, direction, cluster, endpoint, ends);
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
        let mut settings = ProxySettings::default();
        settings.workload.app = "cart".to_string();
        let labels = tcp_labels(
            &settings,
            Direction::Inbound,
            Some(&Cluster::new("InboundPassthroughCluster".to_string())),
            None,
            Ends {
                own: Some("spiffe://cluster.local/ns/c/sa/d"),
                peer: PeerIdentity::from_spiffe("spiffe://cluster.local/ns/a/sa/b").as_ref(),
            },
        );
        for wanted in [
            ("reporter", "destination"),
            ("source_principal", "spiffe://cluster.local/ns/a/sa/b"),
            ("source_workload_namespace", "a"),
            ("destination_principal", "spiffe://cluster.local/ns/c/sa/d"),
            ("destination_service_name", "InboundPassthroughCluster"),
            // Of what no service leads to, the workload itself is told.
            ("destination_service", "cart"),
            ("destination_service_namespace", "default"),
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
