//! Bodies in both directions: whole, bounded in memory, and told truly, on both drivers.

mod harness;

use harness::raw::{ScriptedUpstream, converse, status};
use harness::{
    DRIVERS, LogLines, PATIENCE, Proxy, folder, free_address, gateway, settings, splitting, until,
    until_equal,
};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const LARGE: usize = 20 << 20;

fn start(driver: &str, upstream: SocketAddr, spec: &str) -> (Proxy, SocketAddr) {
    let address = free_address();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("settings.yaml", &settings(spec)),
        ("split.yaml", &splitting(&[(upstream, 1)])),
    ]);
    let args = ["--driver", driver];
    (
        Proxy::start_with_stdout(config, &args, Stdio::piped()),
        address,
    )
}

/// Bytes of which every eight tell their place.
fn numbered(len: usize) -> Vec<u8> {
    (0..len / 8)
        .flat_map(|at| format!("{at:07}\n").into_bytes())
        .collect()
}

/// The same in chunks, with an extension and a trailer.
fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.chunks(100_000) {
        out.extend(format!("{:x};note=a\r\n", piece.len()).into_bytes());
        out.extend(piece);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\nx-sum: 7\r\n\r\n");
    out
}

fn first_difference(left: &[u8], right: &[u8]) -> Option<usize> {
    let differ = left
        .iter()
        .zip(right)
        .position(|(left, right)| left != right);
    differ.or((left.len() != right.len()).then_some(left.len().min(right.len())))
}

#[test]
fn large_downloads_arrive_as_they_were_sent() {
    for driver in DRIVERS {
        let body = Arc::new(numbered(LARGE));
        let sent = Arc::clone(&body);
        let upstream = ScriptedUpstream::start(move |connection| {
            while let Some((path, _)) = connection.head() {
                if path == "/chunks" {
                    connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                    connection.send(chunked(&sent));
                } else {
                    let length = sent.len();
                    connection.send(format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"
                    ));
                    connection.send(&*sent);
                }
            }
        });
        let (_proxy, address) = start(driver, upstream.address, "{role: gateway}");
        for (path, expected) in [("/length", body.to_vec()), ("/chunks", chunked(&body))] {
            let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            let (answer, _) = converse(address, &[request.as_bytes()]);
            let (_, got) = answer.split_once("\r\n\r\n").expect("a head");
            assert_eq!(first_difference(got.as_bytes(), &expected), None, "{path}");
        }
        // To HTTP/1.0 the payload alone.
        let (answer, _) = converse(address, &[b"GET /chunks HTTP/1.0\r\nhost: a\r\n\r\n"]);
        let (_, got) = answer.split_once("\r\n\r\n").expect("a head");
        assert_eq!(first_difference(got.as_bytes(), &body), None);
    }
}

#[test]
fn a_large_chunked_upload_arrives_with_its_trailers() {
    for driver in DRIVERS {
        let expected = Arc::new(chunked(&numbered(LARGE)));
        let awaited = Arc::clone(&expected);
        let upstream = ScriptedUpstream::start(move |connection| {
            connection.head();
            let got = connection.body(awaited.len());
            let verdict = match first_difference(&got, &awaited) {
                None => "same".to_string(),
                Some(at) => format!("differs at {at}"),
            };
            let length = verdict.len();
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{verdict}"
            ));
        });
        let (_proxy, address) = start(driver, upstream.address, "{role: gateway}");
        let head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\
                     connection: close\r\n\r\n";
        let (answer, _) = converse(address, &[head, &expected]);
        assert!(answer.ends_with("\r\n\r\nsame"), "{answer}");
    }
}

