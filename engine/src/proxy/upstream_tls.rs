//! TLS to an endpoint.

use super::pool::Endpoint;
use super::upstream::ConnectError;
use crate::rt::{Chunk, Stream};
use crate::stats::Principals;
use crate::tls::{ClientContext, Offer, PeerCertificate};
use crate::transport::{HandshakeError, TlsStream, Transport};
use crate::worker::Worker;
use ringroad_policy::snapshot::{
    Cluster, EndpointAddress, UpstreamSni, UpstreamTls, UpstreamTlsMode,
};
use rustls::client::UnbufferedClientConnection;

/// What a connection is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    Http1,
    Http2,
    /// Bytes as they are.
    Bytes,
}

/// Does the handshake on a connection that has just been opened.
///
/// # Errors
/// There is no certificate to show or to trust, or the peers do not come to terms.
pub async fn secure(
    worker: &Worker,
    cluster: &Cluster,
    endpoint: &Endpoint,
    tls: &UpstreamTls,
    socket: Stream,
    carries: Carries,
) -> Result<Transport, ConnectError> {
    let refused = |why: &str| ConnectError::Tls(why.to_string());
    let host = match &tls.sni {
        UpstreamSni::Fixed(name) => name.as_str(),
        UpstreamSni::Host => cluster.service.host.as_str(),
    };
    let by_address = || match &endpoint.address {
        EndpointAddress::Socket(address) => ClientContext::server_name(&address.ip().to_string()),
        EndpointAddress::Unix(_) => None,
    };
    let server_name = ClientContext::server_name(host).or_else(by_address);
    let server_name = server_name.ok_or_else(|| refused("there is no server name to indicate"))?;
    let (config, own) = {
        let contexts = worker.fleet.tls.load();
        let context = contexts.client(tls).map_err(refused)?;
        let of_mesh = tls.mode == UpstreamTlsMode::IstioMutual;
        let config = context.offering(match (of_mesh, carries) {
            (true, Carries::Http1) => Offer::MeshHttp1,
            (true, Carries::Http2) => Offer::MeshHttp2,
            (true, Carries::Bytes) => Offer::MeshTcp,
            (false, Carries::Http1 | Carries::Bytes) => Offer::Nothing,
            (false, Carries::Http2) => Offer::Http2,
        });
        (config, context.own_id.clone())
    };
    let session = UnbufferedClientConnection::new(config, server_name);
    let session = session.map_err(|why| refused(&why.to_string()))?;
    match TlsStream::handshake(socket, session, Chunk::default()).await {
        Ok((secured, terms)) => {
            let shown = terms.certificates.unwrap_or_default();
            let leaf = shown.first().and_then(|leaf| PeerCertificate::read(leaf));
            let peer = leaf.and_then(|leaf| leaf.identity());
            endpoint.series.borrow_mut().meet(Principals { own, peer });
            Ok(Transport::Tls(Box::new(secured)))
        }
        Err(HandshakeError::Tls(why)) => Err(refused(&why.to_string())),
        Err(HandshakeError::Socket(error)) => Err(ConnectError::Failed(error)),
    }
}
