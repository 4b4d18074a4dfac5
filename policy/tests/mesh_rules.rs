//! How VirtualServices meet services in a sidecar: no merging, the older wins, abbreviations.

mod support;

use ringroad_policy::snapshot::RouteAction;
use support::*;

fn answer(status: u16) -> String {
    format!("http: [{{name: r{status}, directResponse: {{status: {status}}}}}]\n")
}

fn name(text: &str, port: u16, host: &str) -> String {
    let snapshot = snapshot(text);
    let request = get(host, "/");
    request
        .route(table(&snapshot, port))
        .map_or_else(str::to_string, |route| route.name.clone())
}

#[test]
fn the_older_of_two_rules_for_a_host_wins_and_the_other_is_named() {
    let stamped = |name: &str, stamp: &str, status: u16| {
        rule(name, &format!("hosts: [a.com]\n{}", answer(status))).replace(
            "metadata: {",
            &format!("metadata: {{creationTimestamp: '{stamp}', "),
        )
    };
    let text = format!(
        "{}{}{}{}",
        sidecar("default"),
        service("a.com", 80, 1),
        stamped("a", "2024-02-01T00:00:00Z", 201),
        // Half an hour before, told in another zone.
        stamped("b", "2024-02-01T00:30:00+01:00", 202),
    );
    assert_eq!(name(&text, 80, "a.com"), "r202");
    let loaded = load_text(&text);
    assert_eq!(codes(&loaded.diagnostics), ["duplicate-host"]);
    assert!(
        loaded.diagnostics[0].message.contains("`default/b`"),
        "{:?}",
        loaded.diagnostics
    );
}

#[test]
fn without_timestamps_the_name_decides_and_then_the_namespace() {
    let two = |first: &str, second: &str| {
        let text = format!("{}{}", sidecar("default"), service("a.com", 80, 1));
        let of = |name: &str, status| rule(name, &format!("hosts: [a.com]\n{}", answer(status)));
        text + &of(first, 201) + &of(second, 202)
    };
    assert_eq!(name(&two("x", "b"), 80, "a.com"), "r202");
    assert_eq!(name(&two("b", "x"), 80, "a.com"), "r201");
}

#[test]
fn the_most_specific_wildcard_rule_governs_a_service() {
    let text = format!(
        "{}{}{}{}{}",
        sidecar("default"),
        service("x.a.com", 9080, 1),
        service("other.com", 9080, 1),
        rule("a", &format!("hosts: ['*.com']\n{}", answer(201))),
        rule("b", &format!("hosts: ['*.a.com']\n{}", answer(202))),
    );
    assert_eq!(name(&text, 9080, "x.a.com"), "r202");
    assert_eq!(name(&text, 9080, "other.com"), "r201");
}

#[test]
fn a_host_of_no_service_counts_on_port_80_alone() {
    let text = format!(
        "{}{}{}{}",
        sidecar("default"),
        service("known.com", 80, 1),
        service("known.net", 9080, 1),
        rule("r", &format!("hosts: [unknown.com]\n{}", answer(201))),
    );
    assert_eq!(name(&text, 80, "unknown.com"), "r201");
    assert_eq!(name(&text, 9080, "unknown.com"), "allow_any");
}

#[test]
fn unknown_hosts_pass_or_are_blocked() {
    let open = format!("{}{}", sidecar("default"), service("a.com", 80, 1));
    assert_eq!(name(&open, 80, "unknown"), "allow_any");
    let closed = open.replace(
        "role: sidecar",
        "outboundTrafficPolicy: REGISTRY_ONLY, role: sidecar",
    );
    let snapshot = snapshot(&closed);
    let request = get("unknown", "/");
    let route = request.route(table(&snapshot, 80)).unwrap();
    assert_eq!(route.name, "block_all");
    assert!(matches!(
        route.action,
        RouteAction::DirectResponse { status: 502, .. }
    ));
    assert!(route.retry.is_none());
}

#[test]
fn rules_bound_to_gateways_alone_are_not_of_the_mesh() {
    let text = format!(
        "{}{}{}{GATEWAY}",
        sidecar("default"),
        service("a.com", 80, 1),
        rule(
            "r",
            &format!("hosts: [a.com]\ngateways: [edge]\n{}", answer(201))
        ),
    );
    assert_eq!(name(&text, 80, "a.com"), "default");
    let both = text.replace("gateways: [edge]", "gateways: [edge, mesh]");
    assert_eq!(name(&both, 80, "a.com"), "r201");
}

