//! Resources as typed values, as users wrote them: no default is applied, no name is resolved.

pub mod authorization_policy;
pub mod destination_rule;
pub mod gateway;
pub mod kubernetes;
pub mod peer_authentication;
pub mod protocol;
pub mod request_authentication;
pub mod secret;
pub mod service_entry;
pub mod sidecar;
mod text_match;
pub mod virtual_service;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_yaml::Value;

use crate::diagnostic::{Diagnostic, Place};
use crate::settings::{self, ProxySettingsSpec};
use crate::source::{DocumentId, FieldPath, Origin};
use crate::yaml::Document;

pub use text_match::TextMatch;

/// What all objects have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    pub document: DocumentId,
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// In seconds since 1970; who has none is older than any other.
    pub created_unix_s: Option<i64>,
}

impl Metadata {
    /// A place in this document.
    pub fn origin(&self, field: FieldPath) -> Origin {
        Origin {
            document: self.document,
            field,
        }
    }
}

/// An object of one kind.
#[derive(Debug, Clone)]
pub struct Object<T> {
    pub metadata: Metadata,
    pub spec: T,
}

/// All objects that the compiler knows, in Istio's order: oldest first, then by name, then by
/// namespace.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    pub proxy_settings: Vec<Object<ProxySettingsSpec>>,
    pub virtual_services: Vec<Object<virtual_service::VirtualService>>,
    pub destination_rules: Vec<Object<destination_rule::DestinationRule>>,
    pub service_entries: Vec<Object<service_entry::ServiceEntry>>,
    pub workload_entries: Vec<Object<service_entry::WorkloadEntry>>,
    pub gateways: Vec<Object<gateway::Gateway>>,
    pub sidecars: Vec<Object<sidecar::Sidecar>>,
    pub peer_authentications: Vec<Object<peer_authentication::PeerAuthentication>>,
    pub secrets: Vec<Object<secret::Secret>>,
    pub services: Vec<Object<kubernetes::Service>>,
    pub endpoint_slices: Vec<Object<kubernetes::EndpointSlice>>,
    pub authorization_policies: Vec<Object<authorization_policy::AuthorizationPolicy>>,
    pub request_authentications: Vec<Object<request_authentication::RequestAuthentication>>,
}

impl Resources {
    /// Reads documents; those of other kinds are left out. What comes of documents that validation
    /// refuses is of no use, and one that passed it but cannot be read is an error that names it.
    pub fn read(documents: &[Document]) -> (Self, Vec<Diagnostic>) {
        let mut resources = Self::default();
        let mut problems = Vec::new();
        for document in documents {
            let group = document
                .api_version
                .split_once('/')
                .map_or("", |(group, _)| group);
            match (group, document.kind.as_str()) {
                ("networking.istio.io", "VirtualService") => {
                    read_spec(document, &mut resources.virtual_services, &mut problems);
                }
                ("networking.istio.io", "DestinationRule") => {
                    read_spec(document, &mut resources.destination_rules, &mut problems);
                }
                ("networking.istio.io", "ServiceEntry") => {
                    read_spec(document, &mut resources.service_entries, &mut problems);
                }
                ("networking.istio.io", "WorkloadEntry") => {
                    read_spec(document, &mut resources.workload_entries, &mut problems);
                }
                ("networking.istio.io", "Gateway") => {
                    read_spec(document, &mut resources.gateways, &mut problems);
                }
                ("networking.istio.io", "Sidecar") => {
                    read_spec(document, &mut resources.sidecars, &mut problems);
                }
                ("security.istio.io", "PeerAuthentication") => {
                    read_spec(document, &mut resources.peer_authentications, &mut problems);
                }
                ("security.istio.io", "AuthorizationPolicy") => {
                    let objects = &mut resources.authorization_policies;
                    read_spec(document, objects, &mut problems);
                }
                ("security.istio.io", "RequestAuthentication") => {
                    let objects = &mut resources.request_authentications;
                    read_spec(document, objects, &mut problems);
                }
                ("", "Secret") => {
                    let whole = Some(&document.value);
                    read_object(document, whole, &mut resources.secrets, &mut problems);
                }
                ("", "Service") => read_spec(document, &mut resources.services, &mut problems),
                ("discovery.k8s.io", "EndpointSlice") => {
                    let whole = Some(&document.value);
                    read_object(
                        document,
                        whole,
                        &mut resources.endpoint_slices,
                        &mut problems,
                    );
                }
                ("ringroad.dev", settings::KIND) => {
                    read_spec(document, &mut resources.proxy_settings, &mut problems);
                }
                _ => {}
            }
        }
        resources.sort();
        (resources, problems)
    }

