//! Upstreams that fail: the right status and flag, and nothing else disturbed.

mod harness;

use harness::raw::{End, ScriptedUpstream, converse, status};
use harness::{
    DRIVERS, LogLines, Proxy, folder, free_address, gateway, settings, splitting, until,
};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn start(driver: &str, upstream: SocketAddr, spec: &str) -> (Proxy, SocketAddr) {
    let address = free_address();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("settings.yaml", &settings(spec)),
        ("split.yaml", &splitting(&[(upstream, 1)])),
    ]);
    let args = ["--driver", driver, "--workers", "1"];
    (Proxy::start_with_workers(config, &args), address)
}

fn get(address: SocketAddr, path: &str) -> (String, End) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n");
    converse(address, &[request.as_bytes()])
}

/// A figure of the one cluster.
fn cluster_stat(proxy: &Proxy, name: &str) -> u64 {
    proxy.stat(&format!("cluster.outbound|80||up0.test.{name}"))
}

/// Waits until that figure is as wanted.
#[track_caller]
fn until_cluster_stat(proxy: &Proxy, name: &str, wanted: u64) {
    proxy.until_stat(&format!("cluster.outbound|80||up0.test.{name}"), wanted);
}

#[test]
fn an_upstream_that_refuses_is_503() {
    for driver in DRIVERS {
        let (proxy, address) = start(driver, free_address(), "{role: gateway}");
        let (answer, _) = get(address, "/");
        assert_eq!(status(&answer), 503, "{answer}");
        assert!(answer.contains("remote connection failure"), "{answer}");
        // The first try and the two retries of Istio's default policy.
        until_cluster_stat(&proxy, "upstream_cx_connect_fail", 3);
        assert_eq!(cluster_stat(&proxy, "upstream_cx_rx_bytes_total"), 0);
        proxy.until_metrics("response_flags=\"URX,UF\"");
    }
}

/// A listener whose queue is full: the kernel answers no further connection request.
fn unresponsive() -> (socket2::Socket, SocketAddr, Vec<TcpStream>) {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a free port");
    socket.listen(0).expect("listens");
    let address = socket.local_addr().expect("an address");
    let address = address.as_socket().expect("is IP");
    let patience = Duration::from_millis(200);
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, patience) {
        queued.push(stream);
    }
    (socket, address, queued)
}

#[test]
fn a_connect_that_takes_too_long_is_503_and_says_so() {
    let (_socket, upstream, _queued) = unresponsive();
    for driver in DRIVERS {
        let address = free_address();
        let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                    metadata: {name: up0}\nspec:\n  host: up0.test\n  \
                    trafficPolicy: {connectionPool: {tcp: {connectTimeout: 150ms}}}\n";
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("rule.yaml", rule),
            (
                "settings.yaml",
                &settings("{role: gateway, accessLog: {format: JSON}}"),
            ),
            ("split.yaml", &splitting(&[(upstream, 1)])),
        ]);
        let mut proxy = Proxy::start_with_stdout(config, &["--driver", driver], Stdio::piped());
        let log = LogLines::of(&mut proxy);
        let started = Instant::now();
        let (answer, _) = get(address, "/slow");
        assert_eq!(status(&answer), 503, "{answer}");
        assert!(
            answer.ends_with("reset reason: connection timeout"),
            "{answer}"
        );
        assert!(started.elapsed() >= Duration::from_millis(150));
        let line = log.line_with("\"/slow\"");
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let flags = line["response_flags"].as_str().expect("flags");
        assert!(flags.split(',').any(|flag| flag == "UF"), "{line}");
        assert_eq!(
            line["response_code_details"],
            "upstream_reset_before_response_started{connection_timeout}"
        );
        // Once for each try.
        let tries = cluster_stat(&proxy, "upstream_cx_total");
        assert!(tries >= 1);
        assert_eq!(cluster_stat(&proxy, "upstream_cx_connect_timeout"), tries);
        until_cluster_stat(&proxy, "upstream_cx_active", 0);
    }
}

#[test]
fn broken_responses_are_answered_and_counted() {
    let cases: &[(&str, &str, u16, &str)] = &[
        ("/close", "", 503, "UC"),
        ("/half", "HTTP/1.1 200 OK\r\ncont", 502, "UPE"),
        ("/nonsense", "no http\r\n\r\n", 502, "UPE"),
        (
            "/both",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc",
            502,
            "UPE",
        ),
        (
            "/101",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
            502,
            "UPE",
        ),
        (
            "/chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            502,
            "UPE",
        ),
    ];
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while let Some((path, _)) = connection.head() {
                if let Some(case) = cases.iter().find(|case| case.0 == path) {
                    connection.send(case.1);
                    return;
                }
                connection.send(OK);
            }
        });
        let (proxy, address) = start(driver, upstream.address, "{role: gateway}");
        for (path, _, expected, flag) in cases {
            let (answer, end) = get(address, path);
            assert_eq!(
                (status(&answer), end),
                (*expected, End::Closed),
                "{path}: {answer}"
            );
            let label = format!("response_flags=\"{flag}\"");
            proxy.until_metrics(&label);
            let (answer, _) = get(address, "/fine");
            assert_eq!(status(&answer), 200, "after {path}: {answer}");
        }
    }
}

