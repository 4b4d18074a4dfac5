//! How TLS is spoken to clusters: by DestinationRules, and by itself.

mod support;

use ringroad_policy::snapshot::{
    Cluster, CredentialSource, Snapshot, TrustSource, UpstreamSni, UpstreamTls, UpstreamTlsMode,
};
use support::*;

const HOST: &str = "a.example";

fn with_rule(tls: &str) -> Snapshot {
    let rule = format!("host: {HOST}\ntrafficPolicy:\n  tls: {tls}\n");
    snapshot(&(GATEWAY.to_string() + &service(HOST, 80, 1) + &destination_rule("tls", &rule)))
}

fn cluster(snapshot: &Snapshot) -> &Cluster {
    snapshot.cluster_named("outbound|80||a.example").unwrap()
}

fn tls(snapshot: &Snapshot) -> &UpstreamTls {
    let cluster = cluster(snapshot);
    cluster.tls_for(&cluster.endpoints[0]).expect("TLS")
}

#[test]
fn simple_tls_goes_by_the_host_unless_a_name_is_written() {
    let snapshot = with_rule("{mode: SIMPLE}");
    let by_host = tls(&snapshot);
    assert_eq!(by_host.mode, UpstreamTlsMode::Simple);
    assert_eq!(
        (&by_host.sni, by_host.verifies_sni),
        (&UpstreamSni::Host, true)
    );
    assert_eq!(
        (&by_host.credential, &by_host.trust),
        (&None, &TrustSource::System)
    );

    let snapshot = with_rule("{mode: SIMPLE, sni: b.example, caCertificates: /ca.pem}");
    let fixed = tls(&snapshot);
    assert_eq!(fixed.sni, UpstreamSni::Fixed("b.example".to_string()));
    assert!(!fixed.verifies_sni);
    assert_eq!(fixed.trust, TrustSource::File("/ca.pem".to_string()));

    let snapshot = with_rule("{mode: SIMPLE, insecureSkipVerify: true}");
    assert!(tls(&snapshot).skips_verification && !tls(&snapshot).verifies_sni);
}

#[test]
fn mutual_tls_presents_a_certificate() {
    let snapshot = with_rule("{mode: MUTUAL, clientCertificate: /c.pem, privateKey: /k.pem}");
    let files = CredentialSource::Files {
        certificate: "/c.pem".to_string(),
        key: "/k.pem".to_string(),
    };
    assert_eq!(tls(&snapshot).credential, Some(files));
    let snapshot = with_rule("{mode: MUTUAL, credentialName: client}");
    let secret = CredentialSource::Secret {
        namespace: None,
        name: "client".to_string(),
    };
    assert_eq!(tls(&snapshot).credential, Some(secret));
}

#[test]
fn tls_of_the_mesh_is_for_the_accounts_of_the_endpoints() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
        metadata: {name: a, namespace: shop}\nspec:\n  hosts: [a.example]\n  \
        location: MESH_INTERNAL\n  resolution: STATIC\n  \
        ports: [{number: 80, name: http, protocol: HTTP}]\n  \
        subjectAltNames: ['spiffe://other/ns/x/sa/y']\n  endpoints:\n  \
        - {address: 10.0.0.1, serviceAccount: cart, labels: {security.istio.io/tlsMode: istio}}\n";
    let rule = "host: a.example\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n";
    let written = snapshot(&(GATEWAY.to_string() + entry + &destination_rule("tls", rule)));
    let mesh = tls(&written);
    assert_eq!(mesh.mode, UpstreamTlsMode::IstioMutual);
    assert!(!mesh.is_automatic);
    assert_eq!(
        mesh.sni,
        UpstreamSni::Fixed("outbound_.80_._.a.example".to_string())
    );
    let names = [
        "spiffe://cluster.local/ns/shop/sa/cart",
        "spiffe://other/ns/x/sa/y",
    ];
    assert_eq!(mesh.subject_alt_names, names);

    // Without a rule it is the same, for the endpoints that can.
    let automatic = snapshot(&(GATEWAY.to_string() + entry));
    assert!(tls(&automatic).is_automatic);
    assert_eq!(tls(&automatic).subject_alt_names, names);
}

