//! The two doors of a sidecar: where connections go that are redirected to it, under Istio's
//! names for what they meet on the way.

mod support;

use ringroad_policy::explain::{Connection, Explanation, Request, Security, WireProtocol, explain};
use ringroad_policy::snapshot::{Direction, Discovery, DownstreamTlsMode, ListenerKind, Snapshot};
use support::*;

fn settings(more: &str) -> String {
    sidecar("default").replace(
        "role: sidecar",
        &format!("workload: {{labels: {{app: cart}}, addresses: [10.1.0.1]}}, role: sidecar{more}"),
    )
}

/// A service of one port, with what else its `spec` says.
fn entry(host: &str, protocol: &str, port: u16, more: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {}}}\n\
         spec:\n  hosts: ['{host}']\n  location: MESH_INTERNAL\n  \
         ports: [{{number: {port}, name: p, protocol: {protocol}}}]\n{more}",
        host.replace(['.', '*'], "-").trim_matches('-')
    )
}

fn at(address: &str) -> String {
    format!("  resolution: STATIC\n  endpoints: [{{address: {address}}}]\n")
}

/// A connection, told by what it brings.
struct Call {
    request: Request,
}

fn outbound(destination: &str) -> Call {
    let (address, port) = match destination.rsplit_once(':') {
        Some((address, port)) if !address.is_empty() => (address.parse().ok(), port),
        _ => (None, destination.trim_start_matches(':')),
    };
    Call {
        request: Request {
            method: "GET".to_string(),
            target: "/".to_string(),
            port: port.parse().ok(),
            connection: Connection {
                direction: Some(Direction::Outbound),
                address,
                protocol: WireProtocol::Tcp,
                ..Connection::default()
            },
            ..Request::default()
        },
    }
}

fn inbound(port: u16) -> Call {
    let mut call = outbound(&format!(":{port}"));
    call.request.connection.direction = Some(Direction::Inbound);
    call
}

impl Call {
    fn http(mut self, host: &str) -> Self {
        self.request.authority = host.to_string();
        self.request.connection.protocol = WireProtocol::Http;
        self
    }

    fn tls(mut self, server_name: &str) -> Self {
        self.request.connection.security = Security::Tls;
        self.request.connection.server_name = Some(server_name.to_string());
        self
    }

    fn mesh(mut self) -> Self {
        self.request.connection.security = Security::MeshTls;
        self
    }

    fn explain(&self, text: &str) -> Explanation {
        explain(&snapshot(text), &[], &self.request, None)
    }

    /// Listener, then cluster or kind of error.
    fn met(&self, text: &str) -> (String, String) {
        let told = self.explain(text);
        let end = told.error_kind.map(str::to_string).or(told.cluster);
        (told.listener.unwrap_or_default(), end.unwrap_or_default())
    }

    fn end(&self, text: &str) -> String {
        self.met(text).1
    }
}

fn pair(listener: &str, end: &str) -> (String, String) {
    (listener.to_string(), end.to_string())
}

#[test]
fn services_are_reached_by_address_port_and_protocol() {
    let text = [
        settings(""),
        entry(
            "db.test",
            "TCP",
            5432,
            &format!("  addresses: [10.9.0.1]\n{}", at("10.0.0.1")),
        ),
        entry("web.test", "HTTP", 80, &at("10.0.0.2")),
    ]
    .concat();
    let db = pair("10.9.0.1_5432", "outbound|5432||db.test");
    assert_eq!(outbound("10.9.0.1:5432").met(&text), db);
    assert_eq!(
        outbound("10.9.9.9:5432").met(&text),
        pair("virtualOutbound", "PassthroughCluster")
    );
    assert_eq!(
        outbound("203.0.113.1:80").http("web.test").met(&text),
        pair("0.0.0.0_80", "outbound|80||web.test")
    );
    assert_eq!(
        outbound("203.0.113.1:80").http("other.test").met(&text),
        pair("0.0.0.0_80", "PassthroughCluster")
    );
    // Bytes on a port of requests pass on, and so does TLS, which nobody looks into there.
    assert_eq!(
        outbound("203.0.113.1:80").met(&text),
        pair("0.0.0.0_80", "PassthroughCluster")
    );
    assert_eq!(
        outbound("203.0.113.1:80")
            .http("web.test")
            .tls("web.test")
            .met(&text),
        pair("0.0.0.0_80", "PassthroughCluster")
    );
    assert_eq!(
        outbound("10.1.0.1:15001").met(&text),
        pair("virtualOutbound", "BlackHoleCluster"),
        "what was addressed to the door itself would go in a circle"
    );
}

