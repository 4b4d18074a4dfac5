//! What is kept of TLS sessions, what is stapled, and what is revoked.

mod harness;

use harness::pki::{Authority, Identity, TlsUpstream, connect, get_with_kind, ocsp_answer, secret};
use harness::tcp::{echo, raw_gateway, route, service};
use harness::{
    DRIVERS, Proxy, Upstream, folder, free_address, https_gateway, settings, splitting, until,
};
use rustls::HandshakeKind;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

/// A gateway that ends TLS for `shop.test`.
fn gateway(address: SocketAddr) -> String {
    https_gateway(
        address,
        &[("shop.test", "{mode: SIMPLE, credentialName: shop}")],
    )
}

/// Two requests, one after the other, and whether the second resumed the session of the first.
fn resumes(address: SocketAddr, client: &Arc<rustls::ClientConfig>) -> bool {
    let kind = || {
        let (answer, kind) = get_with_kind(address, "shop.test", "/", client).expect("an answer");
        assert!(answer.ends_with("hello"), "{answer}");
        kind
    };
    kind();
    kind() == HandshakeKind::Resumed
}

#[test]
fn clients_resume_their_sessions_with_any_worker_until_the_certificate_changes() {
    for driver in DRIVERS {
        for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
            let authority = Authority::new();
            let upstream = Upstream::start("hello");
            let address = free_address();
            let document = |identity: &Identity| secret("shop", identity, None);
            let config = folder(&[
                ("gate.yaml", &gateway(address)),
                ("secret.yaml", &document(&authority.issue(&["shop.test"]))),
                ("settings.yaml", &settings("{role: gateway}")),
                ("split.yaml", &splitting(&[(upstream.address, 1)])),
            ]);
            let proxy = Proxy::start_with_workers(config, &["--driver", driver, "--workers", "3"]);
            let client = Arc::new(authority.client_of(versions));
            for _ in 0..12 {
                assert!(resumes(address, &client), "{versions:?}");
            }
            // Keys of tickets go with the certificate.
            let (answer, _) = get_with_kind(address, "shop.test", "/", &client).expect("an answer");
            assert!(answer.ends_with("hello"));
            let serial = || proxy.admin_json("/certs")["certificates"][0].to_string();
            let before = serial();
            proxy.put("secret.yaml", &document(&authority.issue(&["shop.test"])));
            until("the renewed certificate", || serial() != before);
            let (_, kind) = get_with_kind(address, "shop.test", "/", &client).expect("an answer");
            assert_eq!(kind, HandshakeKind::Full);
            assert!(resumes(address, &client));
        }
    }
}

#[test]
fn sessions_with_upstreams_are_resumed() {
    for driver in DRIVERS {
        let authority = Authority::new();
        let upstream = TlsUpstream::start(&authority.issue(&["up0.test"]));
        let address = free_address();
        let files = tempfile::tempdir().expect("a folder");
        let root = files.path().join("root.pem");
        fs::write(&root, &authority.pem).expect("written");
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: up0}}\n\
         spec: {{host: up0.test, trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: {}}}}}}}\n",
            root.display()
        );
        let config = folder(&[
            ("gate.yaml", &harness::gateway(address)),
            ("split.yaml", &splitting(&[(upstream.address, 1)])),
            ("rule.yaml", &rule),
        ]);
        let _proxy = Proxy::start_with_workers(config, &["--driver", driver, "--workers", "1"]);
        for _ in 0..10 {
            assert_eq!(harness::get(address, "a.test", "/").status, 200);
        }
        let (full, resumed) = upstream.handshakes();
        assert_eq!((full, resumed), (1, 9));
    }
}

#[test]
fn an_answer_of_the_authority_is_stapled_where_there_is_one() {
    for driver in DRIVERS {
        let authority = Authority::new();
        let upstream = Upstream::start("hello");
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("settings.yaml", &settings("{role: gateway}")),
            ("split.yaml", &splitting(&[(upstream.address, 1)])),
        ]);
        let identity = authority.issue(&["shop.test"]);
        let own = config.path().join("shop");
        fs::create_dir(&own).expect("made");
        fs::write(own.join("tls.crt"), &identity.certificate).expect("written");
        fs::write(own.join("tls.key"), &identity.key).expect("written");
        let proxy = Proxy::start(config, &["--driver", driver]);
        let stapled = || harness::pki::staple(address, "shop.test", &authority);
        assert_eq!(stapled(), b"");
        let put = |answer: &[u8]| fs::write(own.join("tls.ocsp-staple"), answer).expect("written");
        let first = ocsp_answer(&identity, "20980101000000Z");
        put(&first);
        until("the staple", || stapled() == first);
        let newer = ocsp_answer(&identity, "20990101000000Z");
        put(&newer);
        until("the newer one", || stapled() == newer);
        // What helps no client is left out.
        let of_another = ocsp_answer(&authority.issue(&["shop.test"]), "20990101000000Z");
        let over = ocsp_answer(&identity, "20210101000000Z");
        for (answer, why) in [
            (&b"nonsense"[..], "is no answer of OCSP"),
            (&of_another, "is about another certificate"),
            (&over, "has expired"),
        ] {
            put(answer);
            until(why, || stapled().is_empty());
            until("a word about it", || {
                proxy.log().contains(why) && proxy.stat("server.certificates_unreadable") == 1
            });
            put(&newer);
            until("the staple again", || stapled() == newer);
        }
        proxy.until_stat("server.certificates_unreadable", 0);
    }
}