/// An upstream that takes nothing holds the client back; the proxy keeps little in between.
#[test]
fn a_slow_upstream_holds_the_upload_back() {
    const LEN: usize = 64 << 20;
    for driver in DRIVERS {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let waited_for = Arc::clone(&gate);
        let upstream = ScriptedUpstream::start(move |connection| {
            connection.head();
            let (open, changed) = &*waited_for;
            let mut open = open.lock().expect("not poisoned");
            while !*open {
                open = changed.wait(open).expect("not poisoned");
            }
            let got = connection.body(LEN).len();
            let text = got.to_string();
            let length = text.len();
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}"
            ));
        });
        let (proxy, address) = start(driver, upstream.address, "{role: gateway}");
        let mut client = TcpStream::connect(address).expect("connects");
        let head = format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LEN}\r\nconnection: close\r\n\r\n"
        );
        client.write_all(head.as_bytes()).expect("is sent");
        client
            .set_write_timeout(Some(Duration::from_millis(500)))
            .expect("set");
        let body = vec![b'x'; 1 << 16];
        let mut sent = 0;
        // Until nothing more is taken.
        while let Ok(taken) = client.write(&body[..body.len().min(LEN - sent)]) {
            sent += taken;
            assert!(sent < LEN, "all of it was taken though nobody reads");
        }
        let resident = proxy.resident_bytes();
        assert!(resident < 48 << 20, "{resident} bytes resident");
        *gate.0.lock().expect("not poisoned") = true;
        gate.1.notify_all();
        client.set_write_timeout(Some(PATIENCE)).expect("set");
        client.set_read_timeout(Some(PATIENCE)).expect("set");
        while sent < LEN {
            let taken = client.write(&body[..body.len().min(LEN - sent)]);
            sent += taken.expect("is taken");
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert!(answer.ends_with(&format!("\r\n\r\n{LEN}")), "{answer}");
    }
}

#[test]
fn a_client_that_resets_an_upload_which_nobody_reads_is_noticed() {
    for driver in DRIVERS {
        // It takes connections into its queue, and nothing from them.
        let upstream = TcpListener::bind("127.0.0.1:0").expect("a port");
        let upstream_address = upstream.local_addr().expect("an address");
        let (proxy, address) = start(driver, upstream_address, "{role: gateway}");
        let mut client = TcpStream::connect(address).expect("connects");
        let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n";
        client.write_all(head.as_bytes()).expect("is sent");
        client
            .set_write_timeout(Some(Duration::from_millis(500)))
            .expect("set");
        // Until nothing more is taken.
        while client.write(&[b'x'; 1 << 16]).is_ok() {}
        let active = || proxy.stat("cluster.outbound|80||up0.test.upstream_cx_active");
        until("its upstream connection", || active() == 1);
        socket2::SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .expect("set");
        drop(client);
        until("the end of its upstream connection", || active() == 0);
        proxy.until_metrics("response_flags=\"DC\"");
    }
}

#[test]
fn a_client_may_hold_its_body_back_until_it_is_asked_for() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                let body = connection.body(5);
                let text = String::from_utf8_lossy(&body).into_owned();
                connection.send(format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}",
                    text.len()
                ));
            }
        });
        let (_proxy, address) = start(driver, upstream.address, "{role: gateway}");
        let mut client = TcpStream::connect(address).expect("connects");
        client.set_read_timeout(Some(PATIENCE)).expect("set");
        let head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\
                     connection: close\r\n\r\n";
        client.write_all(head).expect("is sent");
        let mut asked = [0; 25];
        client.read_exact(&mut asked).expect("is asked");
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"hello").expect("is sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");

        // HTTP/1.0 knows no 100 (RFC 9110 section 10.1.1).
        let old =
            b"POST / HTTP/1.0\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
        let (answer, _) = converse(address, &[old, b"hello"]);
        assert_eq!(status(&answer), 200, "{answer}");
    }
}

