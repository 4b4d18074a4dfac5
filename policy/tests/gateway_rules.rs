//! How servers, hosts and VirtualServices are merged at a gateway.

mod support;

use ringroad_policy::snapshot::Decision;
use support::*;

fn gateway(name: &str, servers: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\n\
         spec:\n  selector: {{istio: ingressgateway}}\n  servers:\n{servers}"
    )
}

fn server(port: u16, protocol: &str, rest: &str) -> String {
    format!("  - {{port: {{number: {port}, name: p{port}, protocol: {protocol}}}, {rest}}}\n")
}

fn answer(name: &str, condition: &str) -> String {
    format!("- {{name: {name}, match: [{condition}], directResponse: {{status: 200}}}}\n")
}

fn name(text: &str, port: u16, host: &str, path: &str) -> String {
    let snapshot = snapshot(text);
    let request = get(host, path);
    request
        .route(table(&snapshot, port))
        .map_or_else(str::to_string, |route| route.name.clone())
}

#[test]
fn rules_for_one_host_are_merged_with_catch_alls_last() {
    let text = format!(
        "{GATEWAY}{}{}",
        rule(
            "a",
            &format!(
                "hosts: [a.com]\ngateways: [edge]\nhttp:\n{}",
                answer("all", "{uri: {prefix: /}}")
            )
        ),
        rule(
            "b",
            &format!(
                "hosts: [a.com]\ngateways: [edge]\nhttp:\n{}",
                answer("b", "{uri: {prefix: /b}}")
            )
        ),
    );
    assert_eq!(name(&text, 8080, "a.com", "/b"), "b");
    assert_eq!(name(&text, 8080, "a.com", "/x"), "all");
}

#[test]
fn a_wildcard_host_does_not_back_an_exact_one() {
    let text = format!(
        "{GATEWAY}{}{}",
        rule(
            "a",
            &format!(
                "hosts: [a.com]\ngateways: [edge]\nhttp:\n{}",
                answer("a", "{uri: {exact: /a}}")
            )
        ),
        rule(
            "b",
            &format!(
                "hosts: ['*']\ngateways: [edge]\nhttp:\n{}",
                answer("any", "{uri: {prefix: /}}")
            )
        ),
    );
    assert_eq!(name(&text, 8080, "a.com", "/a"), "a");
    assert_eq!(name(&text, 8080, "a.com", "/x"), "no route");
    assert_eq!(name(&text, 8080, "b.com", "/x"), "any");
}

#[test]
fn server_hosts_narrow_rules_and_rules_narrow_server_hosts() {
    let rule_for = |hosts: &str| {
        rule(
            "r",
            &format!(
                "hosts: [{hosts}]\ngateways: [g]\nhttp:\n{}",
                answer("r", "{uri: {prefix: /}}")
            ),
        )
    };
    let text = |server_hosts: &str, hosts: &str| {
        gateway(
            "g",
            &server(80, "HTTP", &format!("hosts: [{server_hosts}]")),
        ) + &rule_for(hosts)
    };
    let wide = text("'*.a.com'", "x.a.com, y.b.com");
    assert_eq!(name(&wide, 80, "x.a.com", "/"), "r");
    assert_eq!(name(&wide, 80, "y.b.com", "/"), "no virtual host");
    let narrow = text("x.a.com", "'*.a.com'");
    assert_eq!(name(&narrow, 80, "x.a.com", "/"), "r");
    assert_eq!(name(&narrow, 80, "y.a.com", "/"), "no virtual host");
    assert_eq!(
        name(&text("other/x.a.com", "x.a.com"), 80, "x.a.com", "/"),
        "no route"
    );
    assert_eq!(
        name(&text("default/x.a.com", "x.a.com"), 80, "x.a.com", "/"),
        "r"
    );
    assert_eq!(name(&text("./x.a.com", "x.a.com"), 80, "x.a.com", "/"), "r");
}

