//! Mutual TLS between two sidecars on loopback: who is let in, what is told of whom, and what
//! becomes of certificates that are renewed.

mod harness;

use harness::mesh::{HOST, Mesh, application, ask, id, skip_names};
use harness::pki::{Authority, Identity, connect, connect_as, secret};
use harness::{DRIVERS, Proxy, folder, free_address, until};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn order_may_post_to_payment_and_nobody_else_may() {
    for driver in DRIVERS {
        let mesh = Mesh::new(driver);
        let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
            metadata: {name: orders, namespace: shop}\nspec:\n  action: ALLOW\n  rules:\n  \
            - from: [{source: {principals: [cluster.local/ns/shop/sa/order-service]}}]\n    \
            to: [{operation: {methods: [POST]}}]\n";
        let (payment, inbound) = mesh.payment("STRICT", "", policy);
        let (_order, order) = mesh.caller("order-service", inbound);
        let (asking, cart) = mesh.caller("cart-service", inbound);
        let status = |address, method| ask(address, method).expect("an answer").status;
        assert_eq!(status(order, "POST"), 200);
        assert_eq!(status(order, "GET"), 403);
        assert_eq!(status(cart, "POST"), 403);
        assert_eq!(status(cart, "GET"), 403);
        assert!(ask(inbound, "POST").is_err(), "without a certificate");

        // Who asked is in the figures of the way in.
        let principal = format!("source_principal=\"{}\"", id("cart-service"));
        let mut of_cart = String::new();
        until("the requests of the cart", || {
            let metrics = payment.admin("/stats/prometheus").body;
            let lines = metrics.lines();
            let mut counts = lines.filter(|line| line.starts_with("istio_requests_total{"));
            let found = counts.find(|line| line.contains(&principal));
            of_cart = found.unwrap_or_default().to_string();
            found.is_some()
        });
        for label in [
            "reporter=\"destination\"",
            "destination_workload_namespace=\"shop\"",
            "source_workload_namespace=\"shop\"",
            &format!("destination_principal=\"{}\"", id("payment-service")),
            "connection_security_policy=\"mutual_tls\"",
            "response_code=\"403\"",
        ] {
            assert!(of_cart.contains(label), "{label}: {of_cart}");
        }
        until("both ends in the figures of the way out", || {
            let both = [
                principal.clone(),
                format!("destination_principal=\"{}\"", id("payment-service")),
                "destination_workload_namespace=\"shop\"".to_string(),
                "reporter=\"source\"".to_string(),
            ];
            asking.has_series("istio_requests_total", &both.each_ref().map(String::as_str))
        });
    }
}

#[test]
fn identities_are_checked_on_both_sides() {
    let mesh = Mesh::new("auto");
    let (payment, inbound) = mesh.payment("STRICT", "", "");
    let (order, outbound) = mesh.caller("order-service", inbound);
    assert_eq!(ask(outbound, "GET").expect("an answer").status, 200);

    // The server: clients of another trust domain, of another authority, without an identity.
    let other = Authority::new();
    for identity in [
        mesh.authority
            .issue(&["spiffe://other.test/ns/shop/sa/order-service"]),
        mesh.authority.issue(&["order.test"]),
        other.issue(&[&id("order-service")]),
    ] {
        let mut client = connect_as(&mesh.authority.pem, Some(&identity));
        skip_names(&mut client, &mesh.authority);
        assert!(harness::pki::get(inbound, HOST, "/", &Arc::new(client)).is_err());
    }

    // The client: a server that is somebody else of the mesh.
    mesh.install("payment-service", &mesh.identity("cart-service"));
    until("the other certificate", || {
        let mut client = connect_as(&mesh.authority.pem, Some(&mesh.identity("x")));
        skip_names(&mut client, &mesh.authority);
        let shown = connect(inbound, HOST, &Arc::new(client)).map(|stream| {
            let certificates = stream.conn.peer_certificates().expect("is shown").to_vec();
            String::from_utf8_lossy(&certificates[0]).contains("cart-service")
        });
        shown.unwrap_or(false)
    });
    // A connection that is kept has been verified; another is not opened.
    order.put(
        "settings.yaml",
        &mesh.settings("order-service", ", trustDomain: other.test"),
    );
    until("the other server is refused", || {
        ask(outbound, "GET").is_ok_and(|answer| answer.status == 503)
    });
    order.put("settings.yaml", &mesh.settings("order-service", ""));
    let failed = |proxy: &Proxy| {
        let name = format!(
            "cluster.outbound|{}||{HOST}.upstream_cx_connect_fail",
            outbound.port()
        );
        proxy.stat(&name)
    };
    let before = failed(&order);
    until("it is refused for its name, too", || {
        let answer = ask(outbound, "GET").expect("an answer");
        assert_eq!(answer.status, 503);
        failed(&order) > before + 3
    });
    mesh.install("payment-service", &mesh.identity("payment-service"));
    until("the right server is back", || {
        ask(outbound, "GET").is_ok_and(|answer| answer.status == 200)
    });
    drop(payment);
}

