//! `networking.istio.io` Sidecar.

use serde::Deserialize;

use super::destination_rule::ConnectionPool;
use super::gateway::{ServerPort, ServerTls};
use super::service_entry::Selector;
use super::virtual_service::Destination;

/// `spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sidecar {
    pub workload_selector: Option<Selector>,
    pub ingress: Vec<Ingress>,
    pub egress: Vec<Egress>,
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    pub inbound_connection_pool: Option<ConnectionPool>,
}

/// `ingress[]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ingress {
    pub port: ServerPort,
    pub bind: String,
    pub capture_mode: Option<String>,
    pub default_endpoint: String,
    pub tls: Option<ServerTls>,
    pub connection_pool: Option<ConnectionPool>,
}

/// `egress[]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Egress {
    pub port: Option<ServerPort>,
    pub bind: String,
    pub capture_mode: Option<String>,
    pub hosts: Vec<String>,
}

/// `outboundTrafficPolicy`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutboundTrafficPolicy {
    pub mode: Option<crate::settings::OutboundTrafficPolicy>,
    pub egress_proxy: Option<Destination>,
}
