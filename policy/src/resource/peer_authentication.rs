//! `security.istio.io` PeerAuthentication.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Deserializer};

use super::destination_rule::MatchLabels;

/// `spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerAuthentication {
    pub selector: Option<MatchLabels>,
    pub mtls: Option<MutualTls>,
    /// By the port of the workload.
    #[serde(deserialize_with = "by_port")]
    pub port_level_mtls: BTreeMap<u32, MutualTls>,
}

/// `mtls`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct MutualTls {
    pub mode: Option<String>,
}

/// A port is a key of a mapping, so it may be written as a number or as a text.
fn by_port<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<u32, MutualTls>, D::Error> {
    let written: HashMap<serde_yaml::Value, MutualTls> = HashMap::deserialize(deserializer)?;
    let port = |key: serde_yaml::Value| match &key {
        serde_yaml::Value::String(text) => text.parse().ok(),
        key => key.as_u64().and_then(|port| u32::try_from(port).ok()),
    };
    let ports = written.into_iter();
    Ok(ports
        .filter_map(|(key, mode)| Some((port(key)?, mode)))
        .collect())
}
