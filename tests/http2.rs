//! Clients that speak HTTP/2, on both drivers. They are the `h2` crate's, on threads of their own.

mod harness;

use harness::frames::{FrameClient, get_frame};
use harness::http2::{client, eventually, exchange, read_all, request, send_all};
use harness::raw::ScriptedUpstream;
use harness::{
    DRIVERS, Proxy, folder, free_address, gateway, settings, splitting, until, until_equal,
};
use http::{HeaderMap, Method, StatusCode};
use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::time::Duration;

fn start(driver: &str, upstream: SocketAddr) -> (Proxy, SocketAddr) {
    start_with(driver, upstream, "{role: gateway}")
}

fn start_with(driver: &str, upstream: SocketAddr, spec: &str) -> (Proxy, SocketAddr) {
    let address = free_address();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("settings.yaml", &settings(spec)),
        ("split.yaml", &splitting(&[(upstream, 1)])),
    ]);
    let args = ["--driver", driver, "--workers", "1"];
    (Proxy::start_with_workers(config, &args), address)
}

/// Answers with the body it got, in chunks with a trailer when the path says so.
fn echo() -> ScriptedUpstream {
    ScriptedUpstream::start(|connection| {
        while let Some((path, head)) = connection.head() {
            let head = head.to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let body = match length {
                Some(length) => connection.body(length),
                None if head.contains("transfer-encoding: chunked") => connection.chunks(),
                None => Vec::new(),
            };
            if path == "/interim" {
                connection.send("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
            }
            if path == "/trailers" {
                connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                connection.send(format!("{:x}\r\n", body.len()));
                connection.send(&body);
                connection.send("\r\n0\r\nx-sum: 42\r\n\r\n");
                continue;
            }
            if path == "/broken" {
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
                return;
            }
            let length = body.len();
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"
            ));
            connection.send(body);
        }
    })
}

#[test]
fn requests_reach_an_http1_upstream_and_their_answers_return() {
    for driver in DRIVERS {
        let upstream = echo();
        let (proxy, address) = start(driver, upstream.address);
        client(address, |mut send| async move {
            let mut get = request(Method::GET, "/a?b=c");
            let headers = get.headers_mut();
            headers.append("cookie", "a=1".parse().unwrap());
            headers.append("cookie", "b=2".parse().unwrap());
            headers.append("x-many", "1".parse().unwrap());
            headers.append("x-many", "2".parse().unwrap());
            let (answer, body, _) = exchange(&mut send, get, None, None).await.unwrap();
            assert_eq!((answer.status(), body.len()), (StatusCode::OK, 0));
            assert_eq!(answer.headers()["server"], "istio-envoy");
            assert!(answer.headers().get("connection").is_none());

            // Longer than any window, with and without a length.
            let long: Vec<u8> = (0..600_000u32).flat_map(u32::to_be_bytes).collect();
            let post = request(Method::POST, "/upload");
            let (_, body, _) = exchange(&mut send, post, Some(&long), None).await.unwrap();
            assert!(body == long);
            let mut post = request(Method::POST, "/upload");
            let length = long.len().into();
            post.headers_mut().insert("content-length", length);
            let (_, body, _) = exchange(&mut send, post, Some(&long), None).await.unwrap();
            assert!(body == long);

            let head = request(Method::HEAD, "/");
            let (answer, body, _) = exchange(&mut send, head, None, None).await.unwrap();
            assert_eq!((answer.status(), body.len()), (StatusCode::OK, 0));
        });
        let heads = upstream.heads();
        let first = heads[0].to_ascii_lowercase();
        assert!(
            first.starts_with("get /a?b=c http/1.1\r\nhost: shop.test\r\n"),
            "{first}"
        );
        for line in [
            "cookie: a=1; b=2\r\n",
            "x-many: 1\r\nx-many: 2\r\n",
            "x-forwarded-for: 127.0.0.1\r\n",
        ] {
            assert!(first.contains(line), "{line} in {first}");
        }
        for (name, count) in [
            ("downstream_cx_http2_total", 1),
            ("downstream_rq_http2_total", 4),
            ("downstream_rq_total", 4),
        ] {
            let listener = format!("http.127.0.0.1_{}", address.port());
            proxy.until_stat(&format!("{listener}.{name}"), count);
        }
    }
}

