//! From a connection to what takes its bytes: listener, chain, and why there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Explanation, Request};
use crate::settings::InterceptionMode;
use crate::snapshot::{
    ChainHandler, ChainMismatch, ConnectionFacts, Direction, Doors, DownstreamTlsMode, FilterChain,
    FilterChains, Listener, ListenerKind, PeerIdentity, RouteTable, Snapshot, TcpRoute,
    without_port,
};

/// What the connection brings that a request comes on.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// Which door of a sidecar it comes to; `None` is its listener on loopback, where that does.
    pub direction: Option<Direction>,
    /// Where it comes from.
    pub source: Option<IpAddr>,
    /// Where the client had addressed it.
    pub address: Option<IpAddr>,
    pub protocol: WireProtocol,
    pub security: Security,
    /// `None` is the host of the request, for TLS that is not of the mesh.
    pub server_name: Option<String>,
    /// Empty is what such a client usually offers.
    pub application_protocols: Vec<String>,
    /// Of a verified client certificate.
    pub identity: Option<PeerIdentity>,
    pub source_labels: BTreeMap<String, String>,
}

/// What the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WireProtocol {
    #[default]
    Http,
    Http2,
    /// Not HTTP.
    Tcp,
}

/// How they are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    #[default]
    Plain,
    Tls,
    /// TLS as one sidecar speaks it to another.
    MeshTls,
}

/// Why nothing takes a connection or request. The names are those that Istio's simulation of a
/// proxy has for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub kind: &'static str,
    pub reason: String,
}

pub(super) fn failure(kind: &'static str, reason: impl Into<String>) -> Failure {
    let reason = reason.into();
    Failure { kind, reason }
}

