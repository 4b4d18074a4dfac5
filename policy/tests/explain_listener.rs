//! What an explanation owes to the listener: routes that it does not have, because their match
//! cannot hold there, why it was taken though the URL does not name it, and the port that its
//! redirects leave out.

mod support;

use ringroad_policy::explain::{Explanation, Request, explain};
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;
use ringroad_policy::source::SourceFile;
use support::{GATEWAY, load_text, rule, service, sidecar};

fn told(text: &str, url: &str) -> Explanation {
    let files = [SourceFile {
        path: "config.yaml".to_string(),
        text: text.to_string(),
    }];
    let loaded = ringroad_policy::load(&files, &Overrides::default(), &DnsTable::default());
    let snapshot = loaded
        .snapshot
        .unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics));
    explain(&snapshot, &files, &Request::for_url(url).unwrap(), None)
}

/// Route, field and reason of each route that was passed over.
fn passed_over(told: &Explanation) -> Vec<(&str, &str, &str)> {
    let each = told.passed_over.iter().map(|passed| {
        let field = passed.written.as_ref().map_or("", |place| &place.field);
        (passed.route.as_str(), field, passed.because.as_str())
    });
    each.collect()
}

#[test]
fn routes_of_other_ports_and_gateways_are_told_in_their_place() {
    let routes = "hosts: ['*']\ngateways: [edge, other]\nhttp:\n\
        - name: a\n  match: [{port: 443, uri: {prefix: /}}]\n  directResponse: {status: 201}\n\
        - name: b\n  match: [{uri: {prefix: /b}}]\n  directResponse: {status: 202}\n\
        - name: c\n  match: [{name: m, gateways: [other], uri: {prefix: /}}]\n  \
          directResponse: {status: 203}\n\
        - name: d\n  match: [{sourceLabels: {app: x}, uri: {prefix: /}}]\n  \
          directResponse: {status: 204}\n\
        - name: e\n  match: [{sourceNamespace: shop, uri: {prefix: /}}]\n  \
          directResponse: {status: 205}\n\
        - name: f\n  directResponse: {status: 206}\n\
        - name: g\n  match: [{port: 444}]\n  directResponse: {status: 207}\n";
    let other = GATEWAY
        .replace("edge", "other")
        .replace("number: 8080", "number: 8081");
    let text = GATEWAY.to_string() + &other + &rule("r", routes);
    let told = told(&text, "http://h:8080/x");
    assert_eq!(told.route.as_deref(), Some("f"));
    assert_eq!(
        passed_over(&told),
        [
            (
                "a",
                "spec.http[0].match[0]",
                "match.port is 443, and this is port 8080"
            ),
            (
                "b",
                "spec.http[1].match[0]",
                "path `/x` does not begin with `/b`"
            ),
            (
                "c.m",
                "spec.http[2].match[0]",
                "match.gateways is [default/other], and this listener belongs to default/edge"
            ),
            (
                "d",
                "spec.http[3].match[0]",
                "match.sourceLabels is {app: x}, and this proxy has {}"
            ),
            (
                "e",
                "spec.http[4].match[0]",
                "match.sourceNamespace is shop, and this proxy is in default"
            ),
        ]
    );
    let text_form = told.to_text();
    let line = text_form.lines().find(|line| line.contains("match.port"));
    assert!(line.is_some_and(|line| line.contains("(config.yaml:")));
}

#[test]
fn catch_alls_that_a_gateway_puts_last_take_nothing_of_the_order() {
    let first = "hosts: [h.com]\ngateways: [edge]\nhttp:\n\
        - name: all\n  match: [{port: 9, uri: {prefix: /q}}, {uri: {prefix: /}}]\n  \
          directResponse: {status: 201}\n";
    let second = "hosts: [h.com]\ngateways: [edge]\nhttp:\n\
        - name: x\n  match: [{uri: {prefix: /x}}]\n  directResponse: {status: 202}\n\
        - name: y\n  match: [{port: 9}]\n  directResponse: {status: 203}\n";
    let text = GATEWAY.to_string() + &rule("a", first) + &rule("b", second);
    let told = told(&text, "http://h.com:8080/z");
    assert_eq!(told.route.as_deref(), Some("all"));
    let names: Vec<&str> = passed_over(&told).iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, ["all", "x", "y"]);
}

#[test]
fn a_rule_without_any_route_here_is_told_for_its_hosts_alone() {
    let only_other = "hosts: [a.com]\nhttp:\n\
        - name: far\n  match: [{gateways: [edge]}]\n  route: [{destination: {host: a.com}}]\n";
    let text = sidecar("default")
        + &service("a.com", 80, 1)
        + &service("b.com", 80, 1)
        + &rule("r", only_other);
    let of_mesh = told(&text, "http://a.com:80/");
    assert_eq!(of_mesh.route.as_deref(), Some("default"));
    assert_eq!(
        passed_over(&of_mesh),
        [(
            "far",
            "spec.http[0].match[0]",
            "match.gateways is [default/edge], and this listener belongs to the mesh"
        )]
    );
    assert_eq!(passed_over(&told(&text, "http://b.com:80/")), []);
    let at_gateway = GATEWAY.to_string()
        + &rule(
            "r",
            "hosts: [h.com]\ngateways: [edge]\nhttp: [{match: [{port: 1}], directResponse: {status: 200}}]",
        );
    let told = told(&at_gateway, "http://h.com:8080/");
    assert!(told.error.is_some());
    assert_eq!(passed_over(&told).len(), 1);
    assert!(load_text(&at_gateway).snapshot.is_some());
}

#[test]
fn a_listener_that_the_url_does_not_name_is_explained() {
    let text = GATEWAY.to_string()
        + &rule(
            "r",
            "hosts: ['*']\ngateways: [edge]\nhttp: [{directResponse: {status: 200}}]",
        );
    let note = |url: &str| told(&text, url).listener_note;
    assert_eq!(
        note("http://h/").as_deref(),
        Some("the only listener, though not on port 80, which a URL without a port means")
    );
    assert_eq!(note("http://h:8080/"), None);
    let other = GATEWAY
        .replace("edge", "other")
        .replace("number: 8080", "number: 8081");
    let several = told(&(text.clone() + &other), "http://h/");
    let error = several.error.unwrap();
    assert!(
        error.contains("no listener on port 80, which a URL without a port means; there are"),
        "{error}"
    );
}

#[test]
fn a_redirect_out_of_tls_leaves_the_port_of_https_out() {
    let secure = "port: {number: 443, name: https, protocol: HTTPS}\n    \
                  tls: {mode: SIMPLE, credentialName: c}";
    let gateway = GATEWAY.replace("port: {number: 8080, name: http, protocol: HTTP}", secure);
    assert_ne!(gateway, GATEWAY);
    for (redirect, expected) in [
        (
            "{authority: x.test, port: 443}",
            "location: https://x.test/",
        ),
        (
            "{authority: x.test, derivePort: FROM_REQUEST_PORT}",
            "location: https://x.test/",
        ),
        (
            "{authority: x.test, port: 80}",
            "location: https://x.test:80/",
        ),
    ] {
        let spec = format!("hosts: ['*']\ngateways: [edge]\nhttp: [{{redirect: {redirect}}}]\n");
        let told = told(
            &(gateway.clone() + &rule("r", &spec)),
            "https://h.test:443/",
        );
        let answer = told.answer.unwrap_or_else(|| panic!("{:?}", told.error));
        assert_eq!(answer.reason, expected, "{redirect}");
    }
}
