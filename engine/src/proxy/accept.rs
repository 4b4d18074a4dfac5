//! What a new connection carries, and who serves it: the chain that suits it, its TLS, its
//! protocol.

use super::client_cert;
use super::connection::{Connection, deadline_after, wait_for_bytes};
use super::deadline::until;
use super::proxy_header;
use super::tunnel::carry;
use super::tunnel_record::TunnelRecord;
use crate::http2::PREFACE_START;
use crate::rt::{Chunk, Deadline};
use crate::tls::{PeerCertificate, spiffe_id};
use crate::transport::{HandshakeError, TlsStream, Transport};
use crate::worker::Rules;
use ringroad_codec::sniff::{self, MAX_CLIENT_HELLO_BYTES, Sniff};
use ringroad_policy::snapshot::{
    ChainHandler, ConnectionFacts, DownstreamTls, FilterChain, FilterChains, ListenerKind,
    RouteTable, TcpRoute,
};
use rustls::server::UnbufferedServerConnection;
use std::cell::OnceCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// What a connection's chain was chosen by, and for.
pub struct ChosenChain {
    pub facts: Rc<ConnectionFacts>,
    /// What upstreams may be told of the client's certificate.
    client_cert: Option<Rc<str>>,
    /// Of the snapshot that it was chosen in.
    generation: u64,
    table: Option<Arc<RouteTable>>,
}

impl ChosenChain {
    /// The routes for the connection's requests.
    pub fn table(&self) -> Option<&RouteTable> {
        self.table.as_deref()
    }

    /// The element of `x-forwarded-client-cert` that tells of the client; none without a
    /// certificate.
    pub fn client_cert(&self) -> Option<&str> {
        self.client_cert.as_deref()
    }
}

impl Connection {
    /// Its requests are routed by `table`.
    fn choose(
        &mut self,
        facts: ConnectionFacts,
        client_cert: Option<Rc<str>>,
        rules: &Rules,
        table: &Arc<RouteTable>,
    ) {
        let facts = Rc::new(facts);
        self.facts = OnceCell::from(facts.clone());
        self.chain = Some(Rc::new(ChosenChain {
            facts,
            client_cert,
            generation: rules.view.generation,
            table: Some(table.clone()),
        }));
    }
}

/// A connection that has begun.
pub enum Begun {
    Http1(Box<Connection>),
    Http2(Box<Connection>),
    /// It is over, or was carried to its end.
    Over,
}

/// Finds out what a connection is for. Plain HTTP listeners ask for its first bytes only.
pub async fn begin(connection: Box<Connection>) -> Begun {
    let worker = connection.worker.clone();
    let Some(rules) = worker.rules(&connection.listener) else {
        return Begun::Over;
    };
    let patience_ms = worker.limits().settings.request_head_timeout_ms;
    let deadline = deadline_after(connection.accepted_at, patience_ms);
    connection.deadline.set(deadline);
    let mut connection = connection;
    if proxy_header::is_expected(&rules) && !proxy_header::take(&mut connection).await {
        return Begun::Over;
    }
    match &rules.listener().kind {
        ListenerKind::Http(_) => by_first_bytes(connection).await,
        ListenerKind::Chains(_) | ListenerKind::Intercepted(_) => {
            by_chain(connection, &rules).await
        }
    }
}

/// Whether a chain has to be chosen before anything of the client is known.
pub fn needs_chain(connection: &Connection) -> bool {
    let rules = connection.worker.rules(&connection.listener);
    rules.is_some_and(|rules| !matches!(rules.listener().kind, ListenerKind::Http(_)))
}

/// The chain of a connection in the snapshot of `rules`: the one it has, or, after a reload,
/// another.
pub fn chain_for(connection: &mut Connection, rules: &Rules) -> Option<Rc<ChosenChain>> {
    let chosen = connection.chain.clone()?;
    if chosen.generation == rules.view.generation {
        return Some(chosen);
    }
    let chain = chains_for(rules, &chosen.facts)?.choose(&chosen.facts).ok();
    let table = chain.and_then(|chain| match &chain.handler {
        ChainHandler::Http(table) => Some(table.clone()),
        ChainHandler::Tcp(_) => None,
    });
    let chosen = Rc::new(ChosenChain {
        facts: chosen.facts.clone(),
        client_cert: chosen.client_cert.clone(),
        generation: rules.view.generation,
        table,
    });
    connection.chain = Some(chosen.clone());
    Some(chosen)
}

