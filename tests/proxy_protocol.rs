//! The PROXY protocol on real sockets, both drivers: what a proxy in front says of a connection
//! counts everywhere, and what is no header is not served.

mod harness;

use harness::access::{policy, upstream};
use harness::frames::{FrameClient, PREFACE, get_frame, settings_frame};
use harness::pki::{Authority, secret};
use harness::raw::{End, ScriptedUpstream, converse, status};
use harness::tcp::{connect, echo, raw_gateway, route, service};
use harness::{
    DRIVERS, LogLines, Proxy, folder, free_address, gateway, https_gateway, settings, splitting,
    until,
};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

const SETTINGS: &str = "{role: gateway, accessLog: {format: JSON}, \
                        gatewayTopology: {proxyProtocol: {}}, limits: {requestHeadTimeout: 2s}}";

struct Setup {
    proxy: Proxy,
    address: SocketAddr,
    upstream: ScriptedUpstream,
    log: LogLines,
}

fn start(driver: &str, policies: &str) -> Setup {
    let address = free_address();
    let upstream = upstream();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("routes.yaml", &splitting(&[(upstream.address, 1)])),
        ("policies.yaml", policies),
        ("settings.yaml", &settings(SETTINGS)),
    ]);
    let mut proxy = Proxy::start_with_stdout(config, &["--driver", driver], Stdio::piped());
    let log = LogLines::of(&mut proxy);
    Setup {
        proxy,
        address,
        upstream,
        log,
    }
}

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n";