#[test]
fn export_to_hides_rules_services_and_destination_rules() {
    let in_other = |text: String| text.replace("metadata: {", "metadata: {namespace: other, ");
    let text = format!(
        "{}{}{}",
        sidecar("default"),
        in_other(service("a.com", 80, 1)),
        in_other(rule(
            "r",
            &format!("hosts: [a.com]\nexportTo: ['.']\n{}", answer(201))
        )),
    );
    assert_eq!(name(&text, 80, "a.com"), "default");
    assert_eq!(
        name(
            &text.replace("exportTo: ['.']", "exportTo: [default]"),
            80,
            "a.com"
        ),
        "r201"
    );
    let hidden = text.replace(
        "hosts: [a.com]\n  location",
        "hosts: [a.com]\n  exportTo: ['.']\n  location",
    );
    assert!(snapshot(&hidden).listeners.is_empty());
}

#[test]
fn a_rule_that_only_its_own_namespace_sees_comes_before_public_ones() {
    let text = format!(
        "{}{}{}{}",
        sidecar("default"),
        service("a.com", 80, 1),
        rule("a", &format!("hosts: [a.com]\n{}", answer(201))),
        rule(
            "z",
            &format!("hosts: [a.com]\nexportTo: ['.']\n{}", answer(202))
        ),
    );
    assert_eq!(name(&text, 80, "a.com"), "r202");
}

#[test]
fn a_destination_without_port_takes_that_of_the_listener() {
    let text = format!(
        "{}{}{}{}",
        sidecar("default"),
        service("a.com", 80, 1),
        service("b.com", 9080, 1),
        rule(
            "r",
            "hosts: [a.com]\nhttp: [{route: [{destination: {host: b.com}}]}]\n"
        ),
    );
    let loaded = load_text(&text);
    assert_eq!(codes(&loaded.diagnostics), ["unknown-port"]);
    let snapshot = loaded.snapshot.unwrap();
    let request = get("a.com", "/");
    let destination = &request.route(table(&snapshot, 80)).unwrap().destinations()[0];
    assert_eq!(
        (destination.cluster_name.as_str(), destination.cluster),
        ("outbound|80||b.com", None)
    );
    let with_port = text.replace("{host: b.com}", "{host: b.com, port: {number: 9080}}");
    assert_eq!(
        get("a.com", "/").cluster(&support::snapshot(&with_port), 80),
        "outbound|9080||b.com"
    );
}

#[test]
fn ports_that_speak_no_http_have_no_listener() {
    let tcp = service("db.com", 3306, 1).replace("protocol: HTTP", "protocol: TCP");
    let text = format!("{}{}{tcp}", sidecar("default"), service("a.com", 80, 1));
    let names: Vec<_> = snapshot(&text)
        .listeners
        .iter()
        .map(|l| l.name.clone())
        .collect();
    assert_eq!(names, ["0.0.0.0_80"]);
}

/// A proxy that listened at the address of an endpoint would send requests to itself.
#[test]
fn nothing_listens_where_an_endpoint_is() {
    let entry = |address: &str, port: u16| {
        format!(
            "{}---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: app}}\nspec:\n  hosts: [app.test]\n  resolution: STATIC\n  \
             ports: [{{number: 8000, name: http, protocol: HTTP, targetPort: {port}}}]\n  \
             endpoints: [{{address: {address}}}]\n",
            sidecar("default")
        )
    };
    let listeners = |text: &str| {
        let loaded = load_text(text);
        let warned = codes(&loaded.diagnostics).contains(&"endpoint-at-listener");
        (loaded.snapshot.expect("accepted").listeners.len(), warned)
    };
    assert_eq!(listeners(&entry("127.0.0.1", 8000)), (0, true));
    assert_eq!(listeners(&entry("127.0.0.1", 8001)), (1, false));
    assert_eq!(listeners(&entry("127.0.0.2", 8000)), (1, false));
    assert_eq!(listeners(&entry("10.0.0.1", 8000)), (1, false));
}
