//! Whether secrets will serve, before anything runs.

use super::contexts::{clients, servers};
use super::credentials::{Fingerprint, Places, Reader};
use super::parameters::provider;
use super::server::certified_key;
use ringroad_policy::diagnostic::{Diagnostic, Place};
use ringroad_policy::snapshot::{CredentialSource, Snapshot, TrustSource};
use ringroad_policy::source::Origin;
use std::path::PathBuf;

/// A warning for each description of TLS whose secret is missing or broken. Files are left out:
/// they may lie on the machine that runs it alone.
pub fn inspect_secrets(snapshot: &Snapshot, config_roots: &[PathBuf]) -> Vec<Diagnostic> {
    let reader = Reader::default();
    let places = Places {
        snapshot,
        config_roots,
        reader: &reader,
    };
    let mut found = Vec::new();
    let mut inspect =
        |origin: &Option<Origin>, sources: &[CredentialSource], trust: Option<&TrustSource>| {
            let Some(why) = judge(&places, sources, trust).err() else {
                return;
            };
            let place = origin.clone().map_or(Place::Nowhere, Place::Field);
            let message = format!("{why}; handshakes fail");
            let help = "mend the secret, or correct its name here";
            let warning = Diagnostic::warning("unusable-secret", place, message).with_help(help);
            if !found.contains(&warning) {
                found.push(warning);
            }
        };
    for (_, tls) in servers(snapshot) {
        inspect(&tls.origin, &tls.credentials, tls.trust.as_ref());
    }
    for (_, tls) in clients(snapshot) {
        let trust = Some(&tls.trust).filter(|_| !tls.skips_verification);
        inspect(&tls.origin, tls.credential.as_slice(), trust);
    }
    found
}

fn judge(
    places: &Places<'_>,
    sources: &[CredentialSource],
    trust: Option<&TrustSource>,
) -> Result<(), String> {
    let mut seen = Fingerprint::default();
    let provider = provider(&[], &[])?;
    let is_secret = |source: &&CredentialSource| matches!(source, CredentialSource::Secret { .. });
    for source in sources.iter().filter(is_secret) {
        let credential = places.credential(source, &mut seen)?.parse()?;
        certified_key(credential, &provider)?;
    }
    if let Some(trust @ TrustSource::Secret { .. }) = trust {
        places.roots(trust, &mut seen)?.parse()?;
    }
    Ok(())
}
