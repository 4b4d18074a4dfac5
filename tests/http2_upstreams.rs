//! Requests to upstreams that speak HTTP/2, by clients of both versions, on both drivers.

mod harness;

use h2::Reason;
use harness::http2::{
    Call, Http2Upstream, client, eventually, exchange, fields, ok_with, read_all, request, send_all,
};
use harness::pool::{
    ANY, cluster_stat, over_http2, pool, start_edited_http2_pool, start_http2_pool,
    until_cluster_stat,
};
use harness::raw::{End, converse};
use harness::{Client, DRIVERS, Proxy, folder, free_address, gateway, get, settings, until};
use http::{Method, StatusCode};
use std::io::Read as _;
use std::net::SocketAddr;
use std::time::Duration;

/// `h2` does not tell when a frame has left, and drops what waits when a stream or its connection
/// ends.
const UNTIL_SENT: Duration = Duration::from_millis(100);

/// Answers with the body it got; the path asks for more.
async fn echo(mut call: Call) {
    let path = call.path();
    let Ok(body) = read_all(&mut call.body).await else {
        return;
    };
    let trailers = call.body.trailers().await.ok().flatten();
    match path.as_str() {
        "/trailers" => {
            let sum = trailers.as_ref().and_then(|map| map.get("x-checksum"));
            let sum = sum.map_or("none", |sum| sum.to_str().expect("text"));
            let back = fields(&[("x-sum", sum), ("content-type", "dropped/here")]);
            call.answer(&body, Some(back)).await;
        }
        "/interim" => {
            let mut early = ok_with(&[("link", "</a.css>")]);
            *early.status_mut() = StatusCode::EARLY_HINTS;
            call.respond.send_informational(early).expect("is sent");
            call.answer(&body, None).await;
        }
        "/empty" => drop(call.start(ok_with(&[("x-empty", "yes")]), true)),
        "/length" => {
            let length = body.len().to_string();
            let mut out = call.start(ok_with(&[("content-length", &length)]), false);
            let _ = send_all(&mut out, &body, true).await;
        }
        "/no-content" => {
            let mut response = ok_with(&[]);
            *response.status_mut() = StatusCode::NO_CONTENT;
            call.start(response, true);
        }
        _ => call.answer(&body, None).await,
    }
}

