//! TLS with clients and upstreams, on both drivers.

mod harness;

use harness::pki::{Authority, Identity, connect, get, secret};
use harness::{
    DRIVERS, Proxy, Upstream, folder, free_address, https_gateway, settings, splitting, until,
};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

fn start(
    driver: &str,
    servers: &[(&str, &str)],
    upstream: SocketAddr,
    documents: &[String],
) -> (Proxy, SocketAddr) {
    let address = free_address();
    let config = folder(&[
        ("gate.yaml", &https_gateway(address, servers)),
        ("secrets.yaml", &documents.join("---\n")),
        ("settings.yaml", &settings("{role: gateway}")),
        ("split.yaml", &splitting(&[(upstream, 1)])),
    ]);
    let args = ["--driver", driver, "--workers", "1"];
    (Proxy::start_with_workers(config, &args), address)
}

#[track_caller]
fn until_listener_stat(proxy: &Proxy, address: SocketAddr, name: &str, wanted: u64) {
    proxy.until_stat(&format!("http.127.0.0.1_{}.{name}", address.port()), wanted);
}

const SHOP: &str = "{mode: SIMPLE, credentialName: shop}";

#[test]
fn a_gateway_terminates_tls_for_each_of_its_names() {
    for driver in DRIVERS {
        let authority = Authority::new();
        let upstream = Upstream::start("hello");
        let documents = [
            secret("shop", &authority.issue(&["shop.test"]), None),
            secret("blog", &authority.issue(&["blog.test"]), None),
        ];
        let servers = [
            ("shop.test", SHOP),
            ("blog.test", "{mode: SIMPLE, credentialName: blog}"),
        ];
        let (proxy, address) = start(driver, &servers, upstream.address, &documents);
        let client = Arc::new(authority.client(None));
        for name in ["shop.test", "blog.test"] {
            let answer = get(address, name, "/", &client).expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.ends_with("hello"), "{answer}");
        }
        assert!(get(address, "other.test", "/", &client).is_err());
        until_listener_stat(&proxy, address, "no_filter_chain_match", 1);
        until_listener_stat(&proxy, address, "ssl_handshake", 2);

        // Many requests on one connection, and one long answer.
        let mut stream = connect(address, "shop.test", &client).expect("a connection");
        for _ in 0..100 {
            stream
                .write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n")
                .expect("sent");
            let mut got = Vec::new();
            while !got.ends_with(b"hello") {
                let mut piece = [0; 4096];
                let len = stream.read(&mut piece).expect("received");
                got.extend_from_slice(&piece[..len]);
            }
        }
    }
}

/// As in Envoy, where the list is for versions up to 1.2.
#[test]
fn suites_that_are_not_to_be_had_leave_tls_1_3() {
    let authority = Authority::new();
    let upstream = Upstream::start("hello");
    let documents = [secret("shop", &authority.issue(&["shop.test"]), None)];
    let tls = "{mode: SIMPLE, credentialName: shop, cipherSuites: [AES128-SHA]}";
    let (_proxy, address) = start("auto", &[("shop.test", tls)], upstream.address, &documents);
    let client = Arc::new(authority.client(None));
    let answer = get(address, "shop.test", "/", &client).expect("an answer");
    assert!(answer.ends_with("hello"), "{answer}");
    let old = Arc::new(authority.client_of(&[&rustls::version::TLS12]));
    assert!(get(address, "shop.test", "/", &old).is_err());
}

#[test]
fn plain_text_and_nonsense_are_not_answered_on_a_tls_port() {
    for driver in DRIVERS {
        let authority = Authority::new();
        let upstream = Upstream::start("hello");
        let documents = [secret("shop", &authority.issue(&["shop.test"]), None)];
        let (_proxy, address) = start(driver, &[("shop.test", SHOP)], upstream.address, &documents);
        for bytes in [
            &b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n"[..],
            b"\x16\x03\x01\x00\x05abcde",
        ] {
            let mut stream = std::net::TcpStream::connect(address).expect("connects");
            stream.write_all(bytes).expect("sent");
            stream
                .set_read_timeout(Some(harness::PATIENCE))
                .expect("set");
            let mut got = Vec::new();
            let _ = stream.read_to_end(&mut got);
            assert!(!String::from_utf8_lossy(&got).contains("HTTP"), "{got:?}");
        }
    }
}

