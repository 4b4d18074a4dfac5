//! What is found between documents, and what is warned about within one.

mod findings;

use findings::find;
use ringroad_policy::diagnostic::{Place, Severity};
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;
use ringroad_policy::source::SourceFile;

fn delegating(name: &str, targets: &[&str]) -> String {
    let routes: String = targets
        .iter()
        .map(|target| format!("  - delegate: {{{target}}}\n"))
        .collect();
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec:\n  hosts: [{name}.example.com]\n  http:\n{routes}"
    )
}

/// Code and place of everything but what is not carried yet.
#[track_caller]
fn told(text: &str) -> Vec<(Severity, &'static str, String)> {
    find(text)
        .into_iter()
        .filter(|found| !found.code.ends_with("not-carried"))
        .map(|found| (found.severity, found.code, found.path))
        .collect()
}

fn cycle(path: &str) -> (Severity, &'static str, String) {
    (Severity::Error, "delegate-cycle", path.to_string())
}

#[test]
fn delegates_in_a_circle_are_refused_where_it_closes() {
    let first = "spec.http[0].delegate";
    assert_eq!(told(&delegating("a", &["name: a"])), [cycle(first)]);
    let two = delegating("a", &["name: b"]) + &delegating("b", &["name: x", "name: a"]);
    assert_eq!(told(&two), [cycle("spec.http[1].delegate")]);
    let three = delegating("a", &["name: b, namespace: default"])
        + &delegating("b", &["name: c"])
        + &delegating("c", &["name: a"]);
    let found = find(&three);
    let message = &found.iter().find(|found| found.code == "delegate-cycle");
    let message = &message.unwrap().message;
    assert!(
        message.contains("default/a → default/b → default/c → default/a"),
        "{message}"
    );
}

#[test]
fn delegates_without_a_circle_pass() {
    let text = delegating("a", &["name: b", "name: c"])
        + &delegating("b", &["name: d"])
        + &delegating("c", &["name: d"])
        + &delegating("d", &["name: a, namespace: other"]);
    assert_eq!(told(&text), []);
}

#[test]
fn a_chain_of_many_delegates_needs_no_deep_stack() {
    const LENGTH: usize = 20_000;
    let chain: String = (0..LENGTH)
        .map(|at| delegating(&format!("v{at}"), &[&format!("name: v{}", at + 1)]))
        .collect();
    let closed = chain + &delegating(&format!("v{LENGTH}"), &["name: v0"]);
    assert_eq!(told(&closed), [cycle("spec.http[0].delegate")]);
}

fn virtual_service(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\n\
         spec:\n  hosts: [a.example.com]\n{spec}"
    )
}

const TO_B: &str = "route: [{destination: {host: b.example.com}}]";

#[test]
fn a_match_that_was_there_before_is_named() {
    let two = |first: &str, second: &str| {
        told(&virtual_service(&format!(
            "  http:\n  - {{match: [{first}], {TO_B}}}\n  - {{match: [{second}], {TO_B}}}\n"
        )))
    };
    let a = "{name: x, uri: {exact: /a}, headers: {x: {exact: '1'}}}";
    assert_eq!(
        two(a, "{headers: {x: {exact: '1'}}, uri: {exact: /a}, name: z}"),
        [(
            Severity::Warning,
            "duplicate-match",
            "spec.http[1].match[0]".to_string()
        )]
    );
    assert_eq!(two(a, "{uri: {exact: /a}, headers: {x: {exact: '2'}}}"), []);
    assert_eq!(two("{uri: {exact: /a}}", "{uri: {exact: /b}}"), []);
}

#[test]
fn names_of_gateways_are_refused_up_to_the_first_without_a_namespace() {
    let with = |gateways: &str| {
        let found = told(&virtual_service(&format!(
            "  gateways: [{gateways}]\n  http: [{{{TO_B}}}]\n"
        )));
        found.into_iter().map(|found| found.0).collect::<Vec<_>>()
    };
    assert_eq!(with("ns/edge, edge, mesh"), []);
    assert_eq!(with("ns/Ed_ge, edge"), [Severity::Error]);
    assert_eq!(with("edge, ns/Ed_ge"), [Severity::Warning]);
    assert_eq!(with("edge, 'a b'"), [Severity::Warning]);
    assert_eq!(with("'a b'"), [Severity::Error]);
}

