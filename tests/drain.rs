//! The end of a process: requests in flight finish, unless the deadline or a second signal comes.

mod harness;

use harness::frames::{FrameClient, get_frame};
use harness::raw::ScriptedUpstream;
use harness::{
    Client, DRIVERS, LogLines, Proxy, Upstream, answering, folder, free_address, gateway, post,
    settings, splitting, until,
};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

fn start(driver: &str, upstream: &Upstream, spec: &str) -> (Proxy, SocketAddr) {
    let address = free_address();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("settings.yaml", &settings(spec)),
        ("split.yaml", &splitting(&[(upstream.address, 1)])),
    ]);
    (Proxy::start(config, &["--driver", driver]), address)
}

/// A request that the upstream has and does not answer.
fn request_in_flight(upstream: &Upstream, address: SocketAddr) -> Client {
    upstream.close_gate();
    let before = upstream.requests();
    let mut client = Client::connect(address).expect("connects");
    client.start("GET", "shop.example", "/").expect("is sent");
    until("the request at the upstream", || {
        upstream.requests() == before + 1
    });
    client
}

#[test]
fn sigterm_lets_requests_in_flight_finish_and_refuses_new_connections() {
    for driver in DRIVERS {
        let upstream = Upstream::start("late");
        let (mut proxy, address) = start(driver, &upstream, "{role: gateway}");
        let mut client = request_in_flight(&upstream, address);
        proxy.signal(libc::SIGTERM);
        until("the end of the listener", || {
            Client::connect(address).is_err()
        });
        assert_eq!(proxy.admin("/ready").body, "DRAINING\n");
        upstream.open_gate();
        let answer = client.answer().expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "late"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(proxy.wait().code(), Some(0));
    }
}

#[test]
fn connections_without_a_request_do_not_hold_the_end_up() {
    for driver in DRIVERS {
        let upstream = Upstream::start("here");
        let (mut proxy, address) = start(driver, &upstream, "{role: gateway, drainDeadline: 1h}");
        let mut idle = Client::connect(address).expect("connects");
        let answer = idle.send("GET", "shop.example", "/").expect("an answer");
        assert_eq!(answer.status, 200);
        proxy.signal(libc::SIGTERM);
        assert_eq!(proxy.wait().code(), Some(0));
        assert!(idle.answer().is_err());
    }
}

#[test]
fn an_answer_of_the_proxy_itself_tells_that_the_connection_ends() {
    for driver in DRIVERS {
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("answer.yaml", &answering("direct")),
        ]);
        let mut proxy = Proxy::start(config, &["--driver", driver]);
        let mut client = Client::connect(address).expect("connects");
        let answer = client.send("GET", "a.test", "/").expect("an answer");
        assert_eq!(answer.header("connection"), None);
        client.write(b"GET / HTTP/1.1\r\nhost: a.test\r\n");
        proxy.signal(libc::SIGTERM);
        until("the end of the listener", || {
            Client::connect(address).is_err()
        });
        client.write(b"\r\n");
        let answer = client.answer().expect("an answer");
        assert_eq!(answer.body, "direct");
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(proxy.wait().code(), Some(0));
    }
}

#[test]
fn the_deadline_ends_what_does_not_finish() {
    for driver in DRIVERS {
        let upstream = Upstream::start("never");
        let (mut proxy, address) =
            start(driver, &upstream, "{role: gateway, drainDeadline: 100ms}");
        let mut client = request_in_flight(&upstream, address);
        proxy.signal(libc::SIGTERM);
        assert_eq!(proxy.wait().code(), Some(0));
        assert!(client.answer().is_err());
        proxy.until_logged("deadline");
    }
}