#[test]
fn gateways_on_one_port_share_a_listener_and_binds_do_not() {
    let text = gateway("g1", &server(80, "HTTP", "hosts: [a.com]"))
        + &gateway("g2", &server(80, "HTTP2", "hosts: [b.com]"))
        + &gateway("g3", &server(80, "HTTP", "bind: 127.0.0.1, hosts: [c.com]"))
        + &rule(
            "a",
            &format!(
                "hosts: ['*']\ngateways: [g1, g2, g3]\nhttp:\n{}",
                answer("r", "{}")
            ),
        );
    let snapshot = snapshot(&text);
    let names: Vec<_> = snapshot
        .listeners
        .iter()
        .map(|listener| listener.name.as_str())
        .collect();
    assert_eq!(names, ["0.0.0.0_80", "127.0.0.1_80"]);
    let tables: Vec<_> = snapshot
        .listeners
        .iter()
        .map(|l| l.route_table().unwrap().name.as_str())
        .collect();
    assert_eq!(tables, ["http.80", "http.80.127.0.0.1"]);
    assert_eq!(snapshot.listeners[0].gateways, ["default/g1", "default/g2"]);
    let hosts = snapshot.listeners[0].route_table().unwrap().virtual_hosts();
    assert_eq!(hosts.len(), 2);
}

#[test]
fn hosts_with_the_same_routes_are_one_virtual_host() {
    let text = format!(
        "{GATEWAY}{}",
        rule(
            "a",
            &format!(
                "hosts: [b.com, a.com]\ngateways: [edge]\nhttp:\n{}",
                answer("r", "{}")
            )
        ),
    );
    let snapshot = snapshot(&text);
    let hosts = table(&snapshot, 8080).virtual_hosts();
    assert_eq!(hosts.len(), 1);
    assert_eq!(
        (hosts[0].name.as_str(), hosts[0].domains.len()),
        ("a.com:8080", 2)
    );
}

#[test]
fn the_first_server_of_a_port_decides_what_it_speaks() {
    let text = gateway("a", &server(80, "TCP", "hosts: [a.com]"))
        + &gateway("b", &server(80, "HTTP", "hosts: [b.com]"));
    let loaded = load_text(&text);
    assert!(codes(&loaded.diagnostics).contains(&"port-conflict"));
    assert!(loaded.snapshot.unwrap().listeners.is_empty());
}

#[test]
fn https_redirect_covers_every_host_of_the_server() {
    let text = gateway(
        "g",
        &server(
            80,
            "HTTP",
            "hosts: [a.com, b.com], tls: {httpsRedirect: true}",
        ),
    ) + &rule(
        "r",
        &format!(
            "hosts: [a.com]\ngateways: [g]\nhttp:\n{}",
            answer("r", "{}")
        ),
    );
    let snapshot = snapshot(&text);
    for host in ["a.com", "b.com"] {
        let decision = get(host, "/").decide(table(&snapshot, 80));
        assert!(matches!(decision, Decision::HttpsRedirect(_)), "{host}");
    }
    assert_eq!(
        get("c.com", "/").route(table(&snapshot, 80)).unwrap_err(),
        "no virtual host"
    );
}

#[test]
fn selectors_count_only_when_the_workload_has_labels() {
    let settings = |labels: &str| {
        format!(
            "---\napiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {{name: p}}\n\
             spec: {{workload: {{labels: {labels}}}}}\n"
        )
    };
    let binds = |text: &str| snapshot(&format!("{GATEWAY}{text}")).listeners.len();
    assert_eq!(binds(""), 1);
    assert_eq!(binds(&settings("{istio: ingressgateway}")), 1);
    assert_eq!(binds(&settings("{istio: egressgateway}")), 0);
}

#[test]
fn a_gateway_reference_may_name_the_namespace() {
    for (reference, bound) in [
        ("edge", true),
        ("default/edge", true),
        ("edge.default.svc.cluster.local", true),
        ("other/edge", false),
    ] {
        let spec = format!(
            "hosts: ['*']\ngateways: [{reference}]\nhttp:\n{}",
            answer("r", "{}")
        );
        let loaded = load_text(&format!("{GATEWAY}{}", rule("r", &spec)));
        let is_unknown = codes(&loaded.diagnostics).contains(&"unknown-gateway");
        assert_eq!(is_unknown, !bound, "{reference}");
        let snapshot = loaded.snapshot.unwrap();
        assert_eq!(
            get("h", "/").route(table(&snapshot, 8080)).is_ok(),
            bound,
            "{reference}"
        );
    }
}