#[test]
fn with_registry_only_what_is_unknown_goes_nowhere() {
    let text = settings(", outboundTrafficPolicy: REGISTRY_ONLY")
        + &entry("web.test", "HTTP", 80, &at("10.0.0.2"));
    assert_eq!(outbound("203.0.113.1:9999").end(&text), "BlackHoleCluster");
    assert_eq!(outbound("203.0.113.1:80").end(&text), "BlackHoleCluster");
    let told = outbound("203.0.113.1:80").http("other.test").explain(&text);
    assert_eq!(told.virtual_host.as_deref(), Some("block_all"));
    assert_eq!(told.answer.unwrap().status, 502);
}

#[test]
fn a_port_of_unknown_protocol_takes_requests_and_bytes_of_its_service() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: any, namespace: default}\n\
        spec:\n  clusterIP: 10.9.0.2\n  ports: [{name: auto, port: 7000}, {name: http, port: 80}]\n";
    let text = settings("") + service;
    let host = "any.default.svc.cluster.local";
    let cluster = format!("outbound|7000||{host}");
    let told = outbound("10.9.0.2:7000").http("whatever").explain(&text);
    assert_eq!(told.listener.as_deref(), Some("10.9.0.2_7000"));
    assert_eq!(told.route_config, Some(format!("{host}:7000")));
    assert_eq!(told.cluster, Some(cluster.clone()));
    assert_eq!(outbound("10.9.0.2:7000").end(&text), cluster);
    assert_eq!(outbound("10.9.0.2:7000").tls("x").end(&text), cluster);
    assert_eq!(outbound("10.9.0.3:7000").end(&text), "PassthroughCluster");
}

#[test]
fn tls_is_told_by_name_where_the_address_does_not_tell() {
    let tls_rule = "hosts: [b.test, x.b.test]\ntls:\n- match: [{sniHosts: [x.b.test], sourceLabels: {app: other}}]\n  \
        route: [{destination: {host: a.test}}]\n- match: [{sniHosts: [x.b.test], port: 443}]\n  \
        route: [{destination: {host: b.test, port: {number: 443}}, weight: 1}, {destination: {host: a.test}, weight: 3}]\n";
    let text = [
        settings(""),
        entry("a.test", "TLS", 443, &at("10.0.0.1")),
        entry("b.test", "HTTPS", 443, &at("10.0.0.2")),
        entry("*.wild.test", "TLS", 443, "  resolution: NONE\n"),
        rule("b", tls_rule),
    ]
    .concat();
    let ask = |name: &str| outbound("203.0.113.1:443").tls(name).end(&text);
    assert_eq!(ask("a.test"), "outbound|443||a.test");
    assert_eq!(ask("c.wild.test"), "outbound|443||*.wild.test");
    let told = outbound("203.0.113.1:443").tls("x.b.test").explain(&text);
    let shares: Vec<f64> = told
        .destinations
        .iter()
        .map(|one| one.share_percent)
        .collect();
    assert_eq!(shares, [25.0, 75.0]);
    assert_eq!(
        ask("b.test"),
        "PassthroughCluster",
        "the rule has taken the place of the service"
    );
    assert_eq!(outbound("203.0.113.1:443").end(&text), "PassthroughCluster");
}

