//! WebSocket between clients and upstreams of either version of HTTP, on both drivers. HTTP/2 has
//! it by the extended CONNECT (RFC 8441).

mod harness;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::Builder;
use harness::http2::{Call, Http2Upstream, client, eventually, fields, send_all};
use harness::pool::{ANY, pool, start_edited_http2_pool};
use harness::raw::{ScriptedConnection, ScriptedUpstream, converse, status};
use harness::{DRIVERS, PATIENCE, Proxy, folder, free_address, gateway, settings};
use http::{Method, Request, Response, StatusCode};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

/// The example of RFC 6455 section 1.3, and what answers it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn accept_of(key: &str) -> String {
    let key = [key.as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &key);
    BASE64_STANDARD.encode(digest)
}

/// A server of HTTP/1.1 that sends back what it gets, and `bye` behind the end.
fn http1_server() -> ScriptedUpstream {
    ScriptedUpstream::start(|connection| {
        let Some((path, head)) = connection.head() else {
            return;
        };
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("sec-websocket-key: "));
        let accept = match (path.as_str(), key) {
            ("/refused", _) => {
                return connection.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
            }
            ("/ignored", _) => {
                return connection.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
            }
            ("/liar", _) => "bm90IHRoZSByaWdodCBvbmU=".to_string(),
            (_, key) => accept_of(key.expect("a key")),
        };
        connection.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\nsec-websocket-protocol: chat\r\n\r\n"
        ));
        echo(connection);
    })
}

fn echo(connection: &mut ScriptedConnection) {
    let mut piece = [0; 1024];
    loop {
        match connection.stream.read(&mut piece) {
            Ok(0) => {
                connection.send("bye");
                let _ = connection.stream.shutdown(Shutdown::Write);
                return;
            }
            Ok(len) => connection.send(&piece[..len]),
            Err(_) => return,
        }
    }
}

/// The same over HTTP/2.
fn http2_server() -> Http2Upstream {
    let mut builder = Builder::new();
    builder.enable_connect_protocol();
    Http2Upstream::start_with(builder, |mut call: Call| async move {
        let protocol = call.request.extensions().get::<h2::ext::Protocol>();
        assert_eq!(protocol.map(h2::ext::Protocol::as_str), Some("websocket"));
        assert!(!call.request.headers().contains_key("sec-websocket-key"));
        if call.path() == "/refused" {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::FORBIDDEN;
            let mut out = call.start(response, false);
            let _ = out.send_data("no".into(), true);
            return;
        }
        let mut response = Response::new(());
        *response.headers_mut() = fields(&[("sec-websocket-protocol", "chat")]);
        let mut out = call.start(response, false);
        while let Some(Ok(data)) = call.body.data().await {
            let _ = call.body.flow_control().release_capacity(data.len());
            let _ = send_all(&mut out, &data, false).await;
        }
        let _ = out.send_data("bye".into(), true);
    })
}

fn over_http1(driver: &str, upstream: SocketAddr) -> (Proxy, SocketAddr) {
    let address = free_address();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("settings.yaml", &settings("{role: gateway}")),
        ("pool.yaml", &pool(&[upstream], "")),
    ]);
    let args = ["--driver", driver, "--workers", "1"];
    (Proxy::start_with_workers(config, &args), address)
}

fn over_http2(driver: &str, upstream: SocketAddr) -> (Proxy, SocketAddr) {
    start_edited_http2_pool(driver, &[upstream], ANY, |text| text)
}

fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: {KEY}\r\nsec-websocket-version: 13\r\n\
         sec-websocket-protocol: chat\r\n\r\n"
    )
}

/// A client of HTTP/1.1 that talks, listens and ends its side.
fn talk_http1(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(upgrade("/chat").as_bytes()).expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for line in [
        "connection: upgrade\r\n".to_string(),
        "upgrade: websocket\r\n".to_string(),
        "sec-websocket-protocol: chat\r\n".to_string(),
        format!("sec-websocket-accept: {}\r\n", ACCEPT.to_ascii_lowercase()),
    ] {
        assert_eq!(head.matches(&line).count(), 1, "{line} in {head}");
    }
    for number in 0..20u8 {
        let sent = [number; 300];
        stream.write_all(&sent).expect("sent");
        let mut got = [0; 300];
        stream.read_exact(&mut got).expect("an echo");
        assert_eq!(got, sent);
    }
    stream.shutdown(Shutdown::Write).expect("shut down");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the end");
    assert_eq!(rest, b"bye");
}

fn connect_request(path: &str) -> Request<()> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://a.test{path}"))
        .body(())
        .expect("a request");
    let websocket = h2::ext::Protocol::from_static("websocket");
    request.extensions_mut().insert(websocket);
    let more = [
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat"),
    ];
    request.headers_mut().extend(fields(&more));
    request
}