#[test]
fn an_http1_client_reaches_an_http2_upstream() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(echo);
        let (proxy, address) = start_http2_pool(driver, &[upstream.address], ANY);
        let mut client = Client::connect(address).expect("connects");
        for _ in 0..50 {
            let answer = client
                .send("GET", "shop.test", "/a?b=c")
                .expect("an answer");
            assert_eq!((answer.status, answer.body.as_str()), (200, ""));
            assert_eq!(answer.header("server"), Some("istio-envoy"));
        }
        let head = upstream.heads().remove(0);
        assert_eq!(head.uri().to_string(), "http://shop.test/a?b=c");
        assert_eq!(head.headers()["x-forwarded-proto"], "http");
        assert_eq!(head.headers()["x-envoy-attempt-count"], "1");
        for gone in ["host", "connection", "transfer-encoding"] {
            assert!(!head.headers().contains_key(gone), "{gone}");
        }
        assert_eq!(upstream.connections(), 1);
        assert_eq!(cluster_stat(&proxy, "upstream_cx_http2_total"), 1);
        until_cluster_stat(&proxy, "upstream_cx_active", 1);
        until_cluster_stat(&proxy, "upstream_rq_active", 0);

        // Bodies both ways, with and without a length, longer than any window.
        let long: String = (0..200_000u32).map(|n| format!("{n:06} ")).collect();
        for (path, framing) in [
            ("/length", format!("content-length: {}", long.len())),
            ("/", "transfer-encoding: chunked".to_string()),
        ] {
            client
                .write(format!("POST {path} HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n").as_bytes());
            if framing.starts_with("transfer") {
                let (one, other) = long.split_at(77);
                for piece in [one, other] {
                    client.write(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes());
                }
                client.write(b"0\r\n\r\n");
            } else {
                client.write(long.as_bytes());
            }
            let answer = client.answer().expect("an answer");
            assert!(answer.body == long, "{} bytes", answer.body.len());
        }

        let raw = |head: &str| converse(address, &[head.as_bytes()]).0;
        let answer = raw("HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
        let answer = raw("GET /empty HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        assert!(answer.contains("x-empty: yes\r\n"), "{answer}");
        assert!(answer.contains("content-length: 0\r\n"), "{answer}");
        let answer = raw("GET /no-content HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        assert!(!answer.contains("content-length"), "{answer}");
        let answer = raw(
            "POST /trailers HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
             4\r\nbody\r\n0\r\nx-checksum: 7\r\n\r\n",
        );
        assert!(answer.ends_with("0\r\nx-sum: 7\r\n\r\n"), "{answer}");
        let answer = raw("GET /interim HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n"),
            "{answer}"
        );
        assert!(answer.contains("\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answer}");
        let answer = raw("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(upstream.connections(), 1);
    }
}

#[test]
fn an_http2_client_reaches_an_http2_upstream() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(echo);
        let (_proxy, address) = start_http2_pool(driver, &[upstream.address], ANY);
        client(address, |mut send| async move {
            let mut get = request(Method::GET, "/a?b=c");
            get.headers_mut().append("cookie", "a=1".parse().unwrap());
            get.headers_mut().append("cookie", "b=2".parse().unwrap());
            get.headers_mut().append("te", "trailers".parse().unwrap());
            let (answer, body, _) = exchange(&mut send, get, None, None).await.unwrap();
            assert_eq!((answer.status(), body.len()), (StatusCode::OK, 0));
            assert!(!answer.headers().contains_key("transfer-encoding"));

            let long: Vec<u8> = (0..600_000u32).flat_map(u32::to_be_bytes).collect();
            for path in ["/", "/length"] {
                let post = request(Method::POST, path);
                let (_, body, _) = exchange(&mut send, post, Some(&long), None).await.unwrap();
                assert!(body == long);
            }
            let post = request(Method::POST, "/trailers");
            let sent = Some(fields(&[("x-checksum", "7")]));
            let answer = exchange(&mut send, post, Some(b"body"), sent).await;
            let (_, body, trailers) = answer.unwrap();
            let trailers = trailers.expect("trailers");
            assert_eq!(
                (body.as_slice(), &trailers["x-sum"]),
                (&b"body"[..], &"7".parse().unwrap())
            );
            assert!(!trailers.contains_key("content-type"));

            let head = request(Method::HEAD, "/");
            let (answer, body, _) = exchange(&mut send, head, None, None).await.unwrap();
            assert_eq!((answer.status(), body.len()), (StatusCode::OK, 0));
            let empty = request(Method::GET, "/empty");
            let (answer, ..) = exchange(&mut send, empty, None, None).await.unwrap();
            assert_eq!(answer.headers()["x-empty"], "yes");

            let mut ready = send.clone().ready().await.unwrap();
            let (mut response, _) = ready
                .send_request(request(Method::GET, "/interim"), true)
                .unwrap();
            let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
            assert_eq!(interim.expect("one").unwrap().status().as_u16(), 103);
            assert_eq!(response.await.unwrap().status(), StatusCode::OK);
        });
        let heads = upstream.heads();
        assert_eq!(heads[0].headers()["te"], "trailers");
        assert_eq!(heads[0].headers()["cookie"], "a=1; b=2");
        assert_eq!(upstream.connections(), 1);
    }
}

