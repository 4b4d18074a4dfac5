//! What Istio leaves silent: a warning with its place, and a snapshot all the same.

mod support;

use ringroad_policy::diagnostic::{Place, Severity};
use support::*;

/// The code and field of each warning about a rule with this `http`.
fn warnings(http: &str) -> Vec<(&'static str, String)> {
    let subsets = "host: a.com\nsubsets: [{name: v1, labels: {version: v1}}]\n";
    let text = format!(
        "{GATEWAY}{}{}{}",
        service("a.com", 80, 1),
        destination_rule("a", subsets),
        rule(
            "r",
            &format!("hosts: ['*']\ngateways: [edge]\nhttp:\n{http}")
        )
    );
    let loaded = load_text(&text);
    assert!(loaded.snapshot.is_some(), "{:?}", loaded.diagnostics);
    let each = loaded.diagnostics.iter().map(|diagnostic| {
        assert_eq!(diagnostic.severity, Severity::Warning);
        let Place::Field(origin) = &diagnostic.place else {
            panic!("{diagnostic:?}")
        };
        (diagnostic.code, origin.field.to_string())
    });
    each.collect()
}

#[test]
fn references_to_nothing_are_named() {
    let to = |destination: &str| warnings(&format!("- route: [{{destination: {destination}}}]\n"));
    let field = "spec.http[0].route[0].destination";
    assert_eq!(to("{host: a.com, subset: v1}"), []);
    assert_eq!(
        to("{host: b.com}"),
        [("unknown-host", format!("{field}.host"))]
    );
    assert_eq!(
        to("{host: a.com, subset: v2}"),
        [("unknown-subset", format!("{field}.subset"))]
    );
    assert_eq!(
        to("{host: a.com, port: {number: 81}}"),
        [("unknown-port", field.to_string())]
    );
}

#[test]
fn they_are_named_even_where_nothing_listens() {
    let of_mesh = rule(
        "r",
        "hosts: [a.com]\nhttp: [{route: [{destination: {host: a.com}}], mirror: {host: b.com}}]\n",
    );
    for text in [of_mesh.clone(), format!("{GATEWAY}{of_mesh}")] {
        let mut found = codes(&load_text(&text).diagnostics);
        found.retain(|code| *code == "unknown-host");
        assert_eq!(found.len(), 2);
    }
}

#[test]
fn a_weight_that_is_dropped_is_named() {
    let http = "- route:\n  - {destination: {host: a.com}, weight: 0}\n  - {destination: {host: a.com}, weight: 5}\n";
    assert_eq!(
        warnings(http),
        [("zero-weight", "spec.http[0].route[0]".to_string())]
    );
}

#[test]
fn routes_that_are_never_reached_are_named() {
    let answer = "directResponse: {status: 200}";
    let rules = |conditions: &[&str]| {
        let each = conditions
            .iter()
            .map(|condition| format!("- {{match: [{condition}], {answer}}}\n"));
        warnings(&each.collect::<String>())
    };
    let second = || vec![("unreachable-route", "spec.http[1].match[0]".to_string())];
    assert_eq!(
        rules(&["{uri: {prefix: /a}}", "{uri: {exact: /a/b}}"]),
        second()
    );
    assert_eq!(
        rules(&[
            "{uri: {prefix: /a}}",
            "{uri: {prefix: /ab}, method: {exact: GET}}"
        ]),
        second()
    );
    assert_eq!(
        rules(&["{uri: {exact: /a}}", "{uri: {exact: /a}, headers: {x: {}}}"]),
        second()
    );
    assert_eq!(rules(&["{uri: {prefix: /ab}}", "{uri: {prefix: /a}}"]), []);
    assert_eq!(rules(&["{uri: {exact: /a}}", "{uri: {prefix: /a}}"]), []);
    assert_eq!(
        rules(&[
            "{uri: {prefix: /a}, headers: {x: {}}}",
            "{uri: {prefix: /a}}"
        ]),
        []
    );
}

