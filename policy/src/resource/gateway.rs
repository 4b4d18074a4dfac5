//! `networking.istio.io` Gateway.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Gateway {
    pub servers: Vec<Server>,
    pub selector: BTreeMap<String, String>,
}

/// `servers[]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Server {
    pub port: ServerPort,
    pub bind: String,
    pub hosts: Vec<String>,
    pub tls: Option<ServerTls>,
    pub name: String,
}

/// `port`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ServerPort {
    pub number: u32,
    pub protocol: String,
    pub name: String,
}

/// `tls`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerTls {
    pub https_redirect: bool,
    pub mode: Option<String>,
}
