//! What clusters hold: endpoints of every kind of service, and the policy in force.

mod support;

use std::sync::Arc;

use ringroad_policy::snapshot::{Balancer, Discovery, DnsTable};
use support::*;

const SETTINGS: &str = "---
apiVersion: ringroad.dev/v1alpha1
kind: ProxySettings
metadata: {name: p}
spec: {role: sidecar, namespace: client}
";

fn entry(spec: &str) -> String {
    rule("entry", spec).replace("VirtualService", "ServiceEntry")
}

#[test]
fn ports_of_endpoints_follow_the_map_then_the_target_then_the_number() {
    let text = format!(
        "{SETTINGS}{}",
        entry(
            "hosts: [a.com]\nresolution: STATIC\nports:\n- {number: 80, name: http, protocol: HTTP, targetPort: 8080}\n\
             - {number: 81, name: http-b, protocol: HTTP}\nendpoints:\n\
             - {address: 10.0.0.1}\n- {address: 'fd00::1', ports: {http: 9000}, weight: 3}\n"
        )
    );
    let snapshot = snapshot(&text);
    assert_eq!(
        addresses(&snapshot, "outbound|80||a.com"),
        ["10.0.0.1:8080", "[fd00::1]:9000"]
    );
    assert_eq!(
        addresses(&snapshot, "outbound|81||a.com"),
        ["10.0.0.1:81", "[fd00::1]:81"]
    );
    let weights: Vec<u32> = snapshot
        .cluster_named("outbound|80||a.com")
        .unwrap()
        .endpoints
        .iter()
        .map(|e| e.weight)
        .collect();
    assert_eq!(weights, [1, 3]);
}

#[test]
fn a_unix_socket_is_an_endpoint_of_a_service_with_one_port() {
    let text = format!(
        "{SETTINGS}{}",
        entry(
            "hosts: [a.com]\nresolution: STATIC\nports: [{number: 80, name: http, protocol: HTTP}]\n\
             endpoints: [{address: 'unix:///run/app.sock'}]\n"
        )
    );
    assert_eq!(
        addresses(&snapshot(&text), "outbound|80||a.com"),
        ["/run/app.sock"]
    );
}

#[test]
fn workload_entries_are_selected_by_labels_in_the_same_namespace() {
    let workload = |name: &str, namespace: &str, address: &str, label: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
             metadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{address: {address}, labels: {{app: {label}, version: v1}}, locality: r/z, serviceAccount: sa}}\n"
        )
    };
    let text = format!(
        "{SETTINGS}{}{}{}{}",
        entry(
            "hosts: [a.com]\nresolution: STATIC\nports: [{number: 80, name: http, protocol: HTTP}]\n\
             workloadSelector: {labels: {app: a}}\n"
        ),
        workload("one", "default", "10.0.0.1", "a"),
        workload("two", "default", "10.0.0.2", "b"),
        workload("three", "other", "10.0.0.3", "a"),
    );
    let of_object = text.replace("{name: one,", "{name: one, labels: {app: z},");
    assert!(addresses(&snapshot(&of_object), "outbound|80||a.com").is_empty());
    let snapshot = snapshot(&text);
    assert_eq!(addresses(&snapshot, "outbound|80||a.com"), ["10.0.0.1:80"]);
    let endpoint = &snapshot
        .cluster_named("outbound|80||a.com")
        .unwrap()
        .endpoints[0];
    assert_eq!(
        (
            endpoint.workload.name.as_str(),
            endpoint.workload.app.as_str()
        ),
        ("one", "a")
    );
    assert_eq!(
        (
            endpoint.locality.as_str(),
            endpoint.service_account.as_str()
        ),
        ("r/z", "sa")
    );
    assert_eq!(endpoint.workload.canonical_revision, "v1");
}

