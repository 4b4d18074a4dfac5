//! `tls` of a server: a gateway's, or a sidecar's ingress. Istio: `validateTLSOptions`.

use super::values::{check_file_path, report_missing};
use crate::schema::{Node, Report};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// OpenSSL's names of the cipher suites that BoringSSL has, those that are carried first.
const CIPHER_SUITES: [&str; 15] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

/// How many of them are carried.
const CARRIED_SUITES: usize = 6;

/// Fields that hold or name certificates.
const CERTIFICATES: [&str; 6] = [
    "serverCertificate",
    "privateKey",
    "caCertificates",
    "tlsCertificates",
    "credentialName",
    "credentialNames",
];

fn is_written(node: &Node<'_>) -> bool {
    !node.text().is_empty() || !node.is_empty()
}

pub(super) fn check(tls: &Node<'_>, report: &mut Report<'_>) {
    if !tls.is_set() {
        return;
    }
    check_ciphers(tls, report);
    check_fingerprints(tls, report);
    check_paths(tls, report);
    check_versions(tls, report);
    let skips = tls.get("insecureSkipVerify");
    if skips.is_true() {
        let message = "certificates of clients are not verified: anybody can make one up";
        let help = "remove it, and write what clients are verified by in `caCertificates:`";
        report.key_warning("unverified-peers", &skips, message, help);
    }
    let mode = tls.get("mode");
    match mode.text() {
        "ISTIO_MUTUAL" => {
            for name in CERTIFICATES {
                let field = tls.get(name);
                if is_written(&field) {
                    let message = format!("mode ISTIO_MUTUAL brings its own, so `{name}` is none");
                    report.key_error("conflicting-fields", &field, message, "remove it");
                }
            }
        }
        "" | "PASSTHROUGH" | "AUTO_PASSTHROUGH" => {
            for name in CERTIFICATES.iter().chain(&["caCrl"]) {
                let field = tls.get(name);
                if is_written(&field) {
                    let message = format!("TLS passes through here, so `{name}` is not used");
                    let help = "write `mode: SIMPLE` or `mode: MUTUAL` to terminate TLS";
                    report.key_warning("no-effect", &field, message, help);
                }
            }
            check_sources(tls, report);
            let revoked = tls.get("caCrl");
            if is_written(&revoked) && is_written(&tls.get("credentialName")) {
                let message = "the list of revoked certificates stands in the credential";
                report.key_error("conflicting-fields", &revoked, message, "remove `caCrl`");
            }
        }
        mode => {
            if mode == "SIMPLE" {
                check_unverified_clients(tls, report);
            }
            check_sources(tls, report);
            check_termination(tls, mode, report);
        }
    }
}

