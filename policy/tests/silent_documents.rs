//! Documents and settings that do nothing here: each is named, and those that do something are not.

mod support;

use support::*;

fn found(code: &'static str, field: &str) -> Vec<(&'static str, String)> {
    vec![(code, field.to_string())]
}

fn entry(fields: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: s}}\n\
         spec: {{hosts: [s.com], location: MESH_INTERNAL, resolution: STATIC, \
         ports: [{{number: 80, name: http, protocol: HTTP}}]{fields}}}\n"
    )
}

#[test]
fn services_without_endpoints_are_named_where_routes_lead_to_them() {
    let to = |host: &str| {
        let spec = format!(
            "hosts: ['*']\ngateways: [edge]\nhttp: [{{route: [{{destination: {{host: {host}}}}}]}}]\n"
        );
        GATEWAY.to_string() + &service("a.com", 80, 1) + &rule("r", &spec)
    };
    let selecting = ", workloadSelector: {labels: {app: q}}";
    assert_eq!(
        found_in(&(to("s.com") + &entry(""))),
        found("no-endpoints", "spec.resolution")
    );
    assert_eq!(
        found_in(&(to("s.com") + &entry(selecting))),
        found("no-endpoints", "spec.workloadSelector")
    );
    // Nobody asks for it.
    assert_eq!(found_in(&(to("a.com") + &entry(""))), []);
    let endpoint = ", endpoints: [{address: 10.0.0.9}]";
    assert_eq!(found_in(&(to("s.com") + &entry(endpoint))), []);
    let workload = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
                    metadata: {name: w}\nspec: {address: 10.0.0.9, labels: {app: q}}\n";
    assert_eq!(found_in(&(to("s.com") + &entry(selecting) + workload)), []);
    let by_name = workload.replace("10.0.0.9", "w.com");
    let text = to("s.com") + &entry(selecting) + &by_name;
    assert_eq!(
        found_in(&text),
        found("no-endpoints", "spec.workloadSelector")
    );
    let told = load_text(&text).diagnostics;
    assert!(
        told.iter()
            .any(|one| one.message.contains("have no IP address"))
    );
}

#[test]
fn settings_of_the_other_role_are_named() {
    let with = |role: &str, more: &str| {
        let settings =
            sidecar("default").replace("role: sidecar", &format!("role: {role}, {more}"));
        found_in(&(settings + &service("a.com", 80, 1)))
    };
    for (role, other, more, field) in [
        (
            "gateway",
            "sidecar",
            "outboundTrafficPolicy: REGISTRY_ONLY",
            "outboundTrafficPolicy",
        ),
        (
            "gateway",
            "sidecar",
            "interception: {mode: NONE}",
            "interception",
        ),
        (
            "gateway",
            "sidecar",
            "protocolDetectionTimeout: 1s",
            "protocolDetectionTimeout",
        ),
        (
            "sidecar",
            "gateway",
            "gatewayTopology: {proxyProtocol: {}}",
            "gatewayTopology",
        ),
    ] {
        let at = format!("spec.{field}");
        assert_eq!(with(role, more), found("no-effect", &at), "{role} {more}");
        assert_eq!(with(other, more), [], "{other} {more}");
    }
}

#[test]
fn gateways_of_a_sidecar_are_named_once() {
    let other = GATEWAY
        .replace("name: edge", "name: other")
        .replace("8080", "8081");
    let mesh = sidecar("default") + &service("a.com", 80, 1);
    assert_eq!(
        found_in(&(mesh.clone() + GATEWAY + &other)),
        found("no-effect", "spec")
    );
    assert_eq!(found_in(&mesh), []);
}

#[test]
fn ports_of_a_workload_that_no_service_has_are_named() {
    let with = |ports: &str, labels: &str| {
        let workload = format!(
            "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: w}}\n\
             spec: {{address: 10.0.0.9, ports: {{{ports}}}, labels: {{{labels}}}}}\n"
        );
        let selecting = entry(", workloadSelector: {labels: {app: q}}");
        let kubernetes = "---\napiVersion: v1\nkind: Service\nmetadata: {name: k}\n\
                          spec: {selector: {app: k}, ports: [{name: http, port: 80, targetPort: web}]}\n";
        let mut told = found_in(&(sidecar("default") + &selecting + kubernetes + &workload));
        told.retain(|(code, _)| *code == "unknown-port");
        told
    };
    let wrong = found("unknown-port", "spec.ports.htpp");
    assert_eq!(with("htpp: 9000", "app: q"), wrong);
    assert_eq!(with("http: 9000", "app: q"), []);
    assert_eq!(with("htpp: 9000", "app: k"), wrong);
    assert_eq!(with("web: 9000", "app: k"), []);
    assert_eq!(with("htpp: 9000", "app: nobodys"), []);
}

#[test]
fn sidecars_that_are_for_nobody_are_named() {
    let scope = |name: &str, more: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}}}\n\
             spec: {{{more}egress: [{{hosts: ['./*']}}]}}\n"
        )
    };
    let mesh = sidecar("default") + &service("a.com", 80, 1);
    let one = mesh.clone() + &scope("one", "");
    assert_eq!(found_in(&one), []);
    assert_eq!(
        found_in(&(one.clone() + &scope("two", ""))),
        found("no-effect", "spec")
    );
    let selecting = scope("two", "workloadSelector: {labels: {app: q}}, ");
    assert_eq!(found_in(&(one + &selecting)), []);
    let gateway = mesh.replace("role: sidecar", "role: gateway");
    assert_eq!(
        found_in(&(gateway + &scope("one", ""))),
        found("no-effect", "spec")
    );
}