#[test]
fn names_become_endpoints_when_they_are_resolved_and_nothing_else_is_copied() {
    let text = format!(
        "{SETTINGS}{}{}",
        service("static.com", 80, 1),
        entry(
            "hosts: [api.example]\nresolution: DNS\nports: [{number: 80, name: http, protocol: HTTP}]\n\
             endpoints: [{address: One.Backend., ports: {http: 8080}}, {address: 10.9.9.9}]\n"
        )
    );
    let before = snapshot(&text);
    let cluster = "outbound|80||api.example";
    assert_eq!(addresses(&before, cluster), ["10.9.9.9:80"]);
    assert_eq!(before.dns_names.len(), 1);
    assert_eq!(
        (
            before.dns_names[0].name.as_str(),
            &before.dns_names[0].ports[..]
        ),
        ("one.backend", &[8080][..])
    );
    let mut answers = DnsTable::default();
    assert!(answers.set(
        "one.backend",
        vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()]
    ));
    assert!(!answers.set(
        "one.backend",
        vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()]
    ));
    let after = before.with_resolved(&answers);
    assert_eq!(
        addresses(&after, cluster),
        ["10.0.0.1:8080", "[::1]:8080", "10.9.9.9:80"]
    );
    for (old, new) in before.clusters.iter().zip(&after.clusters) {
        assert_eq!(Arc::ptr_eq(old, new), old.name != cluster, "{}", old.name);
    }
    assert!(Arc::ptr_eq(&before.listeners[0], &after.listeners[0]));
    let same = after.with_resolved(&answers);
    assert!(
        same.clusters
            .iter()
            .zip(&after.clusters)
            .all(|(a, b)| Arc::ptr_eq(a, b))
    );
}

#[test]
fn dns_without_endpoints_resolves_the_host_and_round_robin_takes_one_address() {
    let text = format!(
        "{SETTINGS}{}",
        entry(
            "hosts: [api.example]\nresolution: DNS_ROUND_ROBIN\nports: [{number: 443, name: http, protocol: HTTP, targetPort: 8443}]\n"
        )
    );
    let mut answers = DnsTable::default();
    answers.set(
        "api.example",
        vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
    );
    let snapshot = snapshot(&text).with_resolved(&answers);
    assert_eq!(
        addresses(&snapshot, "outbound|443||api.example"),
        ["10.0.0.1:8443"]
    );
}

#[test]
fn entries_for_one_host_add_their_endpoints_up() {
    let second = service("a.com", 80, 2)
        .replace("name: a-com", "name: b")
        .replace("10.0.0", "10.0.1");
    let text = format!("{SETTINGS}{}{second}", service("a.com", 80, 1));
    let snapshot = snapshot(&text);
    assert_eq!(
        addresses(&snapshot, "outbound|80||a.com"),
        ["10.0.0.1:80", "10.0.1.1:80", "10.0.1.2:80"]
    );
}

const KUBERNETES: &str = "---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: web}
spec:
  clusterIP: 10.96.0.7
  selector: {app: shop}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: admin, port: 81, targetPort: admin, appProtocol: http}
  - {name: tcp-raw, port: 82}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-1, namespace: web, labels: {kubernetes.io/service-name: shop, version: v1}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: admin, port: 9901}]
endpoints:
- {addresses: [10.1.0.1], conditions: {ready: true}, targetRef: {kind: Pod, name: shop-v1-7d4f8c9b5-x2x7k}}
- {addresses: [10.1.0.2], conditions: {ready: false}}
- {addresses: [10.1.0.3], conditions: {ready: true, terminating: true}}
- {addresses: [10.1.0.4]}
";

#[test]
fn kubernetes_services_take_ready_endpoints_of_their_slices_by_port_name() {
    let snapshot = snapshot(&format!("{SETTINGS}{KUBERNETES}"));
    let host = "shop.web.svc.cluster.local";
    assert_eq!(
        addresses(&snapshot, &format!("outbound|80||{host}")),
        ["10.1.0.1:8080", "10.1.0.4:8080"]
    );
    assert_eq!(
        addresses(&snapshot, &format!("outbound|81||{host}")),
        ["10.1.0.1:9901", "10.1.0.4:9901"]
    );
    let cluster = snapshot
        .cluster_named(&format!("outbound|80||{host}"))
        .unwrap();
    assert_eq!(
        (
            cluster.service.name.as_str(),
            cluster.service.namespace.as_str()
        ),
        ("shop", "web")
    );
    assert_eq!(cluster.endpoints[0].workload.name, "shop-v1");
    assert_eq!(cluster.endpoints[0].labels["version"], "v1");
    let ports: Vec<u16> = snapshot
        .listeners
        .iter()
        .map(|l| l.address.port())
        .collect();
    assert_eq!(ports, [80, 81]);
    for host in ["shop.web", "10.96.0.7", "shop.web.svc", "10.96.0.7:80"] {
        assert_eq!(
            get(host, "/").cluster(&snapshot, 80),
            "outbound|80||shop.web.svc.cluster.local"
        );
    }
}

