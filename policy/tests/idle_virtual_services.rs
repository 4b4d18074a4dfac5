//! VirtualServices that do nothing, or matches that nothing meets, though Istio accepts both
//! without a word: each is named, and those that do something are not.

mod support;

use ringroad_policy::explain::{Request, explain};
use support::*;

/// Messages of warnings of this code.
fn messages(text: &str, code: &str) -> Vec<String> {
    let loaded = load_text(text);
    assert!(loaded.snapshot.is_some(), "{:#?}", loaded.diagnostics);
    let found = loaded
        .diagnostics
        .into_iter()
        .filter(|one| one.code == code);
    found
        .map(|one| {
            assert!(one.help.is_some(), "what to write instead: {one:?}");
            one.message
        })
        .collect()
}

fn answers(name: &str, hosts: &str) -> String {
    rule(
        name,
        &format!("hosts: {hosts}\nhttp: [{{directResponse: {{status: 200}}}}]\n"),
    )
}

#[test]
fn a_rule_of_the_mesh_for_no_service_is_not_silent() {
    let mesh = sidecar("default") + &service("a.com", 8080, 1);
    let unbound = |more: &str| messages(&(mesh.clone() + more), "unbound-rule");
    let [message] = unbound(&answers("r", "[b.com]")).try_into().expect("one");
    assert!(
        message.contains("nobody declares the host `b.com`"),
        "{message}"
    );
    assert!(message.contains("port 80"), "{message}");
    assert_eq!(unbound(&answers("r", "[b.com, c.com]")).len(), 1);
    // A host that a service has, or that a wildcard covers, is bound.
    for hosts in ["[a.com]", "['*.com']", "[b.com, a.com]"] {
        assert_eq!(unbound(&answers("r", hosts)), [] as [String; 0], "{hosts}");
    }
    // At port 80 a sidecar takes any host.
    let with_80 = service("w.com", 80, 1) + &answers("r", "[b.com]");
    assert_eq!(unbound(&with_80), [] as [String; 0]);
    // It is for a gateway too, or has no route for sidecars.
    for spec in [
        "hosts: [b.com]\ngateways: [mesh, edge]\nhttp: [{directResponse: {status: 200}}]\n",
        "hosts: [b.com]\ngateways: [edge]\nhttp: [{directResponse: {status: 200}}]\n",
        "http: [{directResponse: {status: 200}}]\n",
    ] {
        let text = rule("r", spec) + GATEWAY;
        assert_eq!(unbound(&text), [] as [String; 0], "{spec}");
    }
}

#[test]
fn a_rule_that_names_no_gateway_is_not_silent_at_a_gateway() {
    let edge = GATEWAY.to_string() + &service("a.com", 8080, 1);
    let named = |name: &str, host: &str, gateways: &str| {
        let answer = "http: [{directResponse: {status: 200}}]\n";
        rule(name, &format!("hosts: [{host}]\n{gateways}{answer}"))
    };
    let forgotten = edge.clone() + &named("r", "a.com", "");
    let [message] = messages(&forgotten, "unbound-rule")
        .try_into()
        .expect("one");
    assert!(message.contains("without `gateways`"), "{message}");
    // Who asks for such a request is told of it.
    let request = Request::for_url("http://a.com:8080/").expect("a URL");
    let told = explain(&snapshot(&forgotten), &[], &request, None);
    let passed_over: Vec<&str> = told.passed_over.iter().map(|one| &*one.because).collect();
    assert_eq!(passed_over, ["it names no gateway, so it is for sidecars"]);
    // Others are bound, so this is for the sidecars that share the directory, unless a server has
    // its host.
    let bound = named("bound", "b.com", "gateways: [edge]\n");
    assert_eq!(
        messages(&(forgotten.clone() + &bound), "unbound-rule"),
        [""; 0]
    );
    let with_host = (forgotten.clone() + &bound).replace("hosts: ['*']", "hosts: [a.com, b.com]");
    assert_eq!(messages(&with_host, "unbound-rule").len(), 1);
    for gateways in [
        "gateways: [edge]\n",
        "gateways: [mesh, edge]\n",
        "gateways: [mesh]\n",
    ] {
        let text = edge.clone() + &named("r", "a.com", gateways);
        assert_eq!(messages(&text, "unbound-rule"), [""; 0]);
    }
    // Others delegate to one without hosts, and a sidecar takes it.
    let text = edge + &rule("r", "http: [{directResponse: {status: 200}}]\n");
    assert_eq!(messages(&text, "unbound-rule"), [""; 0]);
    let text = sidecar("default") + &forgotten;
    assert_eq!(messages(&text, "unbound-rule"), [""; 0]);
}

