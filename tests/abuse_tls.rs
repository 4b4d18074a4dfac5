//! Clients that abuse TLS, or open connections and nothing more: none is waited for, memory stays
//! bounded, and others are answered all the while. On both drivers.

mod harness;

use harness::frames::{ENHANCE_YOUR_CALM, Ending, FrameClient, PING, frame};
use harness::pki::{Authority, connect, get, secret};
use harness::{DRIVERS, Proxy, folder, free_address, https_gateway, settings, splitting, until};
use rustls::ClientConfig;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

/// A proxy with a gateway for `shop.test`, and what its clients use.
fn start(driver: &str, limits: &str) -> (Proxy, SocketAddr, Arc<ClientConfig>) {
    let authority = Authority::new();
    let upstream = harness::Upstream::start("hello");
    let address = free_address();
    let gate = https_gateway(address, &[("*", "{mode: SIMPLE, credentialName: shop}")]);
    let spec = format!("{{role: gateway, limits: {{{limits}}}}}");
    let config = folder(&[
        ("gate.yaml", &gate),
        ("settings.yaml", &settings(&spec)),
        ("split.yaml", &splitting(&[(upstream.address, 1)])),
        (
            "secrets.yaml",
            &secret("shop", &authority.issue(&["shop.test"]), None),
        ),
    ]);
    // It serves until the test process ends.
    std::mem::forget(upstream);
    let args = ["--driver", driver, "--workers", "1"];
    let proxy = Proxy::start_with_workers(config, &args);
    (proxy, address, Arc::new(authority.client(None)))
}

fn stat(proxy: &Proxy, address: SocketAddr, name: &str) -> u64 {
    proxy.stat(&format!("http.127.0.0.1_{}.{name}", address.port()))
}

/// The first bytes of a client's first message.
fn client_hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = "shop.test".try_into().expect("a name");
    let mut session = rustls::ClientConnection::new(config.clone(), name).expect("a session");
    let mut hello = Vec::new();
    session.write_tls(&mut hello).expect("is written");
    hello
}

#[test]
fn handshakes_that_stall_are_not_waited_for() {
    for driver in DRIVERS {
        let (proxy, address, config) = start(driver, "requestHeadTimeout: 2s");
        let hello = client_hello(&config);
        let begun = Instant::now();
        // Nothing; a part of a hello; a hello without what has to follow it.
        let parts: [&[u8]; 3] = [b"", &hello[..50], &hello];
        let mut stalled: Vec<TcpStream> = (0..300)
            .map(|at| {
                let mut client = TcpStream::connect(address).expect("connects");
                client.write_all(parts[at % 3]).expect("is sent");
                client
                    .set_read_timeout(Some(harness::PATIENCE))
                    .expect("set");
                client
            })
            .collect();
        let answer = get(address, "shop.test", "/", &config).expect("an answer");
        assert!(answer.ends_with("hello"), "{answer}");
        for client in &mut stalled {
            // An answer to the hello may be there; then the connection ends.
            let mut rest = Vec::new();
            let _ = client.read_to_end(&mut rest);
        }
        assert!(begun.elapsed() < harness::PATIENCE);
        let missed = || {
            stat(&proxy, address, "downstream_rq_header_timeout")
                + stat(
                    &proxy,
                    address,
                    "downstream_cx_transport_socket_connect_timeout",
                )
        };
        until("all to be counted", || missed() == 300);
        let handshakes = stat(
            &proxy,
            address,
            "downstream_cx_transport_socket_connect_timeout",
        );
        assert_eq!(handshakes, 100, "{driver}");
        until("no connection", || {
            stat(&proxy, address, "downstream_cx_active") == 0
        });
    }
}