/// A close with bytes unread would be a reset, which can destroy the answer on its way.
#[test]
fn an_early_answer_does_not_reset_a_client_that_still_sends() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|_| {});
        let limits = "{role: gateway, limits: {maxDiscardedBodyBytes: 30000}}";
        let (proxy, address) = start(driver, upstream.address, limits);
        let mut client = TcpStream::connect(address).expect("connects");
        client.set_read_timeout(Some(PATIENCE)).expect("set");
        let head = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: other\r\n\
                     content-length: 20000\r\n\r\n";
        client.write_all(head).expect("sent");
        let mut answer = [0; 1024];
        let len = client.read(&mut answer).expect("an answer");
        assert!(answer[..len].starts_with(b"HTTP/1.1 403 "));
        for _ in 0..20 {
            client.write_all(&[b'x'; 1000]).expect("no reset");
        }
        assert_eq!(client.read(&mut answer).expect("the end"), 0);
        let listener = format!("http.{}_{}", address.ip(), address.port());
        let stat = format!("{listener}.downstream_cx_discard_overflow");
        assert_eq!(proxy.stat(&stat), 0);
        for _ in 0..10_000 {
            let sent = client.write_all(&[b'x'; 1000]);
            if sent.is_err() {
                break;
            }
        }
        proxy.until_stat(&stat, 1);
    }
}

#[test]
fn a_client_that_ends_its_side_keeps_the_answers_it_has() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while let Some((path, _)) = connection.head() {
                if path != "/never" {
                    connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                }
            }
        });
        let (_proxy, address) = start(driver, upstream.address, "{role: gateway}");
        let mut stream = TcpStream::connect(address).expect("connects");
        let request = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        let both = request("/") + &request("/never");
        stream.write_all(both.as_bytes()).expect("sent");
        let waits = || upstream.heads().iter().any(|head| head.contains("/never"));
        until("the second request upstream", waits);
        stream.shutdown(std::net::Shutdown::Write).expect("ended");
        let mut answers = String::new();
        let end = stream.read_to_string(&mut answers);
        end.expect("closed, not reset");
        assert!(answers.ends_with("ok"), "{driver}: {answers}");
    }
}

#[test]
fn garbage_behind_a_request_is_refused_after_its_answer() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        });
        let (_proxy, address) = start(driver, upstream.address, "{role: gateway}");
        let requests = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n\x16\x03\x01 garbage\r\n\r\n\
                         GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        let (answers, _) = converse(address, &[requests]);
        assert_eq!(status(&answers), 200, "{answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
        assert!(
            answers.contains("HTTP/1.1 400 Bad Request\r\n"),
            "{answers}"
        );
        assert_eq!(upstream.heads().len(), 1);
    }
}

#[test]
fn long_chunk_extensions_and_trailers_are_refused_and_counted() {
    let long = "y".repeat(300);
    let many = "x-t: 1\r\n".repeat(20);
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            connection.head();
            connection.body(usize::MAX);
        });
        let spec = "{role: gateway, limits: {maxChunkExtensionBytes: 100, maxTrailerBytes: 200, \
                    maxHeaders: 15}}";
        let (proxy, address) = start(driver, upstream.address, spec);
        for (body, expected) in [
            (format!("1;{long}\r\nx\r\n0\r\n\r\n"), 400),
            (format!("1\r\nx\r\n0\r\nx-trailer: {long}\r\n\r\n"), 431),
            (format!("1\r\nx\r\n0\r\n{many}\r\n"), 431),
        ] {
            let head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
            // In one piece, and with the body behind a head that is on its way already.
            for pieces in [
                vec![[head, body.as_bytes()].concat()],
                vec![
                    [&head[..], b"1\r\nx\r\n"].concat(),
                    body.clone().into_bytes(),
                ],
            ] {
                let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
                let (answer, _) = converse(address, &pieces);
                assert_eq!(status(&answer), expected, "{body:?}: {answer}");
            }
        }
        let stat =
            |name: &str| proxy.stat(&format!("http.{}_{}.{name}", address.ip(), address.port()));
        until_equal("bodies that were refused", 6, || {
            stat("downstream_rq_body_limit")
        });
        assert_eq!(stat("downstream_rq_body_error"), 0);
    }
}

