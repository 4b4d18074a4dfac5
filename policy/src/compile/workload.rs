//! What the labels of a workload say about it.

use std::collections::BTreeMap;

use crate::settings::WorkloadIdentity;
use crate::snapshot::{WorkloadLabels, label_of};

/// Names for metrics. The canonical service falls back to the app, then to the workload; the
/// canonical revision to the version, then to `latest`.
pub fn labels_of_workload(
    labels: &BTreeMap<String, String>,
    name: Option<&str>,
    namespace: &str,
) -> WorkloadLabels {
    let label = |names: &[&str]| names.iter().find_map(|name| labels.get(*name)).cloned();
    let app = label(&["app", "app.kubernetes.io/name"]).unwrap_or_default();
    let version = label(&["version", "app.kubernetes.io/version"]).unwrap_or_default();
    let name = match name {
        Some(name) => name.to_string(),
        None if !app.is_empty() && !version.is_empty() => format!("{app}-{version}"),
        None => app.clone(),
    };
    let canonical_name = label(&["service.istio.io/canonical-name"])
        .or_else(|| (!app.is_empty()).then(|| app.clone()))
        .unwrap_or_else(|| name.clone());
    let canonical_revision = label(&["service.istio.io/canonical-revision"])
        .or_else(|| (!version.is_empty()).then(|| version.clone()))
        .unwrap_or_else(|| "latest".to_string());
    let cluster = label(&["topology.istio.io/cluster"]).unwrap_or_default();
    let namespace = namespace.to_string();
    WorkloadLabels {
        name,
        namespace,
        app,
        version,
        canonical_name,
        canonical_revision,
        cluster,
    }
}

/// The value of a label of the workload at hand, where those of its place follow from the place.
pub fn label_of_workload(name: &str, workload: &WorkloadIdentity) -> String {
    label_of(&workload.labels, &workload.locality, name)
}