#[test]
fn tcp_rules_go_by_subnet_port_source_and_gateway() {
    let tcp_rule = "hosts: [db.test]\ntcp:\n\
        - match: [{port: 5433}]\n  route: [{destination: {host: never.test}}]\n\
        - match: [{gateways: [edge]}]\n  route: [{destination: {host: never.test}}]\n\
        - match: [{sourceNamespace: other}]\n  route: [{destination: {host: never.test}}]\n\
        - match: [{destinationSubnets: [10.9.1.0/24], sourceLabels: {app: cart}}]\n  route: [{destination: {host: b.test}}]\n\
        - match: [{port: 5432}]\n  route: [{destination: {host: c.test}}]\n";
    let text = [
        settings(""),
        entry(
            "db.test",
            "TCP",
            5432,
            &format!("  addresses: [10.9.0.0/16]\n{}", at("10.0.0.1")),
        ),
        entry(
            "b.test",
            "TCP",
            1,
            &format!("  addresses: [10.8.0.1]\n{}", at("10.0.0.2")),
        ),
        entry(
            "c.test",
            "TCP",
            2,
            &format!("  addresses: [10.8.0.2]\n{}", at("10.0.0.2")),
        ),
        rule("db", tcp_rule),
    ]
    .concat();
    assert_eq!(outbound("10.9.1.7:5432").end(&text), "outbound|1||b.test");
    assert_eq!(outbound("10.9.2.7:5432").end(&text), "outbound|2||c.test");
    assert_eq!(outbound("10.7.2.7:5432").end(&text), "PassthroughCluster");
}

#[test]
fn the_endpoints_of_a_service_without_address_stand_for_it() {
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
        metadata: {name: db-1, namespace: default, labels: {kubernetes.io/service-name: db}}\n\
        addressType: IPv4\nports: [{name: tcp, port: 5432}]\n\
        endpoints: [{addresses: [10.0.0.5]}, {addresses: [10.0.0.6]}, {addresses: [10.1.0.1]}]\n";
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: default}\n\
        spec: {clusterIP: None, ports: [{name: tcp, port: 5432}]}\n";
    let text = settings("") + service + slice;
    let cluster = "outbound|5432||db.default.svc.cluster.local";
    assert_eq!(
        outbound("10.0.0.6:5432").met(&text),
        pair("0.0.0.0_5432", cluster)
    );
    assert_eq!(outbound("10.0.0.7:5432").end(&text), "PassthroughCluster");
    assert_eq!(
        outbound("10.1.0.1:5432").end(&text),
        "PassthroughCluster",
        "itself is not outside"
    );
}

fn peers(spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: p}}\nspec: {spec}\n"
    )
}

#[test]
fn the_workload_is_reached_at_the_ports_of_its_services_as_its_peers_may() {
    let own = entry(
        "cart.test",
        "HTTP",
        80,
        "  resolution: STATIC\n  endpoints: [{address: 10.1.0.1, ports: {p: 8080}}]\n",
    );
    let text = |spec: &str| settings("") + &own + &peers(spec);

    let permissive = text("{mtls: {mode: PERMISSIVE}}");
    let told = inbound(8080).http("any.test").explain(&permissive);
    assert_eq!(told.listener.as_deref(), Some("virtualInbound"));
    assert_eq!(told.route_config.as_deref(), Some("inbound|8080||"));
    assert_eq!(told.virtual_host.as_deref(), Some("inbound|http|80"));
    assert_eq!(told.cluster.as_deref(), Some("inbound|8080||"));
    assert_eq!(
        inbound(8080).http("a").mesh().end(&permissive),
        "inbound|8080||"
    );
    assert_eq!(
        inbound(8080).http("a").tls("a").end(&permissive),
        "ErrNoFilterChain"
    );
    assert_eq!(
        inbound(9000).http("a").end(&permissive),
        "InboundPassthroughCluster"
    );
    assert_eq!(
        inbound(9000).mesh().end(&permissive),
        "InboundPassthroughCluster"
    );
    assert_eq!(inbound(15006).end(&permissive), "BlackHoleCluster");

    let strict = text(
        "{selector: {matchLabels: {app: cart}}, mtls: {mode: STRICT}, portLevelMtls: {9000: {mode: DISABLE}}}",
    );
    assert_eq!(inbound(8080).http("a").end(&strict), "ErrNoFilterChain");
    assert_eq!(
        inbound(8080).http("a").mesh().end(&strict),
        "inbound|8080||"
    );
    assert_eq!(
        inbound(9000).http("a").end(&strict),
        "InboundPassthroughCluster"
    );
    assert_eq!(
        inbound(9000).http("a").mesh().end(&strict),
        "InboundPassthroughCluster",
        "as bytes"
    );
    assert_eq!(inbound(9001).http("a").end(&strict), "ErrNoFilterChain");

    let others = text("{selector: {matchLabels: {app: other}}, mtls: {mode: STRICT}}");
    assert_eq!(inbound(8080).http("a").end(&others), "inbound|8080||");

    let snapshot = snapshot(&strict);
    let doors = snapshot.doors.as_ref().unwrap();
    let ListenerKind::Chains(chains) = &doors.inbound.kind else {
        panic!("chains")
    };
    assert!(chains.inspects_tls(8080) && !chains.inspects_tls(9000) && !chains.inspects_tls(15006));
    let ended = chains
        .chains
        .iter()
        .filter_map(|chain| chain.tls.as_deref());
    assert!(
        ended
            .into_iter()
            .all(|tls| tls.mode == DownstreamTlsMode::IstioMutual)
    );
    let cluster = snapshot.cluster_named("inbound|8080||").unwrap();
    assert_eq!(cluster.discovery, Discovery::OriginalDestination);
}