#[test]
fn trailers_and_interim_responses_pass() {
    for driver in DRIVERS {
        let upstream = echo();
        let (_proxy, address) = start(driver, upstream.address);
        client(address, |mut send| async move {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", "7".parse().unwrap());
            let post = request(Method::POST, "/trailers");
            let answer = exchange(&mut send, post, Some(b"body"), Some(trailers)).await;
            let (_, body, trailers) = answer.unwrap();
            assert_eq!(body, b"body");
            assert_eq!(trailers.expect("trailers")["x-sum"], "42");

            let mut ready = send.clone().ready().await.unwrap();
            let (mut response, _) = ready
                .send_request(request(Method::GET, "/interim"), true)
                .unwrap();
            let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
            let interim = interim.expect("an interim response").unwrap();
            assert_eq!(interim.status().as_u16(), 103);
            assert_eq!(interim.headers()["link"], "</a.css>");
            assert_eq!(response.await.unwrap().status(), StatusCode::OK);
        });
        let heads = upstream.heads();
        assert!(
            heads[0].contains("transfer-encoding: chunked\r\n"),
            "{}",
            heads[0]
        );
    }
}

/// What the limits allow on HTTP/1.1 is not refused on its way to HTTP/2.
#[test]
fn a_trailer_section_within_raised_limits_is_not_broken_off() {
    const TRAILERS: usize = 200;
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                let extension = "x".repeat(8000);
                let lines: String = (0..TRAILERS)
                    .map(|at| format!("x-{at}: {at}\r\n"))
                    .collect();
                connection.send(format!(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                     2;{extension}\r\nok\r\n0\r\n{lines}\r\n"
                ));
            }
        });
        let limits = "{role: gateway, limits: {maxHeaders: 300, maxChunkExtensionBytes: 10000}}";
        let (_proxy, address) = start_with(driver, upstream.address, limits);
        client(address, |mut send| async move {
            let get = request(Method::GET, "/");
            let (_, body, trailers) = exchange(&mut send, get, None, None).await.unwrap();
            let trailers = trailers.expect("trailers");
            assert_eq!((body.as_slice(), trailers.len()), (&b"ok"[..], TRAILERS));
        });
    }
}

#[test]
fn a_stream_that_its_client_resets_is_no_lost_connection() {
    for driver in DRIVERS {
        let slow = ScriptedUpstream::start(|connection| {
            while let Some((path, _)) = connection.head() {
                match path.as_str() {
                    "/never" => {}
                    "/begun" => connection.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1"),
                    _ => connection.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
                }
            }
        });
        let (proxy, address) = start(driver, slow.address);
        let stat = |name: &str| proxy.stat(&format!("http.127.0.0.1_{}.{name}", address.port()));
        client(address, |send| async move {
            let mut resets = 0;
            for path in ["/never", "/begun"] {
                for is_whole in [true, false] {
                    let mut send = send.clone().ready().await.unwrap();
                    let method = if is_whole { Method::GET } else { Method::POST };
                    let sent = send.send_request(request(method, path), is_whole);
                    let (mut answer, mut out) = sent.unwrap();
                    eventually("the request", || slow.heads().len() == resets + 1).await;
                    if path == "/begun" {
                        (&mut answer).await.expect("a head");
                    }
                    out.send_reset(h2::Reason::CANCEL);
                    resets += 1;
                    let reset = || stat("downstream_rq_rx_reset") == resets as u64;
                    eventually("the reset", reset).await;
                }
            }
            assert_eq!(stat("downstream_cx_active"), 1);
            assert_eq!(stat("downstream_cx_destroy_remote_active_rq"), 0);
        });
        proxy.until_metrics("response_flags=\"DR\"");
    }
}