#[test]
fn records_that_lead_nowhere_end_the_connection() {
    for driver in DRIVERS {
        let (proxy, address, config) = start(driver, "requestHeadTimeout: 60s");
        let before = proxy.resident_bytes();
        let hello = client_hello(&config);
        // Records of a handshake: without content, of one octet of a hello that is announced as
        // 16 MiB, and hello after hello; records of data and alerts where a hello is due.
        let empty = b"\x16\x03\x01\x00\x00".to_vec();
        let long = [
            &b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"[..],
            &b"\x16\x03\x01\x00\x01x".repeat(200),
        ]
        .concat();
        let floods = [
            empty,
            long,
            hello,
            b"\x17\x03\x03\x00\x01x".to_vec(),
            b"\x15\x03\x03\x00\x02\x01\x00".to_vec(),
            b"\x14\x03\x03\x00\x01\x01".to_vec(),
        ];
        for (at, flood) in floods.iter().enumerate() {
            let mut client = TcpStream::connect(address).expect("connects");
            client
                .set_write_timeout(Some(harness::PATIENCE))
                .expect("set");
            client
                .set_read_timeout(Some(harness::PATIENCE))
                .expect("set");
            let mut sent = 0;
            while sent < 64 << 20 && client.write_all(flood).is_ok() {
                sent += flood.len();
            }
            assert!(sent < 64 << 20, "flood {at}, {driver}, never ends");
            let mut rest = Vec::new();
            let _ = client.read_to_end(&mut rest);
            let answer = get(address, "shop.test", "/", &config).expect("an answer");
            assert!(answer.ends_with("hello"), "{answer}");
        }
        until("no connection", || {
            stat(&proxy, address, "downstream_cx_active") == 0
        });
        let grown = proxy.resident_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "{driver}: {grown} bytes");
    }
}

#[test]
fn a_flood_of_http2_is_answered_in_the_same_way() {
    for driver in DRIVERS {
        let (proxy, address, config) = start(driver, "");
        let mut offering = (*config).clone();
        offering.alpn_protocols = vec![b"h2".to_vec()];
        let stream = connect(address, "shop.test", &Arc::new(offering)).expect("connects");
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
        let mut client = FrameClient::over(stream, &[]);
        client.settle();
        client.send(&frame(PING, 0, 0, b"01234567").repeat(1_500));
        assert_eq!(client.ending(), Ending::GoAway(ENHANCE_YOUR_CALM));
        proxy.until_stat("http2.inbound_control_frames_flood", 1);
    }
}

/// Connections by the thousand, each with a piece of a head that grows octet by octet: what they
/// cost is bounded, and who asks properly does not wait for them.
#[test]
fn a_flood_of_connections_with_slow_heads() {
    const COUNT: usize = 1_000;
    for driver in DRIVERS {
        let upstream = harness::Upstream::start("hello");
        let address = free_address();
        let limits = "{role: gateway, limits: {requestHeadTimeout: 8s}}";
        let config = folder(&[
            ("gate.yaml", &harness::gateway(address)),
            ("settings.yaml", &settings(limits)),
            ("split.yaml", &splitting(&[(upstream.address, 1)])),
        ]);
        let proxy = Proxy::start_with_workers(config, &["--driver", driver, "--workers", "1"]);
        let before = proxy.resident_bytes();
        let mut flood: Vec<TcpStream> = (0..COUNT)
            .map(|_| TcpStream::connect(address).expect("connects"))
            .collect();
        let head = "GET / HTTP/1.1\r\nhost: a\r\nx-slow: ".bytes();
        let mut answered_meanwhile = 0;
        let started = Instant::now();
        for octet in head.chain(std::iter::repeat(b'y')) {
            let waited = started.elapsed();
            assert!(
                waited < harness::PATIENCE,
                "{driver}: they are still waited for"
            );
            let mut open = 0;
            for client in &mut flood {
                open += usize::from(client.write_all(&[octet]).is_ok());
            }
            assert_eq!(harness::get(address, "a", "/").status, 200);
            let given_up = stat(&proxy, address, "downstream_rq_header_timeout");
            answered_meanwhile += usize::from(given_up == 0);
            let grown = proxy.resident_bytes().saturating_sub(before);
            assert!(grown < 32 << 20, "{driver}: {} KiB", grown >> 10);
            if open == 0 {
                break;
            }
        }
        assert!(answered_meanwhile > 0, "{driver}: all waited for the flood");
        until("all to be counted", || {
            stat(&proxy, address, "downstream_rq_header_timeout") == COUNT as u64
        });
    }
}
