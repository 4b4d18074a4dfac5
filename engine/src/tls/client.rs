//! Contexts for handshakes with upstreams.

use super::certificate::spiffe_id;
use super::contexts::{Described, clients};
use super::credentials::{Credential, CredentialText, Fingerprint, Places, RootsText, revocations};
use super::parameters::provider;
use super::report::{CertificateFacts, CertificateReport};
use super::verify::{Demands, ServerVerifier};
use ringroad_policy::snapshot::{Snapshot, UpstreamTls, UpstreamTlsMode};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// What is offered by ALPN. A sidecar at the other end tells by it what the mesh carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// No protocol at all.
    Nothing,
    Http2,
    MeshHttp1,
    MeshHttp2,
    /// Bytes that are no HTTP.
    MeshTcp,
}

impl Offer {
    const ALL: [Self; 5] = [
        Self::Nothing,
        Self::Http2,
        Self::MeshHttp1,
        Self::MeshHttp2,
        Self::MeshTcp,
    ];

    /// In the order of preference.
    fn protocols(self) -> &'static [&'static str] {
        match self {
            Self::Nothing => &[],
            Self::Http2 => &["h2"],
            Self::MeshHttp1 => &["istio-http/1.1", "istio", "http/1.1"],
            Self::MeshHttp2 => &["istio-h2", "istio", "h2"],
            // Not `istio-peer-exchange`: a sidecar of Istio that agrees to it sends metadata first.
            Self::MeshTcp => &["istio"],
        }
    }
}

/// What a handshake with an upstream needs.
pub struct ClientContext {
    /// In the order of [`Offer::ALL`]. They share what is known of sessions.
    by_offer: [Arc<ClientConfig>; 5],
    /// The SPIFFE id of the certificate that is shown.
    pub own_id: Option<String>,
}

impl ClientContext {
    fn new(config: &ClientConfig, own_id: Option<String>) -> Self {
        let offering = |offer: Offer| {
            let protocols = offer.protocols().iter();
            let mut config = config.clone();
            // Records are the transport's, as soon as the handshake is done.
            config.enable_secret_extraction = true;
            config.alpn_protocols = protocols.map(|name| name.as_bytes().to_vec()).collect();
            Arc::new(config)
        };
        Self {
            by_offer: Offer::ALL.map(offering),
            own_id,
        }
    }

    /// The configuration that offers this by ALPN.
    pub fn offering(&self, offer: Offer) -> Arc<ClientConfig> {
        self.by_offer[offer as usize].clone()
    }

    /// A host as a server name; an address is one too.
    pub fn server_name(host: &str) -> Option<ServerName<'static>> {
        ServerName::try_from(host.to_string()).ok()
    }
}

/// What was read for a cluster.
pub struct ClientMaterial {
    credential: Option<CredentialText>,
    roots: Option<RootsText>,
    revocations: Option<RootsText>,
}

impl Described for UpstreamTls {
    type Material = ClientMaterial;
    type Context = ClientContext;
    const WHOM: &'static str = "upstreams";

    fn all(snapshot: &Snapshot) -> Vec<(String, Arc<Self>)> {
        clients(snapshot)
    }

    fn moves(&self, before: &Self) -> bool {
        let mut moved = self.clone();
        moved.trust.clone_from(&before.trust);
        if self.credential.is_some() && before.credential.is_some() {
            moved.credential.clone_from(&before.credential);
        }
        moved == *before
    }

    fn read(&self, places: &Places<'_>, seen: &mut Fingerprint) -> Result<ClientMaterial, String> {
        let source = self.credential.as_ref();
        let credential = source
            .map(|source| places.credential(source, seen))
            .transpose()?;
        if self.skips_verification {
            return Ok(ClientMaterial {
                credential,
                roots: None,
                revocations: None,
            });
        }
        let revoked = self.revocations.as_deref();
        Ok(ClientMaterial {
            credential,
            roots: Some(places.roots(&self.trust, seen)?),
            revocations: revoked.map(|path| places.file(path, seen)).transpose()?,
        })
    }

    fn build(
        &self,
        material: ClientMaterial,
        trust_domains: &[String],
    ) -> Result<(ClientContext, CertificateReport), String> {
        let provider = provider(&[], &[])?;
        let mut report = CertificateReport::default();
        let mut roots = RootCertStore::empty();
        if let Some(text) = &material.roots {
            let found = text.parse()?;
            report.authorities = text.facts(&found);
            roots.add_parsable_certificates(found);
        }
        let of_mesh = self.mode == UpstreamTlsMode::IstioMutual;
        let revoked = material.revocations.as_ref();
        let verifier = ServerVerifier {
            provider: provider.clone(),
            roots,
            revocations: revoked.map(revocations).transpose()?.unwrap_or_default(),
            verifies_name: self.verifies_sni,
            demands: Demands {
                names: self.subject_alt_names.clone(),
                trust_domains: of_mesh.then(|| trust_domains.to_vec()),
                ..Demands::default()
            },
            skips_verification: self.skips_verification,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match &material.credential {
            None => builder.with_no_client_auth(),
            Some(text) => {
                let Credential {
                    chain,
                    key,
                    place,
                    key_place,
                    ..
                } = text.parse()?;
                let leaf = chain.first();
                let facts = leaf.and_then(|leaf| CertificateFacts::read(leaf, &place));
                report.leaves.extend(facts);
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| Credential::refusal(&place, &key_place, &error))?
            }
        };
        let leaf = report.leaves.first();
        let own_id = leaf.and_then(|leaf| spiffe_id(&leaf.uris));
        Ok((
            ClientContext::new(&config, own_id.map(str::to_string)),
            report,
        ))
    }
}
