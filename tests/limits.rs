//! Requests that are malformed, slow, too large or too many, and what bounds them.

mod harness;

use harness::frames::{END_HEADERS, FrameClient, HEADERS, frame, literal};
use harness::raw::{ScriptedUpstream, converse, status};
use harness::{
    Client, DRIVERS, PATIENCE, Proxy, folder, free_address, gateway, settings, splitting, until,
    until_equal,
};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

fn start(driver: &str, upstream: SocketAddr, limits: &str) -> (Proxy, SocketAddr) {
    let address = free_address();
    let spec = format!("{{role: gateway, limits: {{{limits}}}}}");
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("settings.yaml", &settings(&spec)),
        ("split.yaml", &splitting(&[(upstream, 1)])),
    ]);
    (Proxy::start(config, &["--driver", driver]), address)
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

#[test]
fn what_two_parsers_could_read_differently_is_refused_and_closed() {
    let refused: &[(&str, u16)] = &[
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\nx",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\nx",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\n folded: x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /\u{e9} HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET http://u:p@a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505),
        (
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: content-length\r\n\r\n",
            400,
        ),
        (
            "GET / HTTP/1.1\r\nhost: a\r\nexpect: the-moon\r\ncontent-length: 1\r\n\r\nx",
            417,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n 1\r\nx\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1 1\r\nx\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nhost: b\r\n\r\n",
            400,
        ),
    ];
    for driver in DRIVERS {
        let upstream = answering();
        let (proxy, address) = start(driver, upstream.address, "");
        for (request, expected) in refused {
            let smuggled = format!("{request}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
            let (answer, _) = converse(address, &[smuggled.as_bytes()]);
            assert_eq!(status(&answer), *expected, "{request:?}: {answer}");
            assert_eq!(
                answer.matches("HTTP/1.1 ").count(),
                1,
                "{request:?}: {answer}"
            );
        }
        assert_eq!(upstream.heads(), Vec::<String>::new());
        assert!(listener_stat(&proxy, address, "downstream_cx_protocol_error") > 20);
    }
}

#[test]
fn heads_have_a_longest_size_a_largest_count_and_a_longest_time() {
    for driver in DRIVERS {
        let upstream = answering();
        let limits = "maxHeadBytes: 1000, maxHeaders: 10, requestHeadTimeout: 1s";
        let (proxy, address) = start(driver, upstream.address, limits);
        let long = format!(
            "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
            "y".repeat(1000)
        );
        assert_eq!(status(&converse(address, &[long.as_bytes()]).0), 431);
        let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(10));
        assert_eq!(status(&converse(address, &[many.as_bytes()]).0), 431);
        until_equal("heads that were too large", 2, || {
            listener_stat(&proxy, address, "downstream_rq_too_large")
        });
        let (answer, _) = converse(address, &[b"GET / HTTP/1.1\r\nho"]);
        assert_eq!(status(&answer), 408, "{answer}");
        let (answer, _) = converse(address, &[]);
        assert_eq!(answer, "", "a connection that sends nothing is closed");
        until_equal("heads that took too long", 2, || {
            listener_stat(&proxy, address, "downstream_rq_header_timeout")
        });
        assert_eq!(upstream.heads().len(), 0);
    }
}

/// Time is what this tests: that of a connection's first head runs from accept, so that nobody
/// gains by saying nothing; that of a later one from its first byte.
#[test]
fn the_time_of_a_head_begins_with_the_connection_or_with_its_first_byte() {
    const LIMIT: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_millis(700);
    for driver in DRIVERS {
        let upstream = answering();
        let (_proxy, address) = start(driver, upstream.address, "requestHeadTimeout: 1s");
        let time_left = |mut stream: TcpStream| {
            std::thread::sleep(PAUSE);
            let began = Instant::now();
            stream.write_all(b"GET / HTTP/1.1\r\nho").expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            assert_eq!(status(&answer), 408, "{answer}");
            began.elapsed()
        };
        let connect = || {
            let stream = TcpStream::connect(address).expect("connects");
            stream.set_read_timeout(Some(PATIENCE)).expect("set");
            stream
        };
        let first = time_left(connect());
        assert!(first < PAUSE, "{driver}: {first:?}");

        let mut kept = connect();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        kept.write_all(request).expect("sent");
        let mut answer = [0; 1024];
        let len = kept.read(&mut answer).expect("an answer");
        assert!(answer[..len].ends_with(b"ok"), "it came in one piece");
        let later = time_left(kept);
        assert!(later > PAUSE && later < LIMIT * 2, "{driver}: {later:?}");
    }
}