/// Waits for the proxy's SETTINGS, which allow the extended CONNECT.
async fn ready(send: &SendRequest<Bytes>) -> SendRequest<Bytes> {
    let is_allowed = || send.is_extended_connect_protocol_enabled();
    eventually("the extended CONNECT", is_allowed).await;
    send.clone().ready().await.expect("a connection")
}

fn talk_http2(address: SocketAddr) {
    client(address, |send| async move {
        let mut send = ready(&send).await;
        let (response, mut out) = send.send_request(connect_request("/chat"), false).unwrap();
        let (parts, mut body) = response.await.expect("an answer").into_parts();
        assert_eq!(parts.status, StatusCode::OK);
        assert_eq!(parts.headers["sec-websocket-protocol"], "chat");
        for gone in [
            "sec-websocket-accept",
            "upgrade",
            "connection",
            "transfer-encoding",
        ] {
            assert!(!parts.headers.contains_key(gone), "{gone}");
        }
        for number in 0..20u8 {
            let sent = [number; 300];
            send_all(&mut out, &sent, false).await.unwrap();
            let mut got = Vec::new();
            while got.len() < sent.len() {
                let data = body.data().await.expect("an echo").unwrap();
                let _ = body.flow_control().release_capacity(data.len());
                got.extend_from_slice(&data);
            }
            assert_eq!(got, sent);
        }
        out.send_data(Bytes::new(), true).unwrap();
        let mut rest = Vec::new();
        while let Some(data) = body.data().await {
            rest.extend_from_slice(&data.unwrap());
        }
        assert_eq!(rest, b"bye");
    });
}

#[test]
fn every_pairing_carries_a_websocket_with_its_half_close() {
    for driver in DRIVERS {
        let (one, two) = (http1_server(), http2_server());
        let (_proxy, address) = over_http1(driver, one.address);
        talk_http1(address);
        talk_http2(address);
        let heads = one.heads();
        let keys: Vec<&str> = heads
            .iter()
            .filter_map(|head| {
                head.lines()
                    .find_map(|line| line.strip_prefix("sec-websocket-key: "))
            })
            .collect();
        assert_eq!(keys[0], KEY);
        assert_eq!(BASE64_STANDARD.decode(keys[1]).expect("base64").len(), 16);

        let (_proxy, address) = over_http2(driver, two.address);
        talk_http1(address);
        talk_http2(address);
        assert_eq!(two.connections(), 1);
    }
}

#[test]
fn refusals_of_a_websocket_are_passed_on() {
    for driver in DRIVERS {
        let (one, two) = (http1_server(), http2_server());
        for (_proxy, address) in [
            over_http1(driver, one.address),
            over_http2(driver, two.address),
        ] {
            let (answer, _) = converse(address, &[upgrade("/refused").as_bytes()]);
            assert_eq!(status(&answer), 403, "{answer}");
            client(address, |send| async move {
                let mut send = ready(&send).await;
                let sent = send.send_request(connect_request("/refused"), false);
                let response = sent.unwrap().0.await.expect("an answer");
                assert_eq!(response.status(), StatusCode::FORBIDDEN);
            });
        }
    }
}

/// What the client has sent in the meantime was meant for the tunnel.
#[test]
fn nothing_is_served_behind_a_websocket_that_was_not_granted() {
    for driver in DRIVERS {
        let one = http1_server();
        let (_proxy, address) = over_http1(driver, one.address);
        for (path, expected) in [("/refused", 403), ("/ignored", 200)] {
            let before = one.heads().len();
            let behind = b"frameGET /behind HTTP/1.1\r\nhost: a.test\r\n\r\n";
            let (answer, _) = converse(address, &[upgrade(path).as_bytes(), behind]);
            assert_eq!(status(&answer), expected, "{driver} {answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
            assert_eq!(one.heads().len() - before, 1, "{driver} {path}");
        }
        // Nor behind an answer of our own.
        let (_proxy, address) = over_http1(driver, free_address());
        let (answer, _) = converse(address, &[upgrade("/chat").as_bytes(), b"frame"]);
        assert_eq!(status(&answer), 503, "{driver} {answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
}

#[test]
fn a_server_that_has_not_understood_is_a_bad_gateway() {
    let one = http1_server();
    let (_proxy, address) = over_http1("auto", one.address);
    for path in ["/liar", "/ignored"] {
        client(address, |send| async move {
            let mut send = ready(&send).await;
            let sent = send.send_request(connect_request(path), false);
            let response = sent.unwrap().0.await.expect("an answer");
            assert_eq!(response.status(), StatusCode::BAD_GATEWAY, "{path}");
        });
    }
    // One that does not know the extended CONNECT.
    let plain = Http2Upstream::start(|mut call| async move { call.answer(b"", None).await });
    let (_proxy, address) = over_http2("auto", plain.address);
    let (answer, _) = converse(address, &[upgrade("/chat").as_bytes()]);
    assert_eq!(status(&answer), 502, "{answer}");
    assert_eq!(plain.requests(), 0);
}
