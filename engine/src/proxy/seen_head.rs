//! A request head, and what the proxy makes of its headers before anybody looks at them.

use super::accept::ChosenChain;
use super::client_cert::forwarded_cert;
use super::connection::Connection;
use super::request_head::write_ip;
use super::request_id::RequestId;
use super::target::scheme;
use crate::worker::Rules;
use ringroad_codec::http1::{HeaderKind, HeaderSpan, RequestHead, Upgrade};
use ringroad_policy::snapshot::{Direction, ForwardedCert, HeaderLookup, SeenHeaders};
use std::net::IpAddr;
use std::ops::Range;

/// A head as it came, and all that decides what everybody behind the door sees of it. As a lookup
/// it gives the headers that routes and policies go by, which are those that upstreams get but for
/// the edits of the route.
#[derive(Clone, Copy)]
pub struct SeenHead<'a> {
    pub head: &'a RequestHead,
    /// The bytes that `head` was parsed from.
    pub bytes: &'a [u8],
    pub direction: Direction,
    pub peer: IpAddr,
    /// What the client speaks: `http` or `https`.
    pub scheme: &'static str,
    pub client_cert: ForwardedCert<'a>,
    /// The id that the proxy gives the request, if it does.
    pub request_id: &'a RequestId,
}

impl<'a> SeenHead<'a> {
    pub fn of(
        connection: &Connection,
        rules: &Rules,
        chain: Option<&'a ChosenChain>,
        (head, bytes): (&'a RequestHead, &'a [u8]),
        request_id: &'a RequestId,
    ) -> Self {
        Self {
            head,
            bytes,
            direction: rules.listener().direction,
            peer: connection.peer.ip(),
            scheme: connection.facts.get().map_or("http", |facts| scheme(facts)),
            client_cert: forwarded_cert(rules, chain),
            request_id,
        }
    }

    pub fn method(&self) -> &'a [u8] {
        self.head.method.of(self.bytes)
    }

    pub fn is_edge(&self) -> bool {
        self.direction == Direction::Gateway
    }

    /// Appends the addresses that came in `X-Forwarded-For`, and at a gateway the peer's. Where the
    /// peer's stands in `out`.
    pub fn write_forwarded_for(&self, out: &mut Vec<u8>) -> Range<usize> {
        let start = out.len();
        let came = |header: &&HeaderSpan| header.kind == HeaderKind::XForwardedFor;
        for header in self.head.headers.iter().filter(came) {
            if out.len() > start {
                out.push(b',');
            }
            out.extend_from_slice(header.value.of(self.bytes));
        }
        let mut peer_starts = out.len();
        if self.is_edge() {
            if out.len() > start {
                out.push(b',');
            }
            peer_starts = out.len();
            write_ip(self.peer, out);
        }
        peer_starts..out.len()
    }

    /// Appends the line of the client's certificate, which takes the place of those that came;
    /// nothing when the proxy tells of none.
    pub fn write_client_cert(&self, out: &mut Vec<u8>) {
        let ForwardedCert { keeps, adds } = self.client_cert;
        let Some(element) = adds else { return };
        out.extend_from_slice(b"x-forwarded-client-cert: ");
        let came = |header: &&HeaderSpan| keeps && header.kind == HeaderKind::XForwardedClientCert;
        for header in self.head.headers.iter().filter(came) {
            out.extend_from_slice(header.value.of(self.bytes));
            out.push(b',');
        }
        out.extend_from_slice(element.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

impl HeaderLookup for SeenHead<'_> {
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        SeenHeaders {
            came: &Came(self),
            direction: self.direction,
            scheme: self.scheme,
            peer: Some(self.peer),
            client_cert: self.client_cert,
            request_id: self.request_id.get(),
            is_upgrade: matches!(self.head.upgrade, Upgrade::WebSocket | Upgrade::Other),
        }
        .visit(name, each);
    }
}

/// The headers as they came, but for those that `Connection` names.
struct Came<'a>(&'a SeenHead<'a>);

impl HeaderLookup for Came<'_> {
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let SeenHead { head, bytes, .. } = self.0;
        head.headers(bytes).visit(name, each);
    }
}