/// What takes the bytes.
pub(super) enum Reached<'s> {
    Http(&'s RouteTable),
    Tcp(&'s TcpRoute),
}

impl Connection {
    /// As the matchers see it.
    pub(super) fn facts(&self, request: &Request, destination: SocketAddr) -> ConnectionFacts {
        let offered: &[&str] = match (self.security, self.protocol) {
            (Security::MeshTls, WireProtocol::Http) => &["istio-http/1.1"],
            (Security::MeshTls, WireProtocol::Http2) => &["istio-h2"],
            (Security::MeshTls, WireProtocol::Tcp) => &["istio"],
            (Security::Tls, WireProtocol::Http2) => &["h2"],
            (Security::Tls | Security::Plain, WireProtocol::Http) => &["http/1.1"],
            (Security::Plain, WireProtocol::Http2) => &["h2c"],
            (Security::Tls | Security::Plain, WireProtocol::Tcp) => &[],
        };
        let written = self.application_protocols.iter().map(String::as_str);
        let offered: Vec<Box<str>> = if self.application_protocols.is_empty() {
            offered.iter().map(|name| (*name).into()).collect()
        } else {
            written.map(Into::into).collect()
        };
        let host = || {
            let host = without_port(&request.authority);
            (self.security == Security::Tls && host.parse::<IpAddr>().is_err() && !host.is_empty())
                .then(|| host.to_string())
        };
        let name = self.server_name.clone().or_else(host);
        ConnectionFacts {
            direction: self.direction.unwrap_or_default(),
            peer: self.source.map(|ip| SocketAddr::new(ip, 0)),
            destination: Some(destination),
            is_redirected: false,
            is_tls: self.security != Security::Plain,
            server_name: name
                .filter(|_| self.security != Security::Plain)
                .map(|name| name.to_ascii_lowercase().into()),
            application_protocols: offered,
            identity: self.identity.clone().map(Box::new),
            own_id: None,
            source_labels: self.source_labels.clone(),
        }
    }

    /// Whether it says more than a listener of plain HTTP on loopback could be told.
    fn is_redirected(&self) -> bool {
        self.direction == Some(Direction::Outbound)
            || self.address.is_some()
            || self.security != Security::Plain
            || self.protocol == WireProtocol::Tcp
    }
}

/// Follows a connection as far as to what takes its bytes, and notes the way.
pub(super) fn reach<'s>(
    snapshot: &'s Snapshot,
    request: &Request,
    gateway: Option<&str>,
    explanation: &mut Explanation,
) -> Result<(Reached<'s>, ConnectionFacts), Failure> {
    let connection = &request.connection;
    let port = request.port.unwrap_or(match connection.security {
        Security::Plain => 80,
        Security::Tls | Security::MeshTls => 443,
    });
    let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let destination = SocketAddr::new(connection.address.unwrap_or(unspecified), port);
    let mut facts = connection.facts(request, destination);
    let found = match &snapshot.doors {
        Some(doors) if connection.direction == Some(Direction::Inbound) => {
            if connection.address.is_none() {
                let own = snapshot.settings.workload.addresses.first();
                let own = own.copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
                facts.destination = Some(SocketAddr::new(own, port));
            }
            facts.is_redirected = true;
            Ok(inbound(snapshot, doors, port))
        }
        Some(doors) if connection.is_redirected() => {
            facts.direction = Direction::Outbound;
            facts.is_redirected = true;
            Ok(outbound(doors, destination))
        }
        _ => find_listener(snapshot, request, port, gateway).map(|(listener, note)| {
            explanation.listener_note = note;
            facts.direction = listener.direction;
            if connection.address.is_none() {
                facts.destination = Some(SocketAddr::new(
                    listener.address.ip(),
                    listener.address.port(),
                ));
            }
            (listener, chains_of(listener))
        }),
    };
    let (listener, chains) = found.map_err(|reason| failure("ErrNoListener", reason))?;
    explanation.listener = Some(listener.name.clone());
    explanation.listener_address = Some(listener.address.to_string());
    let is_bound = |known: &Listener| known.name == listener.name;
    let is_redirected = snapshot.settings.interception.mode == InterceptionMode::Redirect;
    if !is_redirected && !snapshot.listeners.iter().any(|known| is_bound(known)) {
        let note = "not bound: `interception` in ProxySettings is off; with mode REDIRECT it would be \
                    as follows";
        explanation.listener_note = Some(note.to_string());
    }
    let Some(chains) = chains else {
        // Plain HTTP and nothing else.
        let ListenerKind::Http(table) = &listener.kind else {
            return Err(failure("ErrNoFilterChain", "nothing is served there"));
        };
        explanation.route_config = Some(table.name.clone());
        requests_only(connection, false)?;
        return Ok((Reached::Http(table), facts));
    };
    let chain = chains.choose(&facts).map_err(|mismatch| match mismatch {
        ChainMismatch::None => failure(
            "ErrNoFilterChain",
            "no filter chain takes such a connection: it is closed",
        ),
        ChainMismatch::Several => failure(
            "ErrMultipleFilterChain",
            "several filter chains ask for such a connection: it is closed",
        ),
    })?;
    explanation.filter_chain = Some(chain.name.clone());
    check_security(connection, chain)?;
    match &chain.handler {
        ChainHandler::Http(table) => {
            explanation.route_config = Some(table.name.clone());
            requests_only(connection, chain.tls.is_some())?;
            Ok((Reached::Http(table), facts))
        }
        ChainHandler::Tcp(route) => Ok((Reached::Tcp(route), facts)),
    }
}

/// Whether the client speaks TLS as the chain ends it.
fn check_security(connection: &Connection, chain: &FilterChain) -> Result<(), Failure> {
    let Some(tls) = &chain.tls else { return Ok(()) };
    if connection.security == Security::Plain {
        let reason = "the chain ends TLS and the connection is plain text: it is closed";
        return Err(failure("ErrTLSError", reason));
    }
    let wants_mesh = tls.mode == DownstreamTlsMode::IstioMutual;
    match (wants_mesh, connection.security == Security::MeshTls) {
        (true, false) => Err(failure(
            "ErrMTLSError",
            "the chain asks for a certificate of the mesh: the handshake fails",
        )),
        (false, true) => Err(failure(
            "ErrMTLSError",
            "the certificate of the chain is not of the mesh: the client gives up",
        )),
        _ => Ok(()),
    }
}