/// A quote that does not end, and whatever else readers could take for different lines; and much that
/// is no content.
#[test]
fn what_is_no_chunk_extension_reaches_nobody() {
    const BROKEN: [&str; 4] = [
        "2;a=\"\r\nok\r\n0\r\n\r\n",
        "2;a=\"b\"c\r\nok\r\n0\r\n\r\n",
        "2;a=\u{1}\r\nok\r\n0\r\n\r\n",
        "2;\r\nok\r\n0\r\n\r\n",
    ];
    let padded = "1;aaaaaaaaaaaaaaa\r\nx\r\n".repeat(300) + "0\r\n\r\n";
    let fine = "2 ; a = \"\\\"\" ;b\r\nok\r\n0\r\n\r\n";
    for driver in DRIVERS {
        let answers = [&BROKEN[..], &[&padded, fine]].concat();
        let answers: Vec<String> = answers.into_iter().map(String::from).collect();
        let upstream = ScriptedUpstream::start(move |connection| {
            while let Some((path, _)) = connection.head() {
                let Ok(number) = path[1..].parse::<usize>() else {
                    connection.body(usize::MAX);
                    return;
                };
                connection.send(format!(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}",
                    answers[number]
                ));
            }
        });
        let spec = "{role: gateway, limits: {maxChunkExtensionBytes: 64}}";
        let (proxy, address) = start(driver, upstream.address, spec);
        let ask = |method: &str, path: &str, more: &str| {
            let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n");
            converse(address, &[format!("{head}{more}").as_bytes()]).0
        };
        for body in BROKEN.iter().copied().chain([&*padded]) {
            let more = format!("transfer-encoding: chunked\r\n\r\n{body}");
            let answer = ask("POST", "/", &more);
            assert_eq!(status(&answer), 400, "{driver} {body:?}: {answer}");
        }
        for number in 0..=BROKEN.len() {
            let answer = ask("GET", &format!("/{number}"), "\r\n");
            assert_eq!(status(&answer), 502, "{driver} {number}: {answer}");
        }
        let answer = ask("GET", "/5", "\r\n");
        assert!(answer.ends_with(fine), "{answer}");
        proxy.until_metrics("response_flags=\"UPE\"");
        let listener = format!("http.{}_{}", address.ip(), address.port());
        proxy.until_stat(&format!("{listener}.downstream_rq_body_error"), 4);
        proxy.until_stat(&format!("{listener}.downstream_rq_body_limit"), 1);
    }
}

/// As Envoy counts them: the content, without what frames it.
#[test]
fn bodies_are_in_the_log_and_in_the_figures() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while let Some((path, head)) = connection.head() {
                let len = if head.contains("chunked") {
                    CHUNKS.len()
                } else {
                    1000
                };
                connection.body(if head.starts_with("POST") { len } else { 0 });
                connection.send(match path.split('?').next() {
                    Some("/chunks") => {
                        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{CHUNKS}")
                    }
                    _ => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_string(),
                });
            }
        });
        let spec = "{role: gateway, accessLog: {format: JSON}}";
        let (mut proxy, address) = start(driver, upstream.address, spec);
        let log = LogLines::of(&mut proxy);
        let logged = |path: &str| {
            let line = log.line_with(&format!("\"path\":\"{path}\""));
            serde_json::from_str::<serde_json::Value>(&line).expect("JSON")
        };
        let head = "POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\
                    connection: close\r\n\r\n";
        // The rest of the body comes behind a head that is on its way already.
        let (answer, _) = converse(address, &[head.as_bytes(), &[b'x'; 400], &[b'x'; 600]]);
        assert_eq!(status(&answer), 200, "{answer}");
        let line = logged("/length");
        assert_eq!(line["bytes_received"], 1000, "{line}");
        assert_eq!(line["bytes_sent"], 2, "{line}");
        let listener = format!("http.{}_{}", address.ip(), address.port());
        let (received, sent) = (head.len() + 1000, answer.len());
        for (name, bytes) in [("rx", received), ("tx", sent)] {
            let name = format!("{listener}.downstream_cx_{name}_bytes_total");
            proxy.until_stat(&name, bytes as u64);
        }
        let sum = |name: &str| {
            let text = proxy.admin("/stats/prometheus").body;
            let mut lines = text.lines();
            let line = lines.find(|line| line.starts_with(&format!("{name}_sum{{")));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        };
        for (name, bytes) in [
            ("istio_request_bytes", received),
            ("istio_response_bytes", sent),
        ] {
            until_equal(name, Some(bytes as f64), || sum(name));
        }

        let head = "POST /chunks HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\
                    connection: close\r\n\r\n";
        let (answer, _) = converse(address, &[head.as_bytes(), CHUNKS.as_bytes()]);
        assert!(answer.ends_with(CHUNKS), "{answer}");
        let line = logged("/chunks");
        assert_eq!(line["bytes_received"], 8, "{line}");
        assert_eq!(line["bytes_sent"], 8, "{line}");

        // Chunks are taken off for HTTP/1.0; the path names the request in the log.
        let (answer, _) = converse(address, &[b"GET /chunks?old HTTP/1.0\r\nhost: a\r\n\r\n"]);
        assert!(answer.ends_with("\r\n\r\nhelloyou"), "{answer}");
        assert_eq!(logged("/chunks?old")["bytes_sent"], 8);
    }
}

