//! What DestinationRule, Gateway, ServiceEntry, WorkloadEntry, WorkloadGroup and Sidecar may say.

mod findings;

use findings::errors;

fn object(kind: &str, spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a, namespace: ns}}\n\
         spec:\n{spec}"
    )
}

#[track_caller]
fn refused(kind: &str, spec: &str, code: &str, path: &str) {
    let found = errors(&object(kind, spec));
    assert_eq!(found, [(code, format!("spec.{path}"))], "{spec}");
}

#[track_caller]
fn accepted(kind: &str, spec: &str) {
    assert_eq!(errors(&object(kind, spec)), [], "{spec}");
}

#[test]
fn subsets_have_names_of_their_own_and_labels_that_can_be() {
    let subsets = |subsets: &str| format!("host: a\nsubsets: [{subsets}]");
    accepted(
        "DestinationRule",
        &subsets("{name: v1, labels: {version: v1}}, {name: v2}"),
    );
    for (list, code, path) in [
        (
            "{name: v1}, {name: v1}",
            "duplicate-value",
            "subsets[1].name",
        ),
        ("{name: v_1}", "invalid-name", "subsets[0].name"),
        (
            "{name: v1, labels: {a b: c}}",
            "invalid-label",
            "subsets[0].labels.a b",
        ),
        (
            "{name: v1, trafficPolicy: {}}",
            "missing-field",
            "subsets[0].trafficPolicy",
        ),
    ] {
        refused("DestinationRule", &subsets(list), code, path);
    }
}

#[test]
fn traffic_policies_change_something_that_can_be() {
    let policy = |policy: &str| format!("host: a\ntrafficPolicy: {policy}");
    for fine in [
        "{loadBalancer: {simple: RANDOM}}",
        "{connectionPool: {tcp: {maxConnections: 10}}, outlierDetection: {maxEjectionPercent: 50}}",
        "{loadBalancer: {consistentHash: {maglev: {tableSize: 65537}, useSourceIp: true}}}",
        "{tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k}}",
        "{portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}",
        "{loadBalancer: {localityLbSetting: {distribute: [{from: a/*, to: {a/b: 60, c: 40}}]}}}",
    ] {
        accepted("DestinationRule", &policy(fine));
    }
    for (broken, code, path) in [
        ("{connectionPool: {}}", "missing-field", "connectionPool"),
        (
            "{connectionPool: {tcp: {maxConnections: -1}}}",
            "out-of-range",
            "connectionPool.tcp.maxConnections",
        ),
        (
            "{connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}",
            "conflicting-fields",
            "connectionPool.http.useClientProtocol",
        ),
        (
            "{outlierDetection: {maxEjectionPercent: 101}}",
            "out-of-range",
            "outlierDetection.maxEjectionPercent",
        ),
        (
            "{outlierDetection: {consecutiveLocalOriginFailures: 3}}",
            "conflicting-fields",
            "outlierDetection.consecutiveLocalOriginFailures",
        ),
        (
            "{loadBalancer: {consistentHash: {maglev: {tableSize: 100}, useSourceIp: true}}}",
            "out-of-range",
            "loadBalancer.consistentHash.maglev.tableSize",
        ),
        (
            "{tls: {mode: MUTUAL, clientCertificate: /c}}",
            "missing-field",
            "tls",
        ),
        (
            "{tls: {mode: SIMPLE, credentialName: c, caCertificates: /ca}}",
            "conflicting-fields",
            "tls.caCertificates",
        ),
        (
            "{tls: {mode: SIMPLE, insecureSkipVerify: true, caCertificates: /ca}}",
            "conflicting-fields",
            "tls.insecureSkipVerify",
        ),
        (
            "{portLevelSettings: [{tls: {mode: DISABLE}}]}",
            "missing-field",
            "portLevelSettings[0]",
        ),
        (
            "{portLevelSettings: [{port: {number: 80}}]}",
            "missing-field",
            "portLevelSettings[0]",
        ),
        (
            "{tunnel: {targetHost: a, targetPort: 443, protocol: PUT}}",
            "unknown-value",
            "tunnel.protocol",
        ),
    ] {
        let path = format!("trafficPolicy.{path}");
        refused("DestinationRule", &policy(broken), code, &path);
    }
}

