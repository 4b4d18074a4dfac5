//! The access log on standard output.

mod harness;

use harness::http2::{client, eventually};
use harness::pki::{self, Authority, secret};
use harness::{
    Client, DRIVERS, LogLines, Proxy, Upstream, folder, free_address, gateway, get, https_gateway,
    on_each_driver, settings, splitting, until,
};
use http::{Method, Request};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

fn start(driver: &str, format: &str, upstream: &Upstream) -> (Proxy, std::net::SocketAddr) {
    let address = free_address();
    let spec = format!("{{role: gateway, accessLog: {{format: {format}}}}}");
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("settings.yaml", &settings(&spec)),
        ("split.yaml", &splitting(&[(upstream.address, 1)])),
    ]);
    (
        Proxy::start_with_stdout(config, &["--driver", driver], Stdio::piped()),
        address,
    )
}

#[test]
fn a_request_is_one_line_of_text_or_json() {
    for driver in DRIVERS {
        let upstream = Upstream::start("one");
        let (mut proxy, address) = start(driver, "TEXT", &upstream);
        get(address, "shop.example", "/cart?id=7");
        let mut line = String::new();
        BufReader::new(proxy.stdout())
            .read_line(&mut line)
            .expect("a line");
        assert!(
            line.contains("\"GET /cart?id=7 HTTP/1.1\" 200 - via_upstream"),
            "{line}"
        );
        let upstream_host = format!("\"{}\" outbound|80||up0.test ", upstream.address);
        let addresses = line.split_once(&upstream_host).expect("the endpoint").1;
        // Those of the proxy's two ends and of the client.
        let addresses = addresses.split(' ').take(3);
        let ports: Vec<u16> = addresses
            .map(|text| text.parse::<SocketAddr>().expect("an address").port())
            .collect();
        assert_eq!(ports[1], address.port(), "{line}");
        assert!(!ports.contains(&upstream.address.port()), "{line}");

        let (mut proxy, address) = start(driver, "JSON", &upstream);
        get(address, "shop.example", "/cart?id=7");
        let mut line = String::new();
        BufReader::new(proxy.stdout())
            .read_line(&mut line)
            .expect("a line");
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["path"], "/cart?id=7");
        assert_eq!(value["response_code"], 200);
        assert_eq!(value["upstream_host"], upstream.address.to_string());
        let local = value["upstream_local_address"].as_str();
        assert!(local.is_some_and(|local| local.starts_with("127.0.0.1:")));
    }
}

