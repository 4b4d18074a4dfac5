//! Certificates for tests, and clients that use them.

use super::PATIENCE;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signed").pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate for these names; `spiffe://` ones are URIs.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.issue_until(names, 4096)
    }

    /// One that is good until this year.
    pub fn issue_until(&self, names: &[&str], year: i32) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let (uris, hosts): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| name.contains("://"));
        let hosts = hosts.into_iter().map(str::to_string).collect::<Vec<_>>();
        let mut params = CertificateParams::new(hosts).expect("parameters");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let uris = uris.into_iter();
        params
            .subject_alt_names
            .extend(uris.map(|uri| SanType::URI(uri.try_into().expect("a URI"))));
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.signed_by(&key, &self.issuer).expect("signed").pem();
        Identity {
            certificate,
            key: key.serialize_pem(),
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM");
        roots.add(root).expect("a root");
        roots
    }

    /// What a client of this authority uses, with a certificate of its own or without.
    pub fn client(&self, identity: Option<&Identity>) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots());
        match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
                builder
                    .with_client_auth_cert(vec![chain.expect("PEM")], key.expect("PEM"))
                    .expect("goes together")
            }
        }
    }
}

/// A `kind: Secret` document.
pub fn secret(name: &str, identity: &Identity, root: Option<&str>) -> String {
    let indented = |pem: &str| pem.trim().replace('\n', "\n    ");
    let mut document = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\n\
         stringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
        indented(&identity.certificate),
        indented(&identity.key)
    );
    if let Some(root) = root {
        document += &format!("  ca.crt: |\n    {}\n", indented(root));
    }
    document
}

/// An encrypted connection to `address`, for `name`.
///
/// # Errors
/// The handshake failed.
pub fn connect(
    address: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from(name.to_string()).expect("a name");
    let session = ClientConnection::new(config.clone(), name).expect("a session");
    let mut stream = StreamOwned::new(session, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// `GET target` that ends the connection.
///
/// # Errors
/// The handshake or the connection failed.
pub fn get(
    address: SocketAddr,
    name: &str,
    target: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<String> {
    let mut stream = connect(address, name, config)?;
    let request = format!("GET {target} HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
