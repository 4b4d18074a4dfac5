//! Verifying peers: chains by webpki, and what Istio asks beyond.

use super::certificate::PeerCertificate;
use base64::Engine as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use std::sync::Arc;
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, KeyUsage,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};

/// What a certificate must have beside a chain to a trusted root.
#[derive(Debug, Clone, Default)]
pub struct Demands {
    /// One of these names; empty accepts any.
    pub names: Vec<String>,
    /// A SPIFFE id of one of these trust domains; `None` asks for none.
    pub trust_domains: Option<Vec<String>>,
    /// SHA-256 fingerprints of certificates, in lower-case hex without colons. With those of keys
    /// they are one list: a certificate has to be in either, unless both are empty.
    pub certificate_hashes: Vec<String>,
    /// SHA-256 fingerprints of public keys, in base64.
    pub public_key_hashes: Vec<String>,
}

impl Demands {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let refused =
            || Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        if self.names.is_empty()
            && self.trust_domains.is_none()
            && self.certificate_hashes.is_empty()
            && self.public_key_hashes.is_empty()
        {
            return Ok(());
        }
        let peer = PeerCertificate::read(certificate).ok_or_else(refused)?;
        if let Some(domains) = &self.trust_domains {
            let identity = peer.identity().ok_or_else(refused)?;
            if !domains.contains(&identity.trust_domain) {
                return Err(refused());
            }
        }
        let names_hold = self.names.is_empty() || self.names.iter().any(|name| peer.is_named(name));
        let (hashes, keys) = (&self.certificate_hashes, &self.public_key_hashes);
        let is_pinned = hashes.is_empty() && keys.is_empty()
            || hashes.contains(&sha256_hex(certificate))
            || keys.contains(&sha256_base64(&peer.public_key));
        match names_hold && is_pinned {
            true => Ok(()),
            false => Err(refused()),
        }
    }
}

/// Verifies clients.
#[derive(Debug)]
pub struct ClientVerifier {
    pub chains: Arc<dyn ClientCertVerifier>,
    pub demands: Demands,
    pub skips_verification: bool,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chains.client_auth_mandatory()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.skips_verification {
            return Ok(ClientCertVerified::assertion());
        }
        let verified = self
            .chains
            .verify_client_cert(end_entity, intermediates, now)?;
        self.demands.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Verifies servers.
#[derive(Debug)]
pub struct ServerVerifier {
    pub provider: Arc<CryptoProvider>,
    pub roots: RootCertStore,
    /// Certificates that do not count any more; one of which no list tells does.
    pub revocations: Vec<CertificateRevocationListDer<'static>>,
    /// Whether the certificate must be for the indicated name.
    pub verifies_name: bool,
    pub demands: Demands,
    pub skips_verification: bool,
}

impl ServerVerifier {
    /// Whether a certificate whose chain is good has been revoked.
    fn check_revocation(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.revocations.is_empty() {
            return Ok(());
        }
        let unreadable = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let mut lists = Vec::new();
        for list in &self.revocations {
            let list = BorrowedCertRevocationList::from_der(list).map_err(unreadable)?;
            lists.push(CertRevocationList::from(list));
        }
        let lists: Vec<&CertRevocationList<'_>> = lists.iter().collect();
        let options = RevocationOptionsBuilder::new(&lists)
            .map_err(|_| Error::InvalidCertificate(CertificateError::UnknownRevocationStatus))?
            .with_status_policy(UnknownStatusPolicy::Allow)
            .build();
        let certificate = EndEntityCert::try_from(end_entity).map_err(unreadable)?;
        let verified = certificate.verify_for_usage(
            self.provider.signature_verification_algorithms.all,
            &self.roots.roots,
            intermediates,
            now,
            KeyUsage::server_auth(),
            Some(options),
            None,
        );
        match verified {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::InvalidCertificate(CertificateError::Revoked)),
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.skips_verification {
            return Ok(ServerCertVerified::assertion());
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        self.check_revocation(end_entity, intermediates, now)?;
        if self.verifies_name {
            verify_server_name(&parsed, server_name).or_else(
                |refusal| match has_short_wildcard(end_entity, server_name) {
                    true => Ok(()),
                    false => Err(refusal),
                },
            )?;
        }
        self.demands.check(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Whether a certificate is for a name of two labels by a wildcard for the first, `*.internal`.
/// Public authorities give none, and webpki takes none; authorities of companies do, and Envoy takes
/// them.
fn has_short_wildcard(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let ServerName::DnsName(name) = name else {
        return false;
    };
    let Some((_, last)) = name.as_ref().split_once('.') else {
        return false;
    };
    let is_short = |dns: &String| {
        let suffix = dns.strip_prefix("*.");
        suffix.is_some_and(|suffix| !last.contains('.') && suffix.eq_ignore_ascii_case(last))
    };
    let peer = PeerCertificate::read(certificate);
    peer.is_some_and(|peer| peer.dns_names.iter().any(is_short))
}

fn sha256(bytes: &[u8]) -> ring::digest::Digest {
    ring::digest::digest(&ring::digest::SHA256, bytes)
}

/// The SHA-256 fingerprint in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    sha256(bytes)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn sha256_base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(sha256(bytes))
}