/// Each of them could be read differently by another parser, or is larger than the limits.
const REFUSED: &[&str] = &[
    "HTTP/1.1 099 X\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 1000 X\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nconnection: content-length\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\ncontent-length: 5\r\n\r\nhello",
    "\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
];

#[test]
fn responses_that_could_be_read_differently_are_502() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while let Some((path, _)) = connection.head() {
                let number = path.trim_start_matches('/').parse::<usize>();
                let bytes = match number.map(|number| REFUSED.get(number)) {
                    Ok(Some(bytes)) => (*bytes).to_string(),
                    Ok(None) => format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(20_000)),
                    Err(_) => OK.to_string(),
                };
                connection.send(bytes);
            }
        });
        let (proxy, address) = start(driver, upstream.address, "{role: gateway}");
        for number in 0..=REFUSED.len() {
            let (answer, _) = get(address, &format!("/{number}"));
            let sent = REFUSED.get(number).unwrap_or(&"a head without end");
            assert_eq!(status(&answer), 502, "{sent:?}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{sent:?}: {answer}");
            assert_eq!(status(&get(address, "/fine").0), 200, "after {sent:?}");
        }
        let refused = REFUSED.len() as u64 + 1;
        until_cluster_stat(&proxy, "upstream_cx_protocol_error", refused);
        // None of their connections is used again.
        until_cluster_stat(&proxy, "upstream_cx_active", 1);
    }
}

#[test]
fn a_body_that_breaks_off_does_not_look_whole() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            let Some((path, _)) = connection.head() else {
                return;
            };
            match path.as_str() {
                "/length" => connection.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"),
                _ => connection.send(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nwo",
                ),
            }
        });
        let (_proxy, address) = start(driver, upstream.address, "{role: gateway}");
        let (answer, _) = get(address, "/length");
        assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
        let (answer, _) = get(address, "/chunks");
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
        // The close would end it.
        let old = b"GET /chunks HTTP/1.0\r\nhost: a.test\r\n\r\n";
        assert_eq!(converse(address, &[old]).1, End::Reset);
    }
}

#[test]
fn bytes_after_an_answer_never_reach_the_next_request() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                connection.send(format!(
                    "{OK}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
                ));
            }
        });
        let (proxy, address) = start(driver, upstream.address, "{role: gateway}");
        for _ in 0..20 {
            let (answer, _) = get(address, "/");
            assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
        }
        assert!(cluster_stat(&proxy, "upstream_cx_total") >= 20);
        until_cluster_stat(&proxy, "upstream_cx_protocol_error", 20);
    }
}

/// Answers once on each connection, then closes it when the next request has come.
fn closes_on_reuse() -> ScriptedUpstream {
    ScriptedUpstream::start(|connection| {
        connection.head();
        connection.send(OK);
        connection.head();
        let _ = connection.stream.shutdown(Shutdown::Both);
    })
}

#[test]
fn a_get_on_a_dead_reused_connection_is_sent_again_once() {
    for driver in DRIVERS {
        let upstream = closes_on_reuse();
        let (proxy, address) = start(driver, upstream.address, "{role: gateway}");
        assert_eq!(status(&get(address, "/first").0), 200);
        assert_eq!(status(&get(address, "/second").0), 200);
        assert_eq!(upstream.heads().len(), 3, "{:?}", upstream.heads());
        until_cluster_stat(&proxy, "upstream_rq_replayed", 1);
    }
}

/// It was never used before, so that it died says something about the request.
#[test]
fn a_get_on_a_fresh_connection_that_dies_is_not_sent_again() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            connection.head();
        });
        let (proxy, address) = start(driver, upstream.address, "{role: gateway}");
        assert_eq!(status(&get(address, "/").0), 503);
        assert_eq!(upstream.heads().len(), 1, "{:?}", upstream.heads());
        proxy.until_metrics("response_flags=\"UC\"");
        until_cluster_stat(&proxy, "upstream_cx_destroy_remote_with_active_rq", 1);
        assert_eq!(cluster_stat(&proxy, "upstream_rq_replayed"), 0);
    }
}