#[test]
fn rules_behind_a_rule_for_everything_are_named() {
    let answer = "directResponse: {status: 200}";
    let http = format!("- {{{answer}}}\n- {{match: [{{uri: {{exact: /b}}}}], {answer}}}\n");
    assert_eq!(
        warnings(&http),
        [("unreachable-route", "spec.http[1]".to_string())]
    );
}

#[test]
fn a_bad_expression_refuses_the_load() {
    let spec = "hosts: ['*']\ngateways: [edge]\nhttp: [{match: [{uri: {regex: '('}}], directResponse: {status: 200}}]\n";
    let loaded = load_text(&format!("{GATEWAY}{}", rule("r", spec)));
    assert!(loaded.snapshot.is_none());
    assert!(
        loaded
            .diagnostics
            .iter()
            .any(|d| d.severity == Severity::Error)
    );
}

#[test]
fn destinations_of_tcp_and_tls_routes_are_looked_up_too() {
    let gateway = GATEWAY.replace("protocol: HTTP", "protocol: TCP");
    let of = |host: &str| {
        let spec = format!(
            "hosts: ['*']\ngateways: [edge]\n\
             tcp: [{{route: [{{destination: {{host: {host}, port: {{number: 80}}}}}}]}}]\n"
        );
        let text = gateway.clone() + &service("a.com", 80, 1) + &rule("r", &spec);
        let found = load_text(&text).diagnostics;
        codes(&found).contains(&"unknown-host")
    };
    assert!(of("b.com"));
    assert!(!of("a.com"));
}

/// Message and help of the first warning of this code.
fn told(text: &str, code: &str) -> (String, String) {
    let loaded = load_text(text);
    let mut found = loaded.diagnostics.iter();
    let found = found.find(|one| one.code == code);
    let found = found.unwrap_or_else(|| panic!("no {code} in {:#?}", loaded.diagnostics));
    (
        found.message.clone(),
        found.help.clone().unwrap_or_default(),
    )
}

#[test]
fn an_unknown_mirror_is_not_said_to_fail_requests() {
    let with = |mirror: &str| {
        let spec = format!(
            "hosts: ['*']\ngateways: [edge]\n\
             http: [{{route: [{{destination: {{host: a.com}}}}], {mirror}}}]\n"
        );
        GATEWAY.to_string() + &service("a.com", 80, 1) + &rule("r", &spec)
    };
    for mirror in [
        "mirror: {host: b.com}",
        "mirrors: [{destination: {host: b.com}}]",
    ] {
        let (message, _) = told(&with(mirror), "unknown-host");
        assert!(message.contains("copies are lost"), "{message}");
        assert!(!message.contains("503"), "{message}");
    }
    let (message, _) = told(
        &with("mirror: {host: a.com, port: {number: 81}}"),
        "unknown-port",
    );
    assert!(message.contains("copies are lost"), "{message}");
    let requests = with("timeout: 1s").replace("host: a.com}}]", "host: b.com}}]");
    let (message, _) = told(&requests, "unknown-host");
    assert!(message.contains("requests get 503 NC"), "{message}");
}

#[test]
fn a_service_that_is_not_exported_is_not_said_to_be_declared_by_nobody() {
    let entry = service("a.com", 80, 1)
        .replace("{name: a-com}", "{name: a-com, namespace: shop}")
        .replace("spec:\n", "spec:\n  exportTo: ['.']\n");
    let spec = "hosts: ['*']\ngateways: [edge]\nhttp: [{route: [{destination: {host: a.com}}]}]\n";
    let text = GATEWAY.to_string() + &entry + &rule("r", spec);
    let (message, help) = told(&text, "unknown-host");
    assert!(
        message.contains("declared in shop/a-com, not exported to default"),
        "{message}"
    );
    assert!(
        help.contains("`default`") && help.contains("`exportTo`"),
        "{help}"
    );
    let of_kubernetes = "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: cart\n  \
        namespace: shop\n  annotations: {networking.istio.io/exportTo: '.'}\n\
        spec: {ports: [{name: http, port: 80}]}\n";
    let policy =
        "host: cart.shop.svc.cluster.local\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}\n";
    let text = sidecar("default") + of_kubernetes + &destination_rule("cart", policy);
    let (message, help) = told(&text, "unknown-host");
    assert!(
        message.contains("declared in shop/cart, not exported to default: this rule governs"),
        "{message}"
    );
    assert!(help.contains("networking.istio.io/exportTo"), "{help}");
}