/// The chains that a connection chooses from.
fn chains_for<'r>(rules: &'r Rules, facts: &ConnectionFacts) -> Option<&'r FilterChains> {
    match &rules.listener().kind {
        ListenerKind::Http(_) => None,
        ListenerKind::Chains(chains) => Some(chains),
        ListenerKind::Intercepted(outbound) => {
            let inner = facts.destination.and_then(|to| outbound.listener(to));
            match inner.map(|listener| &listener.kind) {
                Some(ListenerKind::Chains(chains)) => Some(chains),
                Some(ListenerKind::Http(_) | ListenerKind::Intercepted(_)) => None,
                None => Some(&outbound.fallback),
            }
        }
    }
}

async fn by_first_bytes(mut connection: Box<Connection>) -> Begun {
    if connection.unread.is_empty() {
        if !wait_for_bytes(&connection).await {
            return Begun::Over;
        }
        let patience_ms = connection.worker.limits().settings.request_head_timeout_ms;
        let deadline = deadline_after(connection.accepted_at, patience_ms);
        connection.deadline.set(deadline);
    }
    match speaks_http2(&mut connection).await {
        true => Begun::Http2(connection),
        false => Begun::Http1(connection),
    }
}

async fn by_chain(mut connection: Box<Connection>, rules: &Rules) -> Begun {
    let listener = rules.listener();
    let mut facts = ConnectionFacts {
        direction: listener.direction,
        peer: Some(connection.peer),
        ..ConnectionFacts::default()
    };
    facts.destination = connection.stream.local_addr().ok();
    if rules.view.snapshot.is_door(listener)
        && let Transport::Plain(socket) = &connection.stream
        && let Some(original) = socket.original_destination()
    {
        facts.is_redirected = facts.destination != Some(original);
        facts.destination = Some(original);
    }
    if let Some(named) = connection.facts.get() {
        facts.destination = named.destination;
    }
    let inner = match &listener.kind {
        ListenerKind::Intercepted(outbound) => {
            facts.destination.and_then(|to| outbound.listener(to))
        }
        _ => None,
    };
    if let Some(ListenerKind::Http(table)) = inner.map(|inner| &inner.kind) {
        connection.choose(facts, None, rules, table);
        return by_first_bytes(connection).await;
    }
    let Some(chains) = chains_for(rules, &facts) else {
        return Begun::Over;
    };
    let port = facts.destination_port();
    let looks_at_tls = chains.inspects_tls(port);
    if looks_at_tls || chains.inspects_http(port) {
        // Bytes that are carried as they are may begin with those of the server.
        let of_silent = chains.choose(&facts).ok();
        let may_be_silent =
            of_silent.is_some_and(|chain| matches!(chain.handler, ChainHandler::Tcp(_)));
        let patience_ms = rules.view.snapshot.settings.protocol_detection_timeout_ms;
        let silent_until = match may_be_silent {
            true => deadline_after(connection.accepted_at, patience_ms),
            false => None,
        };
        if !look_at_first_bytes(&mut connection, &mut facts, silent_until).await {
            return Begun::Over;
        }
    }
    let stats = connection.listener.stats.clone();
    let Ok(chain) = chains.choose(&facts) else {
        stats.no_filter_chain_match.add(1);
        TunnelRecord::log_unmatched(&connection, rules, &facts);
        connection.stream.reset_on_close();
        return Begun::Over;
    };
    let mut client = TlsClient::default();
    if let Some(tls) = &chain.tls {
        (connection, client) = match handshake(connection, rules, tls, &mut facts).await {
            Some(secured) => secured,
            None => return Begun::Over,
        };
    }
    serve_chain(connection, rules, chain, facts, client).await
}

/// What a handshake has told.
#[derive(Default)]
struct TlsClient {
    /// What ALPN has chosen.
    protocol: Option<Vec<u8>>,
    /// What upstreams may be told of its certificate.
    certificate: Option<Rc<str>>,
}

async fn serve_chain(
    mut connection: Box<Connection>,
    rules: &Rules,
    chain: &FilterChain,
    facts: ConnectionFacts,
    client: TlsClient,
) -> Begun {
    match &chain.handler {
        ChainHandler::Http(table) => {
            connection.choose(facts, client.certificate, rules, table);
            match client.protocol.as_deref() {
                Some(b"h2") => Begun::Http2(connection),
                _ => by_first_bytes(connection).await,
            }
        }
        ChainHandler::Tcp(route) => {
            let route: &TcpRoute = route;
            carry(&mut connection, rules, route, &facts).await;
            Begun::Over
        }
    }
}