/// A pause within a body is a pause too long only while nothing comes back, and never for gRPC.
#[test]
fn a_client_that_stalls_within_its_body_is_told_so() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while let Some((path, _)) = connection.head() {
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
                if path == "/early" {
                    connection.send(head);
                }
                if connection.body(4).len() < 4 {
                    return;
                }
                if path != "/early" {
                    connection.send(head);
                }
                connection.send("ok");
            }
        });
        let (proxy, address) = start(driver, upstream.address, "requestBodyIdleTimeout: 1500ms");
        let begin = |path: &str, headers: &str| {
            let mut stream = TcpStream::connect(address).expect("connects");
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
                 content-length: 4\r\n{headers}\r\nab"
            );
            stream.write_all(head.as_bytes()).expect("sent");
            let arrived = || upstream.heads().iter().any(|head| head.contains(path));
            until("the request upstream", arrived);
            stream
        };
        let rest = |mut stream: TcpStream| {
            stream.write_all(b"cd").expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            answer
        };
        let mut early = begin("/early", "");
        let mut first = [0; 1];
        early.read_exact(&mut first).expect("the response begins");
        let call = begin("/call", "content-type: application/grpc\r\n");

        let (answer, _) = converse(
            address,
            &[b"POST /stalled HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab"],
        );
        assert_eq!(status(&answer), 408, "{driver}: {answer}");
        assert!(answer.ends_with("stream timeout"), "{answer}");
        let stat = |name: &str| listener_stat(&proxy, address, name);
        until_equal("bodies that were cut", 1, || {
            stat("downstream_rq_idle_timeout")
        });
        proxy.until_metrics("response_flags=\"SI\"");

        // Both have paused for longer than the one that was cut.
        assert!(rest(early).ends_with("ok"));
        assert_eq!(status(&rest(call)), 200);
        assert_eq!(stat("downstream_rq_idle_timeout"), 1);
    }
}

#[test]
fn idle_connections_are_closed_and_connections_are_counted() {
    for driver in DRIVERS {
        let upstream = answering();
        let limits = "downstreamIdleTimeout: 200ms";
        let (proxy, address) = start(driver, upstream.address, limits);
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let (answer, _) = converse(address, &[request]);
        assert!(answer.ends_with("ok"), "{answer}");
        until_equal("idle connections", 1, || {
            listener_stat(&proxy, address, "downstream_cx_idle_timeout")
        });

        let limits = "maxDownstreamConnections: 2";
        let (proxy, address) = start(driver, upstream.address, limits);
        let refused = || listener_stat(&proxy, address, "downstream_cx_overflow");
        let mut kept = [(); 2].map(|()| Client::connect(address).expect("connects"));
        for client in &mut kept {
            let answer = client.send("GET", "a", "/").expect("an answer");
            assert_eq!(answer.status, 200);
        }
        assert_eq!(refused(), 0);
        let third = Client::connect(address).and_then(|mut client| client.send("GET", "a", "/"));
        assert!(third.is_err(), "{third:?}");
        until_equal("connections over the limit", 1, refused);
        assert_eq!(kept[0].send("GET", "a", "/").expect("goes on").status, 200);
    }
}

#[test]
fn connections_above_the_limit_do_not_cost_those_below_it() {
    for driver in DRIVERS {
        let upstream = answering();
        let (proxy, address) = start(driver, upstream.address, "maxDownstreamConnections: 5");
        for round in 0..30 {
            let clients: Vec<Client> = (0..6)
                .map(|_| Client::connect(address).expect("connects"))
                .collect();
            let served = clients
                .into_iter()
                .map(|mut client| client.send("GET", "a", "/").map(|_| client))
                .filter_map(Result::ok)
                .collect::<Vec<_>>();
            assert_eq!(served.len(), 5, "{driver}, round {round}");
            drop(served);
            until_equal("connections", 0, || {
                listener_stat(&proxy, address, "downstream_cx_active")
            });
        }
    }
}