#[test]
fn streams_share_a_connection_and_do_not_wait_for_each_other() {
    for driver in DRIVERS {
        let slow = ScriptedUpstream::start(|connection| {
            while let Some((path, _)) = connection.head() {
                if path != "/never" {
                    connection.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                }
            }
        });
        let (proxy, address) = start(driver, slow.address);
        let heads = &slow;
        client(address, |send| async move {
            let mut first = send.clone().ready().await.unwrap();
            let (waiting, _out) = first
                .send_request(request(Method::GET, "/never"), true)
                .unwrap();
            let mut answers = Vec::new();
            for _ in 0..50 {
                let mut send = send.clone();
                answers.push(tokio::spawn(async move {
                    exchange(&mut send, request(Method::GET, "/"), None, None).await
                }));
            }
            for answer in answers {
                assert_eq!(answer.await.unwrap().unwrap().0.status(), StatusCode::OK);
            }
            eventually("all requests", || heads.heads().len() == 51).await;
            drop(waiting);
            // A stream that its client gives up gives its upstream up.
        });
        let stat = |name: &str| proxy.stat(&format!("http.127.0.0.1_{}.{name}", address.port()));
        until("the end of the requests", || {
            stat("downstream_rq_active") == 0
        });
        assert_eq!(stat("downstream_cx_total"), 1);
    }
}

#[test]
fn a_broken_answer_resets_its_stream_and_no_other() {
    for driver in DRIVERS {
        let upstream = echo();
        let (_proxy, address) = start(driver, upstream.address);
        client(address, |mut send| async move {
            let broken = exchange(&mut send, request(Method::GET, "/broken"), None, None).await;
            assert!(broken.expect_err("is reset").is_reset());
            let answer = exchange(&mut send, request(Method::GET, "/"), None, None).await;
            assert_eq!(answer.unwrap().0.status(), StatusCode::OK);
        });
    }
}

/// What of the request nobody has read must not make the stream end as one that was served.
#[test]
fn a_broken_answer_resets_its_stream_while_the_request_is_still_coming() {
    /// For the end of the upstream to be noticed; less time makes the test say less.
    const UNTIL_SEEN: Duration = Duration::from_millis(300);
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            connection.head();
            // More than the client takes before it reads.
            let piece = format!("{:x}\r\n{}\r\n", 300_000, "a".repeat(300_000));
            connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            connection.send(piece);
            std::thread::sleep(UNTIL_SEEN);
        });
        let (_proxy, address) = start(driver, upstream.address);
        client(address, |send| async move {
            let mut ready = send.ready().await.unwrap();
            let posted = request(Method::POST, "/");
            let (response, mut out) = ready.send_request(posted, false).unwrap();
            tokio::spawn(async move {
                // It ends with the stream.
                let _ = send_all(&mut out, &vec![b'a'; 32 << 20], false).await;
            });
            let mut incoming = response.await.unwrap().into_body();
            tokio::time::sleep(2 * UNTIL_SEEN).await;
            let rest = read_all(&mut incoming).await.map(|rest| rest.len());
            assert!(rest.expect_err("is reset").is_reset(), "{driver}");
        });
    }
}

#[test]
fn a_drain_lets_streams_finish_and_says_goodbye() {
    for driver in DRIVERS {
        let upstream = harness::Upstream::start("late");
        upstream.close_gate();
        let (mut proxy, address) = start(driver, upstream.address);
        let gate = &upstream;
        let process = &mut proxy;
        client(address, |mut send| async move {
            let get = request(Method::GET, "/");
            let answer = exchange(&mut send, get, None, None);
            let mut answer = std::pin::pin!(answer);
            let asked = eventually("the request", || gate.requests() == 1);
            tokio::select! {
                _ = &mut answer => panic!("the gate is closed"),
                () = asked => {}
            }
            process.signal(libc::SIGTERM);
            until("the drain", || process.log().contains("drain"));
            gate.open_gate();
            assert_eq!(answer.await.unwrap().1, b"late");
        });
        assert!(proxy.wait().success());
    }
}

