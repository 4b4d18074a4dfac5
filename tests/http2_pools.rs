//! Connections to upstreams that speak HTTP/2: how requests share them, and when they end.

mod harness;

use h2::Reason;
use h2::server::Builder;
use harness::http2::{Call, Gate, Http2Upstream, client, eventually, exchange, request};
use harness::pool::{
    ANY, cluster_stat, over_http2, pool, start_edited_http2_pool, start_http2_pool,
    until_cluster_stat,
};
use harness::{Client, DRIVERS, free_address, get, until};
use http::{Method, StatusCode};
use std::io::Write as _;
use std::pin::Pin;
use std::time::Duration;

/// Answers with nothing but 200.
async fn fine(mut call: Call) {
    call.answer(b"", None).await;
}

/// Answers `/first` at once, all else when the gate is open.
fn gated(gate: &Gate) -> impl Fn(Call) -> Pin<Box<dyn Future<Output = ()> + Send>> + use<> {
    let gate = gate.clone();
    move |mut call| {
        let gate = gate.clone();
        Box::pin(async move {
            if call.path() != "/first" {
                gate.passed().await;
            }
            call.answer(b"late", None).await;
        })
    }
}

#[test]
fn streams_share_connections_up_to_what_the_peer_and_the_rule_allow() {
    for driver in DRIVERS {
        for (peers_most, http, most) in [
            (7, ANY, 7),
            (100, "maxConcurrentStreams: 3", 3),
            (2, "maxConcurrentStreams: 3", 2),
        ] {
            let mut builder = Builder::new();
            builder.max_concurrent_streams(peers_most);
            let gate = Gate::closed();
            let upstream = Http2Upstream::start_with(builder, gated(&gate));
            let (proxy, address) = start_http2_pool(driver, &[upstream.address], http);
            assert_eq!(get(address, "a", "/first").status, 200);
            let asked = &upstream;
            client(address, |send| async move {
                let mut answers = Vec::new();
                for _ in 0..20 {
                    let mut send = send.clone();
                    answers.push(tokio::spawn(async move {
                        exchange(&mut send, request(Method::GET, "/"), None, None).await
                    }));
                }
                eventually("all requests", || asked.requests() == 21).await;
                gate.open();
                for answer in answers {
                    let answer = answer.await.unwrap().unwrap();
                    assert_eq!(
                        (answer.0.status(), answer.1),
                        (StatusCode::OK, b"late".to_vec())
                    );
                }
            });
            let seen = upstream
                .seen
                .most_streams
                .load(std::sync::atomic::Ordering::SeqCst);
            assert_eq!(seen, most, "{http}");
            let connections = upstream.connections();
            assert!(connections >= 20 / most, "{connections} for {http}");
            until_cluster_stat(&proxy, "upstream_cx_active", connections as u64);
            until_cluster_stat(&proxy, "upstream_rq_pending_active", 0);
        }
    }
}

#[test]
fn a_limit_on_connections_lets_requests_wait_for_streams() {
    for driver in DRIVERS {
        let mut builder = Builder::new();
        builder.max_concurrent_streams(2);
        let gate = Gate::closed();
        let upstream = Http2Upstream::start_with(builder, gated(&gate));
        let limit = |text: String| {
            text.replace(
                "connectionPool: {",
                "connectionPool: {tcp: {maxConnections: 1}, ",
            )
        };
        let (proxy, address) = start_edited_http2_pool(driver, &[upstream.address], ANY, limit);
        let running = &proxy;
        client(address, |send| async move {
            let mut answers = Vec::new();
            for _ in 0..30 {
                let mut send = send.clone();
                answers.push(tokio::spawn(async move {
                    exchange(&mut send, request(Method::GET, "/"), None, None).await
                }));
            }
            let waiting = || cluster_stat(running, "upstream_rq_pending_active");
            eventually("all but two to wait", || waiting() == 28).await;
            gate.open();
            for answer in answers {
                assert_eq!(answer.await.unwrap().unwrap().0.status(), StatusCode::OK);
            }
        });
        assert_eq!(upstream.connections(), 1);
        assert_eq!(cluster_stat(&proxy, "upstream_cx_total"), 1);
        assert!(cluster_stat(&proxy, "upstream_cx_overflow") > 0);
    }
}