fn requests_only(connection: &Connection, ends_tls: bool) -> Result<(), Failure> {
    if connection.security != Security::Plain && !ends_tls {
        let reason = "TLS comes where plain HTTP is expected: the connection is closed";
        return Err(failure("ErrProtocolError", reason));
    }
    if connection.protocol == WireProtocol::Tcp {
        let reason = "bytes that are not HTTP come where requests are expected: the connection is \
                      closed";
        return Err(failure("ErrProtocolError", reason));
    }
    Ok(())
}

type Found<'s> = (&'s Listener, Option<&'s FilterChains>);

fn chains_of(listener: &Listener) -> Option<&FilterChains> {
    match &listener.kind {
        ListenerKind::Chains(chains) => Some(chains),
        ListenerKind::Http(_) | ListenerKind::Intercepted(_) => None,
    }
}

/// A listener that a Sidecar has bound to the port, else the door.
fn inbound<'s>(snapshot: &'s Snapshot, doors: &'s Doors, port: u16) -> Found<'s> {
    let mut listeners = snapshot.listeners.iter();
    let bound = listeners.find(|listener| {
        listener.direction == Direction::Inbound && listener.address.port() == port
    });
    let listener = bound.unwrap_or(&doors.inbound);
    (listener, chains_of(listener))
}

fn outbound(doors: &Doors, destination: SocketAddr) -> Found<'_> {
    let ListenerKind::Intercepted(interception) = &doors.outbound.kind else {
        return (&doors.outbound, chains_of(&doors.outbound));
    };
    match interception.listener(destination) {
        Some(listener) => (listener, chains_of(listener)),
        None => (&doors.outbound, Some(&interception.fallback)),
    }
}

/// The listener that a client reaches; by port, and by gateway if one is named. Where it is not
/// the one of the port, also why.
fn find_listener<'s>(
    snapshot: &'s Snapshot,
    request: &Request,
    port: u16,
    gateway: Option<&str>,
) -> Result<(&'s Listener, Option<String>), String> {
    let named = |listener: &&'s Listener| {
        listener.direction != Direction::Inbound
            && !matches!(listener.kind, ListenerKind::Intercepted(_))
            && gateway.is_none_or(|name| listener.gateways.iter().any(|known| known == name))
    };
    let listeners = || snapshot.listeners.iter().map(AsRef::as_ref).filter(named);
    let at = |listener: &&Listener| {
        let ip = listener.address.ip();
        request.connection.address.is_none_or(|asked| ip == asked)
    };
    let here = || listeners().filter(|listener| listener.address.port() == port);
    if let Some(found) = here().find(at).or_else(|| here().next()) {
        return Ok((found, None));
    }
    let all: Vec<&Listener> = listeners().collect();
    // Whoever leaves out the port, or names the gateway, need not know what it listens on.
    let means = match request.port {
        Some(_) => "",
        None => ", which a URL without a port means",
    };
    if let ([only], true) = (all.as_slice(), request.port.is_none() || gateway.is_some()) {
        let of = gateway.map_or(String::new(), |name| format!(" of gateway `{name}`"));
        let note = format!("the only listener{of}, though not on port {port}{means}");
        return Ok((only, Some(note)));
    }
    let known: Vec<String> = all
        .iter()
        .map(|listener| listener.address.to_string())
        .collect();
    let of = gateway
        .map(|name| format!(" of gateway `{name}`"))
        .unwrap_or_default();
    Err(match known.as_slice() {
        [] => match gateway {
            Some(name) => no_such_gateway(snapshot, name),
            None => "no listener".to_string(),
        },
        known => format!(
            "no listener{of} on port {port}{means}; there are {}",
            known.join(", ")
        ),
    })
}

/// Most often the namespace was left out, or the name has a typo.
fn no_such_gateway(snapshot: &Snapshot, name: &str) -> String {
    let form = if name.contains('/') {
        ""
    } else {
        ": write NS/NAME"
    };
    let listeners = snapshot.listeners.iter();
    let names = listeners.flat_map(|listener| listener.gateways.iter().map(AsRef::as_ref));
    let known: BTreeSet<&str> = names.collect();
    let there_are = match known.len() {
        0 => "no listener belongs to a gateway".to_string(),
        _ => format!("there are {}", Vec::from_iter(known).join(", ")),
    };
    format!("no listener of gateway `{name}`{form}; {there_are}")
}