#[test]
fn a_gateway_for_other_workloads_is_not_silent() {
    let labelled = |labels: &str| {
        let settings = sidecar("default").replace(
            "role: sidecar",
            &format!("role: gateway, workload: {{labels: {{{labels}}}}}"),
        );
        messages(&(settings + GATEWAY), "selects-nothing")
    };
    let [message] = labelled("app: q").try_into().expect("one");
    assert!(message.contains("which are app: q"), "{message}");
    assert_eq!(labelled("istio: ingressgateway, app: q"), [""; 0]);
    // Nobody has said which workload this is.
    assert_eq!(messages(GATEWAY, "selects-nothing"), [""; 0]);
}

#[test]
fn routes_at_servers_that_redirect_everybody_are_not_silent() {
    let server = |port: u16, protocol: &str, tls: &str| {
        format!(
            "  - port: {{number: {port}, name: p{port}, protocol: {protocol}}}\n    hosts: ['*']\n    \
             tls: {tls}\n"
        )
    };
    let gateway = |servers: &[String]| {
        let head = "---\napiVersion: networking.istio.io/v1\nkind: Gateway\n\
                    metadata: {name: edge}\nspec:\n  servers:\n";
        let spec = "hosts: ['*']\ngateways: [edge]\nhttp: [{directResponse: {status: 200}}]\n";
        head.to_string() + &servers.concat() + &rule("r", spec)
    };
    let redirecting = server(80, "HTTP", "{httpsRedirect: true}");
    let [message] = messages(&gateway(std::slice::from_ref(&redirecting)), "no-effect")
        .try_into()
        .expect("one");
    assert!(message.contains("redirect to HTTPS"), "{message}");
    let https = "{mode: SIMPLE, credentialName: c}";
    let both = gateway(&[redirecting, server(443, "HTTPS", https)]);
    assert_eq!(messages(&both, "no-effect"), [""; 0]);
}

#[test]
fn a_rule_for_a_service_that_a_sidecar_does_not_import_is_no_rule_for_nobody() {
    let scope = "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\n\
                 spec: {egress: [{hosts: ['./a.com', './r.com']}]}\n";
    let text = sidecar("default")
        + scope
        + &service("a.com", 8080, 1)
        + &service("b.com", 8080, 1)
        + &answers("r", "[b.com]");
    assert_eq!(messages(&text, "unbound-rule"), [] as [String; 0]);
}

#[test]
fn a_wildcard_rule_that_lost_all_of_its_hosts_is_not_silent() {
    let mesh = |services: &str| sidecar("default") + &service("a.com", 8080, 1) + services;
    let wide = answers("wide", "['*.com']");
    let exact = answers("exact", "[a.com]");
    let text = mesh("") + &wide + &exact;
    let [message] = messages(&text, "unbound-rule").try_into().expect("one");
    assert!(
        message.contains("every service that *.com covers"),
        "{message}"
    );
    // One service more, and it has something to do.
    let text = mesh(&service("b.com", 8080, 1)) + &wide + &exact;
    assert_eq!(messages(&text, "unbound-rule"), [] as [String; 0]);
    assert_eq!(
        messages(&(mesh("") + &wide), "unbound-rule"),
        [] as [String; 0]
    );
}

fn impossible(hosts: &str, condition: &str, settings: &str) -> Vec<String> {
    let spec = format!(
        "hosts: {hosts}\ngateways: [edge]\nhttp: [{{match: [{condition}], directResponse: {{status: 200}}}}]\n"
    );
    let text = GATEWAY.to_string() + settings + &rule("r", &spec);
    messages(&text, "never-matches")
}

