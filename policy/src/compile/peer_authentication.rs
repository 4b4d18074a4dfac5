//! PeerAuthentication: whether clients of a workload need mTLS.

use std::collections::{HashMap, HashSet};

use crate::resource::peer_authentication::{MutualTls, PeerAuthentication};
use crate::resource::{Object, Resources};
use crate::settings::ProxySettings;

/// What a port of a workload accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MtlsMode {
    /// Plain text only.
    Disable,
    /// Plain text and mTLS.
    #[default]
    Permissive,
    /// mTLS only.
    Strict,
}

/// The modes in force.
#[derive(Debug, Clone, Default)]
pub struct PeerModes {
    mesh: MtlsMode,
    by_namespace: HashMap<String, MtlsMode>,
}

impl PeerModes {
    /// From the policies of the mesh and of namespaces; of several at a level the oldest counts,
    /// and what it leaves open is as the level above has it.
    pub fn new(resources: &Resources, settings: &ProxySettings) -> Self {
        let mut modes = Self::default();
        let mut seen: HashSet<&str> = HashSet::new();
        for object in &resources.peer_authentications {
            let namespace = &object.metadata.namespace;
            // The oldest counts, even when it says nothing.
            if !is_general(object) || !seen.insert(namespace) {
                continue;
            }
            if let Some(mode) = object.spec.mtls.as_ref().and_then(mode_of) {
                if *namespace == settings.root_namespace {
                    modes.mesh = mode;
                } else {
                    modes.by_namespace.insert(namespace.clone(), mode);
                }
            }
        }
        modes
    }

    /// What workloads of a namespace accept as far as it is not said for each.
    pub fn of_namespace(&self, namespace: &str) -> MtlsMode {
        let own = self.by_namespace.get(namespace).copied();
        own.unwrap_or(self.mesh)
    }
}

/// Whether a policy is for all workloads of its namespace, or of the mesh.
fn is_general(object: &Object<PeerAuthentication>) -> bool {
    let selector = object.spec.selector.as_ref();
    selector.is_none_or(|selector| selector.match_labels.is_empty())
}

/// `None` is to be inherited.
fn mode_of(written: &MutualTls) -> Option<MtlsMode> {
    match written.mode.as_deref()? {
        "DISABLE" => Some(MtlsMode::Disable),
        "PERMISSIVE" => Some(MtlsMode::Permissive),
        "STRICT" => Some(MtlsMode::Strict),
        _ => None,
    }
}
