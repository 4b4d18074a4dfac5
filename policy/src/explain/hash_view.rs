//! Where the key of one request leads, as it goes upstream.

use super::client_element;
use super::effects::{Setting, setting};
use super::places::Written;
use crate::snapshot::{
    Cluster, ConnectionFacts, Destination, Direction, FormatContext, HashKey, HashPolicy,
    HeaderLevels, HeaderLookup, Operator, RequestFacts, RequestLine, RequestValues, Route, Target,
    UpstreamHeaders,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What goes to a destination.
#[derive(Clone, Copy)]
pub(super) enum Carried<'a> {
    Request {
        route: &'a Route,
        facts: &'a RequestFacts<'a>,
        /// `%PROTOCOL%`.
        protocol: &'static str,
    },
    /// Of which nothing but the connection can be asked.
    Bytes(&'a ConnectionFacts),
}

/// Stands before and behind the name of a value that only the running proxy knows. No header has
/// such a byte.
const UNKNOWN: u8 = 0;

/// The endpoint, or why it cannot be told.
pub(super) fn endpoint_of_key(
    carried: Carried<'_>,
    destination: &Destination,
    cluster: &Cluster,
    written: Option<Written>,
) -> Option<Setting> {
    let policy = cluster.hash_policy.as_ref()?;
    if !cluster.balancer.is_hashing() {
        return None;
    }
    let key = match carried {
        Carried::Request {
            route,
            facts,
            protocol,
        } => key_of_request(policy, destination, cluster, route, facts, protocol),
        Carried::Bytes(connection) => match (policy, connection.peer) {
            (HashPolicy::SourceIp, None) => Err(CLIENT_ADDRESS.to_string()),
            _ => Ok(policy.key_of_connection(connection.peer)),
        },
    };
    let value = match key {
        Err(part) => format!("known only when it comes, since it is by {part}"),
        Ok(HashKey {
            made_cookie: Some(_),
            ..
        }) => "the request has no cookie: one is made, and leads anywhere".to_string(),
        Ok(HashKey { hash: None, .. }) => "the request has no key: drawn".to_string(),
        Ok(HashKey {
            hash: Some(hash), ..
        }) => {
            let at = cluster.endpoint_of_hash(hash)?;
            let address = &cluster.endpoints[at].address;
            format!("{address}, while it is available")
        }
    };
    Some(setting("endpoint of key", value, written))
}

/// # Errors
///
/// What of the key only the running proxy knows.
fn key_of_request(
    policy: &HashPolicy,
    destination: &Destination,
    cluster: &Cluster,
    route: &Route,
    facts: &RequestFacts<'_>,
    protocol: &'static str,
) -> Result<HashKey, String> {
    let connection = facts.connection;
    let mut rewritten = Vec::new();
    let is_rewritten = route.rewrite_path(facts.path, &mut rewritten);
    let host = route.host_rewrite_of(destination);
    let path = facts.path.as_bytes();
    let seen = Foreseen {
        seen: facts.headers,
        connection,
    };
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let local = || connection.destination;
    let values = || RequestValues {
        head: Some(RequestLine {
            method: facts.method.as_bytes(),
            scheme: facts.scheme,
            direction: connection.direction,
            headers: &seen,
        }),
        target: Target {
            path: if is_rewritten { &rewritten } else { path },
            query: facts.query,
            authority: host.unwrap_or(facts.authority),
            original_path: is_rewritten.then_some(path),
            original_authority: host.map(|_| facts.authority),
        },
        peer: connection.peer.unwrap_or(nowhere),
        local: &local,
        server_name: connection.server_name.as_deref().unwrap_or_default(),
        cluster: &cluster.name,
        route: &route.name,
        is_answered: false,
    };
    let headers = UpstreamHeaders {
        values: values(),
        edits: HeaderLevels::new(&destination.request_headers, &route.request_headers),
        format: &Foretold {
            values: values(),
            connection,
            protocol,
        },
    };
    match unknown_part(policy, &headers, connection) {
        Some(part) => Err(part),
        None => Ok(policy.key(&headers, facts.query, connection.peer, local)),
    }
}

/// What of the key only the running proxy knows, in words.
fn unknown_part(
    policy: &HashPolicy,
    headers: &dyn HeaderLookup,
    connection: &ConnectionFacts,
) -> Option<String> {
    let name = match policy {
        HashPolicy::Header(name) => name,
        HashPolicy::Cookie(_) => "cookie",
        HashPolicy::QueryParameter(_) => return None,
        HashPolicy::SourceIp if connection.peer.is_some() => return None,
        HashPolicy::SourceIp => return Some(CLIENT_ADDRESS.to_string()),
    };
    let mut found = None;
    headers.visit(name, &mut |value| {
        let mut parts = value.split(|byte| *byte == UNKNOWN);
        if let (None, Some(_), Some(part)) = (&found, parts.next(), parts.next()) {
            // One of which a length leaves a part has no end.
            let is_whole = parts.next().is_some();
            let part = String::from_utf8_lossy(part).into_owned();
            found = Some(if is_whole {
                part
            } else {
                "its time".to_string()
            });
        }
    });
    found
}

const CLIENT_ADDRESS: &str = "the address of the client, which is not given (`--source-ip`)";

fn mark(part: &str, out: &mut Vec<u8>) {
    out.push(UNKNOWN);
    out.extend_from_slice(part.as_bytes());
    out.push(UNKNOWN);
}

/// The headers that come, with marks for what only the running proxy knows of them.
struct Foreseen<'a> {
    seen: &'a dyn HeaderLookup,
    connection: &'a ConnectionFacts,
}