#[test]
fn automatic_tls_is_for_endpoints_of_the_mesh_that_can_and_may() {
    let labelled = |location: &str| {
        service(HOST, 80, 2)
            .replace("{version: v1}", "{security.istio.io/tlsMode: istio}")
            .replace("MESH_INTERNAL", location)
    };
    let inside = snapshot(&(GATEWAY.to_string() + &labelled("MESH_INTERNAL")));
    let cluster_inside = cluster(&inside);
    assert!(
        cluster_inside
            .tls_for(&cluster_inside.endpoints[0])
            .is_some()
    );
    assert!(
        cluster_inside
            .tls_for(&cluster_inside.endpoints[1])
            .is_none(),
        "not labelled"
    );
    let outside = snapshot(&(GATEWAY.to_string() + &labelled("MESH_EXTERNAL")));
    assert!(cluster(&outside).tls.is_none());

    let peers = |namespace: &str, mode: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
             metadata: {{name: p, namespace: {namespace}}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
        )
    };
    let cases = [
        (peers("default", "DISABLE"), false),
        (peers("istio-system", "DISABLE"), false),
        (
            peers("istio-system", "DISABLE") + &peers("default", "STRICT"),
            true,
        ),
        (peers("other", "DISABLE"), true),
        (peers("default", "UNSET"), true),
    ];
    for (policies, expected) in cases {
        let text = GATEWAY.to_string() + &labelled("MESH_INTERNAL") + &policies;
        let found = cluster(&snapshot(&text)).tls.is_some();
        assert_eq!(found, expected, "{policies}");
    }
    let disabled = destination_rule(
        "off",
        "host: a.example\ntrafficPolicy: {tls: {mode: DISABLE}}\n",
    );
    let text = GATEWAY.to_string() + &labelled("MESH_INTERNAL") + &disabled;
    assert!(cluster(&snapshot(&text)).tls.is_none());
    // A policy that speaks of other things leaves it as it is.
    let other = "host: a.example\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}\n";
    let text = GATEWAY.to_string() + &labelled("MESH_INTERNAL") + &destination_rule("lb", other);
    assert!(cluster(&snapshot(&text)).tls.is_some());
}

/// Istio: `mtls_checker.go`.
#[test]
fn automatic_tls_heeds_what_is_said_of_some_workloads_and_of_ports() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
        metadata: {name: a}\nspec:\n  hosts: [a.com]\n  location: MESH_INTERNAL\n  \
        resolution: STATIC\n  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]\n  \
        endpoints:\n  - address: 10.0.0.1\n    labels: {app: a, security.istio.io/tlsMode: istio}\n  \
        - address: 10.0.0.2\n    labels: {app: b, security.istio.io/tlsMode: istio}\n";
    let spoken = |policies: &str| {
        let snapshot = snapshot(&(sidecar("default") + entry + policies));
        let cluster = snapshot
            .cluster_named("outbound|80||a.com")
            .expect("is there");
        let endpoints = cluster.endpoints.iter();
        endpoints
            .map(|endpoint| cluster.tls_for(endpoint).is_some())
            .collect::<Vec<_>>()
    };
    let peers = |name: &str, namespace: &str, spec: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
             metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
        )
    };
    let of_a = |more: &str| {
        let spec = format!("{{selector: {{matchLabels: {{app: a}}}}, {more}}}");
        peers("a", "default", &spec)
    };
    let off = peers("default", "default", "{mtls: {mode: DISABLE}}");
    assert_eq!(spoken(""), [true, true]);
    assert_eq!(spoken(&of_a("mtls: {mode: DISABLE}")), [false, true]);
    let port = "mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}}";
    assert_eq!(spoken(&of_a(port)), [false, true]);
    assert_eq!(spoken(&of_a(&port.replace("8080", "80"))), [true, true]);
    assert_eq!(spoken(&off), [false, false]);
    assert_eq!(
        spoken(&(off.clone() + &of_a("mtls: {mode: STRICT}"))),
        [true, false]
    );
    assert_eq!(
        spoken(&(off + &of_a("portLevelMtls: {8080: {mode: PERMISSIVE}}"))),
        [true, false]
    );
    let elsewhere = of_a("mtls: {mode: DISABLE}").replace("namespace: default", "namespace: x");
    assert_eq!(spoken(&elsewhere), [true, true]);
}

#[test]
fn a_sidecar_takes_secrets_only_from_rules_that_select_it() {
    let rule = "host: a.example\ntrafficPolicy: {tls: {mode: SIMPLE, credentialName: ca}}\n";
    let selecting = format!("workloadSelector: {{matchLabels: {{app: a}}}}\n{rule}");
    let settings = sidecar("default").replace(
        "role: sidecar",
        "workload: {labels: {app: a}}, role: sidecar",
    );
    let found = |rule: &str| {
        let text = settings.clone() + &service(HOST, 80, 1) + &destination_rule("tls", rule);
        cluster(&snapshot(&text)).tls.is_some()
    };
    assert!(!found(rule));
    assert!(found(&selecting));
}