#[test]
fn localities_are_regions_whose_shares_fill_a_hundred() {
    let locality = |setting: &str| {
        format!(
            "host: a\ntrafficPolicy: {{outlierDetection: {{}}, loadBalancer: {{localityLbSetting: {setting}}}}}"
        )
    };
    for (setting, code, path) in [
        (
            "{distribute: [{from: a, to: {b: 60}}]}",
            "invalid-weight",
            "distribute[0].to",
        ),
        (
            "{distribute: [{from: a//c, to: {b: 100}}]}",
            "invalid-locality",
            "distribute[0].from",
        ),
        (
            "{distribute: [{from: a, to: {b: 50, b/c: 50}}]}",
            "duplicate-value",
            "distribute[0].to.b/c",
        ),
        (
            "{failover: [{from: a, to: a}]}",
            "invalid-locality",
            "failover[0]",
        ),
        (
            "{failover: [{from: a/b, to: c}]}",
            "invalid-locality",
            "failover[0].from",
        ),
    ] {
        let path = format!("trafficPolicy.loadBalancer.localityLbSetting.{path}");
        refused("DestinationRule", &locality(setting), code, &path);
    }
}

#[test]
fn a_rule_with_a_selector_stays_in_its_namespace() {
    let selecting = |to: &str| {
        format!("host: a\nworkloadSelector: {{matchLabels: {{app: a}}}}\nexportTo: {to}")
    };
    accepted("DestinationRule", &selecting("['.']"));
    refused(
        "DestinationRule",
        &selecting("[other]"),
        "conflicting-fields",
        "exportTo",
    );
}

/// A gateway with one server on a port of this protocol.
fn server(protocol: &str, more: &str) -> String {
    format!(
        "servers:\n- port: {{number: 80, name: a, protocol: {protocol}}}\n  hosts: [a.example.com]\n  {more}"
    )
}

#[test]
fn servers_have_hosts_and_ports() {
    let hosts = |hosts: &str| {
        format!("servers: [{{port: {{number: 80, name: a, protocol: HTTP}}, hosts: {hosts}}}]")
    };
    accepted(
        "Gateway",
        &hosts("['*', '*.example.com', ./a.example.com, '*/b.com', 10.0.0.1]"),
    );
    refused(
        "Gateway",
        &hosts("[a]"),
        "invalid-host",
        "servers[0].hosts[0]",
    );
    refused(
        "Gateway",
        &hosts("['*a.com']"),
        "invalid-host",
        "servers[0].hosts[0]",
    );
    refused(
        "Gateway",
        &hosts("[a_b/c.com]"),
        "invalid-host",
        "servers[0].hosts[0]",
    );
    let none = errors(&object("Gateway", "selector: {app: a}"));
    assert_eq!(none, [("missing-field", "spec".to_string())]);
    refused(
        "Gateway",
        &server("HTTP", "bind: example.com"),
        "invalid-address",
        "servers[0].bind",
    );
    let same = "servers:\n- {port: {number: 80, name: a, protocol: HTTP}, hosts: [a.com]}\n\
                - {port: {number: 81, name: a, protocol: HTTP}, hosts: [b.com]}";
    refused("Gateway", same, "duplicate-value", "servers[1].port.name");
    let port = "servers: [{port: {number: 0, name: a, protocol: HTTP}, hosts: [a.com]}]";
    refused("Gateway", port, "invalid-port", "servers[0].port.number");
}

