//! No finding quotes a private key, however broken the document is that holds it.

use ringroad_policy::diagnostic::{render_json, render_text};
use ringroad_policy::load;
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;
use ringroad_policy::source::SourceFile;

const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2";
const SHORT: &str = "hunter2==";

/// The text and JSON of what is found in a text.
fn told(text: &str) -> [String; 2] {
    let files = [SourceFile {
        path: "a.yaml".to_string(),
        text: text.to_string(),
    }];
    let found = load(&files, &Overrides::default(), &DnsTable::default()).diagnostics;
    assert!(!found.is_empty(), "nothing is found in\n{text}");
    [render_text(&files, &found), render_json(&files, &found)]
}

fn assert_hides(text: &str, code: &str) {
    for told in told(text) {
        assert!(told.contains(code), "{told}");
        for secret in [KEY, SHORT, "987654321"] {
            assert!(!told.contains(secret), "{told}");
        }
    }
    assert!(
        told(text)[0].contains("| [redacted]\n"),
        "{}",
        told(text)[0]
    );
}

fn secret(rest: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: shop}}\n{rest}")
}

#[test]
fn a_key_that_lost_its_indentation_is_not_printed() {
    let begin = "-----BEGIN PRIVATE KEY-----";
    let end = "-----END PRIVATE KEY-----";
    for lost in [KEY, SHORT, begin] {
        let whole =
            format!("stringData:\n  tls.key: |\n    {begin}\n    {KEY}\n    {SHORT}\n    {end}\n");
        let broken = whole.replace(&format!("    {lost}\n"), &format!("{lost}\n"));
        assert_hides(&secret(&broken), "yaml-syntax");
        // Its kind stands elsewhere in the document, or was never written.
        let last = format!("{broken}kind: \"Secret\"\n");
        assert_hides(&last, "yaml-syntax");
        assert_hides(&broken, "yaml-syntax");
    }
    let json = format!("{{\"kind\": \"Secret\", \"data\": {{\"tls.key\": \"{SHORT}\" \"x\"}}}}\n");
    assert_hides(&json, "yaml-syntax");
}

#[test]
fn what_is_found_in_a_secret_does_not_quote_its_values() {
    let twice = format!("data:\n  tls.key: {SHORT}\n  tls.key: {KEY}\n");
    assert_hides(&secret(&twice), "duplicate-key");
    assert_hides(
        &secret(&format!("data: {{tls.key: \"{SHORT}!\"}}\n")),
        "bad-base64",
    );
    assert_hides(&secret("stringData: {password: 987654321}\n"), "wrong-type");
    assert_hides(&secret(&format!("data: {SHORT}\n")), "wrong-type");
    let named = told(&secret("stringData: {password: 987654321}\n"));
    assert!(
        named.iter().all(|told| told.contains("`password`")),
        "{named:?}"
    );
}

#[test]
fn a_part_of_a_key_that_is_taken_for_a_name_is_not_printed() {
    for name in [
        SHORT.to_string(),
        format!("{KEY}\n  {SHORT}\n  -----END PRIVATE KEY-----"),
    ] {
        let broken = secret(&format!("data: {{}}\n? {name}\n: x\n"));
        assert_hides(&broken, "unknown-field");
    }
}

#[test]
fn a_key_in_a_document_of_another_kind_is_not_printed() {
    let config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n";
    assert_hides(&format!("{config_map}  key: {KEY}: x\n"), "yaml-syntax");
    let pem = format!("  key: |\n    -----BEGIN EC PRIVATE KEY-----\n{SHORT}\n");
    assert_hides(&format!("{config_map}{pem}"), "yaml-syntax");
}

#[test]
fn private_keys_of_tokens_are_not_printed() {
    for key in [
        format!("{{\"kty\": \"oct\", \"k\": \"{SHORT}\"}}"),
        format!(
            "{{\"kty\": \"EC\", \"crv\": \"P-256\", \"x\": \"a\", \"y\": \"b\", \"d\": \"{SHORT}\"}}"
        ),
    ] {
        let policy = format!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: a}}\n\
             spec:\n  jwtRules:\n  - issuer: a\n    jwks: '{{\"keys\": [{key}]}}'\n"
        );
        assert_hides(&policy, "private-key");
    }
}

#[test]
fn the_documents_beside_a_secret_are_still_quoted() {
    let other = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\n\
                 spec: {severs: []}\n";
    let [text, _] = told(&format!("{}---\n{other}", secret("data: {}\n")));
    assert!(text.contains("| spec: {severs: []}"), "{text}");
    assert!(!text.contains("[redacted]"), "{text}");
}

#[test]
fn a_key_that_was_pasted_for_its_path_is_refused_and_not_printed() {
    let pem = |indent: &str| {
        format!(
            "|\n{indent}-----BEGIN PRIVATE KEY-----\n{indent}{KEY}\n{indent}{SHORT}\n{indent}-----END PRIVATE KEY-----\n"
        )
    };
    let gateway = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: a}}\nspec:\n  servers:\n  \
         - port: {{number: 443, name: https, protocol: HTTPS}}\n    hosts: [a.example.com]\n    tls:\n      \
         mode: SIMPLE\n      serverCertificate: /a.crt\n      privateKey: {}",
        pem("        ")
    );
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a}}\nspec:\n  \
         host: a.example.com\n  trafficPolicy:\n    tls:\n      mode: MUTUAL\n      \
         clientCertificate: /a.crt\n      privateKey: {}",
        pem("        ")
    );
    let settings = format!(
        "apiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {{name: a}}\nspec:\n  \
         certificates:\n    key: {}",
        pem("      ")
    );
    for text in [gateway, rule, settings] {
        for told in told(&text) {
            assert!(told.contains("stands where its path belongs"), "{told}");
            assert!(!told.contains(KEY) && !told.contains(SHORT), "{told}");
        }
    }
}
