//! What changed beside listeners, routes and clusters: filter chains, and documents that say who
//! may do what.

use std::collections::BTreeMap;

use serde_yaml::Value;

use super::Side;
use crate::snapshot::{
    ChainHandler, DownstreamTlsMode, FilterChain, Listener, ListenerKind, TransportProtocol,
};
use crate::source::{FieldPath, Origin};
use crate::yaml;

/// Kinds whose effect shows in listeners, routes, clusters and settings already.
const SHOWN_ELSEWHERE: [&str; 9] = [
    "VirtualService",
    "DestinationRule",
    "Gateway",
    "ServiceEntry",
    "WorkloadEntry",
    "Sidecar",
    "Service",
    "EndpointSlice",
    "ProxySettings",
];

/// A document of another kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Other {
    pub value: Value,
    pub origin: Origin,
}

/// All documents of other kinds that count, by kind and name.
pub(super) fn other_documents(side: Side<'_>) -> BTreeMap<String, Other> {
    let (documents, _) = yaml::parse(side.files);
    let counts = documents.into_iter().filter(|document| {
        let is_istio = document.api_version.contains(".istio.io/");
        is_istio && !SHOWN_ELSEWHERE.contains(&document.kind.as_str())
    });
    let named = counts.map(|document| {
        let title = format!("{} {}/{}", document.kind, document.namespace, document.name);
        let origin = Origin {
            document: document.id,
            field: FieldPath::root().field("spec"),
        };
        let value = document.value.get("spec").cloned().unwrap_or(Value::Null);
        (title, Other { value, origin })
    });
    named.collect()
}

/// The filter chains of a listener by what they match (their names follow from where they lead):
/// how each ends TLS, and where it leads.
pub(super) fn filter_chains(listener: &Listener) -> BTreeMap<String, (String, Option<Origin>)> {
    let ListenerKind::Chains(chains) = &listener.kind else {
        return BTreeMap::new();
    };
    let all = chains.all();
    let told = all.map(|chain| {
        let told = format!("{}, {}", tls_in_words(chain), handler_in_words(chain));
        (title_of(chain), (told, chain.origin.clone()))
    });
    told.collect()
}

fn title_of(chain: &FilterChain) -> String {
    let matches = &chain.matches;
    let mut parts = Vec::new();
    if let Some(port) = matches.destination_port {
        parts.push(format!("port {port}"));
    }
    let prefixes = matches.destination_prefixes.iter();
    parts.extend(prefixes.map(ToString::to_string));
    parts.extend(matches.server_names.iter().cloned());
    match matches.transport {
        Some(TransportProtocol::Tls) => parts.push("TLS".to_string()),
        Some(TransportProtocol::Raw) => parts.push("plain".to_string()),
        None => {}
    }
    parts.extend(matches.application_protocols.iter().cloned());
    let what = match parts.is_empty() {
        true => "all else".to_string(),
        false => parts.join(", "),
    };
    format!("filter chain for {what}")
}

fn tls_in_words(chain: &FilterChain) -> String {
    let Some(tls) = &chain.tls else {
        return "bytes as they come".to_string();
    };
    let mode = match tls.mode {
        DownstreamTlsMode::Simple => "SIMPLE",
        DownstreamTlsMode::Mutual => "MUTUAL",
        DownstreamTlsMode::OptionalMutual => "OPTIONAL_MUTUAL",
        DownstreamTlsMode::IstioMutual => "ISTIO_MUTUAL",
    };
    format!(
        "TLS {mode} with {:?}, trusting {:?}, {:?} to {:?}",
        tls.credentials, tls.trust, tls.min_version, tls.max_version
    )
}

fn handler_in_words(chain: &FilterChain) -> String {
    match &chain.handler {
        ChainHandler::Http(table) => format!("HTTP by {}", table.name),
        ChainHandler::Tcp(route) => {
            let to = route.destinations.iter();
            let to = to.map(|to| format!("{} of weight {}", to.cluster_name, to.weight));
            format!("TCP to {}", to.collect::<Vec<_>>().join(", "))
        }
    }
}