#[test]
fn certificates_of_one_folder_have_answers_of_their_own() {
    for driver in DRIVERS {
        let authority = Authority::new();
        let files = tempfile::tempdir().expect("a folder");
        let put = |name: &str, text: &str| {
            let path = files.path().join(name);
            fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let address = free_address();
        let until_then = "20990101000000Z";
        let identities = ["one.test", "other.test"].map(|name| (name, authority.issue(&[name])));
        let answers = identities
            .each_ref()
            .map(|(_, identity)| ocsp_answer(identity, until_then));
        let put_bytes = |name: &str, bytes: &[u8]| {
            fs::write(files.path().join(name), bytes).expect("written");
        };
        let tls = |(name, identity): &(&str, Identity)| {
            let certificate = put(&format!("{name}.pem"), &identity.certificate);
            let key = put(&format!("{name}.key"), &identity.key);
            format!("{{mode: SIMPLE, serverCertificate: {certificate}, privateKey: {key}}}")
        };
        let (one, other) = (tls(&identities[0]), tls(&identities[1]));
        let servers = [("one.test", one.as_str()), ("other.test", other.as_str())];
        put_bytes("one.test.pem.ocsp", &answers[0]);
        put_bytes("tls.ocsp-staple", &answers[1]);
        let _proxy = Proxy::start(
            folder(&[("gate.yaml", &https_gateway(address, &servers))]),
            &["--driver", driver],
        );
        let stapled = |name: &str| harness::pki::staple(address, name, &authority);
        assert_eq!(stapled("one.test"), answers[0]);
        assert_eq!(stapled("other.test"), answers[1], "that of the folder");
        let newer = ocsp_answer(&identities[1].1, "20991231000000Z");
        put_bytes("other.test.pem.ocsp", &newer);
        until("its own", || stapled("other.test") == newer);
    }
}

#[test]
fn an_upstream_whose_certificate_is_revoked_is_refused() {
    for driver in DRIVERS {
        let authority = Authority::new();
        let identity = authority.issue(&["up0.test"]);
        let upstream = TlsUpstream::start(&identity);
        let address = free_address();
        let files = tempfile::tempdir().expect("a folder");
        let path = |name: &str, text: &str| {
            let path = files.path().join(name);
            fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let root = path("root.pem", &authority.pem);
        let other = authority.revoke(&authority.issue(&["up0.test"]));
        let list = path("list.pem", &other);
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: up0}}\n\
         spec: {{host: up0.test, trafficPolicy: {{connectionPool: {{http: \
         {{maxRequestsPerConnection: 1}}}}, tls: {{mode: SIMPLE, caCertificates: {root}, \
         caCrl: {list}}}}}}}\n"
        );
        let config = folder(&[
            ("gate.yaml", &harness::gateway(address)),
            ("split.yaml", &splitting(&[(upstream.address, 1)])),
            ("rule.yaml", &rule),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        assert!(!proxy.log().contains("caCrl"), "{}", proxy.log());
        let status = || harness::get(address, "a.test", "/").status;
        assert_eq!(status(), 200, "another certificate is revoked");
        fs::write(&list, authority.revoke(&identity)).expect("written");
        until("this one is", || status() == 503);
        fs::write(&list, "nonsense").expect("written");
        proxy.until_logged("holds no revocation list in PEM");
        assert_eq!(status(), 503, "what was in use stays");
        fs::write(&list, &other).expect("written");
        until("it is good again", || status() == 200);
    }
}

#[test]
fn bytes_arrive_whole_however_their_records_are_cut_and_keys_change_between_them() {
    for (driver, version) in DRIVERS.into_iter().flat_map(|driver| {
        [&rustls::version::TLS13, &rustls::version::TLS12].map(|version| (driver, version))
    }) {
        let authority = Authority::new();
        let address = free_address();
        let tls = "    tls: {mode: SIMPLE, credentialName: shop}\n";
        let identity = authority.issue(&["shop.test"]);
        let config = folder(&[
            ("gate.yaml", &raw_gateway(address, "TLS", tls)),
            ("secret.yaml", &secret("shop", &identity, None)),
            ("settings.yaml", &settings("{role: gateway}")),
            ("route.yaml", &(route(address) + &service(echo()))),
        ]);
        let _proxy = Proxy::start_with_workers(config, &["--driver", driver]);
        let client = Arc::new(authority.client_of(&[version]));
        let mut stream = connect(address, "shop.test", &client).expect("a connection");
        stream.sock.set_nodelay(true).expect("is set");
        stream.conn.set_buffer_limit(None);
        for len in [1_usize, 700, 16_384, 16_385, 200_000] {
            let sent: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let mut records = Vec::new();
            for part in sent.chunks(len.div_ceil(3)) {
                stream.conn.writer().write_all(part).expect("is encrypted");
                if version.version == rustls::ProtocolVersion::TLSv1_3 {
                    stream.conn.refresh_traffic_keys().expect("may");
                }
                while stream.conn.wants_write() {
                    stream.conn.write_tls(&mut records).expect("is written");
                }
            }
            // Cut within headers of records, too.
            let mut rest = &records[..];
            for len in (1..40).chain([20_000; 64]) {
                let (now, later) = rest.split_at(len.min(rest.len()));
                stream.sock.write_all(now).expect("is sent");
                rest = later;
            }
            let mut got = vec![0; len];
            stream.read_exact(&mut got).expect("is received");
            assert!(got == sent, "{len} bytes over {driver}");
        }
        stream.conn.send_close_notify();
        stream.flush().expect("is sent");
        let mut last = Vec::new();
        stream.read_to_end(&mut last).expect("ends with a goodbye");
        assert_eq!(last, b"bye");
    }
}