#[test]
fn a_rule_of_the_root_namespace_that_is_never_looked_at_is_named() {
    let of = |namespace: &str, policy: &str| {
        let spec = format!("host: a.com\ntrafficPolicy: {{loadBalancer: {{simple: {policy}}}}}\n");
        let name = format!("metadata: {{name: d, namespace: {namespace}}}");
        destination_rule("d", &spec).replace("metadata: {name: d}", &name)
    };
    let mesh = sidecar("default") + &service("a.com", 80, 1);
    let root = of("istio-system", "RANDOM");
    assert_eq!(found_in(&(mesh.clone() + &root)), []);
    assert_eq!(
        found_in(&(mesh.clone() + &root + &of("default", "ROUND_ROBIN"))),
        found("no-effect", "spec.host")
    );
    // A third namespace is asked by nobody here, so the root's rule is.
    assert_eq!(found_in(&(mesh + &root + &of("other", "ROUND_ROBIN"))), []);
}

#[test]
fn a_place_of_more_than_three_parts_is_refused() {
    let of = |locality: &str| {
        let settings = sidecar("default").replace(
            "role: sidecar",
            &format!("role: sidecar, workload: {{locality: {locality}}}"),
        );
        codes(&load_text(&(settings + &service("a.com", 80, 1))).diagnostics)
    };
    assert_eq!(of("a/b/c/d"), ["invalid-settings"]);
    assert_eq!(of("a/b/c"), [""; 0]);
}

#[test]
fn servers_that_share_a_certificate_and_no_routes_are_named() {
    let server = |name: &str, host: &str, tls: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\n\
             spec:\n  servers:\n  - port: {{number: 443, name: {name}, protocol: HTTPS}}\n    \
             hosts: [{host}]\n    tls: {{{tls}}}\n"
        )
    };
    let pair = |one: &str, other: &str| {
        found_in(&(server("one", "a.test", one) + &server("two", "b.test", other)))
    };
    let files = "mode: SIMPLE, serverCertificate: /none/a.pem, privateKey: /none/a.key";
    let at = "spec.servers[0].tls";
    assert_eq!(pair(files, files), found("shared-certificate", at));
    assert_eq!(pair(files, &files.replace("a.pem", "b.pem")), []);
    assert_eq!(pair("mode: ISTIO_MUTUAL", "mode: ISTIO_MUTUAL"), []);
    assert_eq!(found_in(&server("one", "a.test, b.test", files)), []);
}

#[test]
fn slices_that_miss_their_service_or_its_port_are_named() {
    let text = |slice: &str| {
        let spec = "hosts: ['*']\ngateways: [edge]\n\
                    http: [{route: [{destination: {host: s, port: {number: 80}}}]}]\n";
        GATEWAY.to_string()
            + &rule("r", spec)
            + "---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\n\
               spec: {ports: [{name: http, port: 80}]}\n"
            + slice
    };
    let slice = |service: &str, ports: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: s-1, labels: {{kubernetes.io/service-name: {service}}}}}\n\
             addressType: IPv4\nendpoints: [{{addresses: [10.0.0.1]}}]\nports: [{ports}]\n"
        )
    };
    let of = |service: &str, ports: &str| found_in(&text(&slice(service, ports)));
    assert_eq!(of("s", "{name: http, port: 8080}"), []);
    let other_name = found("no-endpoints", "spec.ports");
    assert_eq!(of("s", "{name: web, port: 8080}"), other_name);
    assert_eq!(of("s", "{name: http}"), other_name);
    let none = found("no-endpoints", "metadata.name");
    let of_another = of("t", "{name: http, port: 8080}");
    assert_eq!(of_another[..1], found("unknown-host", "metadata.labels"));
    assert_eq!(of_another[1..], none);
    assert_eq!(found_in(&text("")), none);
    // One that is scaled to nothing may grow again.
    let empty = slice("s", "{name: http, port: 8080}").replace("[{addresses: [10.0.0.1]}]", "[]");
    assert_eq!(found_in(&text(&empty)), []);
    let headless = text("").replace("spec: {ports", "spec: {clusterIP: None, ports");
    assert_eq!(found_in(&headless), none);
    let names = slice("s", "{name: http, port: 8080}").replace("IPv4", "FQDN");
    assert_eq!(found_in(&text(&names)), found("no-effect", "addressType"));
}

#[test]
fn hosts_of_a_sidecar_that_another_covers_are_named() {
    let of = |namespace: &str, hosts: &str| {
        let text = format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\n\
             metadata: {{name: default, namespace: {namespace}}}\n\
             spec: {{egress: [{{hosts: [{hosts}]}}]}}\n"
        );
        let mut found = found_in(&(sidecar("default") + &text));
        found.retain(|(code, _)| *code == "duplicate-value");
        found
    };
    let second = found("duplicate-value", "spec.egress[0].hosts[1]");
    assert_eq!(of("default", "'b/*', b/a.com"), second);
    assert_eq!(of("default", "'*/*', b/a.com"), second);
    assert_eq!(of("default", "'./*', ./a.com"), second);
    // In the root namespace `.` is everybody's own.
    assert_eq!(of("istio-system", "'./*', 'istio-system/*'"), []);
}

/// As they are printed, EndpointSlices and Services tell more than anybody needs.
#[test]
fn what_kubernetes_prints_is_not_warned_of() {
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}\n\
                 addressType: IPv4\nendpoints:\n- addresses: [10.0.0.1]\n  \
                 conditions: {ready: true, serving: true, terminating: false}\n  \
                 hints: {forZones: [{name: a}]}\nports: [{name: http, port: 8080}]\n";
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\n\
                   spec: {publishNotReadyAddresses: false, sessionAffinity: None, \
                   ports: [{name: http, port: 80}]}\n";
    assert_eq!(found_in(&(GATEWAY.to_string() + service + slice)), []);
}
