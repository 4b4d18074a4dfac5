//! PeerAuthentication: whether clients of a workload need mTLS.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::registry::PortEndpoints;
use crate::resource::peer_authentication::{MutualTls, PeerAuthentication};
use crate::resource::{Object, Resources};
use crate::settings::ProxySettings;
use crate::snapshot::{EndpointAddress, TLS_MODE_LABEL};
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
    /// What is said of some workloads of a namespace, the oldest first.
    by_labels: HashMap<String, Vec<OfLabels>>,
    /// Whether `DISABLE` stands anywhere.
    disables: bool,
}

/// What workloads with these labels accept; `None` is as their namespace has it.
#[derive(Debug, Clone)]
struct OfLabels {
    labels: BTreeMap<String, String>,
    mode: Option<MtlsMode>,
    /// `None` is as `mode` has it.
    by_port: BTreeMap<u32, Option<MtlsMode>>,
}

impl PeerModes {
    /// From the policies of the mesh, of namespaces, and of the workload; of several at a level
    /// the oldest counts, and what it leaves open is as the level above has it.
    pub fn new(resources: &Resources, settings: &ProxySettings) -> Self {
        let mut modes = Self::default();
        let mut seen: HashSet<&str> = HashSet::new();
        for object in &resources.peer_authentications {
            let namespace = &object.metadata.namespace;
            modes.note_labels(object, settings);
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

    fn note_labels(&mut self, object: &Object<PeerAuthentication>, settings: &ProxySettings) {
        let (spec, namespace) = (&object.spec, &object.metadata.namespace);
        let mode = spec.mtls.as_ref().and_then(mode_of);
        let ports = spec.port_level_mtls.iter();
        let by_port: BTreeMap<_, _> = ports.map(|(port, mode)| (*port, mode_of(mode))).collect();
        let disabled = Some(MtlsMode::Disable);
        self.disables |= mode == disabled || by_port.values().any(|mode| *mode == disabled);
        let selector = spec.selector.as_ref();
        if let Some(selector) = selector.filter(|_| !is_general(object))
            && *namespace != settings.root_namespace
        {
            let labels = selector.match_labels.clone().into_iter().collect();
            let all = self.by_labels.entry(namespace.clone()).or_default();
            all.push(OfLabels {
                labels,
                mode,
                by_port,
            });
        }
    }

    /// Marks endpoints whose workloads take no mTLS at their ports, so that none is begun by itself
    /// (Istio: `mtls_checker.go`). `namespace` is that of their service.
    pub fn mark(&self, namespace: &str, endpoints: &mut PortEndpoints) {
        if !self.disables {
            return;
        }
        let fixed = endpoints.fixed.iter_mut().map(|endpoint| {
            let port = match endpoint.address {
                EndpointAddress::Socket(address) => address.port(),
                EndpointAddress::Unix(_) => 0,
            };
            (endpoint, port)
        });
        let named = endpoints.named.iter_mut();
        let named = named.map(|target| (&mut target.template, target.port));
        for (endpoint, port) in fixed.chain(named) {
            let own = endpoint.workload.namespace.as_str();
            let namespace = if own.is_empty() { namespace } else { own };
            let is_refused =
                self.of_workload(namespace, &endpoint.labels, port) == MtlsMode::Disable;
            if let Some(mode) = endpoint
                .labels
                .get_mut(TLS_MODE_LABEL)
                .filter(|_| is_refused)
            {
                *mode = "disabled".to_string();
            }
        }
    }

    /// What a port of a workload accepts.
    fn of_workload(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        port: u16,
    ) -> MtlsMode {
        let general = self.of_namespace(namespace);
        let policies = self.by_labels.get(namespace).into_iter().flatten();
        let mut policies = policies.filter(|policy| {
            let mut wanted = policy.labels.iter();
            wanted.all(|(key, value)| labels.get(key) == Some(value))
        });
        let Some(policy) = policies.next() else {
            return general;
        };
        let of_port = policy.by_port.get(&u32::from(port)).copied().flatten();
        of_port.or(policy.mode).unwrap_or(general)
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
    fn of_namespace(&self, namespace: &str) -> MtlsMode {
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
