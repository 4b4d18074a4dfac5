//! Gateway servers of TLS and TCP: which chains a port has, and which one a connection gets.

mod support;

use ringroad_policy::snapshot::{
    ChainHandler, ChainMismatch, ConnectionFacts, CredentialSource, DownstreamTlsMode, FilterChain,
    FilterChains, ListenerKind, Snapshot, TlsVersion, TrustSource,
};
use support::*;

fn gateway(name: &str, servers: &str) -> String {
    let servers: String = servers.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\n\
         metadata: {{name: {name}}}\nspec:\n  selector: {{istio: ingressgateway}}\n  servers:\n{servers}"
    )
}

fn https(hosts: &str, name: &str, tls: &str) -> String {
    format!(
        "- port: {{number: 443, name: {name}, protocol: HTTPS}}\n  hosts: {hosts}\n  tls: {tls}\n"
    )
}

fn chains(snapshot: &Snapshot, port: u16) -> &FilterChains {
    match &listener(snapshot, port).kind {
        ListenerKind::Chains(chains) => chains,
        other => panic!("no chains: {other:?}"),
    }
}

fn tls(server_name: &str) -> ConnectionFacts {
    ConnectionFacts {
        destination: Some("192.0.2.1:443".parse().unwrap()),
        is_tls: true,
        server_name: Some(server_name.into()),
        ..ConnectionFacts::default()
    }
}

fn chain<'s>(snapshot: &'s Snapshot, server_name: &str) -> Result<&'s FilterChain, ChainMismatch> {
    chains(snapshot, 443).choose(&tls(server_name))
}

fn cluster(chain: &FilterChain) -> &str {
    match &chain.handler {
        ChainHandler::Tcp(route) => &route.destinations[0].cluster_name,
        ChainHandler::Http(table) => panic!("routes requests by {}", table.name),
    }
}

fn to(host: &str) -> String {
    format!("[{{destination: {{host: {host}, port: {{number: 80}}}}}}]")
}

#[test]
fn each_https_server_has_a_chain_with_its_own_names_certificate_and_routes() {
    let servers = https(
        "[shop.test, '*.shop.test']",
        "shop",
        "{mode: SIMPLE, credentialName: shop-cert}",
    ) + &https(
        "[team.test]",
        "team",
        "{mode: MUTUAL, serverCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem, \
             minProtocolVersion: TLSV1_3, subjectAltNames: [a.test]}",
    );
    let text = [
        gateway("edge", &servers),
        rule(
            "shop",
            &format!(
                "hosts: ['*']\ngateways: [edge]\nhttp: [{{name: all, route: {}}}]",
                to("a.example")
            ),
        ),
        service("a.example", 80, 1),
    ];
    let snapshot = snapshot(&text.concat());
    let shop = chain(&snapshot, "shop.test").unwrap();
    let team = chain(&snapshot, "team.test").unwrap();
    assert_eq!(chain(&snapshot, "x.shop.test").unwrap().name, shop.name);
    assert_eq!(
        chain(&snapshot, "other.test").err(),
        Some(ChainMismatch::None)
    );
    assert_eq!(shop.name, "https.443.shop.edge.default");
    assert_eq!(team.name, "https.443.team.edge.default");
    let ChainHandler::Http(table) = &shop.handler else {
        panic!("requests are read")
    };
    let route = get("shop.test", "/").route(table).expect("a route");
    assert_eq!(route.name, "all");
    assert_eq!(
        get("team.test", "/").route(table).err(),
        Some("no virtual host")
    );

    let tls = shop.tls.as_deref().unwrap();
    assert_eq!(tls.mode, DownstreamTlsMode::Simple);
    assert_eq!(
        (tls.min_version, tls.max_version),
        (TlsVersion::V1_2, TlsVersion::V1_3)
    );
    let secret = CredentialSource::Secret {
        namespace: None,
        name: "shop-cert".to_string(),
    };
    assert_eq!((&tls.credentials[..], &tls.trust), (&[secret][..], &None));
    let tls = team.tls.as_deref().unwrap();
    assert_eq!(
        (tls.mode, tls.min_version),
        (DownstreamTlsMode::Mutual, TlsVersion::V1_3)
    );
    assert_eq!(tls.trust, Some(TrustSource::File("/ca.pem".to_string())));
    assert_eq!(tls.subject_alt_names, ["a.test"]);
}