/// A client of HTTP/2 needs few connections to make the proxy open many.
#[test]
fn many_streams_leave_descriptors_to_others() {
    for driver in DRIVERS {
        let silent = ScriptedUpstream::start(|connection| while connection.head().is_some() {});
        let address = free_address();
        let answering = "  http:\n  - match: [{uri: {exact: /ours}}]\n    \
            directResponse: {status: 201}\n";
        let rules = splitting(&[(silent.address, 1)]).replace("  http:\n", answering);
        let config = folder(&[("gate.yaml", &gateway(address)), ("split.yaml", &rules)]);
        let args = ["--driver", driver, "--workers", "2"];
        let proxy = Proxy::start_with_open_files(128, config, &args);
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/never"),
            (":authority", "a"),
        ] {
            literal(&mut block, name, value);
        }
        let mut greedy: Vec<FrameClient> = (0..3)
            .map(|_| {
                let mut client = FrameClient::connect(address, &[]);
                for at in 0..90 {
                    client.send(&frame(HEADERS, END_HEADERS, 2 * at + 1, &block));
                }
                client
            })
            .collect();
        let sum_of = |name: &str| -> u64 {
            let stats = proxy.admin(&format!("/stats?filter={name}")).body;
            let figures = stats.lines().filter_map(|line| line.rsplit(' ').next());
            figures
                .filter_map(|figure| figure.parse::<u64>().ok())
                .sum()
        };
        until("an overflow", || sum_of("upstream_cx_overflow") > 100);
        // Others are answered, and the endpoint is not blamed.
        for _ in 0..4 {
            let answer = harness::try_send(address, "GET", "a", "/ours").expect("an answer");
            assert_eq!(answer.status, 201);
        }
        assert_eq!(proxy.admin("/ready").status, 200);
        assert_eq!(sum_of("upstream_cx_connect_fail"), 0);
        let refused = greedy[2].until("a refusal", |frame| frame.kind == HEADERS);
        assert!(refused.stream > 0);
    }
}

/// More connections than descriptors, as the limit has become lower since the start: some wait, none
/// kills the proxy, and it recovers.
#[test]
fn running_out_of_descriptors_passes() {
    for driver in DRIVERS {
        let upstream = answering();
        let address = free_address();
        let rules = splitting(&[(upstream.address, 1)]);
        let mut proxy = Proxy::start(folder(&[("split.yaml", &rules)]), &["--driver", driver]);
        // Kept before the crowd comes, so that it can still be asked.
        let mut admin = Client::connect(proxy.admin).expect("connects");
        let mut page = |target: &str| admin.send("GET", "localhost", target).expect("an answer");
        assert_eq!(page("/ready").status, 200);
        // Before the listener comes: io_uring keeps the limit that held when it began to accept.
        proxy.allow_open_files_beyond_present(6);
        proxy.put("gate.yaml", &gateway(address));
        until("the listener", || TcpStream::connect(address).is_ok());
        let crowd = [address; 10].map(|address| TcpStream::connect(address).expect("connects"));
        proxy.until_logged("Too many open files");
        assert_eq!(page("/ready").status, 200);
        drop(crowd);
        until("an answer", || {
            harness::try_send(address, "GET", "a", "/").is_ok_and(|answer| answer.status == 200)
        });
        assert!(proxy.is_running());
        let stats = page("/stats").body;
        let counted = |line: &str| line.contains(".accept_errors: ") && !line.ends_with(": 0");
        assert!(stats.lines().any(counted), "{stats}");
        let lines = proxy.log().matches("Too many open files").count();
        assert!(lines < 20, "{lines} lines about one thing");
    }
}

#[test]
fn a_flood_of_interim_responses_ends_in_502() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            connection.head();
            let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(100);
            for _ in 0..10_000 {
                if connection.stream.write_all(hint.as_bytes()).is_err() {
                    return;
                }
            }
        });
        let (_proxy, address) = start(driver, upstream.address, "maxInterimResponses: 5");
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let (answer, _) = converse(address, &[request]);
        assert_eq!(answer.matches(" 103 ").count(), 5, "{answer}");
        assert_eq!(answer.matches(" 502 ").count(), 1, "{answer}");
    }
}

