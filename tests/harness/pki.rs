//! Certificates for tests, and clients that use them.

use super::PATIENCE;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, RootCertStore,
    ServerConfig, ServerConnection, SignatureScheme, StreamOwned, SupportedProtocolVersion,
};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

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
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
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
        self.sign(names, |params| {
            params.not_after = rcgen::date_time_ymd(year, 1, 1)
        })
    }

    /// One that is good from then to then.
    pub fn issue_between(&self, names: &[&str], from: SystemTime, to: SystemTime) -> Identity {
        self.sign(names, |params| {
            params.not_before = from.into();
            params.not_after = to.into();
        })
    }

    fn sign(&self, names: &[&str], set_times: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let (uris, hosts): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| name.contains("://"));
        let hosts = hosts.into_iter().map(str::to_string).collect::<Vec<_>>();
        let mut params = CertificateParams::new(hosts).expect("parameters");
        set_times(&mut params);
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

    /// What a client uses that speaks these versions.
    pub fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        client_of(&self.pem, None, versions)
    }

    /// A list of certificates that do not count any more, in PEM.
    pub fn revoke(&self, identity: &Identity) -> String {
        use x509_parser::prelude::{FromDer as _, X509Certificate};
        let der = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("PEM");
        let (_, parsed) = X509Certificate::from_der(&der).expect("a certificate");
        let serial_number = SerialNumber::from_slice(parsed.raw_serial());
        let long_ago = rcgen::date_time_ymd(2001, 1, 1);
        let list = CertificateRevocationListParams {
            this_update: long_ago,
            next_update: rcgen::date_time_ymd(4096, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number,
                revocation_time: long_ago,
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer)
            .expect("signed")
            .pem()
            .expect("PEM")
    }

    /// What a client of this authority uses, with a certificate of its own or without.
    pub fn client(&self, identity: Option<&Identity>) -> ClientConfig {
        connect_as(&self.pem, identity)
    }
}

/// What a client uses that trusts this root, with a certificate of its own or without.
pub fn connect_as(root: &str, identity: Option<&Identity>) -> ClientConfig {
    client_of(root, identity, rustls::DEFAULT_VERSIONS)
}

fn client_of(
    root: &str,
    identity: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(root.as_bytes()).expect("PEM");
    roots.add(root).expect("a root");
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    let Some(identity) = identity else {
        return builder.with_no_client_auth();
    };
    let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
    builder
        .with_client_auth_cert(vec![chain.expect("PEM")], key.expect("PEM"))
        .expect("goes together")
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
    get_with_kind(address, name, target, config).map(|(answer, _)| answer)
}