#[test]
fn tcp_needs_an_address_unless_one_is_given() {
    let entry = |metadata: &str, spec: &str| {
        told(&format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: a{metadata}}}\nspec:\n  hosts: [a.example.com]\n  {spec}\n"
        ))
    };
    let off = ", labels: {networking.istio.io/enable-autoallocate-ip: 'false'}";
    let warned = || {
        vec![(
            Severity::Warning,
            "tcp-without-address",
            "spec.ports[0]".to_string(),
        )]
    };
    let tcp = "ports: [{number: 5432, name: db, protocol: TCP}]";
    let http = "ports: [{number: 80, name: web, protocol: HTTP}]";
    let dns = |ports: &str| format!("{ports}\n  resolution: DNS");
    assert_eq!(entry("", tcp), warned());
    assert_eq!(entry(off, &dns(tcp)), warned());
    assert_eq!(entry("", &dns(tcp)), []);
    assert_eq!(entry(off, &dns(http)), []);
    assert_eq!(entry("", &format!("addresses: [10.0.0.1]\n  {tcp}")), []);
}

#[test]
fn only_plain_http_redirects_to_https() {
    let warnings = |protocol: &str, tls: &str| {
        let found = told(&format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: a}}\nspec:\n  servers:\n  \
             - {{port: {{number: 80, name: a, protocol: {protocol}}}, hosts: ['*'], tls: {{{tls}}}}}\n"
        ));
        let found = found.into_iter();
        found.map(|found| (found.0, found.1)).collect::<Vec<_>>()
    };
    assert_eq!(warnings("HTTP", "httpsRedirect: true"), []);
    assert_eq!(
        warnings(
            "HTTPS",
            "httpsRedirect: true, mode: SIMPLE, credentialName: a"
        ),
        [(Severity::Warning, "no-effect")]
    );
    assert_eq!(
        warnings(
            "HTTPS",
            "httpsRedirect: false, mode: SIMPLE, credentialName: a"
        ),
        []
    );
}

#[test]
fn a_credential_holds_its_list_of_revoked_certificates() {
    let tls = "{credentialName: a, caCrl: /etc/crl}";
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: a}}\nspec:\n  servers:\n  \
         - {{port: {{number: 443, name: tls, protocol: TLS}}, hosts: ['*'], tls: {tls}}}\n"
    );
    let errors = |text: &str| {
        let found = told(text).into_iter();
        found
            .filter(|found| found.0 == Severity::Error)
            .map(|found| (found.1, found.2))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        errors(&text),
        [(
            "conflicting-fields",
            "spec.servers[0].tls.caCrl".to_string()
        )]
    );
    assert_eq!(
        errors(&text.replace("{credentialName", "{mode: SIMPLE, credentialName")),
        []
    );
}

#[test]
fn claims_and_presence_of_tokens_are_checked() {
    let rule = |rule: &str| {
        told(&format!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: a}}\n\
             spec: {{jwtRules: [{{issuer: 'https://a', {rule}}}]}}\n"
        ))
        .into_iter()
        .map(|found| found.1)
        .collect::<Vec<_>>()
    };
    assert_eq!(
        rule("presence: REQUIRED, spaceDelimitedClaims: [a]"),
        [""; 0]
    );
    assert_eq!(rule("presence: MANDATORY"), ["unknown-value"]);
    assert_eq!(rule("spaceDelimitedClaims: ['']"), ["empty-value"]);
}