#[test]
fn a_slow_reader_holds_its_sender_back() {
    for driver in DRIVERS {
        const LEN: usize = 64 << 20;
        let upstream = ScriptedUpstream::start(|connection| {
            connection.head();
            connection.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {LEN}\r\n\r\n"));
            connection.send(vec![b'x'; LEN]);
        });
        let (proxy, address) = start(driver, upstream.address, "");
        let mut client = TcpStream::connect(address).expect("connects");
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        client.write_all(request).expect("is sent");
        // Until the proxy takes no more from the upstream, because its client takes nothing.
        until("the request", || upstream.heads().len() == 1);
        let resident = proxy.resident_bytes_at_rest(Duration::from_millis(500));
        assert!(resident < 48 << 20, "{resident} bytes resident");
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("is read");
        assert!(all.len() > LEN);
        assert!(all.ends_with(&[b'x'; 1000]));
    }
}

#[test]
fn nothing_is_allocated_per_request_in_the_steady_state() {
    for driver in DRIVERS {
        let upstream = answering();
        let (proxy, address) = start(driver, upstream.address, "");
        let mut clients: Vec<Client> = (0..8)
            .map(|_| Client::connect(address).expect("connects"))
            .collect();
        let mut requests = |count: usize| {
            for _ in 0..count / clients.len() {
                for client in &mut clients {
                    client.send("GET", "a.test", "/").expect("an answer");
                }
            }
        };
        let allocations =
            || proxy.stat("worker_0.allocations") + proxy.stat("worker_1.allocations");
        // Each worker publishes the figure once a second, with the number of turns beside it.
        let settled = || {
            for worker in ["worker_0", "worker_1"] {
                let turns = || proxy.stat(&format!("{worker}.loop_turns"));
                let before = turns();
                until("fresh figures", || turns() > before);
            }
            allocations()
        };
        requests(4_000);
        let before = settled();
        requests(10_000);
        let after = settled();
        // One allocation in a hundred requests would show. The rest is allowed for what does not
        // come with requests, such as the sweep of each second.
        assert!(after - before < 100, "{} allocations", after - before);
    }
}

/// Bodies are kept for another try; when that takes the buffers that answers need, they are let go,
/// and clients that leave are noticed although nothing can be received from them.
#[test]
fn uploads_that_take_all_receive_buffers_hold_nobody_for_ever() {
    const BODY_BYTES: usize = 300_000;
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while let Some((path, _)) = connection.head() {
                let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
                if path == "/upload" {
                    let body = connection.body(BODY_BYTES);
                    answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len())
                        .into_bytes();
                    answer.extend_from_slice(&body);
                }
                connection.send(answer);
            }
        });
        let (proxy, address) = start(driver, upstream.address, "maxReceiveBuffers: 64");
        let patient = |patience_ms| {
            let client = TcpStream::connect(address).expect("connects");
            let patience = Some(Duration::from_millis(patience_ms));
            client.set_read_timeout(patience).expect("set");
            client.set_write_timeout(patience).expect("set");
            client
        };
        let uploads = (0..120).map(|_| {
            let mut client = patient(2_000);
            std::thread::spawn(move || {
                let head = format!(
                    "POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: {BODY_BYTES}\r\n\r\n"
                );
                let _ = client.write_all(head.as_bytes());
                let _ = client.write_all(&vec![b'x'; BODY_BYTES]);
                let _ = client.read(&mut [0; 12]);
            })
        });
        for upload in uploads.collect::<Vec<_>>() {
            upload.join().expect("ends");
        }
        until("a request of somebody else to be answered", || {
            let mut client = patient(1_000);
            let asked = client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            let mut answer = String::new();
            asked.is_ok() && client.read_to_string(&mut answer).is_ok() && answer.ends_with("ok")
        });
        until("nobody to be held", || {
            listener_stat(&proxy, address, "downstream_cx_active") == 0
        });
    }
}