/// Eight bytes in two chunks.
const CHUNKS: &str = "5;a=b\r\nhello\r\n3\r\nyou\r\n0\r\nx-sum: 7\r\n\r\n";

/// As Envoy logs it: the head as the upstream saw it, but the path before a rewrite.
#[test]
fn the_log_shows_the_head_after_the_proxys_own_edits() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        });
        let spec = "{role: gateway, accessLog: {format: JSON}}";
        let (mut proxy, address) = start(driver, upstream.address, spec);
        let log = LogLines::of(&mut proxy);
        let request = "GET http://inner.test/a/../b%7E?c=.. HTTP/1.1\r\nhost: outer.test\r\n\
                       x-forwarded-for: 9.9.9.9\r\nx-forwarded-for: 8.8.8.8\r\n\
                       connection: close\r\n\r\n";
        converse(address, &[request.as_bytes()]);
        let line = log.line_with("\"path\":\"/b~?c=..\"");
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["authority"], "inner.test", "{line}");
        assert_eq!(
            line["x_forwarded_for"], "9.9.9.9,8.8.8.8,127.0.0.1",
            "{line}"
        );
        let seen = upstream.heads().pop().expect("a request");
        assert!(
            seen.contains("x-forwarded-for: 9.9.9.9,8.8.8.8,127.0.0.1\r\n"),
            "{seen}"
        );
        let id = line["request_id"].as_str().expect("an id");
        assert!(seen.contains(&format!("x-request-id: {id}\r\n")), "{seen}");
    }
}

/// A head is kept as long as its request lasts, and lies in the buffer that the first of the body
/// came in.
#[test]
fn uploads_whose_heads_fill_the_receive_buffers_all_end() {
    const CLIENTS: usize = 120;
    const FIRST_BYTES: usize = 20_000;
    const BODY_BYTES: usize = 60_000;
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                connection.body(BODY_BYTES);
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        });
        let limits = "{role: gateway, limits: {maxReceiveBuffers: 32}}";
        let (_proxy, address) = start(driver, upstream.address, limits);
        let begin = || {
            let mut client = TcpStream::connect(address).expect("connects");
            client.set_read_timeout(Some(PATIENCE)).expect("set");
            let mut first =
                format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {BODY_BYTES}\r\n\r\n")
                    .into_bytes();
            first.resize(first.len() + FIRST_BYTES, b'x');
            client.write_all(&first).expect("sent");
            client
        };
        let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| begin()).collect();
        until("each upload to have begun", || {
            upstream.heads().len() == CLIENTS
        });
        for mut client in clients {
            let rest = vec![b'x'; BODY_BYTES - FIRST_BYTES];
            client.write_all(&rest).expect("sent");
            let mut answer = [0; 12];
            client.read_exact(&mut answer).expect("is answered");
            assert_eq!(&answer, b"HTTP/1.1 200", "{driver}");
        }
    }
}