#[test]
fn a_path_that_is_never_normal_is_not_silent() {
    let of = |uri: &str| impossible("['*']", &format!("{{uri: {uri}}}"), "");
    for (uri, normal) in [
        ("{exact: /x/../y}", "`/y`"),
        ("{exact: /x/./y}", "`/x/y`"),
        ("{exact: /%61}", "`/a`"),
        ("{prefix: /x/../y}", "dot segments"),
        ("{prefix: /x/..;v=1/y}", "dot segments"),
    ] {
        let [message] = of(uri).try_into().expect("one");
        assert!(message.contains(normal), "{message}");
    }
    for uri in [
        "{exact: /x/y}",
        "{exact: /x..y/.z}",
        "{prefix: /x/..}",
        "{prefix: /}",
        "{prefix: ''}",
        "{exact: /a%2Fb}",
        "{exact: /a//b}",
        "{regex: '/x/\\.\\./y'}",
    ] {
        assert_eq!(of(uri), [] as [String; 0], "{uri}");
    }
    let none = "---\napiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\n\
                metadata: {name: proxy}\nspec: {pathNormalization: {normalization: NONE}}\n";
    let condition = "{uri: {exact: /x/../y}}";
    assert_eq!(impossible("['*']", condition, none), [] as [String; 0]);
}

#[test]
fn an_authority_that_leads_elsewhere_is_not_silent() {
    let of = |hosts: &str, authority: &str| {
        impossible(hosts, &format!("{{authority: {authority}}}"), "")
    };
    let [message] = of("[shop.example]", "{exact: other.example}")
        .try_into()
        .expect("one");
    assert!(message.contains("`other.example`"), "{message}");
    for (hosts, authority) in [
        ("[shop.example]", "{exact: shop.example}"),
        ("[shop.example]", "{exact: 'shop.example:8080'}"),
        ("[shop.example]", "{exact: Shop.Example}"),
        ("['*.example']", "{exact: other.example}"),
        ("['*']", "{exact: other.example}"),
        ("[shop.example]", "{prefix: other}"),
        ("[shop.example]", "{exact: 10.0.0.1}"),
        (
            "[reviews.default.svc.cluster.local]",
            "{exact: 'reviews:9080'}",
        ),
        (
            "[reviews.default.svc.cluster.local]",
            "{exact: reviews.default}",
        ),
    ] {
        assert_eq!(
            of(hosts, authority),
            [] as [String; 0],
            "{hosts} {authority}"
        );
    }
}

/// A gateway, a service and a VirtualService with this match.
fn matching(condition: &str) -> String {
    let spec = format!(
        "hosts: ['*']\ngateways: [edge]\nhttp:\n- match: [{{{condition}}}]\n  \
         route: [{{destination: {{host: a.com}}}}]\n"
    );
    GATEWAY.to_string() + &service("a.com", 80, 1) + &rule("r", &spec)
}

#[test]
fn parts_of_a_request_among_its_headers_are_told_from_headers() {
    for (name, right) in [
        ("uri", "write `uri:` beside `headers:`"),
        ("Method", "write `method:` beside"),
        ("scheme", "write `scheme:` beside"),
        ("authority", "write `authority:` beside"),
    ] {
        let text = matching(&format!("headers: {{{name}: {{exact: x}}}}"));
        let [message] = messages(&text, "never-matches").try_into().expect("one");
        assert!(message.contains(&format!("`{name}`")), "{message}");
        let help = load_text(&text).diagnostics.remove(0).help.expect("a help");
        assert!(help.contains(right), "{help}");
        let text = matching(&format!("withoutHeaders: {{{name}: {{exact: x}}}}"));
        assert_eq!(messages(&text, "no-effect").len(), 1, "{name}");
    }
    let none: [String; 0] = [];
    let text = matching("headers: {x-method: {exact: x}}, method: {exact: GET}");
    assert_eq!(messages(&text, "never-matches"), none);
}

#[test]
fn claims_that_nobody_looks_at_are_told() {
    const TOKENS: &str = "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
        metadata: {name: tokens}\nspec: {jwtRules: [{issuer: me, jwksUri: 'https://a.com/keys'}]}\n";
    for name in [
        "@request.auth.claims.group",
        "'@request.auth.claims[group]'",
    ] {
        let text = matching(&format!("headers: {{{}: {{exact: x}}}}", quoted(name)));
        let [message] = messages(&text, "never-matches").try_into().expect("one");
        assert!(message.contains("no RequestAuthentication"), "{message}");
        let none: [String; 0] = [];
        assert_eq!(messages(&(text + TOKENS), "never-matches"), none);
        let text = matching(&format!(
            "withoutHeaders: {{{}: {{exact: x}}}}",
            quoted(name)
        ));
        let [message] = messages(&text, "no-effect").try_into().expect("one");
        assert!(message.contains("always holds"), "{message}");
    }
}

