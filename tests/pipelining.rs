//! What a client sends behind a request that is under way.

mod harness;

use harness::raw::{End, ScriptedUpstream, converse};
use harness::{
    Client, DRIVERS, Proxy, folder, free_address, gateway, get, settings, splitting, until,
    until_equal,
};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

fn start(driver: &str, upstream: SocketAddr, limits: &str) -> (Proxy, SocketAddr) {
    let address = free_address();
    let spec = format!("{{role: gateway, limits: {{{limits}}}}}");
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("settings.yaml", &settings(&spec)),
        ("split.yaml", &splitting(&[(upstream, 1)])),
    ]);
    let args = ["--driver", driver, "--workers", "1"];
    (Proxy::start_with_workers(config, &args), address)
}

fn answering() -> ScriptedUpstream {
    ScriptedUpstream::start(|connection| {
        while connection.head().is_some() {
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    })
}

fn listener_stat(proxy: &Proxy, address: SocketAddr, name: &str) -> u64 {
    proxy.stat(&format!("http.{}_{}.{name}", address.ip(), address.port()))
}

/// Some clients send one behind a body (RFC 9112 section 2.2).
#[test]
fn an_empty_line_behind_a_request_is_not_the_beginning_of_another() {
    for driver in DRIVERS {
        let upstream = answering();
        let limits = "requestHeadTimeout: 300ms, downstreamIdleTimeout: 1s";
        let (proxy, address) = start(driver, upstream.address, limits);
        let stat = |name: &str| listener_stat(&proxy, address, name);
        let (answer, end) = converse(address, &[b"GET / HTTP/1.1\r\nhost: a\r\n\r\n\r\n"]);
        assert!(answer.ends_with("ok"), "{driver}: {answer}");
        let mut client = Client::connect(address).expect("connects");
        assert_eq!(client.send("GET", "a", "/").expect("first").status, 200);
        client.write(b"\r\n");
        until_equal("idle connections", 2, || stat("downstream_cx_idle_timeout"));
        assert_eq!(end, End::Closed);
        assert_eq!(stat("downstream_rq_header_timeout"), 0);
    }
}

/// However they are cut: one by one they passed without end, and held the connection.
#[test]
fn empty_lines_are_counted_wherever_they_are_cut() {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for driver in DRIVERS {
        let upstream = answering();
        let (_proxy, address) = start(driver, upstream.address, "");
        for (cut, passes) in [
            (&["\r\n", "\r\n"][..], true),
            (&["\r\n\r\n"], true),
            (&["\r\n", "\r\n", "\r\n"], false),
            (&["\r\n", "\r\n\r\n"], false),
            (&["\r\n\r\n\r\n"], false),
        ] {
            let mut client = TcpStream::connect(address).expect("connects");
            client.set_nodelay(true).expect("set");
            client.write_all(REQUEST).expect("is sent");
            let mut answer = [0; 4096];
            while !answer.windows(6).any(|bytes| bytes == b"\r\n\r\nok") {
                assert_ne!(client.read(&mut answer).expect("an answer"), 0);
            }
            for piece in cut {
                client.write_all(piece.as_bytes()).expect("is sent");
                // The one worker has seen it when it has served another client since.
                assert_eq!(get(address, "a", "/").status, 200);
            }
            // It may be refused already.
            let _ = client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            let mut rest = String::new();
            client.read_to_string(&mut rest).expect("an answer");
            let wanted = if passes {
                "HTTP/1.1 200"
            } else {
                "HTTP/1.1 400"
            };
            assert!(rest.starts_with(wanted), "{driver}, {cut:?}: {rest}");
        }
    }
}

/// What it had sent behind its request hid from us that it left: its upstream was kept, without a
/// timeout for ever.
#[test]
fn a_client_that_leaves_behind_more_bytes_frees_its_upstream() {
    let next = b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n".as_slice();
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            connection.head();
            // Ends when the proxy closes.
            connection.head();
        });
        let (proxy, address) = start(driver, upstream.address, "");
        let active = |what: &str| proxy.stat(&format!("cluster.outbound|80||up0.test.{what}"));
        let mut clients = Vec::new();
        for more in [&b"\r\n"[..], b"G", next, &[b'x'; 100_000]] {
            for resets in [false, true] {
                let mut client = TcpStream::connect(address).expect("connects");
                let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
                client.write_all(request).expect("is sent");
                clients.push(client);
                until_equal("its request", clients.len(), || upstream.heads().len());
                let mut client = clients.last().expect("was pushed");
                client.write_all(more).expect("is sent");
                if resets {
                    let socket = socket2::SockRef::from(client);
                    socket.set_linger(Some(Duration::ZERO)).expect("set");
                }
            }
        }
        assert_eq!(active("upstream_rq_active"), 8, "{driver}");
        drop(clients);
        until(&format!("the end of all on {driver}"), || {
            active("upstream_rq_active") == 0 && active("upstream_cx_active") == 0
        });
        let heads = upstream.heads();
        assert!(
            !heads.iter().any(|head| head.contains("/next")),
            "{heads:?}"
        );
    }
}