#[test]
fn tls_of_servers_fits_their_protocol_and_mode() {
    let files = "serverCertificate: /c, privateKey: /k";
    for (protocol, tls) in [
        ("HTTP", "tls: {httpsRedirect: true}"),
        ("HTTPS", "tls: {mode: SIMPLE, credentialName: c}"),
        ("TLS", "tls: {mode: PASSTHROUGH}"),
    ] {
        accepted("Gateway", &server(protocol, tls));
    }
    accepted(
        "Gateway",
        &server("HTTPS", &format!("tls: {{mode: SIMPLE, {files}}}")),
    );
    for (protocol, tls, code, path) in [
        ("HTTPS", "name: a", "missing-field", "servers[0]"),
        (
            "TCP",
            "tls: {mode: PASSTHROUGH}",
            "conflicting-fields",
            "servers[0].tls",
        ),
        (
            "HTTP",
            "tls: {mode: SIMPLE, credentialName: c}",
            "conflicting-fields",
            "servers[0].tls",
        ),
        (
            "HTTPS",
            "tls: {mode: SIMPLE, serverCertificate: /c}",
            "missing-field",
            "servers[0].tls",
        ),
        (
            "HTTPS",
            "tls: {mode: ISTIO_MUTUAL, credentialName: c}",
            "conflicting-fields",
            "servers[0].tls.credentialName",
        ),
    ] {
        refused("Gateway", &server(protocol, tls), code, path);
    }
    let mutual = server("HTTPS", &format!("tls: {{mode: MUTUAL, {files}}}"));
    refused("Gateway", &mutual, "missing-field", "servers[0].tls");
    let twice = server(
        "HTTPS",
        &format!("tls: {{mode: SIMPLE, credentialName: c, {files}}}"),
    );
    refused("Gateway", &twice, "conflicting-fields", "servers[0].tls");
}

#[test]
fn certificates_are_pinned_by_fingerprints() {
    let server = |field: &str| {
        format!(
            "servers: [{{port: {{number: 443, name: s, protocol: HTTPS}}, hosts: [a.com], \
             tls: {{mode: MUTUAL, credentialName: c, {field}}}}}]"
        )
    };
    let (digits, groups) = ("0a".repeat(32), ["0A"; 32].join(":"));
    accepted(
        "Gateway",
        &server(&format!("verifyCertificateHash: ['{digits}', '{groups}']")),
    );
    let key = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    accepted(
        "Gateway",
        &server(&format!("verifyCertificateSpki: ['{key}']")),
    );
    for (name, value) in [
        ("verifyCertificateHash", "abc"),
        ("verifyCertificateHash", &digits[1..]),
        ("verifyCertificateHash", key),
        ("verifyCertificateSpki", "abc"),
        ("verifyCertificateSpki", digits.as_str()),
    ] {
        let path = format!("servers[0].tls.{name}[0]");
        let spec = server(&format!("{name}: ['{value}']"));
        refused("Gateway", &spec, "invalid-fingerprint", &path);
    }
}

#[test]
fn services_resolve_in_ways_that_fit_their_hosts_and_endpoints() {
    let http = "ports: [{number: 80, name: http, protocol: HTTP}]";
    for fine in [
        "hosts: [a.com]\nresolution: DNS",
        "hosts: [a.com, b.com]\nresolution: STATIC\nendpoints: [{address: 10.0.0.1, ports: {http: 8080}}]",
        "hosts: ['*.a.com']\nresolution: NONE\naddresses: [10.0.0.0/8]",
        "hosts: [a.com]\nresolution: STATIC\nendpoints: [{address: 'unix:///run/a.sock'}]",
        "hosts: ['*.a.com']\nresolution: DYNAMIC_DNS",
        "hosts: [a.com]\nexportTo: ['~']",
    ] {
        accepted("ServiceEntry", &format!("{fine}\n{http}"));
    }
    for (spec, code, path) in [
        ("hosts: ['*']", "invalid-host", "hosts[0]"),
        (
            "hosts: ['*.a.com']\nresolution: DNS",
            "invalid-host",
            "hosts[0]",
        ),
        (
            "hosts: [a.com]\nresolution: DNS\naddresses: [10.0.0.0/8]",
            "conflicting-fields",
            "addresses[0]",
        ),
        (
            "hosts: [a.com]\nendpoints: [{address: 10.0.0.1}]",
            "conflicting-fields",
            "endpoints",
        ),
        (
            "hosts: [a.com]\nresolution: STATIC\nendpoints: [{address: a.com}]",
            "invalid-address",
            "endpoints[0].address",
        ),
        (
            "hosts: [a.com]\nresolution: STATIC\nendpoints: [{address: 10.0.0.1, ports: {grpc: 1}}]",
            "unknown-port",
            "endpoints[0].ports.grpc",
        ),
        (
            "hosts: [a.com]\nresolution: DNS\nendpoints: [{address: 'unix:///a'}]",
            "invalid-address",
            "endpoints[0].address",
        ),
        (
            "hosts: [a.com]\nresolution: DYNAMIC_DNS",
            "invalid-host",
            "hosts[0]",
        ),
        (
            "hosts: [a.com]\nexportTo: ['~', b]",
            "conflicting-fields",
            "exportTo",
        ),
        (
            "hosts: [a.com]\nresolution: STATIC\nworkloadSelector: {labels: {a: '*'}}",
            "invalid-label",
            "workloadSelector.labels.a",
        ),
    ] {
        refused("ServiceEntry", &format!("{spec}\n{http}"), code, path);
    }
    let ports = "hosts: [a.com]\nports: [{number: 80, name: a}, {number: 81, name: a}]";
    refused("ServiceEntry", ports, "duplicate-value", "ports[1].name");
    let tcp =
        "hosts: [a.com, b.com]\nresolution: DNS\nports: [{number: 80, name: a, protocol: TCP}]";
    refused("ServiceEntry", tcp, "conflicting-fields", "hosts");
}

