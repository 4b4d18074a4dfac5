//! What the kinds of security, telemetry and extensions may say.

mod findings;

use findings::{errors, warnings};

fn object(kind: &str, spec: &str) -> String {
    let group = match kind {
        "Telemetry" => "telemetry.istio.io/v1",
        "WasmPlugin" => "extensions.istio.io/v1alpha1",
        _ => "security.istio.io/v1",
    };
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: {group}\nkind: {kind}\nmetadata: {{name: a}}\nspec:\n{spec}")
}

#[track_caller]
fn refused(kind: &str, spec: &str, code: &str, path: &str) {
    let found = errors(&object(kind, spec));
    let path = match path {
        "" => "spec".to_string(),
        path => format!("spec.{path}"),
    };
    assert_eq!(found, [(code, path)], "{spec}");
}

#[track_caller]
fn accepted(kind: &str, spec: &str) {
    assert_eq!(errors(&object(kind, spec)), [], "{spec}");
}

#[test]
fn policies_select_workloads_or_name_targets() {
    for kind in ["AuthorizationPolicy", "RequestAuthentication", "Telemetry"] {
        accepted(kind, "selector: {matchLabels: {app: a}}");
        accepted(kind, "targetRefs: [{kind: Service, group: '', name: a}]");
        accepted(
            kind,
            "targetRef: {kind: Gateway, group: gateway.networking.k8s.io, name: a}",
        );
        let both =
            "selector: {matchLabels: {app: a}}\ntargetRefs: [{kind: Service, group: '', name: a}]";
        refused(kind, both, "conflicting-fields", "targetRefs");
        let pod = "targetRefs: [{kind: Pod, group: '', name: a}]";
        refused(kind, pod, "unknown-value", "targetRefs[0].kind");
        let wildcard = "selector: {matchLabels: {app: 'a*'}}";
        refused(kind, wildcard, "invalid-label", "selector.matchLabels.app");
    }
    let empty = warnings(&object("Telemetry", "selector: {}"));
    assert_eq!(empty, [("empty-selector", "spec.selector".to_string())]);
}

#[test]
fn actions_have_the_rules_and_providers_that_they_need() {
    for fine in [
        "{}",
        "action: DENY\nrules: [{}]",
        "action: CUSTOM\nprovider: {name: a}\nrules: [{to: [{operation: {paths: [/a]}}]}]",
    ] {
        accepted("AuthorizationPolicy", fine);
    }
    for (spec, code, path) in [
        ("action: DENY", "missing-field", ""),
        ("action: CUSTOM\nrules: [{}]", "missing-field", ""),
        (
            "action: DENY\nrules: [{}]\nprovider: {name: a}",
            "conflicting-fields",
            "provider",
        ),
        (
            "action: CUSTOM\nprovider: {name: a}\nrules: [{from: [{source: {principals: [a]}}]}]",
            "conflicting-fields",
            "rules[0].from[0].source.principals",
        ),
    ] {
        refused("AuthorizationPolicy", spec, code, path);
    }
}

#[test]
fn rules_match_by_values_that_can_be() {
    let rule = |rule: &str| format!("rules: [{{{rule}}}]");
    for fine in [
        "from: [{source: {serviceAccounts: [ns/a, b], ipBlocks: [10.0.0.0/8]}}]",
        "to: [{operation: {ports: ['80'], paths: ['/a/{*}/b/{**}', '/x*']}}]",
        "when: [{key: 'request.headers[x-a]', values: [b]}]",
    ] {
        accepted("AuthorizationPolicy", &rule(fine));
    }
    for (broken, code, path) in [
        ("from: []", "empty-value", "from"),
        ("from: [{}]", "missing-field", "from[0]"),
        ("from: [{source: {}}]", "missing-field", "from[0].source"),
        (
            "from: [{source: {ipBlocks: [10.0.0.300]}}]",
            "invalid-address",
            "from[0].source.ipBlocks[0]",
        ),
        (
            "from: [{source: {serviceAccounts: [a/b/c]}}]",
            "invalid-name",
            "from[0].source.serviceAccounts[0]",
        ),
        (
            "from: [{source: {principals: ['']}}]",
            "empty-value",
            "from[0].source.principals[0]",
        ),
        (
            "to: [{operation: {ports: ['99999']}}]",
            "invalid-port",
            "to[0].operation.ports[0]",
        ),
        (
            "to: [{operation: {paths: ['/{**}/a/{*}']}}]",
            "invalid-path",
            "to[0].operation.paths[0]",
        ),
        (
            "to: [{operation: {paths: ['/a{b}']}}]",
            "invalid-path",
            "to[0].operation.paths[0]",
        ),
        ("when: [{key: source.ip}]", "missing-field", "when[0]"),
        (
            "when: [{key: source.ip, values: [a]}]",
            "invalid-address",
            "when[0].values[0]",
        ),
        (
            "when: [{key: request.header, values: [a]}]",
            "unknown-value",
            "when[0].key",
        ),
        (
            "when: [{key: request.headers, values: [a]}]",
            "unknown-value",
            "when[0].key",
        ),
    ] {
        let path = format!("rules[0].{path}");
        refused("AuthorizationPolicy", &rule(broken), code, &path);
    }
}

