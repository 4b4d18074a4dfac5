//! Whether secrets will serve, before anything runs.

use super::contexts::{clients, servers};
use super::credentials::{Fingerprint, Places, Reader};
use super::parameters::provider;
use super::server::certified_key;
use ringroad_policy::diagnostic::{Diagnostic, Place};
use ringroad_policy::snapshot::{CredentialSource, Snapshot, TrustSource};
use ringroad_policy::source::Origin;
use std::path::{Path, PathBuf};

/// A warning for each description of TLS whose secret or files are missing or broken. Files in folders
/// that are not there are left out: they may lie on the machine that runs it alone.
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
            let warning = match sources.iter().any(credential_is_in_secret)
                || trust.is_some_and(trust_is_in_secret)
            {
                true => Diagnostic::warning("unusable-secret", place, message)
                    .with_help("mend the secret, or correct its name here"),
                false => Diagnostic::warning("unusable-file", place, message)
                    .with_help("mend the file, or correct its path here"),
            };
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
    let is_judged = |source: &&CredentialSource| match source {
        CredentialSource::Secret { .. } => true,
        CredentialSource::Files { certificate, key } => is_here(certificate) && is_here(key),
        CredentialSource::Workload => false,
    };
    for source in sources.iter().filter(is_judged) {
        let credential = places.credential(source, &mut seen)?.parse()?;
        certified_key(credential, &provider)?;
    }
    let is_judged = |trust: &&TrustSource| match trust {
        TrustSource::Secret { .. } => true,
        TrustSource::File(path) => is_here(path),
        TrustSource::Workload | TrustSource::System => false,
    };
    if let Some(trust) = trust.filter(is_judged) {
        places.roots(trust, &mut seen)?.parse()?;
    }
    Ok(())
}

fn credential_is_in_secret(source: &CredentialSource) -> bool {
    matches!(source, CredentialSource::Secret { .. })
}

fn trust_is_in_secret(trust: &TrustSource) -> bool {
    matches!(trust, TrustSource::Secret { .. })
}

/// Whether the folder of a file is on this machine, so that the file should be there too.
fn is_here(path: &str) -> bool {
    let folder = Path::new(path).parent();
    folder.is_some_and(|folder| !folder.as_os_str().is_empty() && folder.is_dir())
}