#[test]
fn active_requests_are_limited_and_requests_of_a_connection_are_counted() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(|mut call| async move {
            match call.path().as_str() {
                "/wait" => call.wait_for_reset().await,
                _ => call.answer(b"", None).await,
            }
        });
        let http = "http2MaxRequests: 1, maxRequestsPerConnection: 3";
        let (proxy, address) = start_http2_pool(driver, &[upstream.address], http);
        for _ in 0..7 {
            assert_eq!(get(address, "a", "/").status, 200);
        }
        assert_eq!(upstream.connections(), 3);
        until_cluster_stat(&proxy, "upstream_cx_max_requests", 2);
        until("the retired connections", || {
            upstream.open_connections() == 1
        });

        let mut waiting = Client::connect(address).expect("connects");
        waiting.start("GET", "a", "/wait").expect("sent");
        until("the request", || upstream.requests() == 8);
        let refused = get(address, "a", "/");
        assert_eq!(refused.status, 503);
        assert_eq!(refused.header("x-envoy-overloaded"), Some("true"));
        drop(waiting);
        until("the cancellation", || upstream.resets() == [Reason::CANCEL]);
        until("the end of the request", || {
            cluster_stat(&proxy, "upstream_rq_active") == 0
        });
        assert_eq!(get(address, "a", "/").status, 200);
    }
}

#[test]
fn a_goodbye_lets_streams_finish_and_takes_no_more() {
    for driver in DRIVERS {
        let gate = Gate::closed();
        let waiting = gate.clone();
        let upstream = Http2Upstream::start(move |mut call| {
            let gate = waiting.clone();
            async move {
                if call.path() == "/last" {
                    call.say_goodbye();
                    gate.passed().await;
                }
                let number = call.connection.to_string();
                call.answer(number.as_bytes(), None).await;
            }
        });
        let (proxy, address) = start_http2_pool(driver, &[upstream.address], ANY);
        let mut last = Client::connect(address).expect("connects");
        last.start("GET", "a", "/last").expect("sent");
        until("the last request", || upstream.requests() == 1);
        // Sent before or after the goodbye has arrived, each request is answered once.
        for _ in 0..20 {
            assert_eq!(get(address, "a", "/").status, 200);
        }
        gate.open();
        assert_eq!(last.answer().expect("an answer").body, "0");
        assert_eq!(get(address, "a", "/").body, "1");
        assert_eq!(upstream.requests(), 22);
        until("the end of the first", || upstream.open_connections() == 1);
        until_cluster_stat(&proxy, "upstream_cx_active", 1);
    }
}

#[test]
fn a_connection_that_answers_no_ping_is_replaced() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(|mut call| async move {
            match call.path().as_str() {
                "/freeze" => {
                    call.freeze_connection();
                    std::future::pending::<()>().await;
                }
                _ => call.answer(b"fine", None).await,
            }
        });
        let http = "http2KeepAlive: {interval: 50ms, timeout: 3s}";
        let (proxy, address) = start_http2_pool(driver, &[upstream.address], http);
        assert_eq!(get(address, "a", "/").status, 200);
        // Answered PINGs keep it. Time is what is tested: without answers it were over by then.
        std::thread::sleep(Duration::from_millis(3500));
        assert_eq!(get(address, "a", "/").status, 200);
        assert_eq!(upstream.connections(), 1);
        // A GET would be sent once more, on another connection.
        let mut client = Client::connect(address).expect("connects");
        let answer = client.send("POST", "a", "/freeze").expect("an answer");
        assert_eq!(answer.status, 503);
        until_cluster_stat(&proxy, "http2_keepalive_timeout", 1);
        assert_eq!(get(address, "a", "/").body, "fine");
        assert_eq!(upstream.connections(), 2);
    }
}

#[test]
fn idle_connections_are_closed() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(fine);
        let (proxy, address) = start_http2_pool(driver, &[upstream.address], "idleTimeout: 200ms");
        assert_eq!(get(address, "a", "/").status, 200);
        until("the end of the connection", || {
            upstream.open_connections() == 0
        });
        until_cluster_stat(&proxy, "upstream_cx_idle_timeout", 1);
        until_cluster_stat(&proxy, "upstream_cx_active", 0);
        assert_eq!(get(address, "a", "/").status, 200);
    }
}

