//! HTTP/1.1 through the proxy, byte by byte, on both drivers.

mod harness;

use harness::pool::start_pool;
use harness::raw::{End, ScriptedUpstream, converse, status};
use harness::{DRIVERS, Proxy, folder, free_address, gateway, splitting};
use std::net::SocketAddr;

/// An upstream that answers by path, behind a gateway.
fn start(driver: &str) -> (Proxy, ScriptedUpstream, SocketAddr) {
    let upstream = ScriptedUpstream::start(|connection| {
        while let Some((path, head)) = connection.head() {
            match path.as_str() {
                "/chunks" => {
                    connection
                        .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel");
                    connection.send("lo\r\n1;x=y\r\n!\r\n0\r\nx-trailer: 1\r\n\r\n");
                }
                "/blanks" => connection.send(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                     5 ; a = b\r\nhello\r\n0\t\r\n\r\n",
                ),
                "/until-close" => {
                    connection.send("HTTP/1.1 200 OK\r\n\r\nabc");
                    connection.send("def");
                    return;
                }
                "/hints" => connection.send(
                    "HTTP/1.1 103 Early Hints\r\nconnection: x-private\r\nx-private: 1\r\n\
                     keep-alive: timeout=5\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
                     HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                ),
                "/empty" => connection.send("HTTP/1.1 204 No Content\r\n\r\n"),
                "/no-length" => connection.send(
                    "HTTP/1.1 103 Early Hints\r\ncontent-length: 0\r\n\r\n\
                     HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
                ),
                "/length" => connection.send("HTTP/1.1 304 X\r\ncontent-length: 77\r\n\r\n"),
                "/unchanged" => connection.send("HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n"),
                "/hop" => connection.send(
                    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: x-private\r\n\
                     x-private: 1\r\nkeep-alive: timeout=5\r\nserver: upstream\r\n\
                     x-envoy-upstream-service-time: forged\r\n\r\nok",
                ),
                path => {
                    let head = head.to_ascii_lowercase();
                    let length = head.split("content-length: ").nth(1);
                    let length = length.and_then(|rest| rest.split('\r').next()?.parse().ok());
                    let body = connection.body(length.unwrap_or(0));
                    let is_head = head.starts_with("head ");
                    let text = format!("{path} {}", body.len());
                    let shown = if is_head { "" } else { &text };
                    let len = text.len();
                    connection.send(format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n{shown}"
                    ));
                }
            }
        }
    });
    let address = free_address();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("split.yaml", &splitting(&[(upstream.address, 1)])),
    ]);
    (
        Proxy::start(config, &["--driver", driver]),
        upstream,
        address,
    )
}

/// A request for `path` that ends its connection.
fn closing(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n").into_bytes()
}

