//! Bytes carried as they are: WebSocket, TCP, and TLS that is passed through. On both drivers.

mod harness;

use harness::pki::{Authority, get, secret};
use harness::raw::ScriptedUpstream;
use harness::tcp::{connect, echo, raw_gateway, route, service};
use harness::{DRIVERS, Proxy, folder, free_address, gateway, https_gateway, settings, splitting};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

fn until_head_ends(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        got.push(byte[0]);
    }
    String::from_utf8(got).expect("text")
}

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: a.test\r\nconnection: keep-alive, Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    sec-websocket-version: 13\r\n\r\n";

#[test]
fn a_websocket_is_carried_both_ways_with_its_half_close() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            let Some((path, head)) = connection.head() else {
                return;
            };
            if path == "/refused" {
                return connection.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
            }
            assert!(
                head.to_ascii_lowercase().contains("upgrade: websocket\r\n"),
                "{head}"
            );
            connection.send(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                 upgrade: websocket\r\nsec-websocket-accept: x\r\n\r\nfirst",
            );
            let mut piece = [0; 1024];
            loop {
                match connection.stream.read(&mut piece) {
                    Ok(0) => return connection.send("bye"),
                    Ok(len) => connection.send(piece[..len].to_ascii_uppercase()),
                    Err(_) => return,
                }
            }
        });
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("settings.yaml", &settings("{role: gateway}")),
            ("split.yaml", &splitting(&[(upstream.address, 1)])),
        ]);
        let args = ["--driver", driver, "--workers", "1"];
        let _proxy = Proxy::start_with_workers(config, &args);
        let mut client = connect(address);
        // What the client sends before it has its answer goes along.
        client
            .write_all(format!("{ASK}early").as_bytes())
            .expect("sent");
        let head = until_head_ends(&mut client).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        for line in [
            "connection: upgrade\r\n",
            "upgrade: websocket\r\n",
            "sec-websocket-accept: x\r\n",
        ] {
            assert!(head.contains(line), "{head}");
        }
        let mut got = [0; 10];
        client.read_exact(&mut got).expect("received");
        assert_eq!(&got, b"firstEARLY");
        client.write_all(b"more").expect("sent");
        client.shutdown(Shutdown::Write).expect("ended");
        let mut rest = String::new();
        client.read_to_string(&mut rest).expect("received");
        assert_eq!(rest, "MOREbye");

        let mut client = connect(address);
        client
            .write_all(ASK.replace("/chat", "/refused").as_bytes())
            .expect("sent");
        assert!(until_head_ends(&mut client).starts_with("HTTP/1.1 403"));
    }
}

#[test]
fn tcp_is_carried_to_the_service_of_its_route() {
    for driver in DRIVERS {
        let address = free_address();
        let route = route(address) + &service(echo());
        let config = folder(&[
            ("gate.yaml", &raw_gateway(address, "TCP", "")),
            ("settings.yaml", &settings("{role: gateway}")),
            ("route.yaml", &route),
        ]);
        let args = ["--driver", driver, "--workers", "1"];
        let _proxy = Proxy::start_with_workers(config, &args);
        let sent: Vec<u8> = (0..500_000u32).flat_map(u32::to_be_bytes).collect();
        let mut client = connect(address);
        let mut writer = client.try_clone().expect("a second handle");
        let bytes = sent.clone();
        let writing = std::thread::spawn(move || {
            writer.write_all(&bytes).expect("sent");
            writer.shutdown(Shutdown::Write).expect("ended");
        });
        let mut got = Vec::new();
        client.read_to_end(&mut got).expect("received");
        writing.join().expect("written");
        assert!(got.ends_with(b"bye"));
        got.truncate(got.len() - 3);
        assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    }
}

/// Each connection goes to one destination, drawn by weight; one of weight 0 gets none.
#[test]
fn tcp_connections_are_split_by_weight() {
    const CONNECTIONS: usize = 200;
    let greeting = |name: &'static [u8]| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.write_all(name);
            }
        });
        address
    };
    let services = [("db", greeting(b"often")), ("rare", greeting(b"rarely"))];
    for driver in DRIVERS {
        let address = free_address();
        let mut route = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: db}}\n\
             spec:\n  hosts: [\"*\"]\n  gateways: [gate]\n  tcp:\n  \
             - match: [{{port: {}}}]\n    route:\n",
            address.port(),
        );
        for (name, weight) in [("db", 75), ("rare", 25), ("never", 0)] {
            route += &format!(
                "    - {{weight: {weight}, destination: {{host: {name}.test, \
                 port: {{number: 9000}}}}}}\n"
            );
        }
        for (name, endpoint) in services {
            let renamed = service(endpoint).replace("db", name);
            route += &renamed;
        }
        let config = folder(&[
            ("gate.yaml", &raw_gateway(address, "TCP", "")),
            ("settings.yaml", &settings("{role: gateway, seed: 3}")),
            ("route.yaml", &route),
        ]);
        let args = ["--driver", driver, "--workers", "1"];
        let _proxy = Proxy::start_with_workers(config, &args);
        let mut often = 0;
        for _ in 0..CONNECTIONS {
            let mut got = String::new();
            connect(address).read_to_string(&mut got).expect("a name");
            assert!(got == "often" || got == "rarely", "{got}");
            often += usize::from(got == "often");
        }
        // 150 expected; six standard deviations either way.
        assert!((113..=187).contains(&often), "{often} of {CONNECTIONS}");
    }
}

