//! What a policy may ask about a request or a connection.

use std::net::{IpAddr, SocketAddr};

use crate::authenticate::Claims;
use crate::snapshot::{ConnectionFacts, RequestFacts};

/// What is known when access is decided.
#[derive(Clone, Copy)]
pub struct AccessFacts<'a> {
    pub connection: &'a ConnectionFacts,
    /// The request as routing sees it; `None` for a TCP connection.
    pub request: Option<&'a RequestFacts<'a>>,
    /// The address that the request comes from, by `x-forwarded-for` (`remote.ip`); without a
    /// request, that of the connection.
    pub client: Option<IpAddr>,
}

impl<'a> AccessFacts<'a> {
    /// The facts of a connection that is no HTTP.
    pub fn of_connection(connection: &'a ConnectionFacts) -> Self {
        Self {
            connection,
            request: None,
            client: connection.peer.map(|address| address.ip()),
        }
    }

    /// What the verified token says.
    #[inline]
    pub fn claims(&self) -> Option<&'a Claims> {
        self.request.and_then(|request| request.claims)
    }

    /// The address that the connection comes from (`source.ip`).
    #[inline]
    pub fn peer(&self) -> Option<IpAddr> {
        self.connection.peer.map(|address| address.ip())
    }

    /// Where the connection was made to.
    #[inline]
    pub fn destination(&self) -> Option<SocketAddr> {
        self.connection.destination
    }

    /// The name that a TLS client asked for; empty where there is none, as Envoy has it.
    #[inline]
    pub fn server_name(&self) -> &'a str {
        self.connection.server_name.as_deref().unwrap_or_default()
    }

    /// The verified identity of the peer, without `spiffe://`.
    #[inline]
    pub fn principal(&self) -> Option<&'a str> {
        let identity = self.connection.identity.as_deref();
        identity.map(|identity| identity.principal.as_str())
    }
}
