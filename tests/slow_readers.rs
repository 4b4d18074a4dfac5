//! Clients of HTTP/1.1 that do not take their answers, on both drivers.

mod harness;

use harness::pki::{Authority, connect, secret};
use harness::raw::ScriptedUpstream;
use harness::{
    DRIVERS, PATIENCE, Proxy, answering, folder, free_address, gateway, https_gateway, settings,
    splitting, until,
};
use socket2::SockRef;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE_OF_PROXY: Duration = Duration::from_secs(2);
/// Far more than the buffers of all sockets on the way hold.
const BODY_BYTES: usize = 32 << 20;

/// A gateway with these further documents whose clients may take nothing for two seconds.
fn start(driver: &str, routes: &str, gate: impl Fn(SocketAddr) -> String) -> (Proxy, SocketAddr) {
    let address = free_address();
    let spec = "{role: gateway, limits: {sendStallTimeout: 2s}}";
    let config = folder(&[
        ("gate.yaml", &gate(address)),
        ("routes.yaml", routes),
        ("settings.yaml", &settings(spec)),
    ]);
    let args = ["--driver", driver, "--workers", "1"];
    (Proxy::start_with_workers(config, &args), address)
}

fn tls_gateway(address: SocketAddr) -> String {
    https_gateway(address, &[("*", "{mode: SIMPLE, credentialName: shop}")])
}

/// Answers with a long body, before it has read that of the request.
fn upstream() -> ScriptedUpstream {
    ScriptedUpstream::start(|connection| {
        while connection.head().is_some() {
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {BODY_BYTES}\r\n\r\n"
            ));
            connection.send(vec![b'x'; BODY_BYTES]);
        }
    })
}