    fn sort(&mut self) {
        sort(&mut self.proxy_settings);
        sort(&mut self.virtual_services);
        sort(&mut self.destination_rules);
        sort(&mut self.service_entries);
        sort(&mut self.workload_entries);
        sort(&mut self.gateways);
        sort(&mut self.sidecars);
        sort(&mut self.peer_authentications);
        sort(&mut self.services);
        sort(&mut self.endpoint_slices);
        sort(&mut self.authorization_policies);
        sort(&mut self.request_authentications);
    }
}

fn sort<T>(objects: &mut [Object<T>]) {
    objects.sort_by(|a, b| {
        let key = |object: &Object<T>| {
            let Metadata {
                created_unix_s,
                name,
                namespace,
                ..
            } = &object.metadata;
            (*created_unix_s, name.clone(), namespace.clone())
        };
        key(a).cmp(&key(b))
    });
}

fn read_spec<T: DeserializeOwned + Default>(
    document: &Document,
    objects: &mut Vec<Object<T>>,
    problems: &mut Vec<Diagnostic>,
) {
    read_object(document, document.value.get("spec"), objects, problems);
}

fn read_object<T: DeserializeOwned + Default>(
    document: &Document,
    value: Option<&Value>,
    objects: &mut Vec<Object<T>>,
    problems: &mut Vec<Diagnostic>,
) {
    let spec = match value {
        None | Some(Value::Null) => T::default(),
        Some(value) => {
            match T::deserialize(value).or_else(|_| T::deserialize(without_nulls(value))) {
                Ok(spec) => spec,
                Err(error) => {
                    let place = Place::field(document.id, FieldPath::root().field("spec"));
                    let message = format!("this {} cannot be read: {error}", document.kind);
                    problems.push(Diagnostic::error("unreadable-document", place, message));
                    return;
                }
            }
        }
    };
    let metadata = Metadata {
        document: document.id,
        namespace: document.namespace.clone(),
        name: document.name.clone(),
        labels: document.labels.clone(),
        annotations: document.annotations.clone(),
        created_unix_s: document.created_unix_s,
    };
    objects.push(Object { metadata, spec });
}

/// A copy in which null fields are left out, since they count as not written. Where a null is a
/// condition of its own (a header that has to be there), an empty mapping says the same.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Sequence(items) => Value::Sequence(items.iter().map(without_nulls).collect()),
        Value::Mapping(entries) => {
            let mut kept = serde_yaml::Mapping::new();
            for (key, value) in entries {
                let conditions = matches!(
                    key.as_str(),
                    Some("headers" | "withoutHeaders" | "queryParams")
                );
                match value {
                    Value::Null => {}
                    Value::Mapping(inner) if conditions => {
                        let filled = inner.iter().map(|(name, condition)| {
                            let empty = Value::Mapping(serde_yaml::Mapping::new());
                            let filled = if condition.is_null() {
                                empty
                            } else {
                                without_nulls(condition)
                            };
                            (name.clone(), filled)
                        });
                        kept.insert(key.clone(), Value::Mapping(filled.collect()));
                    }
                    _ => {
                        kept.insert(key.clone(), without_nulls(value));
                    }
                }
            }
            Value::Mapping(kept)
        }
        _ => value.clone(),
    }
}
