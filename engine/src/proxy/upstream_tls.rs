//! TLS to an endpoint.

use super::upstream::ConnectError;
use crate::rt::{Chunk, Stream};
use crate::tls::ClientContext;
use crate::transport::{HandshakeError, TlsStream, Transport};
use crate::worker::Worker;
use ringroad_policy::snapshot::{
    Cluster, EndpointAddress, UpstreamSni, UpstreamTls, UpstreamTlsMode,
};
use rustls::ClientConnection;

/// What is offered by ALPN for HTTP/1.1. A sidecar at the other end tells by it that this is HTTP
/// of the mesh.
const OFFERS_IN_MESH: &[&str] = &["istio-http/1.1", "istio", "http/1.1"];

/// The same for HTTP/2.
const OFFERS_HTTP2_IN_MESH: &[&str] = &["istio-h2", "istio", "h2"];

/// Does the handshake on a connection that has just been opened.
///
/// # Errors
/// There is no certificate to show or to trust, or the peers do not come to terms.
pub async fn secure(
    worker: &Worker,
    cluster: &Cluster,
    address: &EndpointAddress,
    tls: &UpstreamTls,
    socket: Stream,
    for_http2: bool,
) -> Result<Transport, ConnectError> {
    let refused = |why: &str| ConnectError::Tls(why.to_string());
    let host = match &tls.sni {
        UpstreamSni::Fixed(name) => name.as_str(),
        UpstreamSni::Host => cluster.service.host.as_str(),
    };
    let by_address = || match address {
        EndpointAddress::Socket(address) => ClientContext::server_name(&address.ip().to_string()),
        EndpointAddress::Unix(_) => None,
    };
    let server_name = ClientContext::server_name(host).or_else(by_address);
    let server_name = server_name.ok_or_else(|| refused("there is no server name to indicate"))?;
    let config = {
        let contexts = worker.fleet.tls.load();
        let context = contexts.client(tls).map_err(refused)?;
        let in_mesh = tls.mode == UpstreamTlsMode::IstioMutual;
        context.offering(match (in_mesh, for_http2) {
            (true, false) => OFFERS_IN_MESH,
            (true, true) => OFFERS_HTTP2_IN_MESH,
            (false, false) => &[],
            (false, true) => &["h2"],
        })
    };
    let session =
        ClientConnection::new(config, server_name).map_err(|why| refused(&why.to_string()))?;
    match TlsStream::handshake(socket, session, Chunk::default()).await {
        Ok(secured) => Ok(Transport::Tls(Box::new(secured))),
        Err(HandshakeError::Tls(why)) => Err(refused(&why.to_string())),
        Err(HandshakeError::Socket(error)) => Err(ConnectError::Failed(error)),
    }
}