/// A header of version 2 for a client at 203.0.113.9 or 2001:db8::9.
fn v2(is_ipv6: bool, extension: &[u8]) -> Vec<u8> {
    let mut addresses = match is_ipv6 {
        false => vec![203, 0, 113, 9, 198, 51, 100, 1],
        true => {
            let mut both = [0; 32];
            both[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
            (both[15], both[31]) = (9, 1);
            both.to_vec()
        }
    };
    addresses.extend_from_slice(&[0x12, 0x34, 0x01, 0xbb]);
    addresses.extend_from_slice(extension);
    let family = if is_ipv6 { 0x21 } else { 0x11 };
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend_from_slice(&[0x21, family]);
    header.extend_from_slice(&(addresses.len() as u16).to_be_bytes());
    header.extend(addresses);
    header
}

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";

impl Setup {
    fn ask(&self, pieces: &[&[u8]]) -> (u16, End) {
        let (answer, end) = converse(self.address, pieces);
        (status(&answer), end)
    }

    fn stat(&self, name: &str) -> u64 {
        let address = self.address;
        let listener = format!("{}_{}", address.ip(), address.port());
        self.proxy.stat(&format!("http.{listener}.{name}"))
    }
}

#[test]
fn the_client_that_a_header_names_counts_for_headers_logs_and_policies() {
    let denied = policy(
        "no-client",
        &json!({"action": "DENY", "rules": [
            {"from": [{"source": {"ipBlocks": ["203.0.113.66"]}}]},
            {"from": [{"source": {"remoteIpBlocks": ["203.0.113.67"]}}]},
        ]}),
    );
    for driver in DRIVERS {
        let setup = start(driver, &denied);
        let ipv6 = v2(true, &[]);
        let extended = v2(false, &[0x04, 0, 2, 1, 2]);
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
        let cases: [(&[u8], &str, Option<&str>); 5] = [
            (V1, "203.0.113.7", Some("203.0.113.7:4711")),
            (&extended, "203.0.113.9", Some("203.0.113.9:4660")),
            (&ipv6, "2001:db8::9", Some("[2001:db8::9]:4660")),
            (local, "127.0.0.1", None),
            (b"PROXY UNKNOWN\r\n", "127.0.0.1", None),
        ];
        for (at, (header, ip, address)) in cases.into_iter().enumerate() {
            // With the request, before it, and in single bytes.
            let together = [header, ASK].concat();
            let single: Vec<&[u8]> = header.chunks(1).chain([ASK]).collect();
            for pieces in [vec![&*together], vec![header, ASK], single] {
                assert_eq!(setup.ask(&pieces).0, 200, "case {at}");
                let head = setup.upstream.heads().pop().expect("it arrived");
                assert!(
                    head.contains(&format!("\r\nx-forwarded-for: {ip}\r\n")),
                    "{head}"
                );
                assert!(
                    head.contains(&format!("\r\nx-envoy-external-address: {ip}\r\n")),
                    "{head}"
                );
            }
            setup.log.wait_for(3 * (at + 1));
            if let Some(address) = address {
                let line = setup.log.line_with(&format!("\"{address}\""));
                let line: Value = serde_json::from_str(&line).expect("JSON");
                assert_eq!(line["downstream_remote_address"], json!(address), "{line}");
                let local = line["downstream_local_address"].as_str();
                assert!(local.is_some_and(|it| it.ends_with(":443")), "{line}");
            }
        }
        for last in ["66", "67"] {
            let header = format!("PROXY TCP4 203.0.113.{last} 198.51.100.1 1 443\r\n");
            assert_eq!(setup.ask(&[header.as_bytes(), ASK]).0, 403, "{last}");
        }
        // Streams of HTTP/2 as well.
        let mut client = FrameClient::bare(connect(setup.address));
        let ask = [V1, PREFACE, &settings_frame(&[]), &get_frame(1, "/h2")].concat();
        client.send(&ask);
        client.until("the answer", |frame| {
            frame.stream == 1 && frame.ends_stream()
        });
        let head = setup.upstream.heads().pop().expect("it arrived");
        assert!(head.starts_with("GET /h2 "), "{head}");
        assert!(head.contains("x-forwarded-for: 203.0.113.7\r\n"), "{head}");
        // All requests of a connection come from there.
        let twice = [V1, b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n", ASK].concat();
        let (answers, _) = converse(setup.address, &[&twice]);
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
        let head = setup.upstream.heads().pop().expect("it arrived");
        assert!(head.contains("x-forwarded-for: 203.0.113.7\r\n"), "{head}");
    }
}

#[test]
fn what_is_no_header_is_closed_and_counted() {
    for driver in DRIVERS {
        let setup = start(driver, "");
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        let mut too_large = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
        too_large.extend_from_slice(&5_000u16.to_be_bytes());
        too_large.extend_from_slice(&[0; 64]);
        let wrong: [&[u8]; 9] = [
            ASK,
            b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\nGET / HTTP/1.1\r\n",
            b"PROXY TCP4 203.0.113.7 198.51.100.1 04711 443\r\n",
            b"PROXY TCP4 203.0.113.7 198.51.100.1 70000 443\r\n",
            b"PROXY TCP4 2001:db8::1 198.51.100.1 4711 443\r\n",
            b"proxy TCP4 203.0.113.7 198.51.100.1 4711 443\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x0c",
            &long,
            &too_large,
        ];
        for (at, bytes) in wrong.into_iter().enumerate() {
            let (answer, _) = converse(setup.address, &[bytes]);
            assert_eq!(answer, "", "case {at}");
            until("the count", || {
                setup.stat("downstream_cx_proxy_protocol_error") == at as u64 + 1
            });
        }
        assert!(setup.upstream.heads().is_empty());
        // One that never comes to its end is not waited for.
        let (answer, _) = converse(setup.address, &[b"PROXY TCP4 203"]);
        assert_eq!(answer, "");
        until("the count", || {
            setup.stat("downstream_rq_header_timeout") == 1
        });
        // Without the setting the same bytes are no request.
        setup
            .proxy
            .put("settings.yaml", &settings("{role: gateway}"));
        until("the setting is gone", || setup.ask(&[ASK]).0 == 200);
        let (answer, _) = converse(setup.address, &[V1, ASK]);
        assert_eq!(status(&answer), 400, "{answer}");
    }
}

#[test]
fn the_header_comes_before_tls_and_before_bytes_of_other_protocols() {
    for driver in DRIVERS {
        let authority = Authority::new();
        let (tls, raw) = (free_address(), free_address());
        let upstream = upstream();
        let gate = https_gateway(tls, &[("*", "{mode: SIMPLE, credentialName: shop}")]);
        let bytes = raw_gateway(raw, "TCP", "").replace("name: gate", "name: bytes");
        let to_bytes = route(raw).replace("gateways: [gate]", "gateways: [bytes]");
        let config = folder(&[
            ("gate.yaml", &gate),
            ("bytes.yaml", &bytes),
            (
                "secret.yaml",
                &secret("shop", &authority.issue(&["shop.test"]), None),
            ),
            ("routes.yaml", &splitting(&[(upstream.address, 1)])),
            ("tcp.yaml", &(to_bytes + &service(echo()))),
            ("settings.yaml", &settings(SETTINGS)),
        ]);
        let mut proxy = Proxy::start_with_stdout(config, &["--driver", driver], Stdio::piped());
        let log = LogLines::of(&mut proxy);
        let mut socket = connect(tls);
        socket.write_all(V1).expect("sent");
        let client = Arc::new(authority.client(None));
        let name = "shop.test".try_into().expect("a name");
        let session = rustls::ClientConnection::new(client, name).expect("a session");
        let mut stream = rustls::StreamOwned::new(session, socket);
        stream.write_all(ASK).expect("sent");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let head = upstream.heads().pop().expect("it arrived");
        assert!(head.contains("x-forwarded-for: 203.0.113.7\r\n"), "{head}");
        assert!(head.contains("x-forwarded-proto: https\r\n"), "{head}");

        let mut client = connect(raw);
        client.write_all(&[V1, b"ping"].concat()).expect("sent");
        let mut got = [0; 4];
        client.read_exact(&mut got).expect("received");
        assert_eq!(&got, b"ping");
        drop(client);
        let line = log.line_with("outbound|9000||db.test");
        assert!(line.contains("\"203.0.113.7:4711\""), "{line}");
        assert!(line.contains("\"bytes_received\":4"), "{line}");
    }
}

/// A rule for the upstream of the gateway's routes.
fn naming(host: &str, version: &str, more: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: naming}}\n\
         spec: {{host: {host}, trafficPolicy: {{proxyProtocol: {{version: {version}}}{more}}}}}\n"
    )
}

