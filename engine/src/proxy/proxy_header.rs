//! PROXY protocol: whom a connection really comes from, as a proxy in front says at its start, and
//! saying so to upstreams. Istio: `gatewayTopology.proxyProtocol`, `trafficPolicy.proxyProtocol`.

use super::accept::receive_more;
use super::connection::Connection;
use crate::worker::Rules;
use ringroad_codec::proxy_protocol::{
    ProxyAddresses, parse_proxy_header, write_proxy_v1, write_proxy_v2,
};
use ringroad_policy::snapshot::{ConnectionFacts, Direction, ProxyVersion};
use std::cell::OnceCell;
use std::rc::Rc;

/// Whether connections of this listener begin with a header.
pub fn is_expected(rules: &Rules) -> bool {
    let settings = &rules.view.snapshot.settings;
    settings.takes_proxy_protocol && rules.listener().direction == Direction::Gateway
}

/// Takes the header off, within the deadline that is set. From here on the connection comes from
/// whom it names. False: there is none, or it is no header, and the connection is over.
pub async fn take(connection: &mut Connection) -> bool {
    let addresses = loop {
        match parse_proxy_header(&connection.unread) {
            Ok(Some(header)) => {
                connection.unread.advance(header.len);
                break header.addresses;
            }
            Ok(None) => {}
            Err(_) => {
                let stats = &connection.listener.stats;
                stats.downstream_cx_proxy_protocol_error.add(1);
                connection.stream.reset_on_close();
                return false;
            }
        }
        if !receive_more(connection).await {
            return false;
        }
    };
    if let Some(ProxyAddresses {
        source,
        destination,
    }) = addresses
    {
        connection.peer = source;
        connection.facts = OnceCell::from(Rc::new(ConnectionFacts {
            direction: Direction::Gateway,
            peer: Some(source),
            destination: Some(destination),
            ..ConnectionFacts::default()
        }));
    }
    true
}

/// The header that tells an upstream of `client`; without one we speak for ourselves.
pub fn written(version: ProxyVersion, client: Option<&Connection>) -> Vec<u8> {
    let addresses = client.and_then(|client| {
        Some(ProxyAddresses {
            source: client.peer,
            destination: client.local_addr()?,
        })
    });
    let mut out = Vec::new();
    match version {
        ProxyVersion::V1 => write_proxy_v1(&mut out, addresses.as_ref()),
        ProxyVersion::V2 => write_proxy_v2(&mut out, addresses.as_ref()),
    }
    out
}
