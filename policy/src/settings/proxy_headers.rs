//! What the proxy tells upstreams of clients.

use serde::Deserialize;

use super::Role;
use crate::snapshot::Direction;

/// What becomes of `x-forwarded-client-cert`. Istio: `proxyHeaders.forwardedClientCert` of a
/// sidecar, `gatewayTopology.forwardClientCertDetails` of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForwardedClientCert {
    /// It is removed.
    Sanitize,
    /// It is passed on if the client has shown a certificate, else removed.
    ForwardOnly,
    /// The client's certificate is appended to what came; without one it is removed.
    AppendForward,
    /// It tells of the client's certificate alone; without one it is removed.
    SanitizeSet,
    /// It is passed on whoever sends it.
    AlwaysForwardOnly,
}

/// What is told of a client's certificate beside its hash and who was addressed. Istio:
/// `proxyHeaders.setCurrentClientCertDetails`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClientCertDetails {
    pub subject: bool,
    /// The certificate itself.
    pub cert: bool,
    /// With all that leads from it to a root.
    pub chain: bool,
    pub dns: bool,
    pub uri: bool,
}

/// How client certificates are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyHeaders {
    pub forwarded_client_cert: ForwardedClientCert,
    pub client_cert_details: ClientCertDetails,
}

impl ProxyHeaders {
    /// What Istio has where nobody says otherwise.
    pub fn of_role(role: Role) -> Self {
        let is_gateway = role == Role::Gateway;
        Self {
            forwarded_client_cert: match is_gateway {
                true => ForwardedClientCert::SanitizeSet,
                false => ForwardedClientCert::AppendForward,
            },
            client_cert_details: ClientCertDetails {
                subject: true,
                cert: is_gateway,
                chain: false,
                dns: true,
                uri: true,
            },
        }
    }

    /// What becomes of the header in requests of this direction: a workload's own requests never
    /// carry it on.
    pub fn forwarded_client_cert(&self, direction: Direction) -> ForwardedClientCert {
        match direction {
            Direction::Outbound => ForwardedClientCert::Sanitize,
            Direction::Gateway | Direction::Inbound => self.forwarded_client_cert,
        }
    }
}

/// `spec.proxyHeaders` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProxyHeadersSpec {
    pub forwarded_client_cert: Option<ForwardedClientCert>,
    pub set_current_client_cert_details: Option<ClientCertDetails>,
}

impl ProxyHeadersSpec {
    /// With the defaults of the role for what is not written.
    pub fn resolve(&self, role: Role) -> ProxyHeaders {
        let default = ProxyHeaders::of_role(role);
        ProxyHeaders {
            forwarded_client_cert: self
                .forwarded_client_cert
                .unwrap_or(default.forwarded_client_cert),
            client_cert_details: self
                .set_current_client_cert_details
                .unwrap_or(default.client_cert_details),
        }
    }
}