/// An upstream that expects a header of version 1 before the first head of each connection.
fn named_upstream() -> ScriptedUpstream {
    ScriptedUpstream::start(|connection| {
        while connection.head().is_some() {
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    })
}

#[test]
fn upstreams_are_told_each_client_on_connections_of_its_own() {
    for driver in DRIVERS {
        let address = free_address();
        let upstream = named_upstream();
        let routes = splitting(&[(upstream.address, 1)]) + &naming("up0.test", "V1", "");
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("routes.yaml", &routes),
            ("settings.yaml", &settings("{role: gateway}")),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        for _ in 0..2 {
            let mut client = connect(address);
            let own = client.local_addr().expect("an address");
            let line = format!(
                "PROXY TCP4 {} {} {} {}\r\n",
                own.ip(),
                address.ip(),
                own.port(),
                address.port()
            );
            for _ in 0..3 {
                let ask = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
                client.write_all(ask).expect("sent");
                let mut got = Vec::new();
                while !got.ends_with(b"\r\n\r\nok") {
                    let mut byte = [0];
                    client.read_exact(&mut byte).expect("an answer");
                    got.push(byte[0]);
                }
                let head = upstream.heads().pop().expect("it arrived");
                assert!(
                    head.starts_with(&format!("{line}GET / HTTP/1.1\r\n")),
                    "{line}: {head}"
                );
            }
        }
        let heads = upstream.heads();
        let named = heads
            .iter()
            .filter(|head| head.starts_with("PROXY "))
            .count();
        assert_eq!(named, 6, "no connection serves two requests: {heads:?}");
        // What a header in front has said is what goes on.
        proxy.put("settings.yaml", &settings(SETTINGS));
        until("it takes headers", || {
            let (answer, _) = converse(address, &[V1, ASK]);
            status(&answer) == 200
        });
        let head = upstream.heads().pop().expect("it arrived");
        assert!(head.as_bytes().starts_with(V1), "{head}");
    }
}

#[test]
fn the_header_goes_before_tls_and_in_binary_where_it_is_asked_for() {
    for driver in DRIVERS {
        let address = free_address();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let upstream = listener.local_addr().expect("an address");
        let tls = ", tls: {mode: SIMPLE, insecureSkipVerify: true, sni: db.test}";
        let config = folder(&[
            ("gate.yaml", &raw_gateway(address, "TCP", "")),
            (
                "route.yaml",
                &(route(address) + &service(upstream) + &naming("db.test", "V2", tls)),
            ),
            ("settings.yaml", &settings("{role: gateway}")),
        ]);
        let _proxy = Proxy::start(config, &["--driver", driver]);
        let client = connect(address);
        let own = client.local_addr().expect("an address");
        let (mut stream, _) = listener.accept().expect("accepted");
        let mut got = [0; 29];
        stream.read_exact(&mut got).expect("received");
        assert_eq!(&got[..12], b"\r\n\r\n\0\r\nQUIT\n");
        assert_eq!(&got[12..16], &[0x21, 0x11, 0, 12]);
        assert_eq!(&got[16..24], &[127, 0, 0, 1, 127, 0, 0, 1]);
        assert_eq!(&got[24..26], &own.port().to_be_bytes());
        assert_eq!(&got[26..28], &address.port().to_be_bytes());
        assert_eq!(got[28], 0x16, "the ClientHello follows");
    }
}