/// Requests for these paths in one write, the last of which ends the connection.
fn pipelined(paths: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for path in &paths[..paths.len() - 1] {
        bytes.extend(format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n").into_bytes());
    }
    bytes.extend(closing(paths[paths.len() - 1]));
    bytes
}

#[test]
fn answers_come_in_the_order_of_pipelined_requests() {
    for driver in DRIVERS {
        let (_proxy, _upstream, address) = start(driver);
        let paths: Vec<String> = (0..50).map(|at| format!("/number-{at}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let (answers, end) = converse(address, &[&pipelined(&paths)]);
        let places: Vec<_> = paths
            .iter()
            .map(|path| answers.find(&format!("{path} 0")))
            .collect();
        assert!(places.iter().all(Option::is_some), "{answers}");
        assert!(places.is_sorted());
        assert_eq!(end, End::Closed);
    }
}

#[test]
fn a_head_may_come_in_any_pieces() {
    for driver in DRIVERS {
        let (_proxy, _upstream, address) = start(driver);
        let request = closing("/pieces");
        let pieces: Vec<&[u8]> = request.chunks(3).collect();
        let (answer, _) = converse(address, &pieces);
        assert!(answer.ends_with("/pieces 0"), "{answer}");
    }
}

#[test]
fn chunks_pass_with_their_trailers_and_are_taken_off_for_http_1_0() {
    for driver in DRIVERS {
        let (_proxy, _upstream, address) = start(driver);
        let (answer, _) = converse(address, &[&pipelined(&["/chunks", "/next"])]);
        let body = "5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nx-trailer: 1\r\n\r\n";
        assert!(
            answer.contains("transfer-encoding: chunked\r\n"),
            "{answer}"
        );
        assert!(answer.contains(body), "{answer}");
        assert!(answer.ends_with("/next 0"), "{answer}");
        let (answer, end) = converse(address, &[b"GET /chunks HTTP/1.0\r\nhost: a\r\n\r\n"]);
        assert!(answer.ends_with("\r\n\r\nhello!"), "{answer}");
        assert!(!answer.contains("transfer-encoding"), "{answer}");
        assert_eq!(end, End::Closed);
    }
}

#[test]
fn a_body_that_ends_with_its_connection_is_put_into_chunks() {
    for driver in DRIVERS {
        let (_proxy, _upstream, address) = start(driver);
        let (answer, _) = converse(address, &[&pipelined(&["/until-close", "/next"])]);
        assert!(
            answer.contains("transfer-encoding: chunked\r\n"),
            "{answer}"
        );
        assert!(answer.contains("\r\n0\r\n\r\nHTTP/1.1 200 OK"), "{answer}");
        let (answer, end) = converse(address, &[b"GET /until-close HTTP/1.0\r\nhost: a\r\n\r\n"]);
        assert!(answer.ends_with("\r\n\r\nabcdef"), "{answer}");
        assert_eq!(end, End::Closed);
    }
}

#[test]
fn answers_without_a_body_leave_the_connection_usable() {
    for driver in DRIVERS {
        let (_proxy, _upstream, address) = start(driver);
        let mut bytes = b"HEAD /size HTTP/1.1\r\nhost: a.test\r\n\r\n".to_vec();
        bytes.extend(pipelined(&["/empty", "/unchanged", "/last"]));
        let (answers, _) = converse(address, &[&bytes]);
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 4, "{answers}");
        assert!(
            answers.contains("content-length: 7\r\n"),
            "HEAD keeps the length: {answers}"
        );
        assert!(answers.ends_with("/last 0"), "{answers}");
    }
}

#[test]
fn an_answer_that_never_has_a_body_tells_no_length() {
    for driver in DRIVERS {
        let (_proxy, _upstream, address) = start(driver);
        let (answers, _) = converse(address, &[&pipelined(&["/no-length", "/length"])]);
        let (without, with) = answers.split_once("HTTP/1.1 304").expect("both answers");
        assert!(without.contains("HTTP/1.1 204 "), "{answers}");
        assert!(!without.contains("content-length"), "{answers}");
        assert!(with.contains("content-length: 77\r\n"), "{answers}");
    }
}

#[test]
fn lists_in_expect_and_blanks_in_chunk_lines_pass() {
    for driver in DRIVERS {
        let (_proxy, _upstream, address) = start(driver);
        for expect in ["", ",", ", 100-continue", "100-continue, 100-continue"] {
            let head = format!(
                "POST /up HTTP/1.1\r\nhost: a.test\r\nexpect: {expect}\r\n\
                 content-length: 5\r\nconnection: close\r\n\r\nhello"
            );
            let (answer, _) = converse(address, &[head.as_bytes()]);
            assert!(answer.ends_with("/up 5"), "{expect:?}: {answer}");
        }
        let chunks = b"POST /up HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\
                       connection: close\r\n\r\n5 ; a = b\r\nhello\r\n0 \r\n\r\n";
        let (answer, _) = converse(address, &[chunks]);
        assert_eq!(status(&answer), 200, "{answer}");
        let (answer, _) = converse(address, &[&closing("/blanks")]);
        assert!(
            answer.ends_with("5 ; a = b\r\nhello\r\n0\t\r\n\r\n"),
            "{answer}"
        );
    }
}

#[test]
fn a_trailer_that_may_be_none_is_left_out_of_an_answer() {
    const END: &str = "2\r\nhi\r\n0\r\n";
    let cases = [
        ("/at-once", "x-sum: 1\r\n", "x-sum: 1\r\n"),
        ("/pieces", "x-sum: 1\r\n", "x-sum: 1\r\n"),
        (
            "/at-once",
            "authentication-info: a=\"b\"\r\n",
            "authentication-info: a=\"b\"\r\n",
        ),
        ("/at-once", "cache-control: no-store\r\n", ""),
        ("/late", "set-cookie: a=b\r\n", ""),
        (
            "/pieces",
            "via: x\r\nx-sum: 1\r\nx-request-id: 7\r\n",
            "x-sum: 1\r\n",
        ),
        ("/late", "content-length: 3\r\nx-sum: 1\r\n", "x-sum: 1\r\n"),
    ];
    for driver in DRIVERS {
        for (path, sent, kept) in cases {
            let upstream = ScriptedUpstream::start(move |connection| {
                const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                while let Some((path, _)) = connection.head() {
                    let pieces = match path.as_str() {
                        "/at-once" => vec![format!("{HEAD}{END}{sent}\r\n")],
                        "/late" => vec![format!("{HEAD}{END}"), format!("{sent}\r\n")],
                        _ => {
                            let whole = format!("{HEAD}{END}{sent}\r\n");
                            whole.chars().map(String::from).collect()
                        }
                    };
                    for piece in pieces {
                        connection.send(piece);
                        std::thread::sleep(std::time::Duration::from_millis(1));
                    }
                }
            });
            let address = free_address();
            let config = folder(&[
                ("gate.yaml", &gateway(address)),
                ("split.yaml", &splitting(&[(upstream.address, 1)])),
            ]);
            let proxy = Proxy::start_with_workers(config, &["--driver", driver, "--workers", "1"]);
            let asked = pipelined(&[path, path]);
            let (answers, _) = converse(address, &[&asked]);
            let whole = format!("\r\n\r\n{END}{kept}\r\n");
            assert_eq!(
                answers.matches(&whole).count(),
                2,
                "{path}, {sent:?}: {answers}"
            );
            assert!(answers.ends_with(&whole), "{path}, {sent:?}: {answers}");
            // Neither side has lost its connection.
            assert_eq!(
                proxy.stat("cluster.outbound|80||up0.test.upstream_cx_total"),
                1
            );
            let (answer, _) = converse(
                address,
                &[format!("GET {path} HTTP/1.0\r\nhost: a\r\n\r\n").as_bytes()],
            );
            assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
        }
    }
}

#[test]
fn http_1_0_is_kept_alive_only_when_asked() {
    for driver in DRIVERS {
        let (_proxy, _upstream, address) = start(driver);
        let kept = b"GET /one HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n\
                     GET /two HTTP/1.0\r\nhost: a\r\n\r\n";
        let (answers, end) = converse(address, &[kept]);
        assert!(answers.contains("connection: keep-alive\r\n"), "{answers}");
        assert!(answers.ends_with("/two 0"), "{answers}");
        assert_eq!(end, End::Closed);
    }
}

#[test]
fn a_client_that_waits_for_100_gets_it_from_the_proxy() {
    for driver in DRIVERS {
        let (_proxy, upstream, address) = start(driver);
        let head = b"POST /up HTTP/1.1\r\nhost: a.test\r\nexpect: 100-continue\r\n\
                     content-length: 5\r\nconnection: close\r\n\r\n";
        let (answer, _) = converse(address, &[head, b"hello"]);
        assert!(answer.ends_with("/up 5"), "{answer}");
        let seen = upstream
            .heads()
            .pop()
            .expect("a request")
            .to_ascii_lowercase();
        assert!(!seen.contains("expect"), "{seen}");
    }
}

#[test]
fn early_hints_pass_and_a_100_of_the_upstream_does_not() {
    for driver in DRIVERS {
        let (_proxy, _upstream, address) = start(driver);
        let (answer, _) = converse(address, &[&closing("/hints")]);
        assert!(
            answer.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
            "{answer}"
        );
        assert!(!answer.contains("100 Continue"), "{answer}");
        assert!(answer.ends_with("ok"), "{answer}");
        let old = b"GET /hints HTTP/1.0\r\nhost: a.test\r\n\r\n";
        let (answer, _) = converse(address, &[old]);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[test]
fn headers_of_one_connection_stay_on_it() {
    for driver in DRIVERS {
        let (_proxy, upstream, address) = start(driver);
        let request =
            b"GET http://a.test/hop HTTP/1.1\r\nhost: b.test\r\nkeep-alive: 1\r\nte: x\r\n\
                        connection: close, x-mine\r\nx-mine: 1\r\nproxy-connection: x\r\n\
                        x-forwarded-for: 9.9.9.9\r\nx-forwarded-proto: https\r\n\
                        x-request-id: forged\r\nx-envoy-retry-on: 5xx\r\nx-kept: 1\r\n\r\n";
        let (answer, _) = converse(address, &[request]);
        let answer = answer.to_ascii_lowercase();
        for gone in [
            "x-private",
            "keep-alive: timeout",
            "server: upstream",
            "forged",
        ] {
            assert!(!answer.contains(gone), "{gone}: {answer}");
        }
        assert!(answer.contains("server: istio-envoy\r\n"), "{answer}");
        assert!(
            answer.contains("x-envoy-upstream-service-time: "),
            "{answer}"
        );
        let seen = upstream
            .heads()
            .pop()
            .expect("a request")
            .to_ascii_lowercase();
        for gone in [
            "x-mine",
            "keep-alive",
            "\r\nte:",
            "proxy-connection",
            "forged",
            "retry-on",
        ] {
            assert!(!seen.contains(gone), "{gone}: {seen}");
        }
        for there in [
            "get /hop http/1.1\r\nhost: a.test\r\n",
            "x-forwarded-for: 9.9.9.9,127.0.0.1\r\n",
            "x-forwarded-proto: http\r\n",
            "x-request-id: ",
            "x-envoy-attempt-count: 1\r\n",
            "x-kept: 1\r\n",
        ] {
            assert!(seen.contains(there), "{there}: {seen}");
        }
        for once in ["x-forwarded-for", "x-forwarded-proto", "x-request-id"] {
            assert_eq!(seen.matches(once).count(), 1, "{once}: {seen}");
        }
    }
}

#[test]
fn h2c_is_served_as_http_1_1_and_other_upgrades_are_refused() {
    for driver in DRIVERS {
        let (proxy, upstream, address) = start(driver);
        let request = b"GET /h2c HTTP/1.1\r\nhost: a.test\r\nupgrade: h2c\r\n\
                        http2-settings: AAMAAABkAAQAAP__\r\n\
                        connection: upgrade, http2-settings, close\r\n\r\n";
        let (answer, _) = converse(address, &[request]);
        assert!(answer.ends_with("/h2c 0"), "{answer}");
        let seen = upstream
            .heads()
            .pop()
            .expect("a request")
            .to_ascii_lowercase();
        assert!(
            !seen.contains("upgrade") && !seen.contains("http2-settings"),
            "{seen}"
        );
        for other in ["irc", "h2c, websocket", "websocket, h2c", ""] {
            let request = format!(
                "GET / HTTP/1.1\r\nhost: a.test\r\nupgrade: {other}\r\nconnection: upgrade\r\n\r\n\
                 GET /after HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n"
            );
            let (answer, _) = converse(address, &[request.as_bytes()]);
            assert_eq!(status(&answer), 403, "{answer}");
            assert!(answer.contains("connection: close"), "{answer}");
            assert!(!answer.contains("/after"), "{answer}");
        }
        let refused = format!(
            "http.{}_{}.downstream_rq_upgrade_refused",
            address.ip(),
            address.port()
        );
        proxy.until_stat(&refused, 4);
    }
}

#[test]
fn tunnels_and_https_in_plain_text_are_refused() {
    for driver in DRIVERS {
        let (_proxy, upstream, address) = start(driver);
        for target in [
            "CONNECT a.test:443",
            "GET https://a.test/",
            "GET HTTPS://a.test/x",
        ] {
            let request = format!(
                "{target} HTTP/1.1\r\nhost: a.test\r\n\r\n\
                 GET /after HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n"
            );
            let (answer, _) = converse(address, &[request.as_bytes()]);
            assert_eq!(status(&answer), 403, "{target}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{target}: {answer}");
        }
        assert_eq!(upstream.heads(), Vec::<String>::new());
    }
}

#[test]
fn a_large_upload_arrives_whole() {
    for driver in DRIVERS {
        let (_proxy, _upstream, address) = start(driver);
        let body = vec![b'x'; 20 << 20];
        let head = format!(
            "POST /large HTTP/1.1\r\nhost: a.test\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let (answer, _) = converse(address, &[head.as_bytes(), &body]);
        assert!(
            answer.ends_with(&format!("/large {}", body.len())),
            "{answer}"
        );
    }
}

#[test]
fn an_empty_body_is_announced_and_trailers_stay_welcome() {
    for driver in DRIVERS {
        let (_proxy, upstream, address) = start(driver);
        for (lines, wanted, unwanted) in [
            ("POST / HTTP/1.1\r\n", "content-length: 0\r\n", "\r\nte:"),
            ("OPTIONS / HTTP/1.1\r\n", "content-length: 0\r\n", "\r\nte:"),
            ("GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\n", "content-length"),
            (
                "DELETE / HTTP/1.1\r\nte: gzip, Trailers\r\n",
                "\r\nte: trailers\r\n",
                "content-length",
            ),
            (
                "GET / HTTP/1.1\r\nte: gzip\r\n",
                "GET / HTTP/1.1\r\n",
                "\r\nte:",
            ),
        ] {
            let request = format!("{lines}host: a.test\r\nconnection: close\r\n\r\n");
            let (answer, _) = converse(address, &[request.as_bytes()]);
            assert_eq!(status(&answer), 200, "{answer}");
            let seen = upstream.heads().pop().expect("a request");
            assert!(seen.contains(wanted), "{wanted:?} in {seen}");
            assert!(!seen.contains(unwanted), "{unwanted:?} not in {seen}");
        }
    }
}

#[test]
fn a_request_without_any_host_is_refused() {
    for driver in DRIVERS {
        let (_proxy, upstream, address) = start(driver);
        let (answer, end) = converse(address, &[b"GET / HTTP/1.0\r\n\r\n"]);
        assert_eq!(status(&answer), 400, "{answer}");
        assert_eq!(end, End::Closed);
        assert!(upstream.heads().is_empty());
    }
}

#[test]
fn workers_never_give_the_same_request_id() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
        });
        // In turn, which draws nothing: so the ids are all that is drawn.
        let (proxy, address) = start_pool(driver, "3", &[upstream.address], "tls: {}");
        for _ in 0..90 {
            let request = b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
            assert_eq!(status(&converse(address, &[request]).0), 200);
        }
        let served = |worker: u32| proxy.stat(&format!("worker_{worker}.requests"));
        assert!((0..3).filter(|worker| served(*worker) > 0).count() > 1);
        let heads = upstream.heads();
        let ids: std::collections::HashSet<&str> = heads
            .iter()
            .filter_map(|head| head.split("x-request-id: ").nth(1)?.split('\r').next())
            .collect();
        assert_eq!(ids.len(), 90);
    }
}

/// RFC 9110 section 9.3.2: no answer to HEAD has a body.
#[test]
fn a_head_request_that_is_refused_gets_no_body() {
    for driver in DRIVERS {
        let (_proxy, _upstream, address) = start(driver);
        for (method, has_body) in [("HEAD", false), ("GET", true)] {
            let request = format!("{method} /#fragment HTTP/1.1\r\nhost: a.test\r\n\r\n");
            let (answer, end) = converse(address, &[request.as_bytes()]);
            assert_eq!((status(&answer), end), (400, End::Closed), "{answer}");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            assert!(head.contains("content-length: 11"), "{head}");
            assert_eq!(body == "Bad Request", has_body, "{answer}");
            assert_eq!(body.is_empty(), !has_body, "{answer}");
        }
    }
}

#[test]
fn a_method_named_pri_is_no_preface_of_http2() {
    for driver in DRIVERS {
        let (_proxy, _upstream, address) = start(driver);
        let pieces: [&[u8]; 2] = [
            b"PR",
            b"I /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        ];
        let (answer, end) = converse(address, &pieces);
        assert_eq!((status(&answer), end), (200, End::Closed), "{answer}");
        assert!(answer.ends_with("/x 0"), "{answer}");
    }
}