#[test]
fn what_a_merge_key_gives_is_not_missed() {
    let codes = |text: &str| {
        let files = [SourceFile {
            path: "a.yaml".to_string(),
            text: text.to_string(),
        }];
        let loaded = ringroad_policy::load(&files, &Overrides::default(), &DnsTable::default());
        assert!(loaded.snapshot.is_none());
        let found = loaded.diagnostics.into_iter();
        found
            .map(|one| (one.code, matches!(one.place, Place::Position { .. })))
            .collect::<Vec<_>>()
    };
    let head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n\
                spec:\n  hosts: ['*']\n";
    let route = format!("  http: [{{{TO_B}}}]\n");
    let merge = ("merge-key", true);
    let gateways = format!("{head}  <<: {{gateways: [web]}}\n{route}");
    assert_eq!(codes(&gateways), [merge]);
    let listed = format!("{head}  <<: [{{gateways: [web]}}]\n{route}");
    assert_eq!(codes(&listed), [merge]);
    let leads = format!("{head}  gateways: [web]\n  http: [{{<<: {{{TO_B}}}}}]\n");
    assert_eq!(codes(&leads), [merge]);
    let named = gateways.replace("{name: a}", "{<<: {name: a}}");
    assert_eq!(codes(&named), [merge, merge]);
    let listed = "apiVersion: v1\nkind: List\n<<: {items: []}\n";
    assert_eq!(codes(listed), [merge]);
    // What is wrong in the merged fields is still told.
    let wrong = gateways.replace("gateways: [web]", "gateways: [web], hots: [a]");
    assert_eq!(codes(&wrong), [merge, ("unknown-field", false)]);
}

fn kubernetes_service(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{{spec}}}\n")
}

#[test]
fn an_external_name_without_a_name_is_refused() {
    let errors = |spec: &str| findings::errors(&kubernetes_service(spec));
    let missing = |path: &str| vec![("missing-field", path.to_string())];
    assert_eq!(errors("type: ExternalName"), missing("spec"));
    assert_eq!(
        errors("type: ExternalName, externalName: ''"),
        missing("spec.externalName")
    );
    assert_eq!(errors("type: ExternalName, externalName: a.com"), []);
    assert_eq!(errors("type: ClusterIP"), []);
}

/// Endpoints that no request could be sent to were dropped, and those with a port in the address.
#[test]
fn addresses_of_a_slice_that_are_none_of_its_type_were_dropped_in_silence() {
    let errors = |family: &str, addresses: &str| {
        findings::errors(&format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s}}\n\
             addressType: {family}\nendpoints: [{{addresses: [{addresses}]}}]\n"
        ))
    };
    let field = "endpoints[0].addresses";
    let wrong = vec![("invalid-address", format!("{field}[0]"))];
    for (family, address) in [
        ("IPv4", "localhost"),
        ("IPv4", "'127.0.0.1:80'"),
        ("IPv4", "300.0.0.9"),
        ("IPv4", "'::1'"),
        ("IPv6", "10.0.0.1"),
    ] {
        assert_eq!(errors(family, address), wrong, "{family} {address}");
    }
    assert_eq!(errors("IPv4", ""), [("too-few-items", field.to_string())]);
    for (family, address) in [
        ("IPv4", "10.0.0.1"),
        ("IPv6", "'2001:db8::1'"),
        ("FQDN", "a.example.com"),
    ] {
        assert_eq!(errors(family, address), [], "{family} {address}");
    }
}

#[test]
fn a_service_that_kubernetes_refuses_is_refused() {
    let errors = |spec: &str| findings::errors(&kubernetes_service(spec));
    let found = |code: &'static str, path: &str| vec![(code, path.to_string())];
    let address = |path: &str| found("invalid-address", path);
    assert_eq!(errors("clusterIP: 10.96.1.300"), address("spec.clusterIP"));
    assert_eq!(
        errors("clusterIP: 10.96.1.3, clusterIPs: [10.96.1.3, a]"),
        address("spec.clusterIPs[1]")
    );
    for fine in ["clusterIP: None, clusterIPs: [None]", "clusterIP: ''", ""] {
        assert_eq!(errors(fine), [], "{fine}");
    }
    let ports = |ports: &str| errors(&format!("ports: [{ports}]"));
    assert_eq!(
        ports("{port: 80, targetPort: 0}"),
        found("invalid-port", "spec.ports[0].targetPort")
    );
    assert_eq!(
        ports("{name: a, port: 80}, {name: a, port: 81}"),
        found("duplicate-value", "spec.ports[1].name")
    );
    assert_eq!(
        ports("{name: a, port: 80}, {name: b, port: 80, protocol: TCP}"),
        found("duplicate-value", "spec.ports[1].port")
    );
    assert_eq!(
        ports("{name: a, port: 80, targetPort: http}, {name: b, port: 80, protocol: UDP}"),
        []
    );
}
