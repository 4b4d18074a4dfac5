//! DestinationRules of which a part meets no request of this proxy: each is named, and the form
//! that does what was meant is not.

mod support;

use support::*;

const NOTHING: [(&str, String); 0] = [];

/// A gateway that sends all to `a.com`, whose rule has this policy.
fn with_policy(versions: u8, policy: &str) -> String {
    let routes =
        "hosts: ['*']\ngateways: [edge]\nhttp: [{route: [{destination: {host: a.com}}]}]\n";
    GATEWAY.to_string()
        + &service("a.com", 80, versions)
        + &rule("r", routes)
        + &destination_rule("d", &format!("host: a.com\ntrafficPolicy: {policy}\n"))
}

fn one(code: &'static str, field: &str) -> Vec<(&'static str, String)> {
    vec![(code, field.to_string())]
}

#[test]
fn a_subset_that_no_route_names_is_told_where_routes_name_another() {
    let text = |destinations: &str, subsets: &str| {
        let routes =
            format!("hosts: ['*']\ngateways: [edge]\nhttp: [{{route: [{destinations}]}}]\n");
        GATEWAY.to_string()
            + &service("a.com", 80, 2)
            + &rule("r", &routes)
            + &destination_rule("d", &format!("host: a.com\nsubsets: [{subsets}]\n"))
    };
    let both = "{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}";
    let v1 = "{destination: {host: a.com, subset: v1}}";
    let unnamed = one("no-effect", "spec.subsets[1]");
    assert_eq!(found_in(&text(v1, both)), unnamed);
    let mirrored =
        text(v1, both).replace("http: [{", "http: [{mirror: {host: a.com, subset: v2}, ");
    assert_eq!(found_in(&mirrored), NOTHING);
    // Another rule, which is for nobody here, names it too.
    let elsewhere = rule(
        "inside",
        "hosts: [a.com]\nhttp: [{route: [{destination: {host: a.com, subset: v2}}]}]\n",
    );
    let named = found_in(&(text(v1, both) + &elsewhere));
    assert!(
        named
            .iter()
            .all(|(_, field)| !field.starts_with("spec.subsets")),
        "{named:?}"
    );
    // Nothing says that the subsets are for anything yet, unless one has a policy of its own.
    assert_eq!(
        found_in(&text("{destination: {host: a.com}}", both)),
        NOTHING
    );
    let own = "{name: v1, labels: {version: v1}, \
               trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}";
    let first = one("no-effect", "spec.subsets[0]");
    assert_eq!(found_in(&text("{destination: {host: a.com}}", own)), first);
    // Clients of such a server name subsets themselves.
    let passing = "tls: {mode: AUTO_PASSTHROUGH}\n    hosts: ['*.local']\n";
    let passing = GATEWAY
        .replace("edge", "east-west")
        .replace(
            "8080, name: http, protocol: HTTP}\n",
            "15443, name: tls, protocol: TLS}\n    ",
        )
        .replace("    hosts: ['*']\n", passing);
    assert!(!found_in(&(text(v1, both) + &passing)).contains(&unnamed[0]));
}

#[test]
fn a_tunnel_for_a_host_that_gets_requests_alone_is_told() {
    let policy = "{tunnel: {protocol: CONNECT, targetHost: x.com, targetPort: 443}}";
    let requests = with_policy(1, policy);
    assert_eq!(
        found_in(&requests),
        one("no-effect", "spec.trafficPolicy.tunnel")
    );
    let bytes = requests
        .replace("protocol: HTTP", "protocol: TCP")
        .replace("http: [{route", "tcp: [{route");
    assert_eq!(found_in(&bytes), NOTHING);
}

#[test]
fn failover_to_a_region_without_endpoints_is_told() {
    let policy = "{outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}, \
                  loadBalancer: {localityLbSetting: {failover: \
                  [{from: west, to: east}, {from: east, to: north}]}}}";
    let located = |text: &str| {
        text.replace("10.0.0.1, ", "10.0.0.1, locality: west/a, ")
            .replace("10.0.0.2, ", "10.0.0.2, locality: east/a, ")
    };
    let text = located(&with_policy(2, policy));
    let setting = "spec.trafficPolicy.loadBalancer.localityLbSetting.failover[1].to";
    assert_eq!(found_in(&text), one("no-effect", setting));
    assert_eq!(found_in(&text.replace("to: north", "to: west")), NOTHING);
    // Where an endpoint does not say where it is, nobody knows.
    let unknown = text.replace("locality: west/a, ", "");
    assert_eq!(found_in(&unknown), NOTHING);
    let by_name = text.replace("STATIC", "DNS").replace("10.0.0.", "host");
    assert_eq!(found_in(&by_name), NOTHING);
}

