//! What a certificate says of its holder.

use ringroad_policy::snapshot::PeerIdentity;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The parts of a certificate that policies ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// As RFC 2253 writes it: the last part first.
    pub subject: String,
    pub serial_number: String,
    /// In the order of the certificate.
    pub uris: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
    /// The public key in DER (SubjectPublicKeyInfo).
    pub public_key: Vec<u8>,
}

/// The first SPIFFE id among these.
pub fn spiffe_id(uris: &[String]) -> Option<&str> {
    let mut ids = uris.iter().map(String::as_str);
    ids.find(|uri| PeerIdentity::from_spiffe(uri).is_some())
}

impl PeerCertificate {
    /// Reads a certificate in DER; `None` when it is none.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let mut found = Self {
            subject: super::subject::rfc2253(parsed.subject()),
            serial_number: parsed.raw_serial_as_string().replace(':', ""),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            public_key: parsed.public_key().raw.to_vec(),
            ..Self::default()
        };
        let names = parsed.subject_alternative_name().ok().flatten();
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => found.uris.push(uri.to_string()),
                GeneralName::DNSName(name) => found.dns_names.push(name.to_string()),
                GeneralName::IPAddress(bytes) => found.ip_addresses.extend(ip_text(bytes)),
                _ => {}
            }
        }
        Some(found)
    }

    /// The workload that it is of: the first SPIFFE id among its URIs.
    pub fn identity(&self) -> Option<PeerIdentity> {
        spiffe_id(&self.uris).and_then(PeerIdentity::from_spiffe)
    }

    /// Whether one of its names is `wanted`; a DNS name may be a wildcard.
    pub fn is_named(&self, wanted: &str) -> bool {
        let is_dns = |name: &String| match name.strip_prefix("*.") {
            Some(suffix) => wanted
                .split_once('.')
                .is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(suffix)),
            None => name.eq_ignore_ascii_case(wanted),
        };
        self.uris.iter().any(|uri| uri == wanted)
            || self.ip_addresses.iter().any(|ip| ip == wanted)
            || self.dns_names.iter().any(is_dns)
    }
}

fn ip_text(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes)
            .ok()
            .map(|ip| std::net::Ipv4Addr::from(ip).to_string()),
        16 => <[u8; 16]>::try_from(bytes)
            .ok()
            .map(|ip| std::net::Ipv6Addr::from(ip).to_string()),
        _ => None,
    }
}
