//! Endpoints of Kubernetes Services.

use std::collections::BTreeMap;

use super::registry::{Source, SourcePorts, UNPLACED};
use super::workload::labels_of_workload;
use crate::resource::Object;
use crate::resource::kubernetes::EndpointSlice;
use crate::settings::ProxySettings;
use crate::snapshot::{Endpoint, Locality, WorkloadLabels, locality_of};

/// The name of the Service that it is a part of.
pub fn service_of(slice: &Object<EndpointSlice>) -> Option<&String> {
    slice.metadata.labels.get("kubernetes.io/service-name")
}

/// Whether it is a part of this Service.
pub fn is_of_service(slice: &Object<EndpointSlice>, name: &str, namespace: &str) -> bool {
    slice.metadata.namespace == namespace && service_of(slice).is_some_and(|of| of == name)
}

/// Adds the endpoints that are ready.
pub fn sources_of_slice(
    slice: &Object<EndpointSlice>,
    settings: &ProxySettings,
    sources: &mut Vec<Source>,
) {
    let mut ports = BTreeMap::new();
    for port in &slice.spec.ports {
        if let Some(number) = port.port {
            ports.insert(port.name.clone().unwrap_or_default(), number);
        }
    }
    // Labels of pods are not in a slice; those of the slice itself stand in for them.
    let mut labels = slice.metadata.labels.clone();
    labels.retain(|key, _| !key.contains("kubernetes.io/"));
    for endpoint in &slice.spec.endpoints {
        let conditions = &endpoint.conditions;
        if conditions.ready == Some(false) || conditions.terminating == Some(true) {
            continue;
        }
        let pod = endpoint
            .target_ref
            .as_ref()
            .filter(|target| target.kind == "Pod");
        let name = pod.map(|pod| workload_of_pod(&pod.name));
        let workload: WorkloadLabels = labels_of_workload(&labels, name, &slice.metadata.namespace);
        for address in &endpoint.addresses {
            sources.push(Source {
                address: address.clone(),
                ports: SourcePorts::Only(ports.clone()),
                endpoint: Endpoint {
                    locality: locality_of_slice(&labels, &endpoint.zone, settings),
                    labels: labels_with_node(&labels, &endpoint.node_name),
                    workload: workload.clone(),
                    ..Endpoint::at(UNPLACED)
                },
            });
        }
    }
}

/// A slice knows the zone alone: in the zone of the proxy the region is the proxy's too.
fn locality_of_slice(
    labels: &BTreeMap<String, String>,
    zone: &str,
    settings: &ProxySettings,
) -> String {
    let written = locality_of("", labels);
    if zone.is_empty() || !written.is_empty() {
        return written;
    }
    let own = Locality::parse(&settings.workload.locality);
    let region = if own.zone == zone {
        own.region
    } else {
        String::new()
    };
    let zone = zone.to_string();
    let place = Locality {
        region,
        zone,
        subzone: String::new(),
    };
    place.to_string()
}

fn labels_with_node(labels: &BTreeMap<String, String>, node: &str) -> BTreeMap<String, String> {
    let mut labels = labels.clone();
    if !node.is_empty() {
        labels.insert("kubernetes.io/hostname".to_string(), node.to_string());
    }
    labels
}

/// `reviews-v1` for the pod `reviews-v1-7d4f8c9b5-x2x7k`: a Deployment adds two parts.
fn workload_of_pod(pod: &str) -> &str {
    let mut parts = pod.rsplitn(3, '-');
    let (_, _, name) = (parts.next(), parts.next(), parts.next());
    name.unwrap_or(pod)
}