/// Without these lines nobody sees who sends what is refused.
#[test]
fn requests_refused_in_the_head_are_missing() {
    on_each_driver(|driver| {
        let upstream = Upstream::start("one");
        for format in ["TEXT", "JSON"] {
            let address = free_address();
            let spec = format!(
                "{{role: gateway, accessLog: {{format: {format}}}, limits: {{requestHeadTimeout: 1s}}}}"
            );
            let config = folder(&[
                ("gate.yaml", &gateway(address)),
                ("settings.yaml", &settings(&spec)),
                ("split.yaml", &splitting(&[(upstream.address, 1)])),
            ]);
            let mut proxy = Proxy::start_with_stdout(config, &["--driver", driver], Stdio::piped());
            let lines = LogLines::of(&mut proxy);
            let long = format!(
                "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
                "a".repeat(70_000)
            );
            for (request, status, flags, details, body_bytes) in [
                ("nonsense\r\n\r\n", 400, "DPE", "http1.codec_error", 11),
                (&long, 431, "DPE", "http1.headers_too_large", 31),
                (
                    "GET / HTTP/1.1\r\n\r\n",
                    400,
                    "-",
                    "missing_host_header",
                    11,
                ),
                (
                    "GET / HTTP/1.1\r\nhost: a",
                    408,
                    "-",
                    "request_header_timeout",
                    22,
                ),
            ] {
                let mut client = Client::connect(address).expect("connects");
                client.write(request.as_bytes());
                assert_eq!(client.answer().expect("an answer").status, status);
                let line = lines.line_with(details);
                if format == "TEXT" {
                    let told = format!(
                        "\"- - HTTP/1.1\" {status} {flags} {details} - \"-\" 0 {body_bytes} "
                    );
                    assert!(line.contains(&told), "{line}");
                    assert!(
                        line.contains(" - \"-\" \"-\" \"-\" \"-\" \"-\" - - "),
                        "{line}"
                    );
                    assert!(
                        line.contains(&format!(" - - {address} 127.0.0.1:")),
                        "{line}"
                    );
                } else {
                    let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                    let of = |key: &str| value[key].clone();
                    assert_eq!((of("method"), of("path")), (().into(), ().into()), "{line}");
                    assert_eq!(of("response_code"), status, "{line}");
                    assert_eq!(of("response_flags"), flags, "{line}");
                    assert_eq!(
                        of("downstream_local_address"),
                        address.to_string(),
                        "{line}"
                    );
                    let lasted_ms = of("duration").as_u64().expect("a number");
                    assert_eq!(lasted_ms >= 1000, status == 408, "{line}");
                }
            }
            // One that the client gives up within its head, as Envoy has it; nothing for one that ends
            // between requests.
            drop(Client::connect(address).expect("connects"));
            let mut client = Client::connect(address).expect("connects");
            client.write(b"GET / HT");
            drop(client);
            let line = lines.line_with("downstream_remote_disconnect");
            assert!(line.contains("DC"), "{line}");
            get(address, "shop.example", "/last");
            lines.line_with("/last");
            assert_eq!(lines.count_with("downstream_remote_disconnect"), 1);
            lines.wait_for(6);
        }
    });
}

/// It is refused as over HTTP/1.1, and nobody may ask for it unseen.
#[test]
fn a_tunnel_over_http2_is_refused_without_a_line() {
    for driver in DRIVERS {
        let upstream = Upstream::start("one");
        let (mut proxy, address) = start(driver, "TEXT", &upstream);
        let lines = LogLines::of(&mut proxy);
        client(address, |send| async move {
            for (authority, status) in [("shop.example:443", 403), ("shop.example", 400)] {
                let mut send = send.clone().ready().await.expect("a connection");
                let request = Request::builder().method(Method::CONNECT).uri(authority);
                let request = request.body(()).expect("a request");
                let (response, _tunnel) = send.send_request(request, false).expect("sent");
                let response = response.await.expect("an answer");
                assert_eq!(response.status(), status, "{authority}");
            }
        });
        let line = lines.line_with("CONNECT - HTTP/2\"");
        assert!(line.contains("\" 403 - upgrade_failed - "), "{line}");
        assert!(line.contains("\"shop.example:443\""), "{line}");
        let line = lines.line_with("\"- - HTTP/2\"");
        assert!(line.contains(" 400 DPE http1.invalid_url "), "{line}");
    }
}

/// Nobody but the proxy saw who asks for a protocol that it does not carry.
#[test]
fn an_unknown_protocol_over_http2_is_refused_without_a_line() {
    for driver in DRIVERS {
        let upstream = Upstream::start("one");
        let (mut proxy, address) = start(driver, "TEXT", &upstream);
        let lines = LogLines::of(&mut proxy);
        client(address, |send| async move {
            let is_allowed = || send.is_extended_connect_protocol_enabled();
            eventually("the extended CONNECT", is_allowed).await;
            let mut request = Request::new(());
            *request.method_mut() = Method::CONNECT;
            *request.uri_mut() = "http://shop.example/foo".parse().expect("a URI");
            let protocol = h2::ext::Protocol::from_static("foo");
            request.extensions_mut().insert(protocol);
            let mut other = request.clone();
            let mut send = send.ready().await.expect("a connection");
            let (response, _tunnel) = send.send_request(request, false).expect("sent");
            assert_eq!(response.await.expect("an answer").status(), 403);
            // What is no token could be more than a line.
            let protocol = h2::ext::Protocol::from_static("foo\r\nx-evil: 1");
            other.extensions_mut().insert(protocol);
            let mut send = send.ready().await.expect("a connection");
            let (response, _tunnel) = send.send_request(other, false).expect("sent");
            let error = response.await.expect_err("malformed");
            assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR));
        });
        let line = lines.line_with("\"GET /foo HTTP/2\"");
        assert!(line.contains("\" 403 - upgrade_failed - "), "{line}");
        let refused = format!(
            "http.127.0.0.1_{}.downstream_rq_upgrade_refused",
            address.port()
        );
        proxy.until_stat(&refused, 1);
        assert_eq!(upstream.requests(), 0);
    }
}