/// An upstream that is a proxy is asked to connect on before the client's bytes go out.
#[test]
fn tcp_goes_through_a_tunnel_where_the_rule_says_so() {
    for driver in DRIVERS {
        let proxy_upstream = ScriptedUpstream::start(|connection| {
            let Some((_, head)) = connection.head() else {
                return;
            };
            if !head.starts_with("CONNECT db.example:5432 HTTP/1.1\r\n") {
                return connection.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
            }
            connection.send("HTTP/1.1 200 OK\r\n\r\nready ");
            let got = connection.body(5);
            connection.send(got);
        });
        let address = free_address();
        let route = |target: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: db}}\n\
                 spec:\n  hosts: [\"*\"]\n  gateways: [gate]\n  tcp:\n  \
                 - route: [{{destination: {{host: db.test, port: {{number: 9000}}}}}}]\n{}\
                 ---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                 metadata: {{name: db}}\nspec:\n  host: db.test\n  trafficPolicy:\n    \
                 tunnel: {{targetHost: {target}, targetPort: 5432}}\n",
                service(proxy_upstream.address)
            )
        };
        let config = folder(&[
            ("gate.yaml", &raw_gateway(address, "TCP", "")),
            ("settings.yaml", &settings("{role: gateway}")),
            ("route.yaml", &route("db.example")),
        ]);
        let args = ["--driver", driver, "--workers", "1"];
        let proxy = Proxy::start_with_workers(config, &args);
        let talk = || {
            let mut client = connect(address);
            // A tunnel that is refused may have ended already.
            let _ = client.write_all(b"hello");
            let mut got = String::new();
            let ended = client.read_to_string(&mut got);
            ended.map(|_| got).unwrap_or_default()
        };
        assert_eq!(talk(), "ready hello");
        proxy.put("route.yaml", &route("elsewhere.example"));
        harness::until("the other target", || talk().is_empty());
        let heads = proxy_upstream.heads();
        assert!(
            heads[0].contains("\r\nhost: db.example:5432\r\n"),
            "{heads:?}"
        );
        let refused = heads.last().expect("was asked");
        assert!(
            refused.starts_with("CONNECT elsewhere.example:5432 "),
            "{heads:?}"
        );
    }
}

#[test]
fn tls_is_passed_through_by_its_server_name() {
    for driver in DRIVERS {
        let authority = Authority::new();
        // A second proxy ends the TLS that the first passes through.
        let inner = free_address();
        let ending = folder(&[
            (
                "gate.yaml",
                &https_gateway(inner, &[("*", "{mode: SIMPLE, credentialName: shop}")]),
            ),
            (
                "secret.yaml",
                &secret("shop", &authority.issue(&["shop.test"]), None),
            ),
            ("settings.yaml", &settings("{role: gateway}")),
            ("answer.yaml", &harness::answering("inner")),
        ]);
        let args = ["--driver", driver, "--workers", "1"];
        let _inner = Proxy::start_with_workers(ending, &args);
        let address = free_address();
        let route = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: db}}\n\
             spec:\n  hosts: [shop.test]\n  gateways: [gate]\n  tls:\n  \
             - match: [{{port: {}, sniHosts: [shop.test]}}]\n    \
             route: [{{destination: {{host: db.test, port: {{number: 9000}}}}}}]\n{}",
            address.port(),
            service(inner)
        );
        let config = folder(&[
            (
                "gate.yaml",
                &raw_gateway(address, "TLS", "    tls: {mode: PASSTHROUGH}\n"),
            ),
            ("settings.yaml", &settings("{role: gateway}")),
            ("route.yaml", &route),
        ]);
        let _proxy = Proxy::start_with_workers(config, &args);
        let client = Arc::new(authority.client(None));
        let answer = get(address, "shop.test", "/", &client).expect("an answer");
        assert!(answer.ends_with("inner"), "{answer}");
        assert!(get(address, "other.test", "/", &client).is_err());
    }
}