#[test]
fn resets_of_the_upstream_get_their_status_and_flag() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(|mut call| async move {
            match call.path().as_str() {
                "/refused" => call.respond.send_reset(Reason::REFUSED_STREAM),
                "/reset" => call.respond.send_reset(Reason::INTERNAL_ERROR),
                "/closed" => {
                    call.close_connection();
                    std::future::pending::<()>().await;
                }
                path @ ("/late" | "/stopped") => {
                    let reason = match path {
                        "/late" => Reason::INTERNAL_ERROR,
                        // Without an error, and without the end of the body.
                        _ => Reason::NO_ERROR,
                    };
                    let mut out = call.start(ok_with(&[]), false);
                    let _ = send_all(&mut out, b"begun", false).await;
                    tokio::time::sleep(UNTIL_SENT).await;
                    out.send_reset(reason);
                }
                "/short" => {
                    let mut out = call.start(ok_with(&[("content-length", "10")]), false);
                    let _ = out.send_data("abc".into(), true);
                }
                _ => call.answer(b"fine", None).await,
            }
        });
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            (
                "settings.yaml",
                &settings("{role: gateway, accessLog: {format: JSON}}"),
            ),
            ("pool.yaml", &over_http2(&pool(&[upstream.address], ""))),
        ]);
        let out = std::process::Stdio::piped();
        let mut proxy = Proxy::start_with_stdout(config, &["--driver", driver], out);
        let lines = harness::LogLines::of(&mut proxy);
        for (path, status, flag, details) in [
            (
                "/refused",
                503,
                "UR",
                "before_response_started{remote_refused_stream_reset}",
            ),
            ("/reset", 503, "UR", "before_response_started{remote_reset}"),
            (
                "/closed",
                503,
                "UC",
                "before_response_started{connection_termination}",
            ),
        ] {
            // The first request on a connection is not sent again when that is closed.
            let answer = get(address, "a", path);
            assert_eq!(answer.status, status, "{path}");
            let line = lines.line_with(path);
            assert!(
                line.contains(&format!("\"response_flags\":\"{flag}\"")),
                "{line}"
            );
            assert!(line.contains(details), "{line}");
        }
        for (path, flag) in [("/late", "UR"), ("/stopped", "UR"), ("/short", "UPE")] {
            let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
            let (answer, _) = converse(address, &[head.as_bytes()]);
            assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
            let line = lines.line_with(path);
            assert!(
                line.contains(&format!("\"response_flags\":\"{flag}\"")),
                "{line}"
            );
            client(address, |mut send| async move {
                let broken = exchange(&mut send, request(Method::GET, path), None, None).await;
                assert!(broken.expect_err("is reset").is_reset());
                let fine = exchange(&mut send, request(Method::GET, "/"), None, None).await;
                assert_eq!(fine.unwrap().1, b"fine");
            });
        }
        assert!(cluster_stat(&proxy, "upstream_rq_rx_reset") >= 4);
    }
}

#[test]
fn refused_streams_are_tried_again_by_the_default_policy() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(|mut call| async move {
            match call.number {
                0 | 1 => call.respond.send_reset(Reason::REFUSED_STREAM),
                _ => {
                    let body = read_all(&mut call.body).await.expect("a body");
                    call.answer(&body, None).await;
                }
            }
        });
        let with_default = |text: String| text.replace("    retries: {attempts: 0}\n", "");
        let (proxy, address) =
            start_edited_http2_pool(driver, &[upstream.address], ANY, with_default);
        client(address, |mut send| async move {
            let post = request(Method::POST, "/");
            let (answer, body, _) = exchange(&mut send, post, Some(b"once"), None)
                .await
                .unwrap();
            assert_eq!((answer.status(), body), (StatusCode::OK, b"once".to_vec()));
        });
        assert_eq!(upstream.requests(), 3);
        assert_eq!(cluster_stat(&proxy, "upstream_rq_retry"), 2);
    }
}

