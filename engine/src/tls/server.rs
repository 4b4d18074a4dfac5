//! Contexts for handshakes with clients.

use super::contexts::{Described, servers};
use super::credentials::{Credential, CredentialText, Fingerprint, Places, RootsText, revocations};
use super::parameters::{provider, versions};
use super::report::{CertificateFacts, CertificateReport};
use super::verify::{ClientVerifier, Demands};
use ringroad_policy::snapshot::{DownstreamTls, DownstreamTlsMode, Snapshot};
use rustls::crypto::CryptoProvider;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;

/// What a handshake with a client needs.
pub struct ServerContext {
    config: Arc<ServerConfig>,
    /// For clients that offer by ALPN nothing that we have: as in Envoy they get no protocol,
    /// where rustls would refuse them.
    without_alpn: Arc<ServerConfig>,
    /// The URIs of the certificate that is shown, where there is only one.
    pub own_uris: Vec<String>,
}

impl ServerContext {
    /// The configuration for a client that offers these protocols.
    pub fn config_for(&self, offered: &[Box<str>]) -> Arc<ServerConfig> {
        let ours = &self.config.alpn_protocols;
        let knows = |name: &str| ours.iter().any(|known| known == name.as_bytes());
        match offered.is_empty() || offered.iter().any(|name| knows(name)) {
            true => self.config.clone(),
            false => self.without_alpn.clone(),
        }
    }
}

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
    credentials: Vec<CredentialText>,
    roots: Option<RootsText>,
    revocations: Option<RootsText>,
}

impl Described for DownstreamTls {
    type Material = ServerMaterial;
    type Context = ServerContext;
    const WHOM: &'static str = "clients";

    fn all(snapshot: &Snapshot) -> Vec<(String, Arc<Self>)> {
        servers(snapshot)
    }

    fn moves(&self, before: &Self) -> bool {
        let mut moved = self.clone();
        moved.credentials.clone_from(&before.credentials);
        if self.trust.is_some() && before.trust.is_some() {
            moved.trust.clone_from(&before.trust);
        }
        moved == *before
    }

    fn read(&self, places: &Places<'_>, seen: &mut Fingerprint) -> Result<ServerMaterial, String> {
        let sources = self.credentials.iter();
        let credentials: Result<Vec<_>, _> = sources
            .map(|source| places.credential(source, seen))
            .collect();
        let trust = self.trust.as_ref();
        let revoked = self.revocations.as_deref();
        Ok(ServerMaterial {
            credentials: credentials?,
            roots: trust.map(|trust| places.roots(trust, seen)).transpose()?,
            revocations: revoked.map(|path| places.file(path, seen)).transpose()?,
        })
    }

    fn build(
        &self,
        material: ServerMaterial,
        trust_domains: &[String],
    ) -> Result<(ServerContext, CertificateReport), String> {
        let provider = provider(&self.cipher_suites, &self.ecdh_curves)?;
        let versions = versions(self.min_version, self.max_version)?;
        let mut report = CertificateReport::default();
        let mut keys = Vec::new();
        for text in &material.credentials {
            let credential = text.parse()?;
            let leaf = credential.chain.first();
            let facts = leaf.and_then(|leaf| CertificateFacts::read(leaf, &credential.place));
            report.leaves.extend(facts);
            report.problems.extend(credential.ocsp_problem.clone());
            keys.push(certified_key(credential, &provider)?);
        }
        if keys.is_empty() {
            return Err("there is no certificate to show".to_string());
        }
        let own_uris = match report.leaves.as_slice() {
            [only] => only.uris.clone(),
            _ => Vec::new(),
        };
        let mut roots = RootCertStore::empty();
        if let Some(text) = &material.roots {
            let found = text.parse()?;
            report.authorities = text.facts(&found);
            if roots.add_parsable_certificates(found).0 == 0 {
                return Err("none of the trusted certificates can be used".to_string());
            }
        }
        let revoked = material.revocations.as_ref();
        let revoked = revoked.map(revocations).transpose()?.unwrap_or_default();
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(|error| error.to_string())?;
        let builder = match self.mode {
            DownstreamTlsMode::Simple => builder.with_no_client_auth(),
            mode => {
                let mut chains =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .with_crls(revoked)
                        .allow_unknown_revocation_status();
                if mode == DownstreamTlsMode::OptionalMutual {
                    chains = chains.allow_unauthenticated();
                }
                let of_mesh = mode == DownstreamTlsMode::IstioMutual;
                builder.with_client_cert_verifier(Arc::new(ClientVerifier {
                    chains: chains.build().map_err(|error| error.to_string())?,
                    demands: Demands {
                        names: self.subject_alt_names.clone(),
                        trust_domains: of_mesh.then(|| trust_domains.to_vec()),
                        certificate_hashes: self
                            .certificate_hashes
                            .iter()
                            .map(|hash| hash.replace(':', "").to_ascii_lowercase())
                            .collect(),
                        public_key_hashes: self.public_key_hashes.clone(),
                    },
                    skips_verification: self.skips_verification,
                }))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(Certificates(keys)));
        // Ours is the order of the suites, as in Envoy.
        config.ignore_client_order = true;
        // Resumption by tickets alone: workers share no cache, and the keys of tickets rotate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer =
            rustls::crypto::ring::Ticketer::new().map_err(|error| error.to_string())?;
        config.send_tls13_tickets = 1;
        // Records are the transport's, as soon as the handshake is done.
        config.enable_secret_extraction = true;
        let without_alpn = Arc::new(config.clone());
        config.alpn_protocols = self
            .alpn
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let context = ServerContext {
            config: Arc::new(config),
            without_alpn,
            own_uris,
        };
        Ok((context, report))
    }
}

pub(super) fn certified_key(
    credential: Credential,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<CertifiedKey>, String> {
    let Credential {
        chain,
        key,
        ocsp,
        place,
        key_place,
        ..
    } = credential;
    let mut certified = CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| Credential::refusal(&place, &key_place, &error))?;
    certified.ocsp = ocsp;
    Ok(Arc::new(certified))
}