/// A client whose own buffer holds little.
fn connect_narrow(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    let set = SockRef::from(&stream).set_recv_buffer_size(32 << 10);
    set.expect("set");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n";

/// A proxy before that upstream, and such a client of it that has sent this.
fn start_with_client(driver: &str, sends: &[u8]) -> (Proxy, SocketAddr, TcpStream) {
    let upstream = upstream();
    let routes = splitting(&[(upstream.address, 1)]);
    let (proxy, address) = start(driver, &routes, gateway);
    let mut stream = connect_narrow(address);
    stream.write_all(sends).expect("sent");
    (proxy, address, stream)
}

fn stat(proxy: &Proxy, address: SocketAddr, name: &str) -> u64 {
    proxy.stat(&format!("http.127.0.0.1_{}.{name}", address.port()))
}

fn assert_given_up(proxy: &Proxy, address: SocketAddr) {
    until("the end of the request", || {
        stat(proxy, address, "tx_flush_timeout") == 1
    });
    until("no request in flight", || {
        stat(proxy, address, "downstream_rq_active") == 0
            && stat(proxy, address, "downstream_cx_active") == 0
    });
    until("no connection upstream", || {
        proxy.stat("cluster.outbound|80||up0.test.upstream_cx_active") == 0
    });
    proxy.until_stat("cluster.outbound|80||up0.test.upstream_cx_destroy_local", 1);
}

#[test]
fn a_client_that_takes_nothing_is_given_up() {
    for driver in DRIVERS {
        let (proxy, address, mut stream) = start_with_client(driver, GET);
        assert_given_up(&proxy, address);
        // It cannot take what it has for the whole.
        let mut got = Vec::new();
        let ended = stream.read_to_end(&mut got);
        assert!(ended.is_err(), "{driver}: {ended:?}");
        assert!(got.len() < BODY_BYTES);
    }
}

#[test]
fn a_client_over_tls_that_takes_nothing_is_given_up() {
    for driver in DRIVERS {
        let authority = Authority::new();
        let upstream = upstream();
        let identity = authority.issue(&["shop.test"]);
        let routes = format!(
            "{}---\n{}",
            splitting(&[(upstream.address, 1)]),
            secret("shop", &identity, None)
        );
        let (proxy, address) = start(driver, &routes, tls_gateway);
        let client = Arc::new(authority.client(None));
        let mut stream = connect(address, "shop.test", &client).expect("a connection");
        stream.write_all(GET).expect("sent");
        assert_given_up(&proxy, address);
    }
}

/// The end of its body comes while it takes nothing: that is no sign that it does.
#[test]
fn a_client_that_sends_and_takes_nothing_is_given_up() {
    for driver in DRIVERS {
        let head = b"POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 4\r\n\r\nab";
        let (proxy, address, mut stream) = start_with_client(driver, head);
        until("the answer to begin", || {
            proxy.stat("cluster.outbound|80||up0.test.upstream_rq_active") == 1
        });
        // Time is what is tested: the end comes within the patience, which it must not renew.
        std::thread::sleep(PATIENCE_OF_PROXY / 4);
        stream.write_all(b"cd").expect("sent");
        assert_given_up(&proxy, address);
    }
}

/// Answers of our own wait too, for those before them.
#[test]
fn a_client_that_asks_on_and_on_and_takes_nothing_is_given_up() {
    for driver in DRIVERS {
        let routes = answering(&"x".repeat(100_000));
        let (proxy, address) = start(driver, &routes, gateway);
        let mut stream = connect_narrow(address);
        stream.write_all(&GET.repeat(200)).expect("sent");
        until("the end", || stat(&proxy, address, "tx_flush_timeout") == 1);
        until("no connection", || {
            stat(&proxy, address, "downstream_rq_active") == 0
                && stat(&proxy, address, "downstream_cx_active") == 0
        });
        assert!(stat(&proxy, address, "downstream_rq_total") < 200);
    }
}

/// One piece of a body takes it longer than the proxy's patience, and it takes on all the while.
#[test]
fn a_client_that_takes_little_by_little_is_not_given_up() {
    for driver in DRIVERS {
        let (proxy, address, mut stream) = start_with_client(driver, GET);
        let began = Instant::now();
        let mut piece = [0; 4096];
        // Time is what is tested: each pause is far below the patience, all together far above.
        while began.elapsed() < PATIENCE_OF_PROXY * 3 {
            std::thread::sleep(PATIENCE_OF_PROXY / 40);
            stream.read_exact(&mut piece).expect("bytes");
        }
        assert_eq!(stat(&proxy, address, "tx_flush_timeout"), 0, "{driver}");
        assert_eq!(stat(&proxy, address, "downstream_rq_active"), 1, "{driver}");
        // Then no more.
        assert_given_up(&proxy, address);
    }
}

/// Bodies of 20 MB for clients that read none of them, each over a connection of its own.
#[test]
fn clients_that_read_nothing_cost_little() {
    const CLIENTS: usize = 200;
    const LEN: usize = 20 << 20;
    for driver in DRIVERS {
        for over_tls in [false, true] {
            let authority = Authority::new();
            let upstream = ScriptedUpstream::start(|connection| {
                while connection.head().is_some() {
                    connection.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {LEN}\r\n\r\n"));
                    let piece = vec![b'x'; 64 << 10];
                    for _ in 0..LEN / piece.len() {
                        connection.send(&piece);
                    }
                }
            });
            let routes = splitting(&[(upstream.address, 1)]);
            let identity = authority.issue(&["shop.test"]);
            let secret = secret("shop", &identity, None);
            let address = free_address();
            let gate = match over_tls {
                false => gateway(address),
                true => tls_gateway(address),
            };
            let config = folder(&[
                ("gate.yaml", &gate),
                ("routes.yaml", &routes),
                ("secret.yaml", &secret),
                ("settings.yaml", &settings("{role: gateway}")),
            ]);
            let proxy = Proxy::start_with_workers(config, &["--driver", driver, "--workers", "2"]);
            let client = Arc::new(authority.client(None));
            let ask = || -> Box<dyn std::any::Any> {
                if over_tls {
                    let mut stream = connect(address, "shop.test", &client).expect("a connection");
                    stream.write_all(GET).expect("sent");
                    return Box::new(stream);
                }
                let mut stream = connect_narrow(address);
                stream.write_all(GET).expect("sent");
                Box::new(stream)
            };
            // What the program reads of itself with its first request is not the clients' doing.
            let first = ask();
            until("the first", || upstream.heads().len() == 1);
            drop(first);
            until("its end", || {
                stat(&proxy, address, "downstream_rq_active") == 0
            });
            let before = proxy.resident_bytes();
            let clients: Vec<_> = (0..CLIENTS).map(|_| ask()).collect();
            until("all requests", || {
                stat(&proxy, address, "downstream_rq_active") == CLIENTS as u64
            });
            // The receive buffers that the first rush has filled go back within seconds.
            let at_rest = proxy.resident_bytes_at_rest(Duration::from_secs(5));
            let grown = at_rest.saturating_sub(before);
            println!("{driver}, TLS {over_tls}: {} KiB", grown >> 10);
            assert!(
                grown < 48 << 20,
                "{driver}, TLS {over_tls}: {} KiB",
                grown >> 10
            );
            assert_eq!(
                stat(&proxy, address, "downstream_rq_active"),
                CLIENTS as u64
            );
            drop(clients);
        }
    }
}