/// Envoy refuses these.
fn check_fingerprints(tls: &Node<'_>, report: &mut Report<'_>) {
    let is_hash = |text: &str| {
        let is_grouped = text.split(':').all(|group| group.len() == 2);
        let digits = text.replace(':', "");
        let has_form = is_grouped || digits.len() == text.len();
        has_form && digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let is_base64 = |text: &str| {
        let bytes = BASE64_STANDARD.decode(text);
        bytes.is_ok_and(|bytes| bytes.len() == 32)
    };
    for (name, what, is_one) in [
        (
            "verifyCertificateHash",
            "64 hexadecimal digits, as `openssl x509 -fingerprint -sha256` prints them",
            &is_hash as &dyn Fn(&str) -> bool,
        ),
        (
            "verifyCertificateSpki",
            "the SHA-256 of the public key in base64, which has 44 characters",
            &is_base64,
        ),
    ] {
        let list = tls.get(name);
        for value in list.items() {
            if !is_one(value.text()) {
                let message = format!("`{}` is no SHA-256 fingerprint", value.text());
                let help = format!("write {what}");
                report.error("invalid-fingerprint", &value, message, help);
            }
        }
    }
}

fn check_paths(tls: &Node<'_>, report: &mut Report<'_>) {
    let certificates = tls.get("tlsCertificates");
    for source in std::iter::once(*tls).chain(certificates.items()) {
        for name in ["serverCertificate", "privateKey", "caCertificates"] {
            check_file_path(&source.get(name), report);
        }
    }
    check_file_path(&tls.get("caCrl"), report);
}

fn check_ciphers(tls: &Node<'_>, report: &mut Report<'_>) {
    let ciphers = tls.get("cipherSuites");
    let oldest = tls.get("minProtocolVersion");
    if ["TLSV1_0", "TLSV1_1"].contains(&oldest.text()) && ciphers.is_empty() {
        let message = format!("{} has no cipher suites by default", oldest.text());
        let help = "write `cipherSuites:` that it has, or `TLSV1_2`";
        report.warning("no-effect", &oldest, message, help);
    }
    let mut seen: Vec<&str> = Vec::new();
    for (at, cipher) in ciphers.texts().enumerate() {
        let is_operator = !cipher.starts_with(|c: char| c.is_alphanumeric());
        let is_known = is_operator || cipher == "ALL" || CIPHER_SUITES.contains(&cipher);
        let message = if !is_known {
            format!("`{cipher}` is no cipher suite, so it is left out")
        } else if CIPHER_SUITES[CARRIED_SUITES..].contains(&cipher) {
            format!("`{cipher}` is not carried, since it is no longer held to be safe")
        } else if seen.contains(&cipher) {
            format!("`{cipher}` is there twice")
        } else {
            seen.push(cipher);
            continue;
        };
        let node = ciphers.item(at, &ciphers.value()[at]);
        let help = "write OpenSSL's names, such as `ECDHE-RSA-AES256-GCM-SHA384`";
        report.warning("no-effect", &node, message, help);
    }
}

fn check_versions(tls: &Node<'_>, report: &mut Report<'_>) {
    const VERSIONS: [&str; 4] = ["TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"];
    let rank = |name: &str| {
        let written = tls.get(name);
        VERSIONS.iter().position(|known| *known == written.text())
    };
    let newest = tls.get("maxProtocolVersion");
    let oldest = rank("minProtocolVersion").unwrap_or(2);
    let message = match rank("maxProtocolVersion") {
        Some(..2) => "TLS below 1.2 is not carried: handshakes fail",
        Some(newest) if newest < oldest => {
            "`minProtocolVersion` is newer than this, so that no version is left: handshakes fail"
        }
        _ => return,
    };
    let help = "write `TLSV1_3`, or remove it";
    report.warning("no-effect", &newest, message, help);
}

/// What says how to verify clients, where none is asked for a certificate: everybody gets in.
fn check_unverified_clients(tls: &Node<'_>, report: &mut Report<'_>) {
    for name in [
        "subjectAltNames",
        "verifyCertificateHash",
        "verifyCertificateSpki",
        "caCertificates",
        "caCertCredentialName",
    ] {
        let field = tls.get(name);
        if is_written(&field) {
            let message = format!(
                "mode SIMPLE asks no client for a certificate, so `{name}` keeps nobody out"
            );
            let help = "write `mode: MUTUAL` to verify clients, or remove it";
            report.key_warning("no-effect", &field, message, help);
        }
    }
}

/// Certificates come from one place.
fn check_sources(tls: &Node<'_>, report: &mut Report<'_>) {
    let has_files = is_written(&tls.get("serverCertificate")) && is_written(&tls.get("privateKey"));
    let names = ["credentialName", "credentialNames", "tlsCertificates"];
    let named = names.iter().filter(|name| is_written(&tls.get(name)));
    if usize::from(has_files) + named.count() > 1 {
        let message = "the server's certificates come from several places";
        let help = "keep one of `credentialName`, `credentialNames`, `tlsCertificates`, and \
                    `serverCertificate` with `privateKey`";
        report.key_error("conflicting-fields", tls, message, help);
    }
}

fn check_termination(tls: &Node<'_>, mode: &str, report: &mut Report<'_>) {
    if is_written(&tls.get("credentialName")) || is_written(&tls.get("credentialNames")) {
        return;
    }
    if mode != "SIMPLE" && !is_written(&tls.get("caCertificates")) {
        let message = format!("mode {mode} has nothing to verify clients with");
        report_missing(
            tls,
            message,
            "write `caCertificates:` or `credentialName:`",
            report,
        );
    }
    let certificates = tls.get("tlsCertificates");
    let mut sources: Vec<Node<'_>> = certificates.items().collect();
    if sources.len() > 2 {
        let message = format!(
            "Istio carries two certificates of a server, not {}",
            sources.len()
        );
        let help = "keep two, one with an RSA key and one with an EC key";
        report.key_warning("too-many-items", &certificates, message, help);
    }
    if sources.is_empty() {
        sources.push(*tls);
    }
    for source in &sources {
        for name in ["serverCertificate", "privateKey"] {
            if !is_written(&source.get(name)) {
                let message = format!("mode {mode} has no `{name}`");
                let help = "write `serverCertificate:` and `privateKey:`, or `credentialName:`";
                report_missing(source, message, help, report);
            }
        }
    }
    let revoked = tls.get("caCrl");
    if is_written(&revoked) && mode == "SIMPLE" {
        let message = "mode SIMPLE verifies no clients, so it needs no `caCrl`";
        report.key_error(
            "conflicting-fields",
            &revoked,
            message,
            "write `mode: MUTUAL`",
        );
    }
}
