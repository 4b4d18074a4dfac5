//! What a policy may ask about a request or a connection.

use std::net::{IpAddr, SocketAddr};

use crate::authenticate::Claims;
use crate::snapshot::{ConnectionFacts, Direction, HeaderLookup, RequestFacts};

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

/// Where a request comes from (`remote.ip`): at the edge the peer, inside whoever the peer names
/// last in `x-forwarded-for`.
pub fn client_address(connection: &ConnectionFacts, headers: &dyn HeaderLookup) -> Option<IpAddr> {
    let peer = connection.peer.map(|address| address.ip());
    if connection.direction == Direction::Gateway {
        return peer;
    }
    let mut last = None;
    headers.visit("x-forwarded-for", &mut |value| {
        let text = std::str::from_utf8(value).unwrap_or_default();
        last = text.rsplit(',').next().map(|text| text.trim().parse().ok());
    });
    last.flatten().or(peer)
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
