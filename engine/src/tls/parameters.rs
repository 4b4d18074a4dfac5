//! Versions, cipher suites and key exchanges, from Istio's words to rustls.

use ringroad_policy::snapshot::TlsVersion;
use rustls::crypto::ring::{cipher_suite as suites, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};
use std::sync::Arc;

/// OpenSSL's names of the suites that we have.
const SUITES: &[(&str, SupportedCipherSuite)] = &[
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        suites::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Suites of TLS 1.3, which no list of Istio's restricts.
const SUITES_1_3: &[SupportedCipherSuite] = &[
    suites::TLS13_AES_128_GCM_SHA256,
    suites::TLS13_AES_256_GCM_SHA384,
    suites::TLS13_CHACHA20_POLY1305_SHA256,
];

/// The cryptography with these suites and curves; empty lists are the defaults. The suites are those
/// of TLS 1.2: without one that is to be had, TLS 1.3 is left.
///
/// # Errors
/// None of the curves is to be had.
pub fn provider(suites: &[String], curves: &[String]) -> Result<Arc<CryptoProvider>, String> {
    let mut provider = default_provider();
    if !suites.is_empty() {
        let wanted = |name: &&(&str, SupportedCipherSuite)| suites.iter().any(|s| s == name.0);
        let chosen: Vec<_> = SUITES
            .iter()
            .filter(wanted)
            .map(|(_, suite)| *suite)
            .collect();
        provider.cipher_suites = SUITES_1_3.iter().copied().chain(chosen).collect();
    }
    if !curves.is_empty() {
        let chosen: Vec<_> = curves.iter().filter_map(|name| curve(name)).collect();
        if chosen.is_empty() {
            return Err("none of the curves is to be had; write X25519, P-256 or P-384".into());
        }
        provider.kx_groups = chosen;
    }
    Ok(Arc::new(provider))
}

fn curve(name: &str) -> Option<&'static dyn SupportedKxGroup> {
    match name {
        "X25519" => Some(kx_group::X25519),
        "P-256" => Some(kx_group::SECP256R1),
        "P-384" => Some(kx_group::SECP384R1),
        _ => None,
    }
}

/// The versions from `min` to `max` that we have: 1.2 and 1.3.
///
/// # Errors
/// None of them is.
pub fn versions(
    min: TlsVersion,
    max: TlsVersion,
) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let mut found = Vec::new();
    if max >= TlsVersion::V1_3 {
        found.push(&version::TLS13);
    }
    if min <= TlsVersion::V1_2 && max >= TlsVersion::V1_2 {
        found.push(&version::TLS12);
    }
    match found.is_empty() {
        true => Err("TLS below 1.2 is not to be had".to_string()),
        false => Ok(found),
    }
}