#[test]
fn an_external_name_leads_to_its_service_or_to_its_name() {
    let alias = "---\napiVersion: v1\nkind: Service\nmetadata: {name: alias, namespace: web}\n\
                 spec: {type: ExternalName, externalName: TARGET, ports: [{name: http, port: 80}]}\n";
    let inside = alias.replace("TARGET", "shop.web.svc.cluster.local");
    let snapshot_inside = snapshot(&format!("{SETTINGS}{KUBERNETES}{inside}"));
    let expected = "outbound|80||shop.web.svc.cluster.local";
    assert_eq!(
        get("alias.web", "/").cluster(&snapshot_inside, 80),
        expected
    );
    let outside = snapshot(&format!(
        "{SETTINGS}{}",
        alias.replace("TARGET", "api.example")
    ));
    assert_eq!(
        get("alias.web", "/").cluster(&outside, 80),
        "outbound|80||api.example"
    );
    assert_eq!(outside.dns_names[0].name, "api.example");
}

/// It was answered 503, for the name in the middle.
#[test]
fn a_chain_of_external_names_leads_to_its_end() {
    let alias = |name: &str, to: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: web}}\n\
             spec: {{type: ExternalName, externalName: {to}, ports: [{{name: http, port: 80}}]}}\n"
        )
    };
    let inside = |name: &str| format!("{name}.web.svc.cluster.local");
    let chain = |end: &str| {
        let three = [
            ("a", inside("b")),
            ("b", inside("c")),
            ("c", end.to_string()),
        ];
        let three = three.map(|(name, to)| alias(name, &to)).concat();
        load_text(&format!("{SETTINGS}{KUBERNETES}{three}"))
    };
    for (end, cluster) in [
        (inside("shop"), "outbound|80||shop.web.svc.cluster.local"),
        ("api.example".to_string(), "outbound|80||api.example"),
    ] {
        let loaded = chain(&end);
        assert!(
            !codes(&loaded.diagnostics).contains(&"unknown-host"),
            "{end}"
        );
        let snapshot = loaded.snapshot.unwrap();
        for name in ["a.web", "b.web.svc", "c.web"] {
            assert_eq!(get(name, "/").cluster(&snapshot, 80), cluster, "{name}");
        }
    }
    let circle = chain(&inside("a"));
    let mut told = codes(&circle.diagnostics);
    told.retain(|code| *code == "unknown-host");
    assert_eq!(told.len(), 3);
    let snapshot = circle.snapshot.unwrap();
    let unknown = get("nobody.web", "/").cluster(&snapshot, 80);
    assert_eq!(get("a.web", "/").cluster(&snapshot, 80), unknown);
}

#[test]
fn no_resolution_means_the_original_destination() {
    let text = format!(
        "{SETTINGS}{}",
        entry(
            "hosts: ['*.wild.com']\nresolution: NONE\nports: [{number: 80, name: http, protocol: HTTP}]\n"
        )
    );
    let snapshot = snapshot(&text);
    assert_eq!(
        get("x.wild.com", "/").cluster(&snapshot, 80),
        "outbound|80||*.wild.com"
    );
    let cluster = snapshot.cluster_named("outbound|80||*.wild.com").unwrap();
    assert_eq!(cluster.discovery, Discovery::OriginalDestination);
}