impl HeaderLookup for Foreseen<'_> {
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let is_edge = self.connection.direction == Direction::Gateway;
        let unknown = match name {
            "x-request-id" => {
                let mut came = false;
                self.seen.visit(name, &mut |_| came = true);
                (is_edge || !came).then_some("`x-request-id`, which the proxy makes")
            }
            "x-forwarded-for" | "x-envoy-external-address" => {
                let is_unknown = is_edge && self.connection.peer.is_none();
                is_unknown.then_some(CLIENT_ADDRESS)
            }
            "x-forwarded-client-cert" => {
                // The proxy tells more of a certificate than who it is of.
                let element = client_element(self.connection).unwrap_or_default();
                let mut is_told = false;
                self.seen.visit(name, &mut |value| {
                    is_told |= !element.is_empty() && value.ends_with(element.as_bytes());
                });
                is_told.then_some("the certificate of the client")
            }
            _ => None,
        };
        match unknown {
            None => self.seen.visit(name, each),
            Some(part) => {
                let mut value = Vec::new();
                mark(part, &mut value);
                each(&value);
            }
        }
    }
}

/// Values of configured headers before the request is there.
struct Foretold<'a> {
    values: RequestValues<'a>,
    connection: &'a ConnectionFacts,
    protocol: &'static str,
}

impl Foretold<'_> {
    /// Whether it is told by a part of an address that nobody has given.
    fn is_by_unknown_address(&self, operator: &str) -> bool {
        let connection = self.connection;
        let here = connection.destination.map(|address| address.ip());
        let is_unknown_here = connection.is_redirected || here.is_none_or(|ip| ip.is_unspecified());
        match operator {
            // A client takes any port.
            "DOWNSTREAM_REMOTE_ADDRESS"
            | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS"
            | "DOWNSTREAM_REMOTE_PORT"
            | "DOWNSTREAM_DIRECT_REMOTE_PORT" => true,
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
            | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => connection.peer.is_none(),
            "DOWNSTREAM_LOCAL_ADDRESS" | "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => is_unknown_here,
            "DOWNSTREAM_LOCAL_PORT" => connection.is_redirected,
            _ => false,
        }
    }
}

impl FormatContext for Foretold<'_> {
    fn render(&self, operator: &Operator, out: &mut Vec<u8>) -> bool {
        let name = operator.name.as_str();
        if !self.is_by_unknown_address(name) {
            if let Some(found) = self.values.write(operator, out) {
                return found;
            }
            if name == "PROTOCOL" {
                out.extend_from_slice(self.protocol.as_bytes());
                return true;
            }
            if !operator.has_value() {
                return false;
            }
        }
        mark(&format!("`%{name}%`"), out);
        true
    }

    fn response_has(&self, _: &str) -> bool {
        false
    }
}