/// An egress gateway reads the rules that lead the mesh to it, too.
#[test]
fn subsets_of_rules_that_are_for_others_alone_are_not_called_unknown() {
    let text = |role: &str, matched: &str, subset: &str| {
        let settings = format!(
            "---\napiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {{name: p}}\n\
             spec: {{role: {role}, namespace: far}}\n"
        );
        let spec = format!(
            "hosts: [a.com]\ngateways: [edge, mesh]\nhttp:\n\
             - match: [{{gateways: [{matched}]}}]\n  \
             route: [{{destination: {{host: a.com, subset: {subset}}}}}]\n"
        );
        let subsets =
            "host: a.com\nexportTo: ['.']\nsubsets: [{name: v1, labels: {version: v1}}]\n";
        settings
            + GATEWAY
            + &service("a.com", 80, 1)
            + &rule("r", &spec)
            + &destination_rule("d", subsets)
    };
    let found = |role: &str, matched: &str, subset: &str| {
        let found = found_in(&text(role, matched, subset));
        found.iter().any(|(code, _)| *code == "unknown-subset")
    };
    assert!(!found("gateway", "mesh", "v1"));
    assert!(found("gateway", "edge", "v1"));
    assert!(found("sidecar", "mesh", "v1"));
    assert!(!found("sidecar", "edge", "v1"));
    // Nobody has this one.
    assert!(found("gateway", "mesh", "v9"));
}

/// A Service of type ExternalName, and a rule of the edge that leads to it.
fn by_external_name(name: &str, ports: &str, destination: &str) -> String {
    let external = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: ext}}\n\
         spec: {{type: ExternalName, externalName: {name}{ports}}}\n"
    );
    let spec = format!(
        "hosts: ['*']\ngateways: [edge]\nhttp: [{{route: [{{destination: {destination}}}]}}]\n"
    );
    let subsets = "host: a.com\nsubsets: [{name: v1, labels: {version: v1}}]\n";
    let services = service("a.com", 80, 1) + &destination_rule("a", subsets);
    GATEWAY.to_string() + &services + &external + &rule("r", &spec)
}

#[test]
fn references_to_nothing_by_an_external_name_are_named() {
    let found = |name: &str, ports: &str, destination: &str| {
        let found = found_in(&by_external_name(name, ports, destination));
        let mut codes: Vec<_> = found.into_iter().map(|(code, _)| code).collect();
        // A circle is told where it is written, too.
        codes.dedup();
        codes
    };
    let port = ", ports: [{name: http, port: 80}]";
    for (name, ports, destination, expected) in [
        (
            "b.com",
            "",
            "{host: ext, port: {number: 80}}",
            Some("unknown-port"),
        ),
        ("b.com", "", "{host: ext}", Some("unknown-port")),
        (
            "b.com",
            port,
            "{host: ext, port: {number: 81}}",
            Some("unknown-port"),
        ),
        (
            "b.com",
            port,
            "{host: ext, subset: v1}",
            Some("unknown-subset"),
        ),
        ("b.com", port, "{host: ext, port: {number: 80}}", None),
        ("b.com", port, "{host: ext}", None),
        // What it leads to has ports and subsets of its own.
        ("a.com", "", "{host: ext, port: {number: 80}}", None),
        (
            "a.com",
            "",
            "{host: ext, port: {number: 80}, subset: v1}",
            None,
        ),
        (
            "a.com",
            "",
            "{host: ext, port: {number: 80}, subset: v2}",
            Some("unknown-subset"),
        ),
        (
            "a.com",
            port,
            "{host: ext, port: {number: 81}}",
            Some("unknown-port"),
        ),
        (
            "ext.default.svc.cluster.local",
            port,
            "{host: ext}",
            Some("unknown-host"),
        ),
    ] {
        let expected: Vec<&str> = expected.into_iter().collect();
        assert_eq!(
            found(name, ports, destination),
            expected,
            "{name}{ports} {destination}"
        );
    }
}
