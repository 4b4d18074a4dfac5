//! ServiceEntries of one namespace that declare the same host.

mod support;

use ringroad_policy::snapshot::Discovery;
use support::*;

fn of_one_host(name: &str, port: &str, more: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n\
         spec: {{hosts: [a.com], location: MESH_INTERNAL, ports: [{{{port}, protocol: HTTP}}], {more}}}\n"
    )
}

/// Each port had the endpoints of all entries, at ports on which nobody listened.
#[test]
fn endpoints_serve_the_ports_of_their_own_of_one_host() {
    let text = sidecar("default")
        + &of_one_host("one", "number: 80, name: http", "resolution: STATIC, endpoints: [{address: 10.0.0.1}]")
        + &of_one_host("two", "number: 81, name: http-two", "resolution: STATIC, endpoints: [{address: 10.0.0.2}]")
        // Of one name, these are one port to Istio.
        + &of_one_host("three", "number: 82, name: http, targetPort: 8082", "resolution: STATIC, endpoints: [{address: 10.0.0.3}]");
    let snapshot = snapshot(&text);
    let of = |port: u16| addresses(&snapshot, &format!("outbound|{port}||a.com"));
    assert_eq!(of(80), ["10.0.0.1:80", "10.0.0.3:8082"]);
    assert_eq!(of(81), ["10.0.0.2:81"]);
    assert_eq!(of(82), ["10.0.0.1:80", "10.0.0.3:8082"]);
}

/// Ports were taken over with the resolution of another entry.
#[test]
fn entries_that_differ_do_not_lend_each_other_ports() {
    let first = of_one_host(
        "one",
        "number: 80, name: http",
        "resolution: STATIC, endpoints: [{address: 10.0.0.1}]",
    );
    let with = |second: &str| {
        let text = sidecar("default") + &first + second;
        let served = snapshot(&text)
            .cluster_named("outbound|81||a.com")
            .is_some();
        (served, found_in(&text))
    };
    let second = |more: &str| of_one_host("two", "number: 81, name: http-two", more);
    let dropped = (false, vec![("duplicate-service", "spec.hosts".to_string())]);
    let fixed = "resolution: STATIC, endpoints: [{address: 10.0.0.2}]";
    assert_eq!(with(&second(fixed)), (true, vec![]));
    assert_eq!(
        with(&second(&format!("{fixed}, exportTo: ['*']"))),
        (true, vec![])
    );
    assert_eq!(with(&second("resolution: DNS")), dropped);
    assert_eq!(with(&second(&format!("{fixed}, exportTo: [.]"))), dropped);
    let labelled = second(fixed).replace("{name: two}", "{name: two, labels: {team: b}}");
    assert_eq!(with(&labelled), dropped);
    let selecting = second("resolution: STATIC, workloadSelector: {labels: {app: a}}");
    assert_eq!(with(&selecting), dropped);
    // Without a port of its own it has nothing to lose.
    let same = of_one_host("two", "number: 80, name: http", "resolution: DNS");
    assert_eq!(with(&same).1, vec![]);
}

/// Istio tells the ports of names that are looked up by their numbers, and those of addresses by
/// their names.
#[test]
fn names_are_looked_up_for_the_port_of_their_entry() {
    let named = |name: &str, port: u16, resolution: &str, address: &str| {
        of_one_host(
            name,
            &format!("number: {port}, name: http"),
            &format!("resolution: {resolution}, endpoints: [{{address: {address}}}]"),
        )
    };
    let targets = |text: &str, port: u16| {
        let snapshot = snapshot(&(sidecar("default") + text));
        let cluster = snapshot.cluster_named(&format!("outbound|{port}||a.com"));
        let names = match &cluster.expect("a cluster").discovery {
            Discovery::StrictDns(names) | Discovery::LogicalDns(names) => names,
            other => panic!("{other:?}"),
        };
        let told = names.iter().map(|one| format!("{}:{}", one.name, one.port));
        told.collect::<Vec<_>>()
    };
    let two = named("one", 80, "DNS", "b.com") + &named("two", 81, "DNS", "c.com");
    assert_eq!(targets(&two, 80), ["b.com:80"]);
    assert_eq!(targets(&two, 81), ["c.com:81"]);
    let same = named("one", 80, "DNS", "b.com") + &named("two", 80, "DNS", "c.com");
    assert_eq!(targets(&same, 80), ["b.com:80", "c.com:80"]);
    // Of these only one endpoint can be.
    assert_eq!(
        targets(&same.replace("DNS,", "DNS_ROUND_ROBIN,"), 80),
        ["b.com:80"]
    );
}

/// They were told not to count, and had no requests.
#[test]
fn endpoints_of_an_entry_for_a_kubernetes_service_join_its_own() {
    let service = "---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: default}
spec: {clusterIP: 10.1.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-1, namespace: default, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]
ports: [{name: http, port: 8080}]
";
    let host = "cart.default.svc.cluster.local";
    let entry = of_one_host(
        "vms",
        "number: 80, name: http, targetPort: 9090",
        "resolution: STATIC, endpoints: [{address: 10.0.0.2}]",
    )
    .replace("a.com", host);
    let of = |entry: &str| {
        let text = sidecar("default") + service + entry;
        let cluster = format!("outbound|80||{host}");
        (addresses(&snapshot(&text), &cluster), found_in(&text))
    };
    let told = vec![("duplicate-service", "spec.hosts".to_string())];
    let both = ["10.0.0.1:8080", "10.0.0.2:9090"]
        .map(str::to_string)
        .to_vec();
    let alone = both[..1].to_vec();
    assert_eq!(of(&entry), (both, told.clone()));
    // Endpoints are of ports by their names.
    assert_eq!(
        of(&entry.replace("name: http,", "name: web,")),
        (alone.clone(), told.clone())
    );
    let far = entry.replace("{name: vms}", "{name: vms, namespace: far}");
    assert_eq!(of(&far), (alone, told));
}
