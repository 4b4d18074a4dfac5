//! Kubernetes `Secret` documents that hold certificates.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A `Secret` as written.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Secret {
    /// In base64.
    pub data: BTreeMap<String, String>,
    pub string_data: BTreeMap<String, String>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}
