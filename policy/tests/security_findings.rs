//! Security policies that keep nobody out, or let nobody in, without a word of Istio's: each is named,
//! and the form that does what was meant is not.

mod support;

use serde_json::{Value, json};
use support::*;

const GATE: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate, namespace: shop}
spec:
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]
---
";

const MUTUAL_GATE: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate, namespace: shop}
spec:
  servers:
  - port: {number: 8443, name: https, protocol: HTTPS}
    hosts: ['*']
    tls: {mode: MUTUAL, credentialName: gate}
---
";

fn settings(fields: &Value) -> String {
    let document = json!({
        "apiVersion": "ringroad.dev/v1alpha1",
        "kind": "ProxySettings",
        "metadata": {"name": "p"},
        "spec": fields,
    });
    format!("{document}\n---\n")
}

fn gateway_settings() -> String {
    settings(&json!({"role": "gateway", "namespace": "shop"}))
}

fn policy(kind: &str, name: &str, namespace: &str, spec: &Value) -> String {
    let document = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    });
    format!("{document}\n---\n")
}

#[track_caller]
fn assert_only(text: &str, code: &'static str, field: &str) {
    assert_eq!(found_in(text), [(code, field.to_string())], "{text}");
}

fn tokens(issuer: &str) -> String {
    let rules = json!([{"issuer": issuer, "jwksUri": "https://keys.test/keys"}]);
    policy(
        "RequestAuthentication",
        "tokens",
        "shop",
        &json!({"jwtRules": rules}),
    )
}

#[test]
fn rules_about_tokens_need_somebody_who_looks_at_them() {
    let allow = |rule: Value| {
        let spec = json!({"action": "ALLOW", "rules": [rule]});
        gateway_settings() + GATE + &policy("AuthorizationPolicy", "a", "shop", &spec)
    };
    let principals =
        |name: &str| allow(json!({"from": [{"source": {"requestPrincipals": [name]}}]}));
    let field = "spec.rules[0].from[0].source.requestPrincipals";
    assert_only(&principals("*"), "never-matches", field);
    let claims = allow(json!({"when": [{"key": "request.auth.claims[group]", "values": ["a"]}]}));
    assert_only(&claims, "never-matches", "spec.rules[0].when[0].key");
    for fine in ["*", "me/ann", "me/*", "*/ann"] {
        assert_eq!(found_in(&(principals(fine) + &tokens("me"))), [], "{fine}");
    }
    assert_eq!(found_in(&(claims + &tokens("me"))), []);
    for broken in ["ann", "you/ann"] {
        let text = principals(broken) + &tokens("me");
        assert_only(&text, "never-matches", &format!("{field}[0]"));
    }
}

/// Without keys the issuer is asked for them, which only one with a URL can be.
#[test]
fn an_issuer_that_cannot_be_asked_for_keys_is_named() {
    let tokens_of = |rule: Value| {
        let spec = json!({"jwtRules": [rule]});
        gateway_settings() + GATE + &policy("RequestAuthentication", "tokens", "shop", &spec)
    };
    let field = "spec.jwtRules[0].issuer";
    for issuer in ["me", "me@keys.test", "https:///keys"] {
        let text = tokens_of(json!({"issuer": issuer}));
        assert_only(&text, "unusable-keys", field);
    }
    for fine in [
        json!({"issuer": "https://keys.test"}),
        json!({"issuer": "me", "jwksUri": "https://keys.test/keys"}),
    ] {
        assert_eq!(found_in(&tokens_of(fine.clone())), [], "{fine}");
    }
}