#[test]
fn upstreams_are_told_of_the_certificate_of_the_client_and_of_nothing_a_client_makes_up() {
    for driver in DRIVERS {
        let mesh = Mesh::new(driver);
        let (payment, inbound) = mesh.payment("PERMISSIVE", "", "");
        let (_order, outbound) = mesh.caller("order-service", inbound);
        let made_up = "x-forwarded-client-cert: By=a;URI=spiffe://cluster.local/ns/shop/sa/root";
        let send = |address: SocketAddr| {
            let mut client = harness::Client::connect(address).expect("connects");
            let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{made_up}\r\n\r\n");
            client.write(request.as_bytes());
            client.answer().expect("an answer").body
        };
        let certificate = fs::read(mesh.path("order-service-chain.pem")).expect("is there");
        let element = |by: &str| {
            let hash = harness::pki::sha256_of_pem(&certificate);
            format!(
                "{by}Hash={hash};Subject=\"{}\";URI={}",
                SUBJECT,
                id("order-service")
            )
        };
        let by = format!("By={};", id("payment-service"));
        assert_eq!(
            send(outbound),
            element(&by),
            "what the workload made up is gone"
        );
        assert_eq!(send(inbound), "", "plain text tells of nobody");

        // A client of the mesh that is no sidecar passes on what it was told.
        let identity = Identity {
            certificate: String::from_utf8(certificate.clone()).expect("PEM"),
            key: fs::read_to_string(mesh.path("order-service-key.pem")).expect("is there"),
        };
        let mut client = connect_as(&mesh.authority.pem, Some(&identity));
        skip_names(&mut client, &mesh.authority);
        let client = Arc::new(client);
        let through_tls = |made_up: &str| {
            let mut stream = connect(inbound, HOST, &client).expect("a connection");
            let request =
                format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{made_up}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("received");
            let body = answer.split("\r\n\r\n").nth(1).expect("a body");
            body.to_string()
        };
        let two = "x-forwarded-client-cert: By=a\r\nX-Forwarded-Client-Cert: By=b";
        assert_eq!(through_tls(two), format!("By=a,By=b,{}", element(&by)));

        for (mode, expected) in [
            ("SANITIZE", String::new()),
            ("SANITIZE_SET", element(&by)),
            ("FORWARD_ONLY", "By=a|By=b".to_string()),
            ("ALWAYS_FORWARD_ONLY", "By=a|By=b".to_string()),
        ] {
            let more = format!(", proxyHeaders: {{forwardedClientCert: {mode}}}");
            payment.put("settings.yaml", &mesh.settings("payment-service", &more));
            until(mode, || through_tls(two) == expected);
        }
        let more = ", proxyHeaders: {setCurrentClientCertDetails: {uri: true}}";
        payment.put("settings.yaml", &mesh.settings("payment-service", more));
        let bare = element(&by).replace(&format!("Subject=\"{SUBJECT}\";"), "");
        until("the details", || {
            through_tls(two) == format!("By=a,By=b,{bare}")
        });
    }
}

/// What rcgen writes where nobody says.
const SUBJECT: &str = "CN=rcgen self signed cert";

#[test]
fn a_gateway_tells_of_its_clients_and_passes_nothing_on() {
    let authority = Authority::new();
    let application = application();
    let address = free_address();
    let tls = "{mode: OPTIONAL_MUTUAL, credentialName: shop}";
    let gate = harness::https_gateway(address, &[("shop.test", tls)]);
    let server = authority.issue(&["shop.test"]);
    let config = folder(&[
        ("gate.yaml", &gate),
        (
            "secret.yaml",
            &secret("shop", &server, Some(&authority.pem)),
        ),
        ("split.yaml", &harness::splitting(&[(application, 1)])),
    ]);
    let _proxy = Proxy::start(config, &[]);
    let body = |identity: Option<&Identity>| {
        let client = Arc::new(authority.client(identity));
        let mut stream = connect(address, "shop.test", &client).expect("a connection");
        let request = "GET / HTTP/1.1\r\nhost: shop.test\r\nx-forwarded-client-cert: By=a\r\n\
            connection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("received");
        answer.split("\r\n\r\n").nth(1).expect("a body").to_string()
    };
    assert_eq!(body(None), "");
    let identity = authority.issue(&["client.test"]);
    let told = body(Some(&identity));
    let hash = harness::pki::sha256_of_pem(identity.certificate.as_bytes());
    assert!(
        told.starts_with(&format!("Hash={hash};Cert=\"-----BEGIN%20CERT")),
        "{told}"
    );
    assert!(
        told.ends_with(&format!(";Subject=\"{SUBJECT}\";URI=;DNS=client.test")),
        "{told}"
    );
}