/// The same, and whether a session was resumed for it.
///
/// # Errors
/// The handshake or the connection failed.
pub fn get_with_kind(
    address: SocketAddr,
    name: &str,
    target: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<(String, HandshakeKind)> {
    let mut stream = connect(address, name, config)?;
    let request = format!("GET {target} HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let kind = stream.conn.handshake_kind().expect("is over");
    Ok((answer, kind))
}

/// The SHA-256 fingerprint of a certificate, in hex.
pub fn sha256_of_pem(pem: &[u8]) -> String {
    let der = CertificateDer::from_pem_slice(pem).expect("PEM");
    let digest = ring::digest::digest(&ring::digest::SHA256, &der);
    let bytes = digest.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// Verifies the chain of a server and not its name; keeps what was stapled.
#[derive(Debug)]
pub struct AnyName {
    roots: RootCertStore,
    stapled: Mutex<Vec<u8>>,
}

impl AnyName {
    pub fn of(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("PEM");
        roots.add(root).expect("a root");
        Self {
            roots,
            stapled: Mutex::default(),
        }
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.stapled.lock().expect("not poisoned") = ocsp_response.to_vec();
        let provider = rustls::crypto::ring::default_provider();
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::ring::default_provider();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::ring::default_provider();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// An answer of OCSP (RFC 6960) that says that a certificate is good until then, such as
/// `20991231235959Z`. Nobody has signed it.
pub fn ocsp_answer(identity: &Identity, until: &str) -> Vec<u8> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let len = u16::try_from(content.len()).expect("short").to_be_bytes();
        let head = match len {
            [0, len @ ..0x80] => vec![tag, len],
            [0, len] => vec![tag, 0x81, len],
            [high, low] => vec![tag, 0x82, high, low],
        };
        [head, content].concat()
    }
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
    let certificate = certificate.expect("PEM");
    let (_, parsed) = X509Certificate::from_der(&certificate).expect("a certificate");
    let (sequence, octets, time) = (0x30, 0x04, 0x18);
    let hashes = [&der(octets, &[b"name"])[..], &der(octets, &[b"key"])].concat();
    let serial_number = der(0x02, &[parsed.raw_serial()]);
    let sha1 = der(sequence, &[&der(0x06, &[&[43, 14, 3, 2, 26]])]);
    let id = der(sequence, &[&sha1, &hashes, &serial_number]);
    let then = der(time, &[b"20200101000000Z"]);
    let next = der(0xa0, &[&der(time, &[until.as_bytes()])]);
    let single = der(sequence, &[&id, &[0x80, 0], &then, &next]);
    let by = der(0xa2, &[&der(octets, &[b"key"])]);
    let data = der(sequence, &[&by, &then, &der(sequence, &[&single])]);
    let ecdsa = &[42, 134, 72, 206, 61, 4, 3, 2];
    let by_ecdsa = der(sequence, &[&der(0x06, &[ecdsa])]);
    let basic = der(sequence, &[&data, &by_ecdsa, &der(0x03, &[&[0]])]);
    let kind = der(0x06, &[&[43, 6, 1, 5, 5, 7, 48, 1, 1]]);
    let bytes = der(sequence, &[&kind, &der(octets, &[&basic])]);
    der(sequence, &[&der(0x0a, &[&[0]]), &der(0xa0, &[&bytes])])
}

/// What a server staples to its certificate.
pub fn staple(address: SocketAddr, name: &str, authority: &Authority) -> Vec<u8> {
    let verifier = Arc::new(AnyName::of(authority));
    let mut config = authority.client(None);
    config
        .dangerous()
        .set_certificate_verifier(verifier.clone());
    connect(address, name, &Arc::new(config)).expect("a connection");
    verifier.stapled.lock().expect("not poisoned").clone()
}

/// An upstream that speaks TLS, answers one request a connection, and counts its handshakes.
pub struct TlsUpstream {
    pub address: SocketAddr,
    counts: Arc<[AtomicUsize; 2]>,
}

impl TlsUpstream {
    /// Full ones, and those that resumed a session.
    pub fn handshakes(&self) -> (usize, usize) {
        let [full, resumed] = &*self.counts;
        (full.load(Ordering::SeqCst), resumed.load(Ordering::SeqCst))
    }

    pub fn start(identity: &Identity) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![chain.expect("PEM")], key.expect("PEM"))
            .expect("goes together");
        config.ticketer = rustls::crypto::ring::Ticketer::new().expect("tickets");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let counts = Arc::<[AtomicUsize; 2]>::default();
        let counting = counts.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (config, counts) = (config.clone(), counting.clone());
                std::thread::spawn(move || {
                    let session = ServerConnection::new(config).expect("a session");
                    // A client that refuses the certificate is not counted.
                    let _ = answer_once(StreamOwned::new(session, socket), &counts);
                });
            }
        });
        Self { address, counts }
    }
}

fn answer_once(
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    [full, resumed]: &[AtomicUsize; 2],
) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            len => head.extend_from_slice(&piece[..len]),
        }
    }
    match stream.conn.handshake_kind() {
        Some(HandshakeKind::Resumed) => resumed.fetch_add(1, Ordering::SeqCst),
        _ => full.fetch_add(1, Ordering::SeqCst),
    };
    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nup")?;
    stream.conn.send_close_notify();
    stream.flush()
}
