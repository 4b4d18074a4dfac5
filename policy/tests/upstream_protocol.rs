//! In which version of HTTP clusters are spoken to, and what decides about it.

mod support;

use ringroad_policy::snapshot::{Http2Keepalive, UNLIMITED, UpstreamProtocol};
use support::*;

fn settings(role: &str) -> String {
    format!(
        "---\napiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {{name: p}}\n\
         spec: {{role: {role}, namespace: default}}\n"
    )
}

/// A Kubernetes Service with this port.
fn service(port: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: default}}\n\
         spec: {{clusterIP: 10.9.0.1, ports: [{port}]}}\n"
    )
}

fn entry(protocol: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: a, namespace: default}}\nspec:\n  \
         hosts: [a.default.svc.cluster.local]\n  resolution: STATIC\n  \
         ports: [{{number: 80, name: port, protocol: {protocol}}}]\n  \
         endpoints: [{{address: 10.0.0.1}}]\n"
    )
}

fn pool(http: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: a, namespace: default}}\nspec:\n  host: a\n  \
         trafficPolicy: {{connectionPool: {{http: {{{http}}}}}}}\n"
    )
}

const CLUSTER: &str = "outbound|80||a.default.svc.cluster.local";

fn protocol(documents: &[String]) -> UpstreamProtocol {
    let snapshot = snapshot(&documents.concat());
    let cluster = snapshot.cluster_named(CLUSTER).expect("a cluster");
    cluster.upstream_protocol
}

#[test]
fn a_port_says_by_its_protocol_what_it_is_sent() {
    use UpstreamProtocol::{AsDownstream, Http1, Http2};
    for (port, sidecar, gateway) in [
        ("{name: http-a, port: 80}", Http1, Http1),
        ("{name: grpc-a, port: 80}", Http2, Http2),
        ("{name: GRPC, port: 80}", Http2, Http2),
        ("{name: grpc-web-a, port: 80}", Http2, Http2),
        ("{name: http2, port: 80}", Http2, Http2),
        ("{name: a, port: 80}", AsDownstream, Http1),
        ("{name: http-a, port: 80, appProtocol: grpc}", Http2, Http2),
        (
            "{name: a, port: 80, appProtocol: kubernetes.io/h2c}",
            Http2,
            Http2,
        ),
        (
            "{name: grpc-a, port: 80, appProtocol: kubernetes.io/ws}",
            Http1,
            Http1,
        ),
    ] {
        let of = |role: &str| protocol(&[settings(role), service(port)]);
        assert_eq!(of("sidecar"), sidecar, "{port}");
        assert_eq!(of("gateway"), gateway, "{port}");
    }
    for (written, expected) in [
        ("HTTP", Http1),
        ("HTTP2", Http2),
        ("GRPC", Http2),
        ("grpc", Http2),
    ] {
        let found = protocol(&[settings("gateway"), entry(written)]);
        assert_eq!(found, expected, "{written}");
    }
}

#[test]
fn a_rule_upgrades_and_follows_the_client_and_takes_nothing_back() {
    use UpstreamProtocol::{AsDownstream, Http1, Http2};
    for (written, http, expected) in [
        ("HTTP", "h2UpgradePolicy: UPGRADE", Http2),
        ("HTTP", "h2UpgradePolicy: DEFAULT", Http1),
        ("HTTP", "h2UpgradePolicy: DO_NOT_UPGRADE", Http1),
        ("GRPC", "h2UpgradePolicy: DO_NOT_UPGRADE", Http2),
        ("HTTP", "useClientProtocol: true", AsDownstream),
        ("HTTP2", "useClientProtocol: true", AsDownstream),
        ("HTTP", "useClientProtocol: false", Http1),
    ] {
        let found = protocol(&[settings("gateway"), entry(written), pool(http)]);
        assert_eq!(found, expected, "{written} with {http}");
    }
}

#[test]
fn streams_and_pings_have_their_limits_from_the_rule() {
    let of = |http: &str| {
        let documents = [settings("gateway"), entry("HTTP2"), pool(http)];
        let snapshot = snapshot(&documents.concat());
        let cluster = snapshot.cluster_named(CLUSTER).expect("a cluster");
        let pool = &cluster.connection_pool;
        (pool.max_concurrent_streams, pool.http2_keepalive)
    };
    assert_eq!(of("maxRetries: 1"), (UNLIMITED, None));
    assert_eq!(of("maxConcurrentStreams: 0"), (UNLIMITED, None));
    let keepalive = Http2Keepalive {
        interval_ms: 30_000,
        timeout_ms: 5_000,
    };
    assert_eq!(
        of("maxConcurrentStreams: 7, http2KeepAlive: {interval: 30s, timeout: 5s}"),
        (7, Some(keepalive))
    );
}
