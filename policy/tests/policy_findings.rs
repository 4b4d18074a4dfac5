//! AuthorizationPolicies that do nothing, or something else than they seem to: each is named, and
//! the form that does what was meant is not.

mod support;

use ringroad_policy::diagnostic::Place;
use support::*;

const SETTINGS: &str = "---
apiVersion: ringroad.dev/v1alpha1
kind: ProxySettings
metadata: {name: p}
spec:
  role: sidecar
  namespace: shop
  workload: {labels: {app: cart}}
  extensionProviders:
  - {name: judge, envoyExtAuthzHttp: {service: judge.test, port: 80}}
  - {name: lost, envoyExtAuthzHttp: {service: lost.test, port: 80}}
  - {name: deaf, envoyExtAuthzHttp: {service: judge.test, port: 81}}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  selector: {app: cart}
  ports: [{name: http-web, port: 80, targetPort: 8080}, {name: tcp-db, port: 9000}]
";

/// Code, field and message of each warning about a policy of namespace `shop`.
fn found(spec: &str) -> Vec<(&'static str, String, String)> {
    let text = format!(
        "{}{SETTINGS}---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: a, namespace: shop}}\nspec: {spec}\n",
        service("judge.test", 80, 1)
    );
    let loaded = load_text(&text);
    assert!(loaded.snapshot.is_some(), "{:#?}", loaded.diagnostics);
    let each = loaded.diagnostics.iter().map(|found| {
        let (Place::Field(origin) | Place::Key(origin)) = &found.place else {
            panic!("{found:?}")
        };
        assert!(found.help.is_some(), "what to write instead: {found:?}");
        (found.code, origin.field.to_string(), found.message.clone())
    });
    each.collect()
}

fn assert_only(spec: &str, code: &str, field: &str, part: &str) {
    let all = found(spec);
    let [(known, place, message)] = all.as_slice() else {
        panic!("one warning for {spec}: {all:?}");
    };
    assert_eq!((*known, place.as_str()), (code, field), "{spec}: {message}");
    assert!(message.contains(part), "{message}");
}

#[test]
fn a_provider_that_nobody_defines_or_declares_is_named() {
    let custom =
        |name: &str| format!("{{action: CUSTOM, provider: {{name: {name}}}, rules: [{{}}]}}");
    let field = "spec.provider.name";
    for (name, part) in [
        ("nobody", "nobody defines"),
        ("lost", "nobody declares `lost.test`"),
        ("deaf", "has no port 81"),
    ] {
        // `rules: [{}]` is every request.
        let spec = custom(name).replace("{}", "{to: [{operation: {methods: [GET]}}]}");
        assert_only(&spec, "unknown-provider", field, part);
    }
    let spec = custom("judge").replace("{}", "{to: [{operation: {methods: [GET]}}]}");
    assert_eq!(found(&spec), []);
}

#[test]
fn allow_without_rules_denies_everything() {
    assert_only("{}", "allows-nothing", "spec", "all requests are denied");
    assert_only(
        "{selector: {matchLabels: {app: cart}}}",
        "allows-nothing",
        "spec",
        "denied",
    );
    assert_eq!(
        found("{rules: [{to: [{operation: {methods: [GET]}}]}]}"),
        []
    );
}

#[test]
fn a_selector_that_nobody_has_is_named() {
    let with = |labels: &str| {
        format!(
            "{{selector: {{matchLabels: {labels}}}, rules: [{{to: [{{operation: {{methods: [GET]}}}}]}}]}}"
        )
    };
    let field = "spec.selector";
    assert_only(&with("{app: crat}"), "selects-nothing", field, "for nobody");
    assert_eq!(found(&with("{app: cart}")), []);
    // A Service says some of the labels of its workloads alone.
    assert_eq!(found(&with("{app: cart, version: v2}")), []);
}

#[test]
fn fields_of_http_on_ports_of_tcp_are_named() {
    let on = |action: &str, port: &str, more: &str| {
        format!(
            "{{action: {action}, rules: [{{to: [{{operation: {{ports: ['{port}']{more}}}}}]}}]}}"
        )
    };
    let field = "spec.rules[0]";
    let methods = ", methods: [GET]";
    assert_only(
        &on("ALLOW", "9000", methods),
        "http-only-field",
        field,
        "allows nothing",
    );
    assert_only(
        &on("DENY", "9000", methods),
        "http-only-field",
        field,
        "every connection",
    );
    assert_eq!(found(&on("ALLOW", "8080", methods)), []);
    assert_eq!(found(&on("ALLOW", "9000", "")), []);
    assert_eq!(
        found(&on("ALLOW", "7777", methods)),
        [],
        "nobody knows that port"
    );
}

