//! WasmPlugin. Istio: `ValidateWasmPlugin`.

use super::selectors::check_targets;
use super::values::report_missing;
use crate::schema::{Node, Report};

pub(super) fn check(spec: &Node<'_>, report: &mut Report<'_>) {
    check_targets(spec, report);
    check_url(spec, report);
    let digest = spec.get("sha256");
    if !digest.text().is_empty() && !is_digest(digest.text()) {
        let message = format!("`{}` is no SHA-256 of a module", digest.text());
        let help = "write 64 hexadecimal digits, small letters, as `sha256sum` prints them";
        report.error("invalid-fingerprint", &digest, message, help);
    }
    check_environment(&spec.get("vmConfig").get("env"), report);
}

fn check_url(spec: &Node<'_>, report: &mut Report<'_>) {
    const HELP: &str = "write `oci://`, `https://`, `http://` or `file://` and where the module is";
    let url = spec.get("url");
    if url.text().is_empty() {
        return report_missing(spec, "the plugin has no module", HELP, report);
    }
    let scheme = match url.text().split_once(':') {
        Some((before, _)) if !before.contains('/') => before,
        // The name of an image.
        _ => "",
    };
    let is_known = ["", "file", "http", "https", "oci"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    if !is_known || !is_escaped(url.text()) {
        let message = format!("no module is loaded from `{}`", url.text());
        report.error("invalid-url", &url, message, HELP);
    }
}

/// Whether each percent sign begins an escaped byte.
fn is_escaped(url: &str) -> bool {
    let mut parts = url.split('%').skip(1).map(str::as_bytes);
    parts.all(|part| part.len() >= 2 && part[..2].iter().all(u8::is_ascii_hexdigit))
}

fn is_digest(text: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 64 && text.bytes().all(is_digit)
}

fn check_environment(variables: &Node<'_>, report: &mut Report<'_>) {
    let mut seen: Vec<String> = Vec::new();
    for variable in variables.items() {
        let name = variable.get("name");
        if seen.iter().any(|known| known == name.text()) {
            let message = format!("the variable `{}` is there twice", name.text());
            report.error("duplicate-value", &name, message, "keep one of the two");
        }
        seen.push(name.text().to_string());
        let value = variable.get("value");
        if variable.get("valueFrom").text() == "HOST" && !value.text().is_empty() {
            let message = "the variable has a value and takes that of the host";
            let help = "remove `value`, or write `valueFrom: INLINE`";
            report.key_error("conflicting-fields", &value, message, help);
        }
    }
}