/// What may not be sent twice would fail on it.
#[test]
fn a_connection_that_was_closed_while_idle_takes_no_request() {
    for driver in DRIVERS {
        let closed = Arc::new(AtomicUsize::new(0));
        let closing = Arc::clone(&closed);
        let upstream = ScriptedUpstream::start(move |connection| {
            connection.head();
            connection.send(OK);
            let _ = connection.stream.shutdown(Shutdown::Both);
            closing.fetch_add(1, Ordering::SeqCst);
        });
        let (proxy, address) = start(driver, upstream.address, "{role: gateway}");
        let mut client = harness::Client::connect(address).expect("connects");
        for count in 1..=10 {
            let answer = client.send("POST", "a.test", "/pay").expect("an answer");
            assert_eq!(answer.status, 200, "{count}: {answer:?}");
            until("the close", || closed.load(Ordering::SeqCst) == count);
        }
        assert_eq!(upstream.heads().len(), 10);
        assert_eq!(cluster_stat(&proxy, "upstream_rq_replayed"), 0);
    }
}

#[test]
fn a_post_is_never_sent_twice() {
    for driver in DRIVERS {
        let upstream = closes_on_reuse();
        let (_proxy, address) = start(driver, upstream.address, "{role: gateway}");
        assert_eq!(status(&get(address, "/first").0), 200);
        let post =
            b"POST /pay HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx";
        let (answer, _) = converse(address, &[post]);
        assert_eq!(status(&answer), 503, "{answer}");
        let pays = upstream
            .heads()
            .iter()
            .filter(|head| head.contains("/pay"))
            .count();
        assert_eq!(pays, 1);
    }
}

#[test]
fn a_get_with_a_body_is_never_sent_twice() {
    for driver in DRIVERS {
        let upstream = closes_on_reuse();
        let (proxy, address) = start(driver, upstream.address, "{role: gateway}");
        assert_eq!(status(&get(address, "/first").0), 200);
        let search =
            b"GET /search HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx";
        let (answer, _) = converse(address, &[search]);
        assert_eq!(status(&answer), 503, "{answer}");
        assert_eq!(upstream.heads().len(), 2, "{:?}", upstream.heads());
        assert_eq!(cluster_stat(&proxy, "upstream_rq_replayed"), 0);
    }
}

#[test]
fn a_request_is_not_sent_twice_after_an_interim_response() {
    for driver in DRIVERS {
        for interim in ["100 Continue", "103 Early Hints"] {
            let upstream = ScriptedUpstream::start(move |connection| {
                connection.head();
                connection.send(OK);
                connection.head();
                connection.send(format!("HTTP/1.1 {interim}\r\n\r\n"));
                let _ = connection.stream.shutdown(Shutdown::Both);
            });
            let (proxy, address) = start(driver, upstream.address, "{role: gateway}");
            assert_eq!(status(&get(address, "/first").0), 200);
            let (answer, _) = get(address, "/second");
            assert!(answer.contains("HTTP/1.1 503 "), "{answer}");
            assert!(answer.matches(" 103 ").count() <= 1, "{answer}");
            assert_eq!(upstream.heads().len(), 2, "{:?}", upstream.heads());
            assert_eq!(cluster_stat(&proxy, "upstream_rq_replayed"), 0);
            proxy.until_metrics("response_flags=\"UC\"");
        }
    }
}

#[test]
fn sending_again_can_be_switched_off() {
    for driver in DRIVERS {
        let upstream = closes_on_reuse();
        let spec = "{role: gateway, replayOnDeadConnection: false}";
        let (_proxy, address) = start(driver, upstream.address, spec);
        assert_eq!(status(&get(address, "/first").0), 200);
        assert_eq!(status(&get(address, "/second").0), 503);
        assert_eq!(upstream.heads().len(), 2);
    }
}

#[test]
fn an_answer_before_the_end_of_the_request_arrives() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            connection.head();
            connection
                .send("HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
        });
        let (_proxy, address) = start(driver, upstream.address, "{role: gateway}");
        let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";
        let (answer, _) = converse(address, &[head, &[b'x'; 1000]]);
        assert_eq!(status(&answer), 413, "{answer}");
        assert!(answer.ends_with("no"), "{answer}");
    }
}

#[test]
fn a_client_that_leaves_frees_its_upstream() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            connection.head();
            // Ends when the proxy closes.
            connection.head();
        });
        let (proxy, address) = start(driver, upstream.address, "{role: gateway}");
        let mut client = harness::Client::connect(address).expect("connects");
        client.start("GET", "a.test", "/").expect("is sent");
        until("the request at the upstream", || {
            !upstream.heads().is_empty()
        });
        assert_eq!(cluster_stat(&proxy, "upstream_rq_active"), 1);
        drop(client);
        until("the end of the request", || {
            cluster_stat(&proxy, "upstream_rq_active") == 0
                && cluster_stat(&proxy, "upstream_cx_active") == 0
        });
        // HTTP/1.1 has no resets.
        assert_eq!(cluster_stat(&proxy, "upstream_rq_tx_reset"), 0);
        until_cluster_stat(&proxy, "upstream_cx_destroy_local", 1);
        let (ip, port) = (address.ip(), address.port());
        let left = format!("http.{ip}_{port}.downstream_cx_destroy_remote_active_rq");
        proxy.until_stat(&left, 1);
    }
}
