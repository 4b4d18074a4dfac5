//! Routes and policies of TCP that do less than they seem to: each is named, and the form that does
//! what was meant is not.

mod support;

use support::*;

/// A gateway with two ports that carry bytes.
const PORTS: &str = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  servers:
  - {port: {number: 9001, name: tcp, protocol: TCP}, hosts: ['*']}
  - {port: {number: 9002, name: tcp-two, protocol: TCP}, hosts: ['*']}
";

fn tcp_service(host: &str) -> String {
    service(host, 9000, 2).replace("name: http, protocol: HTTP", "name: tcp, protocol: TCP")
}

/// What is said of these rules at a gateway.
fn at_gateway(rules: &str) -> Vec<(&'static str, String)> {
    let spec = format!("hosts: ['*']\ngateways: [edge]\ntcp:\n{rules}");
    found_in(&(PORTS.to_string() + &tcp_service("a.com") + &rule("r", &spec)))
}

/// What is said of them in the mesh.
fn in_mesh(rules: &str) -> Vec<(&'static str, String)> {
    let spec = format!("hosts: [a.com]\ntcp:\n{rules}");
    found_in(&(sidecar("default") + &tcp_service("a.com") + &rule("r", &spec)))
}

const TO_A: &str = "route: [{destination: {host: a.com}}]";

#[test]
fn conditions_that_a_gateway_does_not_look_at_are_named() {
    for condition in [
        "destinationSubnets: [10.0.0.0/8]",
        "sourceLabels: {app: q}",
        "sourceNamespace: ns",
    ] {
        let rules = format!("- {{match: [{{{condition}}}], {TO_A}}}\n");
        let name = condition.split(':').next().expect("a name");
        let field = format!("spec.tcp[0].match[0].{name}");
        assert_eq!(at_gateway(&rules), [("no-effect", field)]);
        assert_eq!(in_mesh(&rules), []);
    }
}

/// Neither Istio nor we look at it, so that such a rule took the connections of all.
#[test]
fn the_subnet_of_a_source_is_named() {
    let rules = format!("- {{match: [{{sourceSubnet: 10.0.0.0/8}}], {TO_A}}}\n");
    let field = "spec.tcp[0].match[0].sourceSubnet".to_string();
    assert_eq!(in_mesh(&rules), [("field-not-carried", field)]);
}

#[test]
fn rules_that_no_connection_comes_to_are_named() {
    let dead = |at: usize| vec![("unreachable-route", format!("spec.tcp[{at}]"))];
    let of_9001 = format!("- {{match: [{{port: 9001}}], {TO_A}}}\n");
    let of_9002 = of_9001.replace("9001", "9002");
    let of_all = format!("- {{{TO_A}}}\n");
    assert_eq!(at_gateway(&(of_all.clone() + &of_9001)), dead(1));
    assert_eq!(at_gateway(&(of_9001.clone() + &of_9001 + &of_9002)), {
        let mut both = dead(1);
        // The same is told of the text by itself.
        both.insert(0, ("duplicate-match", "spec.tcp[1].match[0]".to_string()));
        both
    });
    assert_eq!(at_gateway(&(of_9001.clone() + &of_9002)), []);
    // It is for the other port.
    assert_eq!(at_gateway(&(of_9001 + &of_all)), []);
    assert_eq!(in_mesh(&(of_all.clone() + &of_all)), dead(1));
    assert_eq!(in_mesh(&of_all), []);
}

#[test]
fn a_second_rule_for_the_port_of_a_gateway_is_named_across_documents() {
    let bound = |name: &str| {
        let spec = format!("hosts: ['*']\ngateways: [edge]\ntcp: [{{{TO_A}}}]\n");
        rule(name, &spec)
    };
    let text = PORTS.to_string() + &tcp_service("a.com") + &bound("one");
    assert_eq!(found_in(&text), []);
    let found = found_in(&(text + &bound("two")));
    assert_eq!(
        found.last().expect("a finding").0,
        "unreachable-route",
        "{found:?}"
    );
}