#[test]
fn client_certificates_are_asked_for_and_verified() {
    for driver in DRIVERS {
        let (authority, other) = (Authority::new(), Authority::new());
        let upstream = Upstream::start("hello");
        let documents = [secret(
            "shop",
            &authority.issue(&["shop.test"]),
            Some(&authority.pem),
        )];
        let mutual =
            "{mode: MUTUAL, credentialName: shop, subjectAltNames: [\"spiffe://td/ns/a/sa/b\"]}";
        let optional = "{mode: OPTIONAL_MUTUAL, credentialName: shop}";
        let (proxy, address) = start(
            driver,
            &[("shop.test", mutual)],
            upstream.address,
            &documents,
        );
        let ask = |identity: Option<&Identity>| {
            let client = Arc::new(authority.client(identity));
            get(address, "shop.test", "/", &client)
        };
        let good = authority.issue(&["spiffe://td/ns/a/sa/b"]);
        assert!(ask(Some(&good)).expect("an answer").ends_with("hello"));
        for refused in [
            None,
            Some(authority.issue(&["spiffe://td/ns/a/sa/c"])),
            Some(other.issue(&["spiffe://td/ns/a/sa/b"])),
            Some(authority.issue_until(&["spiffe://td/ns/a/sa/b"], 2001)),
        ] {
            assert!(ask(refused.as_ref()).is_err());
        }
        until_listener_stat(&proxy, address, "ssl_fail_verify_no_cert", 1);
        until_listener_stat(&proxy, address, "ssl_fail_verify_error", 3);

        let (_proxy, address) = start(
            driver,
            &[("shop.test", optional)],
            upstream.address,
            &documents,
        );
        let ask = |identity: Option<&Identity>| {
            let client = Arc::new(authority.client(identity));
            get(address, "shop.test", "/", &client)
        };
        assert!(ask(None).is_ok());
        assert!(ask(Some(&good)).is_ok());
        assert!(ask(Some(&other.issue(&["a.test"]))).is_err());
    }
}

/// As in Envoy: one list of fingerprints, those of certificates and those of keys.
#[test]
fn a_certificate_is_in_one_of_the_lists_and_refused() {
    use base64::Engine as _;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let authority = Authority::new();
    let upstream = Upstream::start("hello");
    let good = authority.issue(&["client.test"]);
    let der = CertificateDer::from_pem_slice(good.certificate.as_bytes()).expect("PEM");
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).expect("a certificate");
    let key = ring::digest::digest(&ring::digest::SHA256, parsed.public_key().raw);
    let key = base64::prelude::BASE64_STANDARD.encode(key);
    let hash = harness::pki::sha256_of_pem(good.certificate.as_bytes());
    let other = "0".repeat(64);
    for (lists, passes) in [
        (
            format!("verifyCertificateSpki: ['{key}'], verifyCertificateHash: ['{other}']"),
            true,
        ),
        (
            format!("verifyCertificateHash: ['{other}', '{hash}']"),
            true,
        ),
        (format!("verifyCertificateHash: ['{other}']"), false),
    ] {
        let tls = format!("{{mode: MUTUAL, credentialName: shop, {lists}}}");
        let server = authority.issue(&["shop.test"]);
        let documents = [secret("shop", &server, Some(&authority.pem))];
        let servers = [("shop.test", tls.as_str())];
        let (_proxy, address) = start("auto", &servers, upstream.address, &documents);
        let client = Arc::new(authority.client(Some(&good)));
        let answer = get(address, "shop.test", "/", &client);
        assert_eq!(answer.is_ok(), passes, "{lists}: {answer:?}");
    }
}

/// Authorities of companies give wildcards below their one label, and Envoy takes them.
#[test]
fn an_upstream_with_a_wildcard_below_one_label_is_refused() {
    let authority = Authority::new();
    for (names, status) in [(["*.test"], 200), (["*.other"], 503), (["*.up0.test"], 503)] {
        let identity = authority.issue(&names);
        let upstream = harness::pki::TlsUpstream::start(&identity);
        let address = free_address();
        let files = folder(&[("root.pem", &authority.pem)]);
        let root = files.path().join("root.pem").display().to_string();
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: up0}}\n\
             spec: {{host: up0.test, trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: {root}}}}}}}\n"
        );
        let config = folder(&[
            ("gate.yaml", &harness::gateway(address)),
            ("split.yaml", &splitting(&[(upstream.address, 1)])),
            ("rule.yaml", &rule),
        ]);
        let _proxy = Proxy::start(config, &[]);
        let answer = harness::get(address, "up0.test", "/");
        assert_eq!(answer.status, status, "{names:?}");
    }
}

#[test]
fn a_renewed_certificate_serves_new_handshakes_and_a_broken_one_none() {
    for driver in DRIVERS {
        let (before, after) = (Authority::new(), Authority::new());
        let upstream = Upstream::start("hello");
        let (proxy, address) = start(
            driver,
            &[("shop.test", SHOP)],
            upstream.address,
            &["apiVersion: v1\nkind: Namespace\nmetadata: {name: none}\n".to_string()],
        );
        let write = |identity: &Identity| {
            let folder = proxy.config.join("shop");
            std::fs::create_dir_all(&folder).expect("made");
            std::fs::write(folder.join("tls.key"), &identity.key).expect("written");
            std::fs::write(folder.join("tls.crt"), &identity.certificate).expect("written");
        };
        let ask = |authority: &Authority| {
            get(address, "shop.test", "/", &Arc::new(authority.client(None)))
        };
        assert!(ask(&before).is_err(), "there is no certificate yet");
        proxy.until_logged("there is no secret `shop`");
        write(&before.issue(&["shop.test"]));
        until("the first certificate", || ask(&before).is_ok());
        let client = Arc::new(before.client(None));
        let mut kept = connect(address, "shop.test", &client).expect("a connection");
        write(&after.issue(&["shop.test"]));
        until("the renewed certificate", || ask(&after).is_ok());
        // The connection of before lives on.
        kept.write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n")
            .expect("sent");
        let mut answer = String::new();
        kept.read_to_string(&mut answer).expect("received");
        assert!(answer.ends_with("hello"), "{answer}");

        std::fs::write(proxy.config.join("shop/tls.crt"), "nonsense").expect("written");
        proxy.until_logged("what was in use stays");
        assert!(ask(&after).is_ok());
        let key = std::fs::read_to_string(proxy.config.join("shop/tls.key")).expect("read");
        let secret_line = key.lines().nth(1).expect("a line");
        for page in ["/config_dump", "/certs", "/listeners", "/stats"] {
            assert!(!proxy.admin(page).body.contains(secret_line), "{page}");
        }
        assert!(!proxy.log().contains(secret_line));
    }
}

