//! What the labels of a workload say about it.

use std::collections::BTreeMap;

use crate::snapshot::WorkloadLabels;

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

/// `region/zone/subzone`, as written or as Kubernetes labels it.
pub fn locality_of(written: &str, labels: &BTreeMap<String, String>) -> String {
    if !written.is_empty() {
        return written.to_string();
    }
    if let Some(label) = labels.get("istio-locality") {
        return label.replace('.', "/");
    }
    let parts = [
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.istio.io/subzone",
    ];
    let parts = parts.map(|name| labels.get(name).map_or("", String::as_str));
    parts.join("/").trim_end_matches('/').to_string()
}
