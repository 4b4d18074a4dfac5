//! Which listeners, virtual hosts and routes follow from Gateways, VirtualServices and services.

mod support;

use support::*;

const REVIEWS: &str = "reviews.default.svc.cluster.local";

#[test]
fn a_gateway_binds_as_written_and_sends_on_by_host_and_path() {
    let text = format!(
        "{GATEWAY}{}{}",
        service(REVIEWS, 9080, 2),
        rule(
            "bookinfo",
            "hosts: ['*']\ngateways: [edge]\nhttp:\n- match:\n  - uri: {prefix: /reviews}\n  \
             route:\n  - destination: {host: reviews}\n"
        )
    );
    let snapshot = snapshot(&text);
    let listener = listener(&snapshot, 8080);
    assert_eq!(listener.name, "0.0.0.0_8080");
    assert_eq!(listener.address.to_string(), "0.0.0.0:8080");
    let table = table(&snapshot, 8080);
    assert_eq!(table.name, "http.8080");
    let names: Vec<_> = table
        .virtual_hosts()
        .iter()
        .map(|host| host.name.as_str())
        .collect();
    assert_eq!(names, ["*:8080"]);
    let cluster = "outbound|9080||reviews.default.svc.cluster.local";
    assert_eq!(
        get("any.example", "/reviews/1").cluster(&snapshot, 8080),
        cluster
    );
    assert_eq!(
        get("any.example:8080", "/reviews").cluster(&snapshot, 8080),
        cluster
    );
    assert_eq!(
        get("any.example", "/ratings").cluster(&snapshot, 8080),
        "no route"
    );
    assert_eq!(
        addresses(&snapshot, cluster),
        ["10.0.0.1:9080", "10.0.0.2:9080"]
    );
}

#[test]
fn a_sidecar_answers_for_every_form_of_a_service_name() {
    let text = format!("{}{}", sidecar("default"), service(REVIEWS, 9080, 1));
    let snapshot = snapshot(&text);
    let listener = listener(&snapshot, 9080);
    assert_eq!(listener.name, "0.0.0.0_9080");
    assert_eq!(listener.address.to_string(), "127.0.0.1:9080");
    assert_eq!(table(&snapshot, 9080).name, "9080");
    for host in [
        "reviews",
        "Reviews",
        "reviews:9080",
        "reviews.default",
        "reviews.default.svc",
        REVIEWS,
        "reviews.default.svc.cluster.local.",
    ] {
        let request = get(host, "/");
        let route = request.route(table(&snapshot, 9080)).unwrap();
        assert_eq!(route.name, "default", "{host}");
        assert_eq!(
            route.destinations()[0].cluster_name,
            format!("outbound|9080||{REVIEWS}")
        );
    }
    assert_eq!(
        get("reviews.other", "/").cluster(&snapshot, 9080),
        "PassthroughCluster"
    );
}

#[test]
fn a_sidecar_of_another_namespace_has_no_bare_name() {
    let text = format!("{}{}", sidecar("other"), service(REVIEWS, 9080, 1));
    let snapshot = snapshot(&text);
    assert_eq!(
        get("reviews", "/").cluster(&snapshot, 9080),
        "PassthroughCluster"
    );
    let found = get("reviews.default", "/").cluster(&snapshot, 9080);
    assert_eq!(found, format!("outbound|9080||{REVIEWS}"));
}

#[test]
fn subsets_choose_endpoints_by_labels_and_get_names_of_their_own() {
    let text = format!(
        "{}{}{}{}",
        sidecar("default"),
        service(REVIEWS, 9080, 3),
        destination_rule(
            "reviews",
            "host: reviews\nsubsets:\n- {name: v1, labels: {version: v1}}\n\
             - {name: v2, labels: {version: v2}}\n- {name: v9, labels: {version: v9}}\n"
        ),
        rule(
            "reviews",
            "hosts: [reviews]\nhttp:\n- match:\n  - headers: {end-user: {exact: jason}}\n  \
             route:\n  - destination: {host: reviews, subset: v2}\n- route:\n  \
             - destination: {host: reviews, subset: v1}\n    weight: 90\n  \
             - destination: {host: reviews, subset: v9}\n    weight: 10\n"
        )
    );
    let loaded = load_text(&text);
    assert_eq!(codes(&loaded.diagnostics), ["empty-subset"]);
    let snapshot = loaded.snapshot.unwrap();
    let v2 = get("reviews", "/")
        .with("end-user", "jason")
        .cluster(&snapshot, 9080);
    assert_eq!(v2, format!("outbound|9080|v2|{REVIEWS}"));
    assert_eq!(addresses(&snapshot, &v2), ["10.0.0.2:9080"]);
    let request = get("reviews", "/");
    let route = request.route(table(&snapshot, 9080)).unwrap();
    let shares: Vec<_> = route
        .destinations()
        .iter()
        .map(|d| (d.cluster_name.as_str(), d.weight))
        .collect();
    let v1 = format!("outbound|9080|v1|{REVIEWS}");
    let v9 = format!("outbound|9080|v9|{REVIEWS}");
    assert_eq!(shares, [(v1.as_str(), 90), (v9.as_str(), 10)]);
    assert!(addresses(&snapshot, &v9).is_empty());
}

#[test]
fn without_virtual_services_a_gateway_listens_and_knows_no_route() {
    let snapshot = snapshot(GATEWAY);
    let table = table(&snapshot, 8080);
    assert_eq!(table.virtual_hosts()[0].name, "blackhole:8080");
    assert_eq!(get("any", "/").route(table).unwrap_err(), "no route");
}