#[test]
fn workloads_have_addresses_and_probes() {
    accepted(
        "WorkloadEntry",
        "address: vm.example.com\nports: {http: 80}\nlabels: {app: a}",
    );
    accepted("WorkloadEntry", "network: far");
    for (spec, code, path) in [
        ("address: 'unix://a'", "invalid-address", "address"),
        ("address: a_b", "invalid-address", "address"),
        (
            "address: 10.0.0.1\nports: {http: 70000}",
            "invalid-port",
            "ports.http",
        ),
        (
            "address: 10.0.0.1\nlabels: {'a b': c}",
            "invalid-label",
            "labels.a b",
        ),
    ] {
        refused("WorkloadEntry", spec, code, path);
    }
    accepted(
        "WorkloadGroup",
        "template: {}\nprobe: {tcpSocket: {port: 80}}",
    );
    let probe = "template: {}\nprobe: {periodSeconds: 5}";
    refused("WorkloadGroup", probe, "missing-field", "probe");
}

#[test]
fn sidecars_change_something_by_listeners_of_their_own() {
    for fine in [
        "egress: [{hosts: [./*, '*/a.com', '~b/*']}]",
        "ingress: [{port: {number: 80, name: a, protocol: HTTP}, defaultEndpoint: '127.0.0.1:8080'}]",
        "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
        "egress: [{bind: 'unix:///a.sock', port: {number: 0, protocol: HTTP}, hosts: ['*/*']}]",
    ] {
        accepted("Sidecar", fine);
    }
    let same = "ingress:\n- {port: {number: 80, name: a, protocol: TCP}}\n\
                - {port: {number: 80, name: b, protocol: TCP}}";
    for (spec, code, path) in [
        (
            "egress: [{hosts: [a.com]}]",
            "invalid-host",
            "egress[0].hosts[0]",
        ),
        (
            "egress: [{hosts: [a/b]}]",
            "invalid-host",
            "egress[0].hosts[0]",
        ),
        (
            "egress: [{hosts: ['*/*']}, {hosts: ['*/*']}]",
            "conflicting-fields",
            "egress[0]",
        ),
        (same, "duplicate-value", "ingress[1].port.number"),
        (
            "ingress: [{port: {number: 80, protocol: TCP}, defaultEndpoint: '10.0.0.1:80'}]",
            "invalid-address",
            "ingress[0].defaultEndpoint",
        ),
        (
            "outboundTrafficPolicy: {mode: REGISTRY_ONLY, egressProxy: {host: a}}",
            "conflicting-fields",
            "outboundTrafficPolicy.egressProxy",
        ),
    ] {
        refused("Sidecar", spec, code, path);
    }
    assert_eq!(
        errors(&object("Sidecar", "{}")),
        [("missing-field", "spec".to_string())]
    );
}