#[test]
fn tls_is_passed_through_by_server_name_and_the_first_rule_for_a_name_has_it() {
    let route = |name: &str, host: &str, sni: &str| {
        let spec = format!(
            "hosts: ['*.test']\ngateways: [edge]\ntls:\n\
             - match: [{{sniHosts: [{sni}], port: 443}}]\n  route: {}\n\
             - match: [{{sniHosts: [never.test], port: 444}}]\n  route: {}\n\
             - match: [{{sniHosts: [never.test], gateways: [other]}}]\n  route: {}\n",
            to(host),
            to(host),
            to(host)
        );
        rule(name, &spec)
    };
    let text = [
        gateway("edge", &https("['*.test']", "pass", "{mode: PASSTHROUGH}")),
        route("a", "a.example", "a.test"),
        route("b", "b.example", "'*.test'"),
        route("c", "c.example", "a.test"),
        ["a.example", "b.example", "c.example"]
            .map(|host| service(host, 80, 1))
            .concat(),
    ];
    let loaded = load_text(&text.concat());
    assert!(codes(&loaded.diagnostics).contains(&"duplicate-sni-host"));
    let snapshot = loaded.snapshot.unwrap();
    assert_eq!(
        cluster(chain(&snapshot, "a.test").unwrap()),
        "outbound|80||a.example"
    );
    assert_eq!(
        cluster(chain(&snapshot, "x.test").unwrap()),
        "outbound|80||b.example"
    );
    assert_eq!(
        cluster(chain(&snapshot, "never.test").unwrap()),
        "outbound|80||b.example"
    );
    assert_eq!(chain(&snapshot, "x.org").err(), Some(ChainMismatch::None));
    assert!(chain(&snapshot, "a.test").unwrap().tls.is_none());
}

#[test]
fn bytes_go_by_the_first_tcp_rule_with_its_weights_and_times() {
    let server = "- port: {number: 9000, name: db, protocol: TCP}\n  hosts: ['*']\n";
    let spec = "hosts: [db.test]\ngateways: [edge]\ntcp:\n\
         - match: [{port: 9001}]\n  route: [{destination: {host: never.example}}]\n\
         - match: [{port: 9000, gateways: [edge]}]\n  route:\n\
         \x20 - {destination: {host: a.example}, weight: 30}\n\
         \x20 - {destination: {host: b.example, port: {number: 81}}, weight: 70}\n\
         \x20 - {destination: {host: c.example}, weight: 0}\n";
    let times = "host: a.example\ntrafficPolicy:\n  connectionPool:\n    \
                 tcp: {idleTimeout: 5s, maxConnectionDuration: 1m}\n";
    let text = [
        gateway("edge", server),
        rule("db", spec),
        destination_rule("times", times),
        service("a.example", 80, 1),
        service("b.example", 81, 1),
    ];
    let snapshot = snapshot(&text.concat());
    let facts = ConnectionFacts {
        destination: Some("192.0.2.1:9000".parse().unwrap()),
        ..ConnectionFacts::default()
    };
    let chain = chains(&snapshot, 9000).choose(&facts).unwrap();
    let ChainHandler::Tcp(route) = &chain.handler else {
        panic!("bytes")
    };
    let shares: Vec<(&str, u32)> = route
        .destinations
        .iter()
        .map(|one| (one.cluster_name.as_str(), one.weight))
        .collect();
    assert_eq!(
        shares,
        [
            ("outbound|80||a.example", 30),
            ("outbound|81||b.example", 70)
        ]
    );
    assert_eq!(route.name, "db.default");
    assert_eq!(route.idle_timeout_ms, Some(5_000));
    assert_eq!(route.max_connection_duration_ms, Some(60_000));
    assert!(route.destinations.iter().all(|one| one.cluster.is_some()));
}

