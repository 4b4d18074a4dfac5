//! How TLS is terminated and originated. These are descriptions: files and secrets are named, and
//! read by whoever serves.

use super::cluster::{Cluster, Endpoint, EndpointAddress};
use crate::source::Origin;
use std::hash::{Hash, Hasher};

/// Where a certificate and its key come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CredentialSource {
    /// The workload's own, with its SPIFFE identity.
    Workload,
    /// Istio: `credentialName`. Without a namespace it is the workload's own.
    Secret {
        namespace: Option<String>,
        name: String,
    },
    /// Paths of PEM files.
    Files { certificate: String, key: String },
}

/// Which authorities are trusted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TrustSource {
    /// The roots of the mesh.
    Workload,
    /// `ca.crt` (or `cacert`) of a secret, or of the secret of the same name with `-cacert`.
    Secret {
        namespace: Option<String>,
        name: String,
    },
    /// Path of a PEM file.
    File(String),
    /// Those of the operating system.
    System,
}

/// Whether a terminated connection needs a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DownstreamTlsMode {
    /// None is asked for.
    Simple,
    /// One is required, from [`DownstreamTls::trust`].
    Mutual,
    /// One is asked for and verified when there is one.
    OptionalMutual,
    /// One of the mesh is required.
    IstioMutual,
}

/// Versions of TLS, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersion {
    V1_0,
    V1_1,
    V1_2,
    V1_3,
}

/// TLS that is terminated here. Istio: Gateway `servers[].tls`, and what PeerAuthentication asks
/// of a sidecar.
#[derive(Debug, Clone)]
pub struct DownstreamTls {
    pub mode: DownstreamTlsMode,
    /// More than one where certificates of several kinds of key are offered.
    pub credentials: Vec<CredentialSource>,
    /// For client certificates; `None` where none is asked for.
    pub trust: Option<TrustSource>,
    /// Path of a list of revoked client certificates.
    pub revocations: Option<String>,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
    /// OpenSSL's names; empty is the default list.
    pub cipher_suites: Vec<String>,
    /// Empty is the default list.
    pub ecdh_curves: Vec<String>,
    /// A client certificate must have one of these; empty accepts any.
    pub subject_alt_names: Vec<String>,
    /// A client certificate must have one of these SHA-256 fingerprints, in hex; empty accepts
    /// any. Istio: `verifyCertificateHash`.
    pub certificate_hashes: Vec<String>,
    /// The same of its public key, in base64. Istio: `verifyCertificateSpki`.
    pub public_key_hashes: Vec<String>,
    /// A client certificate that cannot be verified is accepted all the same. Istio:
    /// `insecureSkipVerify`.
    pub skips_verification: bool,
    /// What is offered by ALPN, best first.
    pub alpn: Vec<&'static str>,
    pub origin: Option<Origin>,
}

/// How TLS is spoken to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamTlsMode {
    /// Without a certificate of our own.
    Simple,
    Mutual,
    /// With the workload's certificate, to a workload of the mesh.
    IstioMutual,
}

/// The server name that is indicated upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamSni {
    Fixed(String),
    /// The Host that the upstream sees.
    Host,
}

/// TLS that is originated here. Istio: `trafficPolicy.tls`, or auto-mTLS.
#[derive(Debug, Clone)]
pub struct UpstreamTls {
    pub mode: UpstreamTlsMode,
    /// Only to endpoints that are labelled as able to ([`TLS_MODE_LABEL`]): nobody wrote a mode,
    /// and auto-mTLS decides endpoint by endpoint.
    pub is_automatic: bool,
    pub sni: UpstreamSni,
    /// The certificate must have one of these; empty leaves it to `verifies_sni`.
    pub subject_alt_names: Vec<String>,
    /// Whether the certificate must be for the server name that is indicated.
    pub verifies_sni: bool,
    /// `None` presents no certificate.
    pub credential: Option<CredentialSource>,
    pub trust: TrustSource,
    /// Path of a list of revoked server certificates.
    pub revocations: Option<String>,
    /// No certificate is refused at all. Istio: `insecureSkipVerify`.
    pub skips_verification: bool,
    pub origin: Option<Origin>,
}

impl DownstreamTls {
    fn security(&self) -> impl Eq + Hash + '_ {
        let Self {
            mode,
            credentials,
            trust,
            revocations,
            min_version,
            max_version,
            cipher_suites,
            ecdh_curves,
            subject_alt_names,
            certificate_hashes,
            public_key_hashes,
            skips_verification,
            alpn,
            origin: _,
        } = self;
        let own = (mode, credentials, alpn, min_version, max_version);
        let peers = (trust, revocations, skips_verification, subject_alt_names);
        let hashes = (certificate_hashes, public_key_hashes);
        (own, peers, hashes, cipher_suites, ecdh_curves)
    }
}

impl UpstreamTls {
    fn security(&self) -> impl Eq + Hash + '_ {
        let Self {
            mode,
            is_automatic,
            sni,
            subject_alt_names,
            verifies_sni,
            credential,
            trust,
            revocations,
            skips_verification,
            origin: _,
        } = self;
        let own = (mode, is_automatic, sni, credential);
        let peers = (trust, revocations, skips_verification, subject_alt_names);
        (own, peers, verifies_sni)
    }
}

/// Two descriptions are equal when they do the same, wherever they were written.
macro_rules! equal_by_security {
    ($($name:ty),*) => {$(
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.security() == other.security()
            }
        }

        impl Eq for $name {}

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.security().hash(state);
            }
        }
    )*};
}

equal_by_security!(DownstreamTls, UpstreamTls);

/// The label of an endpoint that takes mTLS of the mesh, when it has [`TLS_MODE_ISTIO`].
pub const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";
/// See [`TLS_MODE_LABEL`].
pub const TLS_MODE_ISTIO: &str = "istio";

impl Cluster {
    /// How TLS is spoken to an endpoint, if it is.
    pub fn tls_for(&self, endpoint: &Endpoint) -> Option<&UpstreamTls> {
        let tls = self.tls.as_deref()?;
        (!tls.is_automatic || is_able(endpoint)).then_some(tls)
    }

    /// How TLS is spoken to where a client had addressed its connection: as to the endpoint there,
    /// else as all of them take it.
    pub fn tls_at(&self, address: &EndpointAddress) -> Option<&UpstreamTls> {
        let tls = self.tls.as_deref()?;
        let mut endpoints = self.endpoints.iter();
        match endpoints.find(|endpoint| endpoint.address == *address) {
            Some(endpoint) => self.tls_for(endpoint),
            None => (!tls.is_automatic || self.endpoints.iter().all(is_able)).then_some(tls),
        }
    }
}

fn is_able(endpoint: &Endpoint) -> bool {
    let label = endpoint.labels.get(TLS_MODE_LABEL);
    label.is_some_and(|value| value == TLS_MODE_ISTIO)
}
