//! TLS that ends here: a server's `tls`, and what PeerAuthentication asks of a sidecar.

use crate::resource::gateway::ServerTls;
use crate::snapshot::{
    CredentialSource, DownstreamTls, DownstreamTlsMode, TlsVersion, TrustSource,
};
use crate::source::Origin;

/// By these a sidecar of the mesh says that it speaks mTLS.
pub const ISTIO_ALPN: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];
const HTTP_ALPN: [&str; 2] = ["h2", "http/1.1"];
/// Without `istio-peer-exchange`: a sidecar of Istio that is answered so sends metadata before the
/// bytes.
const MESH_TCP_ALPN: [&str; 3] = ["istio", "h2", "http/1.1"];

/// What ends TLS of the mesh at a sidecar.
pub fn mesh_tls(carries_http: bool, origin: Option<Origin>) -> DownstreamTls {
    DownstreamTls {
        mode: DownstreamTlsMode::IstioMutual,
        credentials: vec![CredentialSource::Workload],
        trust: Some(TrustSource::Workload),
        revocations: None,
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
        cipher_suites: Vec::new(),
        ecdh_curves: Vec::new(),
        subject_alt_names: Vec::new(),
        certificate_hashes: Vec::new(),
        public_key_hashes: Vec::new(),
        skips_verification: false,
        alpn: if carries_http {
            HTTP_ALPN.to_vec()
        } else {
            MESH_TCP_ALPN.to_vec()
        },
        origin,
    }
}

/// What `tls` of a server says. `is_https` is a server of protocol HTTPS, whatever it carries.
pub fn downstream_tls(written: &ServerTls, is_https: bool, origin: Origin) -> DownstreamTls {
    let mode = match written.mode.as_deref() {
        Some("MUTUAL") => DownstreamTlsMode::Mutual,
        Some("OPTIONAL_MUTUAL") => DownstreamTlsMode::OptionalMutual,
        Some("ISTIO_MUTUAL") => DownstreamTlsMode::IstioMutual,
        _ => DownstreamTlsMode::Simple,
    };
    let of_mesh = mode == DownstreamTlsMode::IstioMutual;
    let base = mesh_tls(is_https || !of_mesh, Some(origin));
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    DownstreamTls {
        mode,
        credentials: credentials(written, of_mesh),
        trust: trust(written, mode),
        revocations: text(&written.ca_crl),
        min_version: version(&written.min_protocol_version).unwrap_or(base.min_version),
        max_version: version(&written.max_protocol_version).unwrap_or(base.max_version),
        cipher_suites: written.cipher_suites.clone(),
        ecdh_curves: written.ecdh_curves.clone(),
        subject_alt_names: written.subject_alt_names.clone(),
        certificate_hashes: written.verify_certificate_hash.clone(),
        public_key_hashes: written.verify_certificate_spki.clone(),
        skips_verification: written.insecure_skip_verify == Some(true),
        ..base
    }
}

fn credentials(written: &ServerTls, of_mesh: bool) -> Vec<CredentialSource> {
    if of_mesh {
        return vec![CredentialSource::Workload];
    }
    let names = std::iter::once(&written.credential_name).chain(&written.credential_names);
    let secrets: Vec<CredentialSource> = names
        .filter(|name| !name.is_empty())
        .map(|name| {
            let (namespace, name) = secret(name);
            CredentialSource::Secret { namespace, name }
        })
        .collect();
    if !secrets.is_empty() {
        return secrets;
    }
    let listed = written.tls_certificates.iter();
    let listed = listed.map(|one| (&one.server_certificate, &one.private_key));
    let own = std::iter::once((&written.server_certificate, &written.private_key));
    own.chain(listed)
        .filter(|(certificate, _)| !certificate.is_empty())
        .map(|(certificate, key)| CredentialSource::Files {
            certificate: certificate.clone(),
            key: key.clone(),
        })
        .collect()
}

fn trust(written: &ServerTls, mode: DownstreamTlsMode) -> Option<TrustSource> {
    let of_secret = |name: &str| {
        let (namespace, name) = secret(name);
        Some(TrustSource::Secret { namespace, name })
    };
    match mode {
        DownstreamTlsMode::Simple => None,
        DownstreamTlsMode::IstioMutual => Some(TrustSource::Workload),
        DownstreamTlsMode::Mutual | DownstreamTlsMode::OptionalMutual => {
            let names = [&written.ca_cert_credential_name, &written.credential_name];
            let names = names.into_iter().chain(written.credential_names.first());
            let listed = written.tls_certificates.first();
            let files = [
                Some(&written.ca_certificates),
                listed.map(|one| &one.ca_certificates),
            ];
            let mut names = names.filter(|name| !name.is_empty());
            let mut files = files.into_iter().flatten().filter(|file| !file.is_empty());
            match (names.next(), files.next()) {
                (Some(name), _) => of_secret(name),
                (None, Some(file)) => Some(TrustSource::File(file.clone())),
                (None, None) => Some(TrustSource::System),
            }
        }
    }
}

/// `name`, `namespace/name`, or either behind a scheme that says what holds it.
pub fn secret(written: &str) -> (Option<String>, String) {
    let bare = written.split_once("://").map_or(written, |(_, bare)| bare);
    match bare.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_string()), name.to_string()),
        None => (None, bare.to_string()),
    }
}

fn version(written: &Option<String>) -> Option<TlsVersion> {
    match written.as_deref()? {
        "TLSV1_0" => Some(TlsVersion::V1_0),
        "TLSV1_1" => Some(TlsVersion::V1_1),
        "TLSV1_2" => Some(TlsVersion::V1_2),
        "TLSV1_3" => Some(TlsVersion::V1_3),
        _ => None,
    }
}