#[test]
fn a_certificate_that_is_renewed_under_load_loses_nothing() {
    for driver in DRIVERS {
        let mesh = Mesh::new(driver);
        let (payment, inbound) = mesh.payment("STRICT", "", "");
        let (order, outbound) = mesh.caller("order-service", inbound);
        let (ends, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        let handshakes = || {
            payment.stat(&format!(
                "http.{}_{}.ssl_handshake",
                inbound.ip(),
                inbound.port()
            ))
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !ends.load(Ordering::Relaxed) {
                        let answer = ask(outbound, "GET").expect("an answer");
                        assert_eq!(answer.status, 200, "{}", answer.body);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            // Connections are kept: another handshake shows only with a limit on their age.
            let rule = format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                 metadata: {{name: payment, namespace: shop}}\nspec: {{host: {HOST}, \
                 trafficPolicy: {{connectionPool: {{http: {{maxRequestsPerConnection: 2}}}}}}}}\n"
            );
            order.put("rule.yaml", &rule);
            let serial_of = |proxy: &Proxy| {
                let shown = proxy.admin_json("/certs");
                shown["certificates"][0]["cert_chain"][0]["serial_number"].to_string()
            };
            for _ in 0..3 {
                for (account, proxy) in [("payment-service", &payment), ("order-service", &order)] {
                    let before = serial_of(proxy);
                    mesh.install(account, &mesh.identity(account));
                    until("the renewed certificate", || serial_of(proxy) != before);
                    let (count, shaken) = (answered.load(Ordering::Relaxed), handshakes());
                    until("answers by it", || {
                        answered.load(Ordering::Relaxed) > count + 20 && handshakes() > shaken + 2
                    });
                }
            }
            ends.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn certificates_and_their_end_are_shown_and_keys_nowhere() {
    let mesh = Mesh::new("auto");
    let (payment, inbound) = mesh.payment("STRICT", "", "");
    let shown = payment.admin_json("/certs");
    let one = &shown["certificates"][0];
    let leaf = &one["cert_chain"][0];
    assert_eq!(leaf["path"], mesh.path("payment-service-chain.pem"));
    assert_eq!(leaf["subject_alt_names"][0]["uri"], id("payment-service"));
    assert_eq!(
        one["ca_cert"][0]["path"],
        mesh.path("payment-service-root.pem")
    );
    let days = |days: &serde_json::Value| days.as_str().and_then(|days| days.parse::<u64>().ok());
    assert!(days(&leaf["days_until_expiration"]) > Some(365), "{leaf}");
    let metrics = payment.admin("/stats/prometheus").body;
    let sample = format!(
        "ringroad_certificate_expiration_timestamp_seconds{{place=\"{}\",serial_number={}}}",
        mesh.path("payment-service-chain.pem"),
        leaf["serial_number"]
    );
    assert!(metrics.contains(&sample), "{metrics}");

    // One that expires tomorrow, of ten days; then one that has; then one that is broken.
    let now = std::time::SystemTime::now();
    let day = Duration::from_secs(86_400);
    let uri = id("payment-service");
    let soon =
        mesh.authority
            .issue_between(&[&uri], now - 9 * day, now + day - Duration::from_secs(60));
    mesh.install("payment-service", &soon);
    payment.until_logged("expires in 0 days and 23 hours");
    payment.until_stat("server.days_until_first_cert_expiring", 0);
    let over = mesh
        .authority
        .issue_between(&[&uri], now - 9 * day, now - day);
    mesh.install("payment-service", &over);
    payment.until_logged("has expired");
    let keys = [soon.key, over.key, mesh.identity("payment-service").key];
    let broken = Identity {
        certificate: keys[2].clone(),
        key: keys[2].clone(),
    };
    mesh.install("payment-service", &broken);
    until("a problem", || {
        payment.stat("server.certificates_unreadable") == 1
    });
    payment
        .until_logged("holds a private key where its certificate should be; what was in use stays");
    assert!(ask(inbound, "GET").is_err());

    for key in keys {
        let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
        assert!(lines.len() > 1);
        for page in [
            "/config_dump",
            "/certs",
            "/listeners",
            "/clusters",
            "/stats",
            "/server_info",
        ] {
            let body = payment.admin(page).body;
            for line in &lines {
                assert!(!body.contains(line), "{page}");
            }
        }
        assert!(lines.iter().all(|line| !payment.log().contains(line)));
    }
}
