//! The mode ISTIO_MUTUAL where it is written: in a DestinationRule, and at a server of a Gateway.
//! Ringroad on both sides, certificates of an authority of the test, both drivers.

mod harness;

use harness::mesh::{HOST, Mesh, ask, id, skip_names};
use harness::pki::{Authority, connect, connect_as};
use harness::tcp::{self, echo, raw_gateway};
use harness::{DRIVERS, Proxy, free_address, try_send, until, until_equal};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// A DestinationRule behind the endpoint of payment-service, which has no label of mutual TLS.
fn rule(tls: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: payment, namespace: shop}}\nspec:\n  host: {HOST}\n  \
         trafficPolicy: {{tls: {tls}}}\n"
    )
}

fn cluster_stat(proxy: &Proxy, outbound: SocketAddr, name: &str) -> u64 {
    let port = outbound.port();
    proxy.stat(&format!("cluster.outbound|{port}||{HOST}.{name}"))
}

#[test]
fn a_destination_rule_brings_mutual_tls_to_endpoints_without_a_label() {
    for driver in DRIVERS {
        let mesh = Mesh::new(driver);
        let (_payment, inbound) = mesh.payment("STRICT", "", "");
        let payment = id("payment-service");
        for tls in [
            "{mode: ISTIO_MUTUAL}".to_string(),
            format!("{{mode: ISTIO_MUTUAL, subjectAltNames: [\"{payment}\"]}}"),
            "{mode: ISTIO_MUTUAL, sni: outbound_.80_._.other.test}".to_string(),
        ] {
            let (_order, outbound) = mesh.caller_by("order-service", inbound, &rule(&tls));
            let answer = ask(outbound, "GET").expect("an answer");
            assert_eq!(answer.status, 200, "{tls}, {driver}");
            // The application is told who asked, and of whom.
            let told = format!("URI={}", id("order-service"));
            assert!(answer.body.contains(&told), "{}", answer.body);
            let by = format!("By={payment}");
            assert!(answer.body.contains(&by), "{}", answer.body);
        }
        // What makes the difference: no mutual TLS, or a server that is somebody else.
        for tls in [
            "{mode: DISABLE}".to_string(),
            "{mode: SIMPLE, insecureSkipVerify: true}".to_string(),
            format!(
                "{{mode: ISTIO_MUTUAL, subjectAltNames: [\"{}\"]}}",
                id("cart-service")
            ),
        ] {
            let (order, outbound) = mesh.caller_by("order-service", inbound, &rule(&tls));
            let answer = ask(outbound, "GET").expect("an answer");
            assert_eq!(answer.status, 503, "{tls}, {driver}: {}", answer.body);
            assert_eq!(cluster_stat(&order, outbound, "upstream_rq_2xx"), 0);
        }
        // Nor is there an answer without any rule: the endpoint has no label.
        let (_order, outbound) = mesh.caller_by("order-service", inbound, "");
        assert_eq!(ask(outbound, "GET").expect("an answer").status, 503);
    }
}

/// A gateway whose certificate is that of its own workload, for HTTP and for bytes.
fn gateway(mesh: &Mesh, application: SocketAddr) -> (Proxy, SocketAddr, SocketAddr) {
    let (http, bytes) = (free_address(), free_address());
    let echo = echo();
    mesh.install("gateway", &mesh.identity("gateway"));
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\n\
         metadata: {{name: gate, namespace: shop}}\nspec:\n  servers:\n  \
         - port: {{number: {}, name: https, protocol: HTTPS}}\n    bind: 127.0.0.1\n    \
         hosts: [{HOST}]\n    tls: {{mode: ISTIO_MUTUAL}}\n  \
         - port: {{number: {}, name: tls, protocol: TLS}}\n    bind: 127.0.0.1\n    \
         hosts: [\"*\"]\n    tls: {{mode: ISTIO_MUTUAL}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: payment, namespace: shop}}\nspec:\n  hosts: [{HOST}]\n  \
         gateways: [gate]\n  http:\n  - match: [{{port: {}}}]\n    \
         route: [{{destination: {{host: application.test}}}}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: bytes, namespace: shop}}\nspec:\n  hosts: [\"*\"]\n  \
         gateways: [gate]\n  tcp:\n  - match: [{{port: {}}}]\n    \
         route: [{{destination: {{host: echo.test}}}}]\n---\n\
         apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: orders, namespace: shop}}\nspec:\n  action: ALLOW\n  rules:\n  \
         - from: [{{source: {{principals: [cluster.local/ns/shop/sa/order-service]}}}}]\n",
        http.port(),
        bytes.port(),
        http.port(),
        bytes.port(),
    );
    let service = |name: &str, protocol: &str, address: SocketAddr| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: {name}, namespace: shop}}\nspec:\n  hosts: [{name}.test]\n  \
             resolution: STATIC\n  ports: [{{number: 80, name: p, protocol: {protocol}}}]\n  \
             endpoints: [{{address: {}, ports: {{p: {}}}}}]\n",
            address.ip(),
            address.port()
        )
    };
    let text = text + &service("application", "HTTP", application) + &service("echo", "TCP", echo);
    let settings = mesh
        .settings("gateway", "")
        .replace("role: sidecar", "role: gateway");
    let proxy = mesh.start(&[("settings.yaml", &settings), ("gate.yaml", &text)]);
    (proxy, http, bytes)
}