fn with_rule(namespace: &str, name: &str, spec: &str) -> String {
    destination_rule(name, spec).replace(
        "metadata: {",
        &format!("metadata: {{namespace: {namespace}, "),
    )
}

fn balancer(rules: &[String]) -> Balancer {
    let text = format!("{SETTINGS}{}{}", service("a.com", 80, 1), rules.concat());
    snapshot(&text)
        .cluster_named("outbound|80||a.com")
        .unwrap()
        .balancer
}

fn simple(host: &str, algorithm: &str) -> String {
    format!("host: '{host}'\ntrafficPolicy: {{loadBalancer: {{simple: {algorithm}}}}}\n")
}

#[test]
fn a_rule_of_the_clients_namespace_comes_before_the_services_and_the_roots() {
    let client = with_rule("client", "c", &simple("a.com", "RANDOM"));
    let owner = with_rule("default", "o", &simple("a.com", "ROUND_ROBIN"));
    let root = with_rule("istio-system", "r", &simple("*.com", "ROUND_ROBIN"));
    let stranger = with_rule("stranger", "s", &simple("a.com", "RANDOM"));
    assert_eq!(balancer(&[]), Balancer::LeastRequest);
    assert_eq!(balancer(&[client, owner.clone()]), Balancer::Random);
    assert_eq!(balancer(&[owner]), Balancer::RoundRobin);
    assert_eq!(balancer(&[root]), Balancer::RoundRobin);
    assert_eq!(balancer(&[stranger]), Balancer::LeastRequest);
}

#[test]
fn the_most_specific_host_wins_and_rules_for_it_are_not_merged_field_by_field() {
    let wide = with_rule("default", "a", &simple("*.com", "RANDOM"));
    let exact = with_rule(
        "default",
        "b",
        "host: a.com\nsubsets: [{name: v1, labels: {version: v1}}]\n",
    );
    let later = with_rule("default", "c", &simple("a.com", "ROUND_ROBIN"));
    assert_eq!(
        balancer(&[wide.clone(), exact.clone()]),
        Balancer::LeastRequest
    );
    assert_eq!(
        balancer(&[wide, exact.clone(), later.clone()]),
        Balancer::RoundRobin
    );
    let latest = with_rule("default", "d", &simple("a.com", "RANDOM"));
    assert_eq!(balancer(&[exact, later, latest]), Balancer::RoundRobin);
}

#[test]
fn subset_blocks_replace_blocks_and_port_settings_replace_all() {
    let rule = with_rule(
        "default",
        "r",
        "host: a.com\n\
         trafficPolicy:\n  loadBalancer: {simple: RANDOM}\n  connectionPool: {tcp: {connectTimeout: 3s, maxConnections: 7}}\n  \
         portLevelSettings:\n  - {port: {number: 81}, loadBalancer: {simple: ROUND_ROBIN}}\n\
         subsets:\n- name: v1\n  labels: {version: v1}\n  trafficPolicy:\n    \
         connectionPool: {tcp: {idleTimeout: 0s}, http: {http1MaxPendingRequests: 5}}\n",
    );
    let services = service("a.com", 80, 1).replace(
        "ports: [",
        "ports: [{number: 81, name: http-b, protocol: HTTP}, ",
    );
    let snapshot = snapshot(&format!("{SETTINGS}{services}{rule}"));
    let cluster = |name: &str| snapshot.cluster_named(name).unwrap();
    let whole = cluster("outbound|80||a.com");
    assert_eq!(whole.balancer, Balancer::Random);
    assert_eq!(
        (
            whole.connect_timeout_ms,
            whole.connection_pool.max_connections
        ),
        (3_000, 7)
    );
    assert_eq!(whole.upstream_idle_timeout_ms, Some(3_600_000));
    let subset = cluster("outbound|80|v1|a.com");
    assert_eq!(subset.balancer, Balancer::Random);
    assert_eq!(subset.connect_timeout_ms, 10_000);
    assert_eq!(subset.connection_pool.max_connections, u32::MAX);
    assert_eq!(subset.connection_pool.max_pending_requests, 5);
    assert_eq!(subset.upstream_idle_timeout_ms, None);
    let other_port = cluster("outbound|81||a.com");
    assert_eq!(other_port.balancer, Balancer::RoundRobin);
    assert_eq!(
        (
            other_port.connect_timeout_ms,
            other_port.connection_pool.max_connections
        ),
        (10_000, u32::MAX)
    );
}