#[test]
fn weights_that_share_nothing_are_named() {
    let shares = |weights: &[u32]| {
        let each = weights.iter().map(|weight| {
            format!("{{destination: {{host: a.com, port: {{number: 9000}}}}, weight: {weight}}}")
        });
        let each: Vec<String> = each.collect();
        at_gateway(&format!("- route: [{}]\n", each.join(", ")))
    };
    let at = |field: &str| format!("spec.tcp[0].route[0]{field}");
    assert_eq!(shares(&[30]), [("no-effect", at(".weight"))]);
    assert_eq!(shares(&[0, 30]), [("zero-weight", at(""))]);
    assert_eq!(shares(&[100]), []);
    assert_eq!(shares(&[10, 30]), []);
}

#[test]
fn policies_for_requests_where_only_bytes_come_are_named() {
    let with = |protocol: &str, policy: &str| {
        let spec = format!("hosts: ['*']\ngateways: [edge]\n{protocol}: [{{{TO_A}}}]\n");
        let gateway = match protocol {
            "http" => GATEWAY,
            _ => PORTS,
        };
        let policy = format!("host: a.com\ntrafficPolicy: {{{policy}}}\n");
        let text = gateway.to_string() + &tcp_service("a.com") + &rule("r", &spec);
        found_in(&(text + &destination_rule("d", &policy)))
    };
    for (policy, field) in [
        (
            "loadBalancer: {consistentHash: {httpHeaderName: x}}",
            "loadBalancer.consistentHash.httpHeaderName",
        ),
        (
            "loadBalancer: {consistentHash: {httpQueryParameterName: x}}",
            "loadBalancer.consistentHash.httpQueryParameterName",
        ),
        ("retryBudget: {percent: 20}", "retryBudget"),
        (
            "connectionPool: {http: {maxRetries: 3}}",
            "connectionPool.http.maxRetries",
        ),
        (
            "connectionPool: {http: {http2MaxRequests: 3}}",
            "connectionPool.http.http2MaxRequests",
        ),
        (
            "connectionPool: {http: {maxRequestsPerConnection: 3}}",
            "connectionPool.http.maxRequestsPerConnection",
        ),
    ] {
        let at = format!("spec.trafficPolicy.{field}");
        assert_eq!(with("tcp", policy), [("no-effect", at)], "{policy}");
        // Requests are routed to a port of TCP as well, such as one that wants TLS.
        assert_eq!(with("http", policy), [], "{policy}");
    }
    for policy in [
        "loadBalancer: {consistentHash: {useSourceIp: true}}",
        "connectionPool: {tcp: {maxConnections: 3}, http: {http1MaxPendingRequests: 2}}",
    ] {
        assert_eq!(with("tcp", policy), [], "{policy}");
    }
}

/// All connections went to the first of them, and nobody was told.
#[test]
fn services_that_no_address_tells_apart_are_named() {
    let of = |mode: &str, one: &str, other: &str| {
        let role = format!("role: sidecar, interception: {{mode: {mode}}}");
        let settings = sidecar("default").replace("role: sidecar", &role);
        found_in(&(settings + one + other))
    };
    let (a, b) = (tcp_service("a.com"), tcp_service("b.com"));
    let lost = [("tcp-without-address", "spec.hosts".to_string())];
    assert_eq!(of("REDIRECT", &a, &b), lost);
    let at = |text: &str, address: &str| {
        text.replace("spec:\n", &format!("spec:\n  addresses: [{address}]\n"))
    };
    assert_eq!(
        of("REDIRECT", &at(&a, "10.1.0.1"), &at(&b, "10.1.0.1")),
        lost
    );
    assert_eq!(of("REDIRECT", &at(&a, "10.1.0.1"), &at(&b, "10.1.0.2")), []);
    assert_eq!(of("REDIRECT", &at(&a, "10.1.0.1"), &b), []);
    assert_eq!(of("REDIRECT", &a, &b.replace("9000", "9001")), []);
    // Told apart by the server name.
    let tls = |text: &str| text.replace("name: tcp, protocol: TCP", "name: tls, protocol: TLS");
    assert_eq!(of("REDIRECT", &tls(&a), &tls(&b)), []);
    // Bytes are not carried at all.
    assert_eq!(of("NONE", &a, &b), []);
}
