//! Contexts for handshakes with clients.

use super::credentials::{Credential, Fingerprint, Places};
use super::parameters::{provider, versions};
use super::verify::{ClientVerifier, Demands};
use ringroad_policy::snapshot::{DownstreamTls, DownstreamTlsMode};
use rustls::crypto::CryptoProvider;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;

/// The certificates of one server: the first that the client can verify is shown.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let mut suitable = self.0.iter();
        let suitable = suitable.find(|known| known.key.choose_scheme(schemes).is_some());
        suitable.or(self.0.first()).cloned()
    }
}

/// What was read for a server.
pub struct ServerMaterial {
    credentials: Vec<Credential>,
    roots: RootCertStore,
    revocations: Vec<rustls::pki_types::CertificateRevocationListDer<'static>>,
}

impl ServerMaterial {
    /// Reads all that `tls` names.
    ///
    /// # Errors
    /// What is missing or broken, and where.
    pub fn read(
        tls: &DownstreamTls,
        places: &Places<'_>,
        seen: &mut Fingerprint,
    ) -> Result<Self, String> {
        let sources = tls.credentials.iter();
        let credentials: Result<Vec<_>, _> = sources
            .map(|source| places.credential(source, seen))
            .collect();
        let mut roots = RootCertStore::empty();
        if let Some(trust) = &tls.trust {
            let (added, _) = roots.add_parsable_certificates(places.roots(trust, seen)?);
            if added == 0 {
                return Err("none of the trusted certificates can be used".to_string());
            }
        }
        let revocations = match &tls.revocations {
            Some(path) => places.revocations(path, seen)?,
            None => Vec::new(),
        };
        Ok(Self {
            credentials: credentials?,
            roots,
            revocations,
        })
    }

    /// The leaf certificates, with their places.
    pub fn leaves(&self) -> impl Iterator<Item = (&[u8], &str)> {
        self.credentials
            .iter()
            .filter_map(|one| Some((one.chain.first()?.as_ref(), one.place.as_str())))
    }

    /// The context; `trust_domains` are those of the mesh.
    ///
    /// # Errors
    /// What does not go together.
    pub fn config(
        self,
        tls: &DownstreamTls,
        trust_domains: &[String],
    ) -> Result<ServerConfig, String> {
        let provider = provider(&tls.cipher_suites, &tls.ecdh_curves)?;
        let versions = versions(tls.min_version, tls.max_version)?;
        let keys: Result<Vec<_>, String> = self
            .credentials
            .into_iter()
            .map(|credential| certified_key(credential, &provider))
            .collect();
        let keys = keys?;
        if keys.is_empty() {
            return Err("there is no certificate to show".to_string());
        }
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(|error| error.to_string())?;
        let builder = match tls.mode {
            DownstreamTlsMode::Simple => builder.with_no_client_auth(),
            mode => {
                let mut chains =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots), provider)
                        .with_crls(self.revocations)
                        .allow_unknown_revocation_status();
                if mode == DownstreamTlsMode::OptionalMutual {
                    chains = chains.allow_unauthenticated();
                }
                let of_mesh = mode == DownstreamTlsMode::IstioMutual;
                builder.with_client_cert_verifier(Arc::new(ClientVerifier {
                    chains: chains.build().map_err(|error| error.to_string())?,
                    demands: Demands {
                        names: tls.subject_alt_names.clone(),
                        trust_domains: of_mesh.then(|| trust_domains.to_vec()),
                        certificate_hashes: tls
                            .certificate_hashes
                            .iter()
                            .map(|hash| hash.replace(':', "").to_ascii_lowercase())
                            .collect(),
                        public_key_hashes: tls.public_key_hashes.clone(),
                    },
                    skips_verification: tls.skips_verification,
                }))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(Certificates(keys)));
        config.alpn_protocols = tls
            .alpn
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        // Resumption by tickets alone: workers share no cache, and the keys of tickets rotate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer =
            rustls::crypto::ring::Ticketer::new().map_err(|error| error.to_string())?;
        config.send_tls13_tickets = 1;
        Ok(config)
    }
}

fn certified_key(
    credential: Credential,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<CertifiedKey>, String> {
    let Credential {
        chain,
        key,
        ocsp,
        place,
    } = credential;
    let mut certified = CertifiedKey::from_der(chain, key, provider)
        .map_err(|_| format!("the key of {place} cannot be used, or is not of its certificate"))?;
    certified.ocsp = ocsp;
    Ok(Arc::new(certified))
}