/// An upstream that speaks TLS and answers every connection once.
fn tls_upstream(authority: &Authority, name: &str, wants_client: bool) -> SocketAddr {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let identity = authority.issue(&[name]);
    let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions");
    let mut roots = rustls::RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("PEM");
    roots.add(root).expect("a root");
    let config = match wants_client {
        false => builder.with_no_client_auth(),
        true => builder.with_client_cert_verifier(
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .expect("a verifier"),
        ),
    }
    .with_single_cert(vec![chain], key)
    .expect("goes together");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let config = config.clone();
            std::thread::spawn(move || {
                let session = rustls::ServerConnection::new(config).expect("a session");
                let mut stream = rustls::StreamOwned::new(session, socket);
                let mut head = Vec::new();
                let mut piece = [0; 4096];
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut piece) {
                        Ok(0) | Err(_) => return,
                        Ok(len) => head.extend_from_slice(&piece[..len]),
                    }
                    if head.ends_with(b"\r\n\r\n") {
                        let name = stream.conn.server_name().unwrap_or_default().to_string();
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}",
                            name.len()
                        );
                        let _ = stream.write_all(answer.as_bytes());
                        head.clear();
                    }
                }
            });
        }
    });
    address
}

#[test]
fn upstreams_are_reached_by_tls_and_verified() {
    for driver in DRIVERS {
        let (authority, other) = (Authority::new(), Authority::new());
        let upstream = tls_upstream(&authority, "up0.test", false);
        let mutual = tls_upstream(&authority, "up1.test", true);
        let address = free_address();
        let own = authority.issue(&["client.test"]);
        let files = tempfile::tempdir().expect("a folder");
        let path = |name: &str, text: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let root = path("root.pem", &authority.pem);
        let foreign = path("foreign.pem", &other.pem);
        let certificate = path("own.pem", &own.certificate);
        let key = path("own-key.pem", &own.key);
        let rule = |host: &str, tls: &str| {
            format!(
                "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                 metadata: {{name: {}}}\nspec: {{host: {host}, trafficPolicy: {{tls: {tls}}}}}\n",
                host.replace('.', "-")
            )
        };
        let simple = |root: &str| format!("{{mode: SIMPLE, caCertificates: {root}}}");
        let config = folder(&[
            ("gate.yaml", &harness::gateway(address)),
            ("settings.yaml", &settings("{role: gateway}")),
            ("split.yaml", &splitting(&[(upstream, 1)])),
            ("tls.yaml", &rule("up0.test", &simple(&root))),
        ]);
        let args = ["--driver", driver, "--workers", "1"];
        let proxy = Proxy::start_with_workers(config, &args);
        let ask = || harness::get(address, "a.test", "/");
        for _ in 0..3 {
            let answer = ask();
            assert_eq!((answer.status, answer.body.as_str()), (200, "up0.test"));
        }
        proxy.put("tls.yaml", &rule("up0.test", &simple(&foreign)));
        until("the foreign root", || ask().status == 503);
        let wrong_name =
            format!("{{mode: SIMPLE, caCertificates: {root}, subjectAltNames: [other.test]}}");
        proxy.put("tls.yaml", &rule("up0.test", &wrong_name));
        // From one refusal to another: that the file is in use shows elsewhere.
        until("the wrong name", || ask().status == 503);
        assert_eq!(ask().status, 503);
        let right_name = wrong_name.replace("other.test", "up0.test");
        proxy.put("tls.yaml", &rule("up0.test", &right_name));
        until("the right name", || ask().status == 200);
        proxy.put("tls.yaml", &rule("up0.test", &wrong_name));
        until("the wrong name again", || ask().status == 503);
        let skipping = "{mode: SIMPLE, insecureSkipVerify: true, sni: any.test}";
        proxy.put("tls.yaml", &rule("up0.test", skipping));
        until("no verification", || ask().body == "any.test");

        proxy.put("split.yaml", &splitting(&[(mutual, 1)]));
        let with_own = format!(
            "{{mode: MUTUAL, caCertificates: {root}, sni: up1.test, \
             clientCertificate: {certificate}, privateKey: {key}}}"
        );
        proxy.put("tls.yaml", &rule("up0.test", &with_own));
        until("mutual TLS", || ask().body == "up1.test");
    }
}