/// Receives until it is clear what the client speaks, or until it has been silent for too long.
/// False: the connection is over.
async fn look_at_first_bytes(
    connection: &mut Connection,
    facts: &mut ConnectionFacts,
    silent_until: Option<Instant>,
) -> bool {
    if silent_until.is_some() && connection.unread.is_empty() {
        let silence = Deadline::new();
        silence.set(silent_until);
        let ready = poll_fn(|context| connection.stream.poll_ready(context));
        if until(&silence, ready).await.is_err() {
            return true;
        }
    }
    loop {
        match sniff::sniff(&connection.unread) {
            Sniff::Incomplete if connection.unread.len() <= MAX_CLIENT_HELLO_BYTES => {}
            Sniff::Incomplete | Sniff::Unknown => return true,
            Sniff::Tls(hello) => {
                facts.is_tls = true;
                let name = hello.server_name.as_deref();
                facts.server_name = name.map(|name| name.to_ascii_lowercase().into());
                let offered = hello.alpn.iter();
                facts.application_protocols = offered
                    .map(|name| String::from_utf8_lossy(name).into_owned().into())
                    .collect();
                return true;
            }
            Sniff::Http2 => {
                facts.application_protocols = vec!["h2c".into()];
                return true;
            }
            Sniff::Http1 => {
                facts.application_protocols = vec!["http/1.1".into()];
                return true;
            }
        }
        if !receive_more(connection).await {
            return false;
        }
    }
}

/// Receives the first bytes, and tells whether they are those of HTTP/2.
async fn speaks_http2(connection: &mut Connection) -> bool {
    while connection.unread.len() < PREFACE_START.len()
        && PREFACE_START.starts_with(&connection.unread)
    {
        if !receive_more(connection).await {
            return false;
        }
    }
    connection.unread.starts_with(PREFACE_START)
}

pub async fn receive_more(connection: &mut Connection) -> bool {
    let received = until(&connection.deadline, connection.stream.receive()).await;
    match received {
        Ok(Ok(more)) if !more.is_empty() => {
            connection.unread = match connection.unread.is_empty() {
                true => more,
                false => Chunk::copy_of(&[&*connection.unread, &*more].concat()),
            };
            true
        }
        Ok(_) => false,
        Err(_) => {
            connection
                .listener
                .stats
                .downstream_rq_header_timeout
                .add(1);
            false
        }
    }
}

/// Does the handshake of a chain.
async fn handshake(
    connection: Box<Connection>,
    rules: &Rules,
    tls: &DownstreamTls,
    facts: &mut ConnectionFacts,
) -> Option<(Box<Connection>, TlsClient)> {
    let mut connection = *connection;
    let stats = connection.listener.stats.clone();
    let contexts = connection.worker.fleet.tls.load();
    let context = contexts.server(tls).ok().cloned();
    drop(contexts);
    let session = context.as_ref().and_then(|context| {
        UnbufferedServerConnection::new(context.config_for(&facts.application_protocols)).ok()
    });
    let (Some(session), Transport::Plain(socket)) = (session, connection.stream) else {
        stats.ssl_no_certificate.add(1);
        return None;
    };
    let unread = std::mem::take(&mut connection.unread);
    let attempt = TlsStream::handshake(socket, session, unread);
    let (secured, terms) = match until(&connection.deadline, attempt).await {
        Ok(Ok(secured)) => secured,
        Ok(Err(failure)) => {
            match failure {
                HandshakeError::Tls(rustls::Error::InvalidCertificate(_)) => {
                    stats.ssl_fail_verify_error.add(1);
                }
                HandshakeError::Tls(rustls::Error::NoCertificatesPresented) => {
                    stats.ssl_fail_verify_no_cert.add(1);
                }
                HandshakeError::Tls(_) | HandshakeError::Socket(_) => {}
            }
            stats.ssl_connection_error.add(1);
            return None;
        }
        Err(_) => {
            stats.downstream_cx_transport_socket_connect_timeout.add(1);
            return None;
        }
    };
    stats.ssl_handshake.add(1);
    facts.is_tls = true;
    let certificates = terms.certificates.unwrap_or_default();
    let peer = certificates
        .first()
        .and_then(|leaf| PeerCertificate::read(leaf));
    let details = &rules
        .view
        .snapshot
        .settings
        .proxy_headers
        .client_cert_details;
    let own_uris = context.as_ref().map_or(&[][..], |known| &known.own_uris);
    let told = |peer| client_cert::element(own_uris, &certificates, peer, details);
    let client = TlsClient {
        protocol: terms.protocol,
        certificate: peer.as_ref().map(|peer| told(peer).into()),
    };
    facts.identity = peer.and_then(|peer| peer.identity()).map(Box::new);
    let own_id = facts.identity.as_ref().and_then(|_| spiffe_id(own_uris));
    facts.own_id = own_id.map(Box::from);
    let stream = Transport::Tls(Box::new(secured));
    let connection = Connection {
        stream,
        ..connection
    };
    Some((Box::new(connection), client))
}