#[test]
fn a_gateway_shows_its_own_certificate_and_wants_one_of_the_mesh() {
    for driver in DRIVERS {
        let mesh = Mesh::new(driver);
        let (proxy, http, bytes) = gateway(&mesh, mesh.application);
        let listener = |name: &str| proxy.stat(&format!("http.127.0.0.1_{}.{name}", http.port()));

        // By sidecars, whose rule says so. The server is found by its name.
        let tls = rule(&format!(
            "{{mode: ISTIO_MUTUAL, sni: {HOST}, subjectAltNames: [\"{}\"]}}",
            id("gateway")
        ));
        let (_order, order) = mesh.caller_by("order-service", http, &tls);
        let answer = ask(order, "GET").expect("an answer");
        assert_eq!(answer.status, 200, "{driver}: {}", answer.body);
        let told = format!("URI={}", id("order-service"));
        assert!(answer.body.contains(&told), "{}", answer.body);
        until_equal("handshakes", 1, || listener("ssl_handshake"));
        // A policy knows them apart.
        let (_cart, cart) = mesh.caller_by("cart-service", http, &tls);
        assert_eq!(ask(cart, "GET").expect("an answer").status, 403);
        // The name of the cluster is no host of the gateway.
        let unnamed = rule(&format!(
            "{{mode: ISTIO_MUTUAL, subjectAltNames: [\"{}\"]}}",
            id("gateway")
        ));
        let (_unnamed, unnamed) = mesh.caller_by("order-service", http, &unnamed);
        assert_eq!(ask(unnamed, "GET").expect("an answer").status, 503);

        // By bytes, with one certificate and with another.
        let by_bytes = |account: &str| {
            let identity = mesh.identity(account);
            let mut client = connect_as(&mesh.authority.pem, Some(&identity));
            skip_names(&mut client, &mesh.authority);
            let mut stream = connect(bytes, "any.test", &Arc::new(client))?;
            let shown = stream.conn.peer_certificates().expect("is shown").to_vec();
            assert!(String::from_utf8_lossy(&shown[0]).contains(&id("gateway")));
            stream.write_all(b"ping")?;
            let mut echoed = [0; 4];
            stream.read_exact(&mut echoed)?;
            std::io::Result::Ok(echoed)
        };
        assert_eq!(by_bytes("order-service").expect("passes"), *b"ping");
        assert!(by_bytes("cart-service").is_err());

        // Nobody else.
        let other = Authority::new();
        for identity in [
            None,
            Some(other.issue(&[&id("order-service")])),
            Some(
                mesh.authority
                    .issue(&["spiffe://other.test/ns/shop/sa/order-service"]),
            ),
            Some(mesh.authority.issue(&["order.test"])),
            Some(mesh.authority.issue_until(&[&id("order-service")], 2001)),
        ] {
            let mut client = connect_as(&mesh.authority.pem, identity.as_ref());
            skip_names(&mut client, &mesh.authority);
            let answer = harness::pki::get(http, HOST, "/", &Arc::new(client));
            assert!(answer.is_err(), "{driver}: {answer:?}");
        }
        assert!(try_send(http, "GET", HOST, "/").is_err(), "in clear text");
        until_equal("certificates that were refused", 5, || {
            listener("ssl_fail_verify_error") + listener("ssl_fail_verify_no_cert")
        });

        // A renewed certificate is shown at once.
        let renewed = mesh.identity("gateway");
        mesh.install("gateway", &renewed);
        let hash = harness::pki::sha256_of_pem(renewed.certificate.as_bytes());
        until("the new certificate", || shows(bytes, &mesh, &hash));
    }
}

/// Whether the certificate with this fingerprint is shown.
fn shows(address: SocketAddr, mesh: &Mesh, hash: &str) -> bool {
    let mut client = connect_as(&mesh.authority.pem, Some(&mesh.identity("order-service")));
    skip_names(&mut client, &mesh.authority);
    let stream = connect(address, "any.test", &Arc::new(client));
    stream.is_ok_and(|stream: rustls::StreamOwned<_, TcpStream>| {
        let shown = stream.conn.peer_certificates().expect("is shown").to_vec();
        let digest = ring::digest::digest(&ring::digest::SHA256, &shown[0]);
        let bytes = digest.as_ref().iter();
        bytes.map(|byte| format!("{byte:02x}")).collect::<String>() == hash
    })
}

/// Where both sides choose `istio-peer-exchange`, Istio's sidecars put metadata before the bytes.
#[test]
fn bytes_of_the_mesh_come_without_metadata_before_them() {
    let metadata = b"istio-peer-exchange";
    let mesh = Mesh::new("auto");
    let (_gateway, _, bytes) = gateway(&mesh, mesh.application);
    let identity = mesh.identity("order-service");
    let mut client = connect_as(&mesh.authority.pem, Some(&identity));
    skip_names(&mut client, &mesh.authority);
    client.alpn_protocols = vec![metadata.to_vec(), b"istio".to_vec()];
    let stream = connect(bytes, HOST, &Arc::new(client)).expect("a connection");
    assert_ne!(stream.conn.alpn_protocol(), Some(&metadata[..]));

    // Neither does the other side hear of it.
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free_address();
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
        metadata: {name: db}\nspec: {host: db.test, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}\n";
    let text = raw_gateway(address, "TCP", "")
        + "---\n"
        + &tcp::route(address)
        + &tcp::service(upstream.local_addr().expect("an address"))
        + rule;
    let settings = mesh
        .settings("gateway", "")
        .replace("role: sidecar", "role: gateway")
        .replace("namespace: shop", "namespace: default");
    let _proxy = mesh.start(&[("settings.yaml", &settings), ("gate.yaml", &text)]);
    let _client = tcp::connect(address);
    let (mut stream, _) = upstream.accept().expect("a connection");
    let mut hello = [0; 4096];
    let len = stream.read(&mut hello).expect("a hello");
    let names = |name: &[u8]| hello[..len].windows(name.len()).any(|part| part == name);
    assert!(names(b"\x05istio"), "the mesh is named");
    assert!(!names(metadata));
}
