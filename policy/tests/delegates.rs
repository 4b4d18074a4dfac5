//! VirtualServices that hand requests to others.

mod support;

use ringroad_policy::snapshot::Snapshot;
use support::*;

const TEAM: &str = "
hosts: []
http:
- name: first
  match:
  - {uri: {prefix: /shop/cart}, headers: {x-own: {exact: a}}}
  - {name: sale, uri: {exact: /shop/sale}}
  route: [{destination: {host: cart.example, port: {number: 80}}}]
  timeout: 3s
- name: rest
  route: [{destination: {host: shop.example, port: {number: 80}}}]
";

fn root(more: &str) -> String {
    format!(
        "hosts: [shop.test]\ngateways: [edge]\nhttp:\n\
         - name: root\n  match: [{{uri: {{prefix: /shop}}}}]\n  \
         delegate: {{name: team, namespace: other}}\n{more}\
         - name: last\n  route: [{{destination: {{host: last.example, port: {{number: 80}}}}}}]\n"
    )
}

fn in_namespace(name: &str, namespace: &str, spec: &str) -> String {
    let metadata = format!("metadata: {{name: {name}, namespace: {namespace}}}");
    rule(name, spec).replace(&format!("metadata: {{name: {name}}}"), &metadata)
}

fn services() -> String {
    ["cart.example", "shop.example", "last.example"]
        .map(|host| service(host, 80, 1))
        .concat()
}

fn route(snapshot: &Snapshot, path: &str, own: bool) -> (String, Option<u64>) {
    let request = get("shop.test", path);
    let request = if own {
        request.with("x-own", "a")
    } else {
        request
    };
    let route = request.route(table(snapshot, 8080)).expect("a route");
    (route.name.clone(), route.timeout_ms)
}

#[test]
fn the_rules_of_a_delegate_are_narrowed_by_the_delegating_rule_and_inherit_from_it() {
    let more = "  timeout: 9s\n  headers: {request: {set: {x-from: root}}}\n";
    let text = [
        GATEWAY.to_string(),
        rule("front", &root(more)),
        in_namespace("team", "other", TEAM),
        services(),
    ];
    let snapshot = snapshot(&text.concat());
    let name = |text: &str| text.to_string();
    assert_eq!(
        route(&snapshot, "/shop/cart/1", true),
        (name("root-first"), Some(3_000))
    );
    assert_eq!(
        route(&snapshot, "/shop/cart/1", false),
        (name("root-rest"), Some(9_000))
    );
    assert_eq!(
        route(&snapshot, "/shop/sale", false),
        (name("root-first.sale"), Some(3_000))
    );
    assert_eq!(
        route(&snapshot, "/shop", false),
        (name("root-rest"), Some(9_000))
    );
    assert_eq!(route(&snapshot, "/other", false), (name("last"), None));
    let request = get("shop.test", "/shop/sale");
    let inherited = request.route(table(&snapshot, 8080)).unwrap();
    assert_eq!(inherited.request_headers.write.len(), 1);
}

#[test]
fn names_of_a_delegate_are_of_its_own_namespace() {
    let delegate = "http:\n- route: [{destination: {host: cart, port: {number: 80}}}]\n";
    let host = "cart.other.svc.cluster.local";
    let text = [
        GATEWAY.to_string(),
        rule("front", &root("")),
        in_namespace("team", "other", delegate),
        service(host, 80, 1),
        services(),
    ];
    let snapshot = snapshot(&text.concat());
    assert_eq!(
        get("shop.test", "/shop").cluster(&snapshot, 8080),
        format!("outbound|80||{host}")
    );
}

#[test]
fn a_delegate_that_is_missing_hidden_or_outside_is_left_out_with_a_word() {
    let cases = [
        (String::new(), "unknown-delegate"),
        (
            in_namespace("team", "other", &format!("exportTo: ['.']\n{TEAM}")),
            "delegate-not-exported",
        ),
        (
            // Hosts of its own make it no delegate.
            in_namespace(
                "team",
                "other",
                "hosts: [own.test]\nhttp: [{route: [{destination: {host: cart.example}}]}]",
            ),
            "unknown-delegate",
        ),
        (
            in_namespace(
                "team",
                "other",
                "http:\n- match: [{uri: {prefix: /sh}}]\n  \
                 route: [{destination: {host: cart.example, port: {number: 80}}}]",
            ),
            "delegate-conflict",
        ),
    ];
    for (delegate, code) in cases {
        let text = [
            GATEWAY.to_string(),
            rule("front", &root("")),
            delegate,
            services(),
        ];
        let loaded = load_text(&text.concat());
        assert!(
            codes(&loaded.diagnostics).contains(&code),
            "{code}: {:#?}",
            loaded.diagnostics
        );
        let snapshot = loaded.snapshot.expect("only warnings");
        assert_eq!(route(&snapshot, "/shop", false).0, "last", "{code}");
    }
}

#[test]
fn matches_fit_only_where_every_part_fits() {
    // Each with the match of the delegate, and whether it lies within the one above it.
    let above = "{uri: {prefix: /a}, headers: {x: {exact: '1'}}, port: 8080}";
    let cases = [
        ("{uri: {prefix: /a/b}}", true),
        ("{uri: {exact: /a}}", true),
        ("{uri: {exact: /b}}", false),
        ("{uri: {regex: /a.*}}", false),
        ("{headers: {x: {exact: '1'}}}", true),
        ("{headers: {x: {prefix: '1'}}}", false),
        ("{headers: {y: {exact: '2'}}}", true),
        ("{port: 8081}", false),
        ("{ignoreUriCase: true, uri: {prefix: /a}}", false),
        ("{method: {exact: GET}}", true),
    ];
    for (own, fits) in cases {
        let front = format!(
            "hosts: [shop.test]\ngateways: [edge]\nhttp:\n\
             - {{match: [{above}], delegate: {{name: team}}}}\n"
        );
        let team = format!(
            "http:\n- match: [{own}]\n  route: [{{destination: {{host: cart.example}}}}]\n"
        );
        let text = [
            GATEWAY.to_string(),
            rule("front", &front),
            rule("team", &team),
            services(),
        ];
        let loaded = load_text(&text.concat());
        let conflict = codes(&loaded.diagnostics).contains(&"delegate-conflict");
        assert_eq!(conflict, !fits, "{own}: {:#?}", loaded.diagnostics);
    }
}