#[test]
fn only_policies_that_allow_or_deny_have_a_dry_run() {
    let dry = |action: &str, value: &str| {
        object(
            "AuthorizationPolicy",
            &format!("action: {action}\nrules: [{{}}]"),
        )
        .replace(
            "{name: a}",
            &format!("{{name: a, annotations: {{istio.io/dry-run: '{value}'}}}}"),
        )
    };
    let path = "metadata.annotations.istio.io/dry-run".to_string();
    assert_eq!(errors(&dry("DENY", "true")), []);
    let maybe = errors(&dry("DENY", "maybe"));
    assert_eq!(maybe, [("unknown-value", path.clone())]);
    let audit = errors(&dry("AUDIT", "true"));
    assert_eq!(audit, [("conflicting-fields", path)]);
}

#[test]
fn tokens_have_an_issuer_and_keys_that_can_be_read() {
    let rule = |rule: &str| format!("jwtRules: [{{{rule}}}]");
    let key = r#"'{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}'"#;
    accepted(
        "RequestAuthentication",
        &rule("jwksUri: 'https://a.example.com:8443/keys'"),
    );
    accepted(
        "RequestAuthentication",
        &rule(&format!("issuer: a, jwks: {key}")),
    );
    // As good as none: tokens of any issuer.
    accepted(
        "RequestAuthentication",
        &rule("issuer: '', jwksUri: 'https://a.example.com/keys'"),
    );
    for (broken, code, path) in [
        ("audiences: [a]", "missing-field", ""),
        ("issuer: ''", "missing-field", ""),
        ("issuer: a, audiences: ['']", "empty-value", ".audiences[0]"),
        (
            "issuer: a, jwksUri: 'ftp://a/keys'",
            "invalid-url",
            ".jwksUri",
        ),
        (
            "issuer: a, jwksUri: 'https://a:port/keys'",
            "invalid-url",
            ".jwksUri",
        ),
        (
            "issuer: a, jwksUri: 'https://a/b', jwks_uri: 'https://a/b'",
            "conflicting-fields",
            ".jwks_uri",
        ),
        ("issuer: a, jwks: keys", "invalid-jwks", ".jwks"),
        (
            "issuer: a, jwks: '{\"keys\": [{\"kty\": \"RSA\"}]}'",
            "invalid-jwks",
            ".jwks",
        ),
        (
            "issuer: a, fromParams: ['']",
            "empty-value",
            ".fromParams[0]",
        ),
        (
            "issuer: a, fromHeaders: [{name: x user}]",
            "invalid-header",
            ".fromHeaders[0].name",
        ),
        (
            "issuer: a, outputPayloadToHeader: ':path'",
            "invalid-header",
            ".outputPayloadToHeader",
        ),
    ] {
        let path = format!("jwtRules[0]{path}");
        refused("RequestAuthentication", &rule(broken), code, &path);
    }
    let nobody = rule("issuer: a, jwksUri: 'https:///keys'");
    assert_eq!(
        warnings(&object("RequestAuthentication", &nobody)),
        [("invalid-url", "spec.jwtRules[0].jwksUri".to_string())]
    );
    let private = rule(r#"issuer: a, jwks: '{"kty": "oct", "k": "c2VjcmV0"}'"#);
    let warnings = warnings(&object("RequestAuthentication", &private));
    assert_eq!(
        warnings,
        [("private-key", "spec.jwtRules[0].jwks".to_string())]
    );
}

/// A body was cut, or read as another request, where a token set its length.
#[test]
fn tokens_set_no_header_that_says_where_a_message_ends_or_goes() {
    for name in ["Content-Length", "transfer-encoding", "host"] {
        for (field, path) in [
            (
                format!("outputPayloadToHeader: {name}"),
                "outputPayloadToHeader",
            ),
            (
                format!("outputClaimToHeaders: [{{header: {name}, claim: a}}]"),
                "outputClaimToHeaders[0].header",
            ),
        ] {
            let spec = format!("jwtRules: [{{issuer: a, jwksUri: 'https://a/k', {field}}}]");
            let path = format!("spec.jwtRules[0].{path}");
            let found = warnings(&object("RequestAuthentication", &spec));
            assert_eq!(found, [("framing-header", path)], "{spec}");
        }
    }
}

#[test]
fn modes_of_ports_are_for_workloads() {
    let ports = "portLevelMtls: {8080: {mode: DISABLE}}";
    accepted(
        "PeerAuthentication",
        &format!("selector: {{matchLabels: {{app: a}}}}\n{ports}"),
    );
    refused(
        "PeerAuthentication",
        ports,
        "conflicting-fields",
        "portLevelMtls",
    );
}

#[test]
fn telemetry_names_providers_tags_and_expressions() {
    for fine in [
        "accessLogging: [{filter: {expression: 'response.code >= 400'}}]",
        "tracing: [{randomSamplingPercentage: 1.5, customTags: {a: {literal: {value: b}}}}]",
        "metrics: [{overrides: [{tagOverrides: {a: {value: request.host}, b: {operation: REMOVE}}}]}]",
    ] {
        accepted("Telemetry", fine);
    }
    for (broken, code, path) in [
        (
            "accessLogging: [{filter: {expression: 'a &&'}}]",
            "invalid-expression",
            "accessLogging[0].filter.expression",
        ),
        (
            "metrics: [{overrides: [{tagOverrides: {a: {operation: UPSERT}}}]}]",
            "missing-field",
            "metrics[0].overrides[0].tagOverrides.a",
        ),
        (
            "metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE, value: b}}}]}]",
            "conflicting-fields",
            "metrics[0].overrides[0].tagOverrides.a.value",
        ),
    ] {
        refused("Telemetry", broken, code, path);
    }
}

#[test]
fn plugins_name_a_module_and_what_it_gets() {
    let digest = "0123456789abcdef".repeat(4);
    for good in [
        "url: 'https://m.example.com/m.wasm'".to_string(),
        "url: m.example.com/m".to_string(),
        "url: 'file:///m.wasm', vmConfig: {env: [{name: A}, {name: B, valueFrom: HOST}]}"
            .to_string(),
        format!("url: 'oci://m/m', sha256: {digest}, pluginConfig: {{any: [thing]}}"),
    ] {
        accepted("WasmPlugin", &format!("{{{good}}}"));
    }
    for (broken, code, path) in [
        ("phase: AUTHN", "missing-field", ""),
        ("url: 'sftp://m/m'", "invalid-url", "url"),
        ("url: 'https://m/100%'", "invalid-url", "url"),
        ("url: m, sha256: 0123abcd", "invalid-fingerprint", "sha256"),
        (
            "url: m, vmConfig: {env: [{name: A, value: a}, {name: A}]}",
            "duplicate-value",
            "vmConfig.env[1].name",
        ),
        (
            "url: m, vmConfig: {env: [{name: ''}]}",
            "empty-value",
            "vmConfig.env[0].name",
        ),
        (
            "url: m, vmConfig: {env: [{name: A, value: a, valueFrom: HOST}]}",
            "conflicting-fields",
            "vmConfig.env[0].value",
        ),
        (
            "url: m, match: [{ports: [{number: 0}]}]",
            "out-of-range",
            "match[0].ports[0].number",
        ),
        (
            "url: m, selector: {matchLabels: {a: b}}, targetRef: {kind: Service, name: a}",
            "conflicting-fields",
            "targetRef",
        ),
        ("url: m, pluginname: a", "unknown-field", "pluginname"),
    ] {
        refused("WasmPlugin", &format!("{{{broken}}}"), code, path);
    }
    let capital = format!("{{url: m, sha256: {}}}", digest.to_ascii_uppercase());
    refused("WasmPlugin", &capital, "invalid-fingerprint", "sha256");
}