#[test]
fn rules_about_identities_need_a_server_that_asks_for_certificates() {
    let source = json!({"principals": ["cluster.local/ns/a/sa/b"]});
    let spec = json!({"action": "ALLOW", "rules": [{"from": [{"source": source}]}]});
    let policy = policy("AuthorizationPolicy", "a", "shop", &spec);
    let field = "spec.rules[0].from[0].source.principals";
    assert_only(
        &(gateway_settings() + GATE + &policy),
        "never-matches",
        field,
    );
    assert_eq!(found_in(&(gateway_settings() + MUTUAL_GATE + &policy)), []);
    let sidecar = settings(&json!({"role": "sidecar", "namespace": "shop"}));
    assert_eq!(found_in(&(sidecar + &policy)), []);
}

#[test]
fn rules_about_ports_name_one_that_the_gateway_has() {
    let deny = |port: &str| {
        let rule = json!({"to": [{"operation": {"ports": [port]}}]});
        let spec = json!({"action": "DENY", "rules": [rule]});
        gateway_settings() + GATE + &policy("AuthorizationPolicy", "a", "shop", &spec)
    };
    assert_eq!(found_in(&deny("8080")), []);
    let field = "spec.rules[0].to[0].operation.ports";
    assert_only(&deny("1234"), "never-matches", field);
}

#[test]
fn a_policy_of_a_namespace_that_nobody_is_of_is_named() {
    let deny = |namespace: &str| {
        let spec = json!({"action": "DENY", "rules": [{}]});
        let shop = service("cart.test", 80, 1);
        gateway_settings() + GATE + &policy("AuthorizationPolicy", "a", namespace, &spec) + &shop
    };
    // That of the service is `default`.
    for known in ["shop", "default", "istio-system"] {
        assert_eq!(found_in(&deny(known)), [], "{known}");
    }
    assert_only(&deny("shopp"), "selects-nothing", "spec");
}

#[test]
fn a_star_inside_of_a_path_is_no_wildcard() {
    let deny = |path: &str| {
        let rule = json!({"to": [{"operation": {"paths": [path]}}]});
        let spec = json!({"action": "DENY", "rules": [rule]});
        gateway_settings() + GATE + &policy("AuthorizationPolicy", "a", "shop", &spec)
    };
    for fine in ["/a/*", "*/b", "*", "/a/{*}/b", "/a/{**}"] {
        assert_eq!(found_in(&deny(fine)), [], "{fine}");
    }
    for broken in ["/a/*/b", "/a*b*", "*a*b"] {
        let field = "spec.rules[0].to[0].operation.paths[0]";
        assert_only(&deny(broken), "partial-wildcard", field);
    }
}

/// A sidecar whose workload is `app: cart`, at port 8080 behind 80.
fn sidecar(more: &str) -> String {
    let settings = settings(&json!({
        "role": "sidecar",
        "namespace": "shop",
        "workload": {"labels": {"app": "cart"}, "addresses": ["10.0.0.9"]},
        "interception": {"mode": "REDIRECT"},
    }));
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\n\
                   spec: {selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}]}\n\
                   ---\n";
    settings + service + more
}

fn peers(name: &str, namespace: &str, spec: &Value) -> String {
    policy("PeerAuthentication", name, namespace, spec)
}

#[test]
fn a_peer_authentication_that_does_not_count_is_named() {
    let strict = json!({"mtls": {"mode": "STRICT"}});
    let of_cart = json!({
        "selector": {"matchLabels": {"app": "cart"}},
        "mtls": {"mode": "STRICT"},
    });
    let both = [
        peers("a", "shop", &strict),
        peers("b", "shop", &of_cart),
        peers("c", "istio-system", &strict),
    ];
    assert_eq!(found_in(&sidecar(&both.concat())), []);
    for spec in [&strict, &of_cart] {
        let twice = peers("a", "shop", spec) + &peers("b", "shop", spec);
        assert_only(&sidecar(&twice), "duplicate-rule", "spec");
    }
    let of_root = peers("a", "istio-system", &of_cart);
    assert_only(&sidecar(&of_root), "no-effect", "spec.selector");
    let ports = |port: &str| {
        let selector = json!({"matchLabels": {"app": "cart"}});
        let spec = json!({"selector": selector, "portLevelMtls": {port: {"mode": "DISABLE"}}});
        sidecar(&peers("a", "shop", &spec))
    };
    assert_eq!(found_in(&ports("8080")), []);
    assert_only(&ports("80"), "no-effect", "spec.portLevelMtls.80");
}