#[test]
fn outlier_detection_has_istios_defaults() {
    let outlier = |spec: &str| {
        let rule = with_rule(
            "default",
            "r",
            &format!("host: a.com\ntrafficPolicy: {{outlierDetection: {spec}}}\n"),
        );
        let snapshot = snapshot(&format!("{SETTINGS}{}{rule}", service("a.com", 80, 1)));
        let cluster = snapshot
            .cluster_named("outbound|80||a.com")
            .unwrap()
            .as_ref()
            .clone();
        (
            cluster.outlier_detection.unwrap(),
            cluster.panic_threshold_percent,
        )
    };
    let (default, panic) = outlier("{interval: 5s}");
    assert_eq!(
        (default.consecutive_5xx, default.consecutive_gateway_errors),
        (Some(5), None)
    );
    assert_eq!(
        (default.interval_ms, default.base_ejection_time_ms),
        (5_000, 30_000)
    );
    assert_eq!((default.max_ejection_percent, panic), (10, 0));
    let (own, panic) = outlier(
        "{consecutive5xxErrors: 0, consecutiveGatewayErrors: 3, splitExternalLocalOriginErrors: true, minHealthPercent: 40}",
    );
    assert_eq!(
        (own.consecutive_5xx, own.consecutive_gateway_errors),
        (None, Some(3))
    );
    assert_eq!(
        (own.consecutive_local_origin_failures, panic),
        (Some(5), 40)
    );
}

#[test]
fn a_retry_budget_stays_where_a_port_replaces_all_else() {
    let rule = with_rule(
        "default",
        "r",
        "host: a.com\ntrafficPolicy:\n  retryBudget: {percent: 12.5}\n  \
         connectionPool: {http: {maxRetries: 4}}\n  \
         portLevelSettings:\n  - port: {number: 80}\n    loadBalancer: {simple: RANDOM}\n\
         subsets:\n- name: own\n  labels: {}\n  \
         trafficPolicy: {retryBudget: {minRetryConcurrency: 9, budgetInterval: 10s}}\n",
    );
    let snapshot = snapshot(&format!("{SETTINGS}{}{rule}", service("a.com", 80, 1)));
    let budget = |name: &str| {
        let cluster = snapshot.cluster_named(name).unwrap();
        assert_eq!(cluster.connection_pool.max_retries, u32::MAX);
        let budget = cluster.retry_budget.clone().unwrap();
        (budget.percent, budget.min_concurrency, budget.interval_ms)
    };
    assert_eq!(budget("outbound|80||a.com"), (12.5, 3, 0));
    assert_eq!(budget("outbound|80|own|a.com"), (20.0, 9, 10_000));
}

/// While slices are changed, an endpoint may be in two of them; in Envoy an address counts once too.
#[test]
fn an_address_that_stands_twice_is_one_endpoint() {
    let slice = |name: &str, addresses: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}, labels: {{kubernetes.io/service-name: s}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 8080}}]\n\
             endpoints: [{{addresses: [{addresses}]}}]\n"
        )
    };
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n\
                spec: {ports: [{name: http, port: 80}]}\n"
        .to_string()
        + &slice("one", "10.0.0.1")
        + &slice("two", "'10.0.0.1', '10.0.0.2'");
    let snapshot = snapshot(&(GATEWAY.to_string() + "---\n" + &text));
    let name = "outbound|80||s.default.svc.cluster.local";
    let cluster = snapshot.clusters.iter().find(|one| one.name == name);
    let endpoints = &cluster.expect("the service").endpoints;
    let addresses: Vec<String> = endpoints
        .iter()
        .map(|one| one.address.to_string())
        .collect();
    assert_eq!(addresses, ["10.0.0.1:8080", "10.0.0.2:8080"]);
}
