//! What limits the requests that a sidecar hands to its own workload.

mod support;

use ringroad_policy::snapshot::{Cluster, UNLIMITED};
use support::*;

const POLICY: &str = "host: cart.test\n\
    trafficPolicy:\n  connectionPool: {http: {http2MaxRequests: 7}}\n  \
    retryBudget: {percent: 20}\n  \
    outlierDetection: {consecutive5xxErrors: 1}\n";

/// The cluster of the workload, which serves `cart.test`, with these documents.
fn own(documents: &str) -> Cluster {
    let settings = sidecar("default").replace(
        "role: sidecar",
        "workload: {labels: {app: cart}, addresses: [10.0.0.1]}, role: sidecar",
    );
    let text = settings + &service("cart.test", 8080, 1) + documents;
    let snapshot = snapshot(&text);
    let own = snapshot.cluster_named("inbound|8080||").expect("is there");
    own.as_ref().clone()
}

fn a_sidecar(spec: &str) -> String {
    rule("own", spec).replace("VirtualService", "Sidecar")
}

fn written(cluster: &Cluster) -> Option<String> {
    let origin = cluster.policy_origins.connection_pool.as_ref()?;
    Some(origin.field.to_string())
}

#[test]
fn the_rule_for_its_service_limits_what_the_workload_gets() {
    assert_eq!(own("").connection_pool.max_requests, UNLIMITED);
    let limited = own(&destination_rule("cart", POLICY));
    assert_eq!(limited.connection_pool.max_requests, 7);
    assert!(limited.retry_budget.is_some());
    assert!(limited.outlier_detection.is_none(), "nobody ejects itself");
    let place = written(&limited).expect("is written");
    assert_eq!(place, "spec.trafficPolicy.connectionPool");
    // A setting of the port counts in its place, and one for some workloads does not at all.
    let of_port = format!(
        "{POLICY}  portLevelSettings:\n  - port: {{number: 8080}}\n    \
         connectionPool: {{http: {{http2MaxRequests: 5}}}}\n"
    );
    let limited = own(&destination_rule("cart", &of_port));
    assert_eq!(limited.connection_pool.max_requests, 5);
    let selecting = format!("{POLICY}workloadSelector: {{matchLabels: {{app: cart}}}}\n");
    let unlimited = own(&destination_rule("cart", &selecting));
    assert_eq!(unlimited.connection_pool.max_requests, UNLIMITED);
}

#[test]
fn what_a_sidecar_says_comes_before_the_rule() {
    let rule = destination_rule("cart", POLICY);
    let general = "inboundConnectionPool: {http: {http2MaxRequests: 3}}\n";
    let limited = own(&(rule.clone() + &a_sidecar(general)));
    assert_eq!(limited.connection_pool.max_requests, 3);
    assert_eq!(
        written(&limited).as_deref(),
        Some("spec.inboundConnectionPool")
    );
    let ingress = |more: &str| {
        let port = "{number: 8080, protocol: HTTP, name: http}";
        a_sidecar(&format!("{general}ingress: [{{port: {port}{more}}}]\n"))
    };
    let limited =
        own(&(rule.clone() + &ingress(", connectionPool: {http: {http2MaxRequests: 2}}")));
    assert_eq!(limited.connection_pool.max_requests, 2);
    let place = written(&limited).expect("is written");
    assert_eq!(place, "spec.ingress[0].connectionPool");
    // The port of an ingress is that of the service behind it.
    let bare = ingress("").replace(
        "  inboundConnectionPool: {http: {http2MaxRequests: 3}}\n",
        "",
    );
    let limited = own(&(rule + &bare));
    assert_eq!(limited.connection_pool.max_requests, 7);
}
