//! What a connection brings, before and beside the requests on it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::listener::Direction;

/// A connection as matchers and policies see it. It belongs to the connection and lives as long;
/// a plain one allocates nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionFacts {
    pub direction: Direction,
    /// The direct peer, or the one that PROXY protocol names.
    pub peer: Option<SocketAddr>,
    /// Where the client had addressed the connection: the original destination where connections
    /// are intercepted, else the local address.
    pub destination: Option<SocketAddr>,
    /// Whether the kernel has redirected the connection here, so that `destination` is elsewhere.
    pub is_redirected: bool,
    /// Whether the client speaks TLS, no matter who terminates it.
    pub is_tls: bool,
    /// The server name that the client indicates (SNI), in lower case.
    pub server_name: Option<Box<str>>,
    /// The protocols that the client offers (ALPN); in plain text, what its first bytes show:
    /// `http/1.0`, `http/1.1`, `h2c`, or nothing.
    pub application_protocols: Vec<Box<str>>,
    /// Who the verified certificate of the client says that it is.
    pub identity: Option<Box<PeerIdentity>>,
    /// The SPIFFE id of the certificate that a client with an identity was shown.
    pub own_id: Option<Box<str>>,
    /// Labels of the client's workload, as far as they are known.
    pub source_labels: BTreeMap<String, String>,
}

impl ConnectionFacts {
    /// A connection of which nothing is known.
    pub const UNKNOWN: &'static Self = &Self {
        direction: Direction::Gateway,
        peer: None,
        destination: None,
        is_redirected: false,
        is_tls: false,
        server_name: None,
        application_protocols: Vec::new(),
        identity: None,
        own_id: None,
        source_labels: BTreeMap::new(),
    };

    /// Where the client had addressed the connection, if that is not here.
    pub fn original_destination(&self) -> Option<SocketAddr> {
        self.destination.filter(|_| self.is_redirected)
    }

    /// The port that the client had addressed, or 0 where it is not known.
    pub fn destination_port(&self) -> u16 {
        self.destination.map_or(0, |address| address.port())
    }
}

/// A workload's identity as its certificate states it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    /// `cluster.local/ns/shop/sa/cart`: the SPIFFE id without its scheme. Istio:
    /// `source.principal`.
    pub principal: String,
    pub trust_domain: String,
    /// Empty where the id names none.
    pub namespace: String,
    /// Empty where the id names none.
    pub service_account: String,
}

impl PeerIdentity {
    /// Reads a SPIFFE id: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, or one with another
    /// path, which then names no namespace and no account. Anything else is none.
    pub fn from_spiffe(uri: &str) -> Option<Self> {
        let principal = uri.strip_prefix("spiffe://")?;
        let (trust_domain, path) = principal.split_once('/').unwrap_or((principal, ""));
        if trust_domain.is_empty() {
            return None;
        }
        let mut parts = path.split('/');
        let parts = [
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ];
        let (namespace, account) = match parts {
            [Some("ns"), Some(namespace), Some("sa"), Some(account), None] => (namespace, account),
            _ => ("", ""),
        };
        Some(Self {
            principal: principal.to_string(),
            trust_domain: trust_domain.to_string(),
            namespace: namespace.to_string(),
            service_account: account.to_string(),
        })
    }
}