#[test]
fn an_early_answer_ends_the_upload() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(|mut call| async move {
            let mut response = ok_with(&[]);
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            let mut out = call.start(response, false);
            let _ = out.send_data("too much".into(), true);
            call.wait_for_reset_of(&mut out).await;
        });
        let (_proxy, address) = start_http2_pool(driver, &[upstream.address], ANY);
        client(address, |send| async move {
            let mut ready = send.clone().ready().await.unwrap();
            let (response, mut out) = ready
                .send_request(request(Method::POST, "/"), false)
                .unwrap();
            let _ = send_all(&mut out, b"the beginning", false).await;
            let (parts, mut body) = response.await.unwrap().into_parts();
            assert_eq!(parts.status, StatusCode::PAYLOAD_TOO_LARGE);
            assert_eq!(read_all(&mut body).await.unwrap(), b"too much");
        });
        until("the end of the upload", || {
            upstream.resets() == [Reason::CANCEL]
        });
    }
}

/// A server that has said all it has to say may tell its client to stop (RFC 9113 section 8.1).
#[test]
fn a_whole_answer_stays_whole_when_the_upload_is_stopped() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(|mut call| async move {
            let mut out = call.start(ok_with(&[]), false);
            let _ = send_all(&mut out, b"enough", true).await;
            tokio::time::sleep(UNTIL_SENT).await;
            out.send_reset(Reason::NO_ERROR);
        });
        let (_proxy, address) = start_http2_pool(driver, &[upstream.address], ANY);
        let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf";
        let (answer, _) = converse(address, &[head]);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("6\r\nenough\r\n0\r\n\r\n"), "{answer}");
    }
}

#[test]
fn a_client_that_leaves_cancels_its_stream_and_no_other() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(|mut call| async move {
            match call.path().as_str() {
                "/before" => call.wait_for_reset().await,
                "/within" => {
                    let mut out = call.start(ok_with(&[]), false);
                    let _ = out.send_data("begun".into(), false);
                    call.wait_for_reset_of(&mut out).await;
                }
                _ => call.answer(b"fine", None).await,
            }
        });
        let (_proxy, address) = start_http2_pool(driver, &[upstream.address], ANY);
        for (at, path) in ["/before", "/within"].into_iter().enumerate() {
            let resets = || upstream.resets().len();
            let (asked, before) = (&upstream, upstream.requests());
            client(address, |send| async move {
                let mut ready = send.clone().ready().await.unwrap();
                let (response, mut out) = ready
                    .send_request(request(Method::GET, path), true)
                    .unwrap();
                match path {
                    "/before" => {
                        eventually("the request", || asked.requests() > before).await;
                    }
                    _ => drop(response.await.unwrap().into_body().data().await),
                }
                out.send_reset(Reason::CANCEL);
                let mut send = send.clone();
                let fine = exchange(&mut send, request(Method::GET, "/"), None, None).await;
                assert_eq!(fine.unwrap().1, b"fine");
            });
            until("the cancellation", || resets() == 2 * at + 1);
            let mut client = Client::connect(address).expect("connects");
            let before = upstream.requests();
            client.start("GET", "a", path).expect("sent");
            until("the request", || upstream.requests() > before);
            drop(client);
            until("the cancellation", || resets() == 2 * at + 2);
        }
        assert!(
            upstream
                .resets()
                .iter()
                .all(|reset| *reset == Reason::CANCEL)
        );
        assert_eq!(upstream.connections(), 1);
    }
}