/// Envoy lets nothing panic while 140 % of what is healthy carries all requests.
#[test]
fn health_that_the_first_ejection_goes_below_is_told() {
    let with = |versions: u8, percent: u8| {
        let policy = format!(
            "{{outlierDetection: {{consecutive5xxErrors: 1, maxEjectionPercent: 100, \
             minHealthPercent: {percent}}}}}"
        );
        found_in(&with_policy(versions, &policy))
    };
    let told = one(
        "no-effect",
        "spec.trafficPolicy.outlierDetection.minHealthPercent",
    );
    for (versions, percent) in [(1, 1), (2, 51), (2, 100), (3, 67), (3, 100)] {
        assert_eq!(with(versions, percent), told, "{percent} of {versions}");
    }
    for (versions, percent) in [(1, 0), (2, 50), (3, 66), (4, 100), (9, 100)] {
        assert_eq!(with(versions, percent), NOTHING, "{percent} of {versions}");
    }
}

#[test]
fn a_rule_that_its_export_keeps_from_this_proxy_is_told() {
    let text = |export: &str| {
        let policy = "{connectionPool: {tcp: {maxConnections: 1}}}";
        let text = with_policy(1, &format!("{policy}\n{export}"));
        text.replace("{name: d}", "{name: d, namespace: shop}")
            .replace("{name: a-com}", "{name: a-com, namespace: shop}")
    };
    for export in ["exportTo: [.]", "exportTo: [other]"] {
        assert_eq!(
            found_in(&text(export)),
            one("no-effect", "spec.exportTo"),
            "{export}"
        );
    }
    for export in ["", "exportTo: ['*']", "exportTo: [default]"] {
        assert_eq!(found_in(&text(export)), NOTHING, "{export}");
    }
    // It is for those of its own namespace, and here another one governs.
    let own = destination_rule(
        "own",
        "host: a.com\ntrafficPolicy: {tls: {mode: DISABLE}}\n",
    );
    assert_eq!(found_in(&(text("exportTo: [.]") + &own)), NOTHING);
    // Nothing is sent there.
    let unused =
        text("exportTo: [.]").replace("destination: {host: a.com}", "destination: {host: b.com}");
    let unused = found_in(&(unused + &service("b.com", 80, 1)));
    assert_eq!(unused, NOTHING);
}

/// Istio asks the namespaces of the client, of the service, and the root namespace, and no other.
#[test]
fn a_rule_of_a_namespace_that_nobody_asks_is_told() {
    let policy = "{connectionPool: {tcp: {maxConnections: 1}}}";
    let text = |namespace: &str, service: &str| {
        with_policy(1, policy)
            .replace("{name: d}", &format!("{{name: d, namespace: {namespace}}}"))
            .replace(
                "{name: a-com}",
                &format!("{{name: a-com, namespace: {service}}}"),
            )
    };
    let told = one("no-effect", "spec.host");
    assert_eq!(found_in(&text("far", "default")), told);
    assert_eq!(found_in(&text("far", "shop")), told);
    for (namespace, service) in [
        ("default", "shop"),
        ("shop", "shop"),
        ("istio-system", "shop"),
    ] {
        assert_eq!(found_in(&text(namespace, service)), NOTHING, "{namespace}");
    }
}

#[test]
fn times_of_probes_that_are_no_whole_seconds_are_told() {
    let with = |times: &str| {
        let policy = format!("{{connectionPool: {{tcp: {{tcpKeepalive: {{{times}}}}}}}}}");
        found_in(&with_policy(1, &policy))
    };
    let at = |name: &str| {
        one(
            "no-effect",
            &format!("spec.trafficPolicy.connectionPool.tcp.tcpKeepalive.{name}"),
        )
    };
    assert_eq!(with("time: 500ms"), at("time"));
    assert_eq!(with("time: 7200s, interval: 1500ms"), at("interval"));
    assert_eq!(with("time: 1m, interval: 1s, probes: 3"), NOTHING);
}

#[test]
fn a_status_that_is_listed_twice_is_told() {
    let with = |codes: &str| {
        let policy = format!(
            "{{outlierDetection: {{consecutive5xxErrors: 1, maxEjectionPercent: 100, \
             outlierDetectionHttpErrorCodes: [{codes}]}}}}"
        );
        found_in(&with_policy(1, &policy))
    };
    let field = "spec.trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes[2]";
    assert_eq!(with("500, 503, 500"), one("duplicate-value", field));
    assert_eq!(with("500, 503"), NOTHING);
}