#[test]
fn strict_where_no_connection_is_looked_at_is_named() {
    let strict = peers("a", "shop", &json!({"mtls": {"mode": "STRICT"}}));
    assert_only(
        &(gateway_settings() + GATE + &strict),
        "no-effect",
        "spec.mtls",
    );
    let idle = settings(&json!({"role": "sidecar", "namespace": "shop"}));
    assert_only(&(idle + &strict), "no-effect", "spec.mtls");
    let of_mesh = peers("a", "istio-system", &json!({"mtls": {"mode": "STRICT"}}));
    assert_eq!(found_in(&(gateway_settings() + GATE + &of_mesh)), []);
}

#[test]
fn fields_that_a_mode_of_tls_does_not_look_at_are_named() {
    let server = |mode: &str, field: &str| {
        format!(
            "{}apiVersion: networking.istio.io/v1\nkind: Gateway\n\
             metadata: {{name: gate, namespace: shop}}\nspec:\n  servers:\n  \
             - port: {{number: 8443, name: https, protocol: HTTPS}}\n    hosts: ['*']\n    \
             tls: {{mode: {mode}, credentialName: gate, {field}}}\n",
            gateway_settings()
        )
    };
    for name in ["subjectAltNames", "verifyCertificateHash"] {
        let field = format!("{name}: ['{}']", "0".repeat(64));
        assert_eq!(found_in(&server("MUTUAL", &field)), []);
        let path = format!("spec.servers[0].tls.{name}");
        assert_only(&server("SIMPLE", &field), "no-effect", &path);
    }
    let rule = |tls: &str| {
        format!(
            "{}{}---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: a, namespace: shop}}\nspec: {{host: up.test, trafficPolicy: {{tls: {tls}}}}}\n",
            gateway_settings(),
            service("up.test", 443, 1)
        )
    };
    for fine in [
        "{mode: SIMPLE, sni: a.test, subjectAltNames: [a.test], caCertificates: /r}",
        "{mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /r}",
        "{mode: ISTIO_MUTUAL, sni: a.test, subjectAltNames: [a]}",
    ] {
        assert_eq!(found_in(&rule(fine)), [], "{fine}");
    }
    for (broken, name) in [
        ("{mode: DISABLE, sni: a.test}", "sni"),
        ("{sni: a.test}", "sni"),
        ("{caCertificates: /a.pem}", "caCertificates"),
        ("{mode: DISABLE, subjectAltNames: [a]}", "subjectAltNames"),
        ("{mode: ISTIO_MUTUAL, caCertificates: /r}", "caCertificates"),
        (
            "{mode: SIMPLE, caCertificates: /r, clientCertificate: /c}",
            "clientCertificate",
        ),
        ("{mode: SIMPLE, caCertificates: /r, sni: '*.a.test'}", "sni"),
        ("{mode: SIMPLE, caCertificates: /r, sni: 10.0.0.1}", "sni"),
    ] {
        let path = format!("spec.trafficPolicy.tls.{name}");
        assert_only(&rule(broken), "no-effect", &path);
    }
}

#[test]
fn settings_for_a_port_that_the_service_has_not_are_named() {
    let rule = |port: u16| {
        format!(
            "{}{}---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: a, namespace: shop}}\nspec:\n  host: up.test\n  trafficPolicy:\n    \
             portLevelSettings: [{{port: {{number: {port}}}, tls: {{mode: DISABLE}}}}]\n",
            gateway_settings(),
            service("up.test", 443, 1)
        )
    };
    assert_eq!(found_in(&rule(443)), []);
    let field = "spec.trafficPolicy.portLevelSettings[0].port";
    assert_only(&rule(81), "unknown-port", field);
}