#[test]
fn the_protocol_follows_the_client_or_the_rule() {
    let one = |protocol: &str, http: &str, upstream: SocketAddr| {
        let address = free_address();
        let policy = format!("connectionPool: {{http: {{{http}}}}}");
        let text = pool(&[upstream], &policy).replace("protocol: HTTP}", protocol);
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("settings.yaml", &settings("{role: gateway}")),
            ("pool.yaml", &text),
        ]);
        (
            Proxy::start_with_workers(config, &["--workers", "1"]),
            address,
        )
    };
    let upstream = Http2Upstream::start(echo);
    for (protocol, http) in [
        ("protocol: HTTP}", "h2UpgradePolicy: UPGRADE"),
        ("protocol: GRPC}", ANY),
        ("protocol: HTTP2}", "h2UpgradePolicy: DO_NOT_UPGRADE"),
    ] {
        let (proxy, address) = one(protocol, http, upstream.address);
        assert_eq!(get(address, "a", "/").status, 200, "{protocol} {http}");
        let dump = proxy.admin_json("/config_dump");
        let clusters = dump["clusters"].as_array().expect("a list");
        let cluster = clusters
            .iter()
            .find(|one| one["name"] == harness::pool::CLUSTER);
        assert_eq!(cluster.expect("is there")["upstream_protocol"], "HTTP/2");
        let page = proxy.admin("/clusters").body;
        assert!(
            page.contains("outbound|80||pool.test::upstream_protocol::HTTP/2\n"),
            "{page}"
        );
    }

    // An upstream of HTTP/1.1 gets what such clients send, the other what they send.
    let plain = harness::Upstream::start("plain");
    let (_proxy, address) = one("protocol: HTTP}", "useClientProtocol: true", plain.address);
    assert_eq!(get(address, "a", "/").body, "plain");
    let (_proxy, address) = one(
        "protocol: HTTP}",
        "useClientProtocol: true",
        upstream.address,
    );
    client(address, |mut send| async move {
        let answer = exchange(&mut send, request(Method::GET, "/"), None, None).await;
        assert_eq!(answer.unwrap().0.status(), StatusCode::OK);
    });
    assert_ne!(get(address, "a", "/").status, 200);
}

#[test]
fn an_upstream_behind_tls_is_spoken_to_in_what_alpn_chooses() {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    for driver in DRIVERS {
        let authority = harness::pki::Authority::new();
        let identity = authority.issue(&["pool.test"]);
        let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![chain.expect("PEM")], key.expect("PEM"))
            .expect("goes together");
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        let upstream = Http2Upstream::start_tls(config, echo);
        let files = folder(&[("root.pem", &authority.pem)]);
        let root = files.path().join("root.pem").display().to_string();
        let tls = |text: String| {
            let block = format!("tls: {{mode: SIMPLE, caCertificates: {root}}}");
            text.replace(
                "connectionPool: {",
                &format!("{block}\n    connectionPool: {{"),
            )
        };
        let (_proxy, address) = start_edited_http2_pool(driver, &[upstream.address], ANY, tls);
        for _ in 0..3 {
            assert_eq!(get(address, "a", "/").status, 200);
        }
        let long: Vec<u8> = (0..100_000u32).flat_map(u32::to_be_bytes).collect();
        client(address, |mut send| async move {
            let post = request(Method::POST, "/");
            let (_, body, _) = exchange(&mut send, post, Some(&long), None).await.unwrap();
            assert!(body == long);
        });
        let chosen = upstream
            .seen
            .protocols
            .lock()
            .expect("not poisoned")
            .clone();
        assert_eq!(chosen, [b"h2".to_vec()]);
    }
}

#[test]
fn an_upstream_that_speaks_no_http2_is_a_protocol_error() {
    let plain = harness::raw::ScriptedUpstream::start(|connection| {
        let mut piece = [0; 1024];
        let _ = connection.stream.read(&mut piece);
        connection.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    });
    let (_proxy, address) = start_http2_pool("auto", &[plain.address], ANY);
    let answer = get(address, "a", "/");
    assert_eq!(answer.status, 502, "{}", answer.body);
}

#[test]
fn an_http2_answer_ends_where_it_was_cut_for_the_client() {
    // The connection breaks within an answer: no client may take it for whole.
    let upstream = Http2Upstream::start(|mut call| async move {
        let mut out = call.start(ok_with(&[]), false);
        let _ = send_all(&mut out, b"begun", false).await;
        tokio::time::sleep(UNTIL_SENT).await;
        call.close_connection();
        std::future::pending::<()>().await;
    });
    let (_proxy, address) = start_http2_pool("auto", &[upstream.address], ANY);
    let (answer, end) = converse(address, &[b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"]);
    assert!(
        answer.contains("begun") && !answer.ends_with("0\r\n\r\n"),
        "{answer}"
    );
    assert!(matches!(end, End::Closed | End::Reset));
}