#[test]
fn a_client_that_resets_and_resets_is_told_to_be_calm() {
    for driver in DRIVERS {
        let upstream = harness::Upstream::start("late");
        upstream.close_gate();
        let (proxy, address) = start(driver, upstream.address);
        client(address, |mut send| async move {
            for _ in 0..10_000 {
                let Ok(mut ready) = send.clone().ready().await else {
                    break;
                };
                let Ok((_, mut out)) = ready.send_request(request(Method::GET, "/"), true) else {
                    break;
                };
                out.send_reset(h2::Reason::CANCEL);
                tokio::task::yield_now().await;
                send = ready;
            }
        });
        upstream.open_gate();
        // Others are served all the while.
        assert_eq!(harness::get(address, "a.test", "/").status, 200);
        let stat = |name: &str| proxy.stat(&format!("http.127.0.0.1_{}.{name}", address.port()));
        until("no request in flight", || stat("downstream_rq_active") == 0);
    }
}

/// A stream whose body pauses for too long is answered; others on the connection go on.
#[test]
fn a_stream_that_stalls_within_its_body_is_told_so() {
    for driver in DRIVERS {
        let upstream = echo();
        let spec = "{role: gateway, limits: {requestBodyIdleTimeout: 300ms}}";
        let (proxy, address) = start_with(driver, upstream.address, spec);
        client(address, |mut send| async move {
            let mut ready = send.clone().ready().await.expect("ready");
            let mut post = request(Method::POST, "/stalls");
            post.headers_mut().insert("content-length", 4.into());
            let (answer, mut out) = ready.send_request(post, false).expect("sent");
            out.send_data("ab".into(), false).expect("sent");
            let answer = answer.await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
            let get = request(Method::GET, "/");
            let (answer, ..) = exchange(&mut send, get, None, None).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
        });
        let stat = |name: &str| proxy.stat(&format!("http.127.0.0.1_{}.{name}", address.port()));
        until_equal("streams that were cut", 1, || {
            stat("downstream_rq_idle_timeout")
        });
    }
}

/// Answers that are there at the same time leave in the same write.
#[test]
fn many_streams_are_answered_in_one_write() {
    const STREAMS: u32 = 90;
    for driver in DRIVERS {
        // An upstream that answers when it is told to, and a route that needs none.
        let told = Arc::new(Barrier::new(STREAMS as usize + 1));
        let gate = Arc::clone(&told);
        let upstream = ScriptedUpstream::start(move |connection| {
            while connection.head().is_some() {
                gate.wait();
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                gate.wait();
            }
        });
        let address = free_address();
        let routes = splitting(&[(upstream.address, 1)]).replace(
            "  http:\n",
            "  http:\n  - match: [{uri: {exact: /here}}]\n    \
             directResponse: {status: 200, body: {string: here}}\n",
        );
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("settings.yaml", &settings("{role: gateway}")),
            ("routes.yaml", &routes),
        ]);
        let args = ["--driver", driver, "--workers", "1"];
        let proxy = Proxy::start_with_workers(config, &args);
        for path in ["/here", "/upstream"] {
            let mut client = FrameClient::connect(address, &[]);
            client.settle();
            let before = proxy.stat("http2.tx_writes");
            let stream = |at: u32| 1 + 2 * at;
            let asked: Vec<u8> = (0..STREAMS)
                .flat_map(|at| get_frame(stream(at), path))
                .collect();
            client.send(&asked);
            if path == "/upstream" {
                until("all requests", || {
                    upstream.heads().len() == STREAMS as usize
                });
                // The proxy finds all answers at once.
                proxy.stop();
                told.wait();
                told.wait();
                proxy.signal(libc::SIGCONT);
            }
            let mut answered = 0;
            client.until("all answers", |frame| {
                answered += u32::from(frame.stream > 0 && frame.ends_stream());
                answered == STREAMS
            });
            let writes = proxy.stat("http2.tx_writes") - before;
            println!("{STREAMS} answers of {path}, {driver}: {writes} writes");
            assert!(writes >= 1, "nothing was counted");
            // Some more for the acknowledgement of SETTINGS and the like.
            assert!(writes <= 5, "{path}, {driver}: {writes}");
        }
    }
}