fn quoted(name: &str) -> String {
    format!("'{}'", name.trim_matches('\''))
}

#[test]
fn hosts_that_a_sidecar_leaves_out_again_are_told() {
    let of = |hosts: &str| {
        let text = sidecar("default") + &service("a.com", 80, 1);
        let spec = format!("egress: [{{hosts: {hosts}}}]\n");
        text + &rule("s", &spec).replace("VirtualService", "Sidecar")
    };
    let told = |hosts: &str| messages(&of(hosts), "no-effect");
    let none: [String; 0] = [];
    for (hosts, of) in [
        (
            "['~/*', './*']",
            "`~/*` leaves out all that `./*` would import",
        ),
        (
            "['default/*', '~*/*']",
            "`~*/*` leaves out all that `default/*`",
        ),
        (
            "['*/a.com', '~/*.com']",
            "`~/*.com` leaves out all that `*/a.com`",
        ),
        (
            "['./*.com', '~./*.com', '*/*']",
            "`~./*.com` leaves out all that `./*.com`",
        ),
    ] {
        let [message] = told(hosts).try_into().expect(hosts);
        assert!(message.contains(of), "{message}");
    }
    for hosts in ["['~/*']", "['./*', '~./b.com']", "['*/*', '~other/*']"] {
        assert_eq!(told(hosts), none, "{hosts}");
    }
}

#[test]
fn routes_of_a_kind_that_the_gateway_does_not_serve_are_told() {
    const TO: &str = "route: [{destination: {host: a.com, port: {number: 80}}}]";
    let told = |server: &str, routes: &str| {
        let gateway = GATEWAY.replace("protocol: HTTP}", &format!("protocol: {server}"));
        let spec = format!("hosts: [x.test]\ngateways: [edge]\n{routes}\n");
        let text = gateway + &service("a.com", 80, 1) + &rule("r", &spec);
        let found = messages(&text, "no-effect").into_iter();
        found
            .filter(|one| one.contains("they bind nothing"))
            .count()
    };
    let http = format!("http: [{{{TO}}}]");
    let tcp = format!("tcp: [{{{TO}}}]");
    let tls = format!("tls: [{{match: [{{sniHosts: [x.test]}}], {TO}}}]");
    let passthrough = "TLS}\n    tls: {mode: PASSTHROUGH}";
    let ending = "HTTPS}\n    tls: {mode: SIMPLE, credentialName: x}";
    for (server, http_binds, tls_binds, tcp_binds) in [
        ("HTTP}", true, false, false),
        ("TCP}", false, false, true),
        (passthrough, false, true, false),
        (ending, true, false, false),
    ] {
        for (routes, binds) in [(&http, http_binds), (&tls, tls_binds), (&tcp, tcp_binds)] {
            assert_eq!(
                told(server, routes),
                usize::from(!binds),
                "{server} {routes}"
            );
        }
    }
    assert_eq!(told("HTTP}", &format!("{http}\n{tcp}")), 1);
    // The mesh takes them.
    let spec = format!("hosts: [a.com]\ngateways: [edge, mesh]\n{tcp}\n");
    let text = GATEWAY.to_string() + &service("a.com", 80, 1) + &rule("r", &spec);
    assert_eq!(messages(&text, "no-effect"), [] as [String; 0]);
}

#[test]
fn a_rule_that_is_kept_from_its_gateway_is_told() {
    let rule = |export: &str| {
        let spec = format!(
            "hosts: [x.test]\ngateways: [default/edge]\n{export}\n\
             http: [{{name: own, route: [{{destination: {{host: a.com}}}}]}}]\n"
        );
        let text = GATEWAY.to_string() + &service("a.com", 80, 1);
        text + &rule("r", &spec).replace("{name: r}", "{name: r, namespace: other}")
    };
    let hidden = rule("exportTo: [.]");
    let [message] = messages(&hidden, "no-effect").try_into().expect("one");
    assert!(message.contains("from namespace `default`"), "{message}");
    let request = Request::for_url("http://x.test:8080/").expect("a URL");
    let told = explain(&snapshot(&hidden), &[], &request, None);
    let [passed] = told.passed_over.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(passed.route, "own");
    assert!(passed.because.contains("exportTo"), "{passed:?}");
    for export in ["", "exportTo: ['*']", "exportTo: [default]"] {
        assert_eq!(messages(&rule(export), "no-effect"), [] as [String; 0]);
    }
}