/// Connections of TCP had it.
#[test]
fn requests_over_tls_are_logged_without_the_name_that_was_asked_for() {
    for driver in DRIVERS {
        let authority = Authority::new();
        let upstream = Upstream::start("one");
        for format in ["TEXT", "JSON"] {
            let address = free_address();
            let gate = https_gateway(address, &[("*", "{mode: SIMPLE, credentialName: shop}")]);
            let spec = format!("{{role: gateway, accessLog: {{format: {format}}}}}");
            let config = folder(&[
                ("gate.yaml", &gate),
                (
                    "secret.yaml",
                    &secret("shop", &authority.issue(&["shop.test"]), None),
                ),
                ("settings.yaml", &settings(&spec)),
                ("split.yaml", &splitting(&[(upstream.address, 1)])),
            ]);
            let mut proxy = Proxy::start_with_stdout(config, &["--driver", driver], Stdio::piped());
            let lines = LogLines::of(&mut proxy);
            let config = Arc::new(authority.client(None));
            let answer = pki::get(address, "shop.test", "/cart", &config).expect("an answer");
            assert!(answer.ends_with("one"), "{answer}");
            let line = lines.line_with("/cart");
            if format == "TEXT" {
                assert!(line.contains(" shop.test "), "{line}");
            } else {
                let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                assert_eq!(value["requested_server_name"], "shop.test", "{line}");
            }
        }
    }
}

/// Nobody reads the pipe: requests and the admin interface go on, and lines are dropped.
#[test]
fn a_blocked_output_holds_nothing_up() {
    for driver in DRIVERS {
        let upstream = Upstream::start("one");
        let (mut proxy, address) = start(driver, "TEXT", &upstream);
        let _unread = proxy.stdout();
        let mut client = Client::connect(address).expect("connects");
        // Long paths fill the pipe and the queue sooner.
        let target = format!("/{}", "x".repeat(8_000));
        until("dropped lines", || {
            for _ in 0..100 {
                assert_eq!(
                    client
                        .send("GET", "shop.example", &target)
                        .expect("sent")
                        .status,
                    200
                );
            }
            proxy.stat("access_log.lines_dropped") > 0
        });
        until("the worker that dropped them", || {
            (0..2).any(|worker| proxy.stat(&format!("worker_{worker}.access_log_dropped")) > 0)
        });
        assert_eq!(
            client
                .send("GET", "shop.example", "/")
                .expect("an answer")
                .status,
            200
        );
        assert_eq!(proxy.admin("/ready").body, "LIVE\n");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_told_once_with_the_reason() {
    for driver in DRIVERS {
        let upstream = Upstream::start("one");
        let (mut proxy, address) = start(driver, "TEXT", &upstream);
        drop(proxy.stdout());
        let mut client = Client::connect(address).expect("connects");
        let mut send_until_dropped = |lines: u64| {
            until("dropped lines", || {
                let answer = client.send("GET", "shop.example", "/").expect("sent");
                assert_eq!(answer.status, 200);
                proxy.stat("access_log.lines_dropped") >= lines
            });
        };
        send_until_dropped(1);
        let told = "the access log cannot be written: Broken pipe";
        proxy.until_logged(told);
        send_until_dropped(20);
        assert_eq!(proxy.log().matches(told).count(), 1, "{}", proxy.log());
    }
}