#[test]
fn a_removed_endpoint_loses_its_connection() {
    for driver in DRIVERS {
        let (one, other) = (Http2Upstream::start(fine), Http2Upstream::start(fine));
        let (proxy, address) = start_http2_pool(driver, &[one.address], ANY);
        assert_eq!(get(address, "a", "/").status, 200);
        assert_eq!(one.open_connections(), 1);
        proxy.put("pool.yaml", &over_http2(&pool(&[other.address], "")));
        until("the other upstream", || {
            assert_eq!(get(address, "a", "/").status, 200);
            other.requests() > 0
        });
        until("the end of the connection", || one.open_connections() == 0);
    }
}

#[test]
fn what_cannot_be_connected_to_fails_all_that_wait() {
    for driver in DRIVERS {
        let nobody = free_address();
        let (proxy, address) = start_http2_pool(driver, &[nobody], ANY);
        client(address, |send| async move {
            let mut answers = Vec::new();
            for _ in 0..10 {
                let mut send = send.clone();
                answers.push(tokio::spawn(async move {
                    exchange(&mut send, request(Method::GET, "/"), None, None).await
                }));
            }
            for answer in answers {
                let (answer, ..) = answer.await.unwrap().unwrap();
                assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            }
        });
        assert!(cluster_stat(&proxy, "upstream_cx_connect_fail") >= 1);
        until_cluster_stat(&proxy, "upstream_cx_active", 0);
        until_cluster_stat(&proxy, "upstream_rq_pending_active", 0);
    }
}

#[test]
fn a_reader_who_stops_does_not_stop_others_and_costs_little() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(|mut call| async move {
            let bytes = match call.path().as_str() {
                "/endless" => 20 << 20,
                _ => 1 << 20,
            };
            call.answer(&vec![b'x'; bytes], None).await;
        });
        let (proxy, address) = start_http2_pool(driver, &[upstream.address], ANY);
        assert_eq!(get(address, "a", "/").body.len(), 1 << 20);
        let before = proxy.resident_bytes();
        // Clients that ask and never read.
        let mut stalled = Vec::new();
        for _ in 0..60 {
            let mut client = Client::connect(address).expect("connects");
            client.start("GET", "a", "/endless").expect("sent");
            stalled.push(client);
        }
        until("the requests", || upstream.requests() == 61);
        for _ in 0..10 {
            assert_eq!(get(address, "a", "/").body.len(), 1 << 20);
        }
        let grown = proxy.resident_bytes().saturating_sub(before);
        assert!(grown < 60 << 20, "{grown} bytes");
        assert_eq!(upstream.connections(), 1);
    }
}

#[test]
fn an_upload_that_nobody_reads_is_not_collected() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(|mut call| async move {
            match call.path().as_str() {
                "/upload" => call.wait_for_reset().await,
                _ => call.answer(b"fine", None).await,
            }
        });
        let (proxy, address) = start_http2_pool(driver, &[upstream.address], ANY);
        assert_eq!(get(address, "a", "/").status, 200);
        let before = proxy.resident_bytes();
        let mut stream = std::net::TcpStream::connect(address).expect("connects");
        let head = "POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("sent");
        stream
            .set_write_timeout(Some(Duration::from_millis(500)))
            .expect("set");
        let piece = vec![0; 1 << 20];
        let mut sent = 0;
        while let Ok(len) = stream.write(&piece) {
            sent += len;
        }
        assert!(sent < 50_000_000, "{sent} bytes");
        let grown = proxy.resident_bytes().saturating_sub(before);
        assert!(grown < 20 << 20, "{grown} bytes");
        assert_eq!(get(address, "a", "/").status, 200);
    }
}

#[test]
fn a_drain_lets_streams_finish() {
    for driver in DRIVERS {
        let gate = Gate::closed();
        let upstream = Http2Upstream::start(gated(&gate));
        let (mut proxy, address) = start_http2_pool(driver, &[upstream.address], ANY);
        let mut slow = Client::connect(address).expect("connects");
        slow.start("GET", "a", "/slow").expect("sent");
        until("the request", || upstream.requests() == 1);
        proxy.signal(libc::SIGTERM);
        proxy.until_logged("drain");
        gate.open();
        assert_eq!(slow.answer().expect("an answer").body, "late");
        assert!(proxy.wait().success());
        until("the end of the connection", || {
            upstream.open_connections() == 0
        });
    }
}