/// People and log rotation send them by habit.
#[test]
fn signals_that_reload_other_proxies_do_not_end_the_process() {
    for driver in DRIVERS {
        let upstream = Upstream::start("here");
        let (mut proxy, address) = start(driver, &upstream, "{role: gateway}");
        for (signal, name) in [
            (libc::SIGHUP, "SIGHUP"),
            (libc::SIGUSR1, "SIGUSR1"),
            (libc::SIGUSR2, "SIGUSR2"),
        ] {
            proxy.signal(signal);
            until("the notice", || proxy.log().contains(name));
            assert!(proxy.is_running());
            let answer = harness::get(address, "shop.example", "/");
            assert_eq!(answer.body, "here", "after {name}");
        }
        assert_eq!(proxy.admin("/ready").body, "LIVE\n");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    for driver in DRIVERS {
        let upstream = Upstream::start("never");
        let (mut proxy, address) = start(driver, &upstream, "{role: gateway}");
        let _client = request_in_flight(&upstream, address);
        proxy.signal(libc::SIGINT);
        until("draining", || proxy.admin("/ready").body == "DRAINING\n");
        assert!(proxy.is_running());
        proxy.signal(libc::SIGTERM);
        assert_eq!(proxy.wait().code(), Some(128 + libc::SIGTERM));
    }
}

#[test]
fn draining_through_the_admin_interface_leaves_the_process_there() {
    for driver in DRIVERS {
        let upstream = Upstream::start("late");
        let (mut proxy, address) = start(driver, &upstream, "{role: gateway}");
        let mut client = request_in_flight(&upstream, address);
        assert_eq!(post(proxy.admin, "/drain_listeners?graceful").status, 200);
        until("the end of the listener", || {
            Client::connect(address).is_err()
        });
        upstream.open_gate();
        assert_eq!(client.answer().expect("an answer").status, 200);
        assert_eq!(proxy.admin("/ready").status, 503);
        assert!(proxy.is_running());
    }
}

/// Neither while a worker still has a connection, nor when all have ended.
#[test]
fn files_that_change_after_a_drain_open_no_listener() {
    for driver in DRIVERS {
        for is_busy in [true, false] {
            let upstream = Upstream::start("late");
            let (mut proxy, address) = start(driver, &upstream, "{role: gateway}");
            let client = is_busy.then(|| request_in_flight(&upstream, address));
            assert_eq!(post(proxy.admin, "/drain_listeners?graceful").status, 200);
            until("the end of the listener", || {
                Client::connect(address).is_err()
            });
            let moved = free_address();
            proxy.put("gate.yaml", &gateway(moved));
            // As long as many reloads take: nothing else tells that none comes.
            let looked_until = Instant::now() + Duration::from_millis(600);
            while Instant::now() < looked_until {
                assert!(Client::connect(moved).is_err(), "{driver}: it listens");
                std::thread::sleep(Duration::from_millis(5));
            }
            proxy.until_logged("draining: the files are followed no longer");
            let listeners = proxy.admin("/listeners").body;
            assert!(!listeners.contains(&moved.to_string()), "{listeners}");
            assert_eq!(proxy.stat("config.generation"), 1);
            assert_eq!(proxy.stat("config.reload_rejected"), 0);
            assert_eq!(proxy.admin("/ready").body, "DRAINING\n");
            if let Some(mut client) = client {
                upstream.open_gate();
                assert_eq!(client.answer().expect("an answer").status, 200);
            }
            proxy.signal(libc::SIGTERM);
            assert_eq!(proxy.wait().code(), Some(0));
        }
    }
}

/// Just these are looked for after a roll-out.
#[test]
fn what_the_end_cuts_off_has_its_line_in_the_access_log() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while let Some((path, _)) = connection.head() {
                match path.as_str() {
                    "/never" => {}
                    "/begun" => connection.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na"),
                    _ => connection.send(
                        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
                         connection: upgrade\r\nsec-websocket-accept: x\r\n\r\n",
                    ),
                }
            }
        });
        let address = free_address();
        let spec = "{role: gateway, drainDeadline: 100ms, accessLog: {format: TEXT}}";
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("settings.yaml", &settings(spec)),
            ("split.yaml", &splitting(&[(upstream.address, 1)])),
        ]);
        let mut proxy = Proxy::start_piped(config, &["--driver", driver]);
        let lines = LogLines::of(&mut proxy);
        let upgrade = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let clients: Vec<TcpStream> = [("/never", ""), ("/begun", ""), ("/socket", upgrade)]
            .into_iter()
            .map(|(path, fields)| {
                let mut client = TcpStream::connect(address).expect("connects");
                let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
                client.write_all(head.as_bytes()).expect("is sent");
                if path != "/never" {
                    client.read_exact(&mut [0; 12]).expect("an answer");
                }
                client
            })
            .collect();
        let mut streams = FrameClient::connect(address, &[]);
        streams.send(&get_frame(1, "/never"));
        until("all at the upstream", || upstream.heads().len() == 4);
        proxy.signal(libc::SIGTERM);
        assert_eq!(proxy.wait().code(), Some(0));
        lines.wait_for(4);
        for (request, told) in [
            ("GET /never HTTP/1.1", "0 DC"),
            ("GET /begun HTTP/1.1", "200 DC"),
            ("GET /socket HTTP/1.1", "101 DC"),
            ("GET /never HTTP/2", "0 DC"),
        ] {
            let line = lines.line_with(request);
            let told = format!("\"{request}\" {told} downstream_local_disconnect ");
            assert!(line.contains(&told), "{driver}: {line}");
        }
        drop(clients);
    }
}
