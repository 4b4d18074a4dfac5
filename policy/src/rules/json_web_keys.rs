//! Keys of tokens, written into a policy. RFC 7517.

use serde_json::Value;

use crate::schema::{Node, Report};

const HELP: &str = "write a JSON Web Key Set, such as `{\"keys\": [{\"kty\": \"RSA\", ...}]}`";

pub(super) fn check(keys: &Node<'_>, report: &mut Report<'_>) {
    let Ok(set) = serde_json::from_str::<Value>(keys.text()) else {
        report.error("invalid-jwks", keys, "the keys are no JSON", HELP);
        return;
    };
    let single = [set.clone()];
    let list = match set.get("keys") {
        Some(Value::Array(list)) => list.as_slice(),
        Some(_) => &[Value::Null],
        None => &single,
    };
    for (at, key) in list.iter().enumerate() {
        if let Err(problem) = check_key(key) {
            report.error("invalid-jwks", keys, format!("key {at} {problem}"), HELP);
        } else if is_private(key) {
            let message = format!("key {at} is private or shared: anyone who reads it can sign");
            let help = "write the public key alone";
            report.warning("private-key", keys, message, help);
        }
    }
}

/// Parameters of RFC 7518 section 6 that a public key has to have.
fn check_key(key: &Value) -> Result<(), String> {
    let kind = key.get("kty").and_then(Value::as_str);
    let needed: &[&str] = match kind {
        Some("RSA") => &["n", "e"],
        Some("EC") => &["crv", "x", "y"],
        Some("OKP") => &["crv", "x"],
        Some("oct") => &["k"],
        Some(other) => return Err(format!("has the unknown kty `{other}`")),
        None => return Err("has no kty".to_string()),
    };
    let is_missing = |name: &&&str| key.get(**name).and_then(Value::as_str).is_none();
    match needed.iter().find(is_missing) {
        Some(name) => Err(format!("has no `{name}`")),
        None => Ok(()),
    }
}

fn is_private(key: &Value) -> bool {
    key.get("d").is_some() || key.get("kty").and_then(Value::as_str) == Some("oct")
}
