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

/// `tls` of a server, and of a Sidecar's ingress.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerTls {
    pub https_redirect: bool,
    pub mode: Option<String>,
    pub server_certificate: String,
    pub private_key: String,
    pub ca_certificates: String,
    pub ca_crl: String,
    pub credential_name: String,
    pub credential_names: Vec<String>,
    pub ca_cert_credential_name: String,
    pub tls_certificates: Vec<TlsCertificate>,
    pub subject_alt_names: Vec<String>,
    pub verify_certificate_spki: Vec<String>,
    pub verify_certificate_hash: Vec<String>,
    pub min_protocol_version: Option<String>,
    pub max_protocol_version: Option<String>,
    pub cipher_suites: Vec<String>,
    pub ecdh_curves: Vec<String>,
    pub insecure_skip_verify: Option<bool>,
}

/// `tls.tlsCertificates[]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsCertificate {
    pub server_certificate: String,
    pub private_key: String,
    pub ca_certificates: String,
}

impl ServerTls {
    /// Whether TLS goes on unopened.
    pub fn passes_through(&self) -> bool {
        matches!(
            self.mode.as_deref(),
            None | Some("PASSTHROUGH" | "AUTO_PASSTHROUGH")
        )
    }
}