fn scope(spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: s}}\nspec:\n{spec}"
    )
}

#[test]
fn ingress_of_a_sidecar_takes_the_place_of_the_ports_of_services() {
    let own = entry("cart.test", "TCP", 8080, &at("10.1.0.1"));
    let ingress = "ingress:\n- port: {number: 9090, protocol: HTTP, name: http}\n  \
        defaultEndpoint: 127.0.0.1:7070\n- port: {number: 9091, protocol: TCP, name: tcp}\n  \
        defaultEndpoint: unix:///run/app.sock\n  captureMode: NONE\n  bind: 10.1.0.1\n";
    let text = settings(", interception: {mode: REDIRECT}") + &own + &scope(ingress);
    assert_eq!(inbound(8080).end(&text), "InboundPassthroughCluster");
    assert_eq!(
        inbound(9090).http("a").met(&text),
        pair("virtualInbound", "inbound|9090||")
    );
    assert_eq!(
        inbound(9091).met(&text),
        pair("10.1.0.1_9091", "inbound|9091||")
    );
    let snapshot = snapshot(&text);
    assert_eq!(addresses(&snapshot, "inbound|9090||"), ["127.0.0.1:7070"]);
    assert_eq!(addresses(&snapshot, "inbound|9091||"), ["/run/app.sock"]);
    let names: Vec<&str> = snapshot
        .listeners
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["10.1.0.1_9091", "virtualOutbound", "virtualInbound"]
    );
}

#[test]
fn doors_are_bound_only_where_connections_are_redirected() {
    let web = entry("web.test", "HTTP", 8000, &at("10.0.0.2"));
    let names = |more: &str| {
        let snapshot: Snapshot = snapshot(&(settings(more) + &web));
        let each = snapshot.listeners.iter();
        each.map(|one| format!("{} {}", one.name, one.address))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["0.0.0.0_8000 127.0.0.1:8000"]);
    assert_eq!(
        names(", interception: {mode: REDIRECT, outboundPort: 16001}"),
        [
            "virtualInbound 0.0.0.0:15006",
            "virtualOutbound 0.0.0.0:16001"
        ]
    );
}

fn in_namespace(text: String, namespace: &str) -> String {
    text.replacen(
        "metadata: {name: ",
        &format!("metadata: {{namespace: {namespace}, name: "),
        1,
    )
}