#[test]
fn the_first_server_of_a_port_decides_and_a_port_without_routes_is_not_listened_on() {
    let tcp = "- port: {number: 9000, name: db, protocol: TCP}\n  hosts: ['*']\n";
    let http = "- port: {number: 9000, name: web, protocol: HTTP}\n  hosts: ['*']\n";
    let loaded = load_text(&(gateway("a", tcp) + &gateway("b", http)));
    let found = codes(&loaded.diagnostics);
    assert!(
        found.contains(&"port-conflict") && found.contains(&"idle-server"),
        "{found:?}"
    );
    assert!(loaded.snapshot.unwrap().listeners.is_empty());

    let loaded = load_text(&(gateway("a", http) + &gateway("b", tcp)));
    assert!(codes(&loaded.diagnostics).contains(&"port-conflict"));
    let snapshot = loaded.snapshot.unwrap();
    assert_eq!(table(&snapshot, 9000).name, "http.9000");

    let bound = http.replace("hosts", "bind: 192.0.2.7\n  hosts");
    let snapshot = load_text(&(gateway("a", http) + &gateway("b", &bound)))
        .snapshot
        .unwrap();
    let names: Vec<&str> = snapshot
        .listeners
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["0.0.0.0_9000", "192.0.2.7_9000"]);
    assert_eq!(
        snapshot.listeners[1].route_table().unwrap().name,
        "http.9000.192.0.2.7"
    );
}

#[test]
fn servers_for_the_same_names_do_not_share_a_port() {
    let simple = |cert: &str| format!("{{mode: SIMPLE, credentialName: {cert}}}");
    let first = gateway("a", &https("[shop.test]", "https", &simple("one")));
    let second = gateway("b", &https("[shop.test]", "https", &simple("two")));
    let loaded = load_text(&(first + &second));
    assert!(codes(&loaded.diagnostics).contains(&"tls-server-conflict"));
    let snapshot = loaded.snapshot.unwrap();
    assert_eq!(
        chain(&snapshot, "shop.test").unwrap().name,
        "https.443.https.a.default"
    );

    // In two namespaces they count as two hosts, of which no connection can tell which it means.
    let first = gateway("a", &https("['./*']", "https", &simple("one")));
    let second = gateway("b", &https("['./*']", "https", &simple("two")))
        .replace("{name: b}", "{name: b, namespace: other}");
    let loaded = load_text(&(first + &second));
    assert!(codes(&loaded.diagnostics).contains(&"ambiguous-server"));
    let snapshot = loaded.snapshot.unwrap();
    assert_eq!(
        chain(&snapshot, "shop.test").err(),
        Some(ChainMismatch::Several)
    );
}

#[test]
fn auto_passthrough_leads_to_every_cluster_of_the_mesh_by_its_own_name() {
    let servers = "- port: {number: 443, name: tls, protocol: TLS}\n  hosts: ['*.example']\n  \
                   tls: {mode: AUTO_PASSTHROUGH}\n";
    let subsets = "host: a.example\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n\
                   subsets: [{name: v1, labels: {version: v1}}]\n";
    let external = service("b.example", 80, 1).replace("MESH_INTERNAL", "MESH_EXTERNAL");
    let text = [
        gateway("edge", servers),
        service("a.example", 80, 1),
        external,
        service("a.other", 80, 1),
        destination_rule("subsets", subsets),
    ];
    let snapshot = snapshot(&text.concat());
    let mut facts = tls("outbound_.80_.v1_.a.example");
    assert_eq!(
        chains(&snapshot, 443).choose(&facts).err(),
        Some(ChainMismatch::None)
    );
    facts.application_protocols = vec!["istio".into()];
    let chain = chains(&snapshot, 443).choose(&facts).unwrap();
    assert_eq!(cluster(chain), "outbound_.80_.v1_.a.example");
    let twin = snapshot
        .cluster_named("outbound_.80_.v1_.a.example")
        .unwrap();
    assert!(twin.tls.is_none() && twin.endpoints.len() == 1);
    assert!(
        snapshot
            .cluster_named("outbound|80|v1|a.example")
            .unwrap()
            .tls
            .is_some()
    );
    let names: Vec<&str> = chains(&snapshot, 443)
        .chains
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["outbound_.80_._.a.example", "outbound_.80_.v1_.a.example"]
    );
}
