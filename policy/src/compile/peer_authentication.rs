//! PeerAuthentication: whether clients of a workload need mTLS.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::resource::peer_authentication::{MutualTls, PeerAuthentication};
use crate::resource::{Object, Resources};
use crate::settings::ProxySettings;
use crate::source::{FieldPath, Origin};

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
    mode: MtlsMode,
    origin: Option<Origin>,
    /// By the port of the workload.
    by_port: BTreeMap<u16, (MtlsMode, Origin)>,
    mesh: MtlsMode,
    by_namespace: HashMap<String, MtlsMode>,
}

impl PeerModes {
    /// From the policies of the mesh, of namespaces, and of the workload; of several at a level
    /// the oldest counts, and what it leaves open is as the level above has it.
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
        modes.choose_own(resources, settings);
        modes
    }

    fn choose_own(&mut self, resources: &Resources, settings: &ProxySettings) {
        let own = |object: &&Object<PeerAuthentication>| {
            object.metadata.namespace == settings.namespace
                && settings.namespace != settings.root_namespace
        };
        let all = || resources.peer_authentications.iter();
        let of_mesh = all().find(|object| {
            is_general(object) && object.metadata.namespace == settings.root_namespace
        });
        let of_namespace = all().filter(own).find(|object| is_general(object));
        let of_workload = all().filter(own).find(|object| {
            let selector = object.spec.selector.as_ref();
            let selector = selector.filter(|selector| !selector.match_labels.is_empty());
            selector.is_some_and(|selector| settings.selected_by(&selector.match_labels))
        });
        for object in [of_mesh, of_namespace, of_workload].into_iter().flatten() {
            if let Some(mode) = object.spec.mtls.as_ref().and_then(mode_of) {
                self.mode = mode;
                let field = FieldPath::root().field("spec").field("mtls");
                self.origin = Some(object.metadata.origin(field));
            }
        }
        let Some(object) = of_workload else { return };
        for (port, written) in &object.spec.port_level_mtls {
            let Ok(number) = u16::try_from(*port) else {
                continue;
            };
            let ports = FieldPath::root().field("spec").field("portLevelMtls");
            let origin = object.metadata.origin(ports.field(&port.to_string()));
            let mode = mode_of(written).unwrap_or(self.mode);
            self.by_port.insert(number, (mode, origin));
        }
    }

    /// What a port of the workload at hand accepts, and where that was written.
    pub fn of_port(&self, port: u16) -> (MtlsMode, Option<Origin>) {
        match self.by_port.get(&port) {
            Some((mode, origin)) => (*mode, Some(origin.clone())),
            None => (self.mode, self.origin.clone()),
        }
    }

    /// Ports that have a mode of their own, in order.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.by_port.keys().copied()
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