#[test]
fn a_sidecar_document_limits_what_is_seen() {
    let web = |host: &str| entry(host, "HTTP", 80, &at("10.0.0.2"));
    let services = [
        web("own.test"),
        in_namespace(web("a.other.test"), "other"),
        in_namespace(web("b.other.test"), "other"),
        in_namespace(web("third.test"), "third"),
    ]
    .concat();
    let seen = |egress: &str| {
        let text = settings("") + &services + &scope(egress);
        let hosts = ["own.test", "a.other.test", "b.other.test", "third.test"];
        let seen = hosts.into_iter().filter(|host| {
            outbound("203.0.113.1:80").http(host).end(&text) == format!("outbound|80||{host}")
        });
        seen.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(seen("egress: [{hosts: ['./*']}]"), "own.test");
    assert_eq!(
        seen("egress: [{hosts: ['*/*.other.test', './*']}]"),
        "own.test a.other.test b.other.test"
    );
    assert_eq!(
        seen("egress: [{hosts: ['other/a.other.test']}]"),
        "a.other.test"
    );
    assert_eq!(
        seen("egress: [{hosts: ['*/*', '~other/b.other.test']}]"),
        "own.test a.other.test third.test"
    );
    assert_eq!(seen("egress: [{hosts: ['~/*']}]"), "");
    assert_eq!(
        seen("workloadSelector: {labels: {app: cart}}\negress: [{hosts: ['third/*']}]"),
        "third.test"
    );
    assert_eq!(
        seen("workloadSelector: {labels: {app: other}}\negress: [{hosts: ['third/*']}]"),
        "own.test a.other.test b.other.test third.test"
    );

    // A rule brings its destinations with it.
    let rule = rule(
        "own",
        "hosts: [own.test]\nhttp: [{route: [{destination: {host: third.test}}]}]",
    );
    let text = settings("") + &services + &rule + &scope("egress: [{hosts: ['./*']}]");
    assert_eq!(
        outbound("203.0.113.1:80").http("own.test").end(&text),
        "outbound|80||third.test"
    );
    assert!(
        snapshot(&text)
            .cluster_named("outbound|80||third.test")
            .is_some()
    );
    assert!(
        snapshot(&text)
            .cluster_named("outbound|80||a.other.test")
            .is_none()
    );
    assert_eq!(
        outbound("203.0.113.1:80").http("third.test").end(&text),
        "PassthroughCluster"
    );
}

#[test]
fn an_egress_listener_has_its_port_to_itself() {
    let web = |host: &str, port| entry(host, "HTTP", port, &at("10.0.0.2"));
    let services = [web("a.test", 80), web("b.test", 80), web("c.test", 81)].concat();
    let egress = "egress:\n- port: {number: 80, protocol: HTTP, name: http}\n  hosts: ['./a.test']\n\
        - hosts: ['./*']\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\n";
    let text = settings("") + &services + &scope(egress);
    assert_eq!(
        outbound("203.0.113.1:80").http("a.test").end(&text),
        "outbound|80||a.test"
    );
    let told = outbound("203.0.113.1:80").http("b.test").explain(&text);
    assert_eq!(told.virtual_host.as_deref(), Some("block_all"));
    assert_eq!(
        outbound("203.0.113.1:81").http("c.test").end(&text),
        "outbound|81||c.test"
    );
    assert_eq!(outbound("203.0.113.1:9").end(&text), "BlackHoleCluster");
}

#[test]
fn rules_of_other_namespaces_count_as_they_are_exported() {
    let web = entry("own.test", "HTTP", 80, &at("10.0.0.2"));
    let other = |export: &str| {
        let spec = format!(
            "hosts: [own.test]\nexportTo: [{export}]\nhttp: [{{name: other, route: [{{destination: {{host: own.test}}}}]}}]"
        );
        in_namespace(rule("other", &spec), "other")
    };
    let route = |export: &str| {
        let text = settings("") + &web + &other(export);
        outbound("203.0.113.1:80")
            .http("own.test")
            .explain(&text)
            .route
            .unwrap()
    };
    assert_eq!(route("'*'"), "other");
    assert_eq!(route("default"), "other");
    assert_eq!(route("'.'"), "default");
    assert_eq!(route("third"), "default");
}

#[test]
fn original_destinations_are_warned_of_where_nobody_knows_them() {
    let told = |settings: String, resolution: &str| {
        let text = settings + &entry("*.wild.test", "HTTP", 80, resolution);
        codes(&load_text(&text).diagnostics)
    };
    let redirected = || settings(", interception: {mode: REDIRECT}");
    for resolution in ["", "  resolution: NONE\n"] {
        assert_eq!(
            told(settings(""), resolution),
            ["value-not-carried"],
            "{resolution}"
        );
        assert_eq!(told(redirected(), resolution), [""; 0], "{resolution}");
        let gateway = settings("").replace("role: sidecar", "role: gateway");
        assert_eq!(told(gateway, resolution), ["value-not-carried"]);
    }
    assert_eq!(told(settings(""), &at("10.0.0.1")), [""; 0]);
}