#[test]
fn a_denial_by_http_attributes_alone_denies_tcp() {
    let deny = |rule: &str| format!("{{action: DENY, rules: [{{{rule}}}]}}");
    let field = "spec.rules[0]";
    for rule in [
        "to: [{operation: {methods: [GET]}}]",
        "from: [{source: {notRequestPrincipals: ['*']}}]",
    ] {
        assert_only(&deny(rule), "denies-tcp", field, "denies all TCP");
    }
    for rule in [
        "to: [{operation: {methods: [GET], ports: ['80']}}]",
        "from: [{source: {namespaces: [test]}}]",
    ] {
        assert_eq!(found(&deny(rule)), [], "{rule}");
    }
}

#[test]
fn a_gateway_without_tcp_is_not_warned_of_denied_tcp() {
    let told = |server: &str| {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec:\n  \
             selector: {{istio: gate}}\n  servers:\n  - port: {{number: 8080, name: http, \
             protocol: HTTP}}\n    hosts: ['*']\n{server}---\n\
             apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: no-admin, namespace: istio-system}}\nspec:\n  action: DENY\n  \
             rules: [{{to: [{{operation: {{paths: [/admin*]}}}}]}}]\n---\n\
             apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\n\
             spec:\n  hosts: ['*']\n  gateways: [g]\n  \
             http: [{{directResponse: {{status: 200}}}}]\n  \
             tcp: [{{match: [{{port: 9000}}], route: [{{destination: {{host: a.test, port: \
             {{number: 80}}}}}}]}}]\n---\n\
             apiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {{name: p}}\n\
             spec: {{role: gateway}}\n---\n{}",
            service("a.test", 80, 1)
        );
        let codes = codes(&load_text(&text).diagnostics);
        codes.contains(&"denies-tcp")
    };
    assert!(!told(""));
    let tcp = "  - port: {number: 9000, name: tcp, protocol: TCP}\n    hosts: ['*']\n";
    assert!(told(tcp));
}

#[test]
fn values_that_no_request_has_are_named() {
    let to = |operation: &str| format!("{{rules: [{{to: [{{operation: {{{operation}}}}}]}}]}}");
    let from = |source: &str| format!("{{rules: [{{from: [{{source: {{{source}}}}}]}}]}}");
    let operation = |field: &str| format!("spec.rules[0].to[0].operation.{field}");
    let source = |field: &str| format!("spec.rules[0].from[0].source.{field}");
    for (spec, field, part) in [
        (
            to("paths: [admin]"),
            operation("paths[0]"),
            "begin with `/`",
        ),
        (to("paths: ['/a?b=c']"), operation("paths[0]"), "query"),
        (to("paths: [/a/../b]"), operation("paths[0]"), "as `/b`"),
        (to("paths: ['/%61*']"), operation("paths[0]"), "as `/a`"),
        (
            to("notPaths: [admin]"),
            operation("notPaths[0]"),
            "begin with `/`",
        ),
        (
            to("methods: [get]"),
            operation("methods[0]"),
            "none is `get`",
        ),
        (
            to("hosts: ['http://a.b']"),
            operation("hosts[0]"),
            "no host",
        ),
        (
            to("paths: [/a, /a/b], notPaths: ['/a*']"),
            operation("paths"),
            "`notPaths` excludes all",
        ),
        (
            from("principals: ['spiffe://a/ns/b/sa/c']"),
            source("principals[0]"),
            "without `spiffe://`",
        ),
        (
            from("principals: [cart]"),
            source("principals[0]"),
            "no principal",
        ),
    ] {
        assert_only(&spec, "never-matches", &field, part);
    }
    for spec in [
        to("paths: ['/a*', '*/b', '*', '/a/{*}/b', '/%2f'], methods: [GET, 'P*'], hosts: [A.b]"),
        to("paths: [/a, /b], notPaths: [/a]"),
        from("principals: ['*', 'a/ns/*', 'cluster.local/ns/a/sa/b']"),
    ] {
        assert_eq!(found(&spec), [], "{spec}");
    }
}

/// A denial of `*.admin.*` denied nothing, in silence.
#[test]
fn a_wildcard_that_is_none_is_named() {
    for (field, value) in [
        ("hosts", "*.admin.*"),
        ("hosts", "a*.test"),
        ("notHosts", "*.admin.*"),
        ("methods", "*E*"),
    ] {
        let spec = format!(
            "{{action: DENY, rules: [{{to: [{{operation: {{ports: ['80'], {field}: ['{value}']}}}}]}}]}}"
        );
        let at = format!("spec.rules[0].to[0].operation.{field}[0]");
        assert_only(&spec, "partial-wildcard", &at, value);
    }
    for fine in ["hosts: ['*.a.test', 'a.*', '*']", "methods: ['G*', '*T']"] {
        let spec = format!("{{rules: [{{to: [{{operation: {{{fine}}}}}]}}]}}");
        assert_eq!(found(&spec), [], "{fine}");
    }
}
