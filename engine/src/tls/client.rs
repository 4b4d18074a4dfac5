//! Contexts for handshakes with upstreams.

use super::credentials::{Credential, Fingerprint, Places};
use super::parameters::provider;
use super::verify::{Demands, ServerVerifier};
use ringroad_policy::snapshot::{UpstreamTls, UpstreamTlsMode};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// What was read for a cluster.
pub struct ClientMaterial {
    credential: Option<Credential>,
    roots: RootCertStore,
}

impl ClientMaterial {
    /// Reads all that `tls` names.
    ///
    /// # Errors
    /// What is missing or broken, and where.
    pub fn read(
        tls: &UpstreamTls,
        places: &Places<'_>,
        seen: &mut Fingerprint,
    ) -> Result<Self, String> {
        let source = tls.credential.as_ref();
        let credential = source
            .map(|source| places.credential(source, seen))
            .transpose()?;
        let mut roots = RootCertStore::empty();
        if !tls.skips_verification {
            roots.add_parsable_certificates(places.roots(&tls.trust, seen)?);
        }
        Ok(Self { credential, roots })
    }

    /// The leaf certificate, with its place.
    pub fn leaf(&self) -> Option<(&[u8], &str)> {
        let credential = self.credential.as_ref()?;
        Some((credential.chain.first()?.as_ref(), &credential.place))
    }

    /// The context; `trust_domains` are those of the mesh.
    ///
    /// # Errors
    /// What does not go together.
    pub fn config(
        self,
        tls: &UpstreamTls,
        trust_domains: &[String],
    ) -> Result<ClientConfig, String> {
        let provider = provider(&[], &[])?;
        let of_mesh = tls.mode == UpstreamTlsMode::IstioMutual;
        let verifier = ServerVerifier {
            provider: provider.clone(),
            roots: self.roots,
            verifies_name: tls.verifies_sni,
            demands: Demands {
                names: tls.subject_alt_names.clone(),
                trust_domains: of_mesh.then(|| trust_domains.to_vec()),
                ..Demands::default()
            },
            skips_verification: tls.skips_verification,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match self.credential {
            None => builder.with_no_client_auth(),
            Some(Credential {
                chain, key, place, ..
            }) => builder.with_client_auth_cert(chain, key).map_err(|_| {
                format!("the key of {place} cannot be used, or is not of its certificate")
            })?,
        };
        Ok(config)
    }
}

/// A host as a server name; an address is one too.
pub fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.to_string()).ok()
}
