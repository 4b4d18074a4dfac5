//! The action CUSTOM over gRPC: Envoy's authorization service is asked by HTTP/2, on both drivers.

mod harness;
#[path = "../engine/src/proxy/check/messages.rs"]
#[allow(unreachable_pub)]
mod messages;

use harness::access::{Setup, policy, start_with_settings};
use harness::http2::{Call, Http2Upstream, fields, ok_with, read_all};
use harness::raw::{converse, status};
use harness::tcp::{connect, echo, raw_gateway, route, service};
use harness::{Client, DRIVERS, LogLines, Proxy, folder, free_address, settings, until};
use messages::{
    BoolValue, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderAppendAction, HeaderValue,
    HeaderValueOption, HttpStatus, OkHttpResponse, QueryParameter, Status,
};
use prost::Message as _;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

/// A service that answers by a function, and keeps what it was asked.
struct Judge {
    upstream: Http2Upstream,
    asked: Arc<Mutex<Vec<CheckRequest>>>,
}

impl Judge {
    fn start(judge: impl Fn(&CheckRequest) -> CheckResponse + Send + Sync + 'static) -> Self {
        let asked = Arc::<Mutex<Vec<CheckRequest>>>::default();
        let kept = Arc::clone(&asked);
        let judge = Arc::new(judge);
        let upstream = Http2Upstream::start(move |mut call: Call| {
            let (kept, judge) = (Arc::clone(&kept), Arc::clone(&judge));
            async move {
                let bytes = read_all(&mut call.body).await.expect("a message");
                let message = CheckRequest::decode(&bytes[5..]).expect("a message");
                let response = judge(&message);
                kept.lock().expect("not poisoned").push(message);
                let mut framed = vec![0];
                framed.extend((response.encoded_len() as u32).to_be_bytes());
                framed.extend(response.encode_to_vec());
                call.answer(&framed, Some(fields(&[("grpc-status", "0")])))
                    .await;
            }
        });
        Self { upstream, asked }
    }

    fn last(&self) -> CheckRequest {
        let asked = self.asked.lock().expect("not poisoned");
        asked.last().expect("it was asked").clone()
    }
}

/// The service that is asked, as a document.
fn judge_at(address: SocketAddr) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: judge}}\n\
         spec:\n  hosts: [judge.test]\n  resolution: STATIC\n  \
         ports: [{{number: 9191, name: grpc, protocol: GRPC}}]\n  endpoints:\n  \
         - address: {}\n    ports: {{grpc: {}}}\n",
        address.ip(),
        address.port()
    )
}

fn provider(more: &str) -> String {
    format!(
        "accessLog: {{format: JSON}}, extensionProviders: [{{name: judge, envoyExtAuthzGrpc: \
         {{service: judge.test, port: 9191{more}}}}}]"
    )
}

fn setup(driver: &str, judge: SocketAddr, more: &str) -> Setup {
    let asking = policy(
        "ask",
        &json!({"action": "CUSTOM", "provider": {"name": "judge"}, "rules": [
            {"to": [{"operation": {"paths": ["/asked", "/asked/*"]}}]},
        ]}),
    );
    let spec = format!("{{{}}}", provider(more));
    start_with_settings(driver, &(judge_at(judge) + &asking), &spec, Stdio::piped())
}

fn option(name: &str, value: &str, appends: bool) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_string(),
            value: value.to_string(),
            raw_value: Vec::new(),
        }),
        append: Some(BoolValue { value: appends }),
        append_action: 0,
    }
}

fn by_action(name: &str, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        append: None,
        append_action: action as i32,
        ..option(name, "judge", false)
    }
}

fn denied(status: i32) -> CheckResponse {
    CheckResponse {
        status: Some(Status {
            code: 7,
            message: String::new(),
        }),
        denied_response: Some(DeniedHttpResponse {
            status: Some(HttpStatus { code: status }),
            headers: vec![
                option("x-why", "no reason", false),
                option("set-cookie", "a=1", true),
            ],
            body: "not you".to_string(),
        }),
        ok_response: None,
    }
}

#[test]
fn a_service_is_shown_the_request_and_decides() {
    for driver in DRIVERS {
        let judge = Judge::start(|message| {
            let attributes = message.attributes.clone().unwrap_or_default();
            let http = attributes.request.and_then(|request| request.http);
            match http.is_some_and(|http| http.path.starts_with("/asked/no")) {
                true => denied(401),
                false => CheckResponse {
                    status: None,
                    denied_response: None,
                    ok_response: Some(OkHttpResponse {
                        headers: vec![
                            option("x-user", "ann", false),
                            option("X-Also", "2", true),
                            option("host", "evil.test", false),
                            option("content-length", "77", false),
                            option(":path", "/evil", false),
                        ],
                        headers_to_remove: vec!["x-secret".to_string(), "Host".to_string()],
                        response_headers_to_add: vec![
                            option("x-seen", "yes", false),
                            by_action("x-fresh", HeaderAppendAction::AddIfAbsent),
                            by_action("content-type", HeaderAppendAction::AddIfAbsent),
                            by_action("content-language", HeaderAppendAction::OverwriteIfExists),
                            by_action("x-none", HeaderAppendAction::OverwriteIfExists),
                        ],
                        query_parameters_to_set: vec![QueryParameter {
                            key: "by".to_string(),
                            value: "ann and\r\nbob".to_string(),
                        }],
                        query_parameters_to_remove: vec!["q".to_string()],
                    }),
                },
            }
        });
        let mut setup = setup(driver, judge.upstream.address, "");
        let log = LogLines::of(&mut setup.proxy);
        let headers = "x-user: root\r\nx-also: 1\r\nx-secret: s\r\nX-Many: a\r\nx-many: b";
        let (answered, answer) = setup.get("/x/%2e./asked/yes?q=1&a=1", headers);
        assert_eq!(answered, 200, "{answer}");
        for line in ["x-seen: yes", "x-fresh: judge", "content-type: text/plain"] {
            assert!(answer.contains(&format!("\r\n{line}\r\n")), "{answer}");
        }
        assert!(
            answer.contains("\r\ncontent-language: judge\r\n"),
            "{answer}"
        );
        assert!(!answer.contains("x-none") && !answer.contains("\r\ncontent-language: en"));
        assert!(!answer.contains("\r\ncontent-type: judge"), "{answer}");
        let head = setup.last_head().to_ascii_lowercase();
        for line in ["host: shop.test", "x-user: ann", "x-also: 1,2"] {
            assert_eq!(
                head.matches(&format!("\r\n{line}\r\n")).count(),
                1,
                "{line}: {head}"
            );
        }
        for absent in ["root", "x-secret", "evil", "content-length"] {
            assert!(!head.contains(absent), "{absent}: {head}");
        }
        assert!(
            head.starts_with("get /asked/yes?a=1&by=ann%20and%0d%0abob http/1.1\r\n"),
            "{head}"
        );
        let call = judge.upstream.heads().pop().expect("it was asked");
        assert_eq!(
            call.uri().path(),
            "/envoy.service.auth.v3.Authorization/Check"
        );
        assert_eq!(call.headers()["content-type"], "application/grpc");
        assert_eq!(call.headers()["te"], "trailers");
        let authority = call.uri().authority().expect("an authority");
        assert_eq!(authority.as_str(), "outbound_.9191_._.judge.test");
        let attributes = judge.last().attributes.expect("attributes");
        let source = attributes
            .source
            .and_then(|peer| peer.address)
            .expect("an address");
        assert_eq!(
            source.socket_address.expect("of a socket").address,
            "127.0.0.1"
        );
        let destination = attributes.destination.and_then(|peer| peer.address);
        let destination = destination
            .and_then(|it| it.socket_address)
            .expect("an address");
        assert_eq!(destination.port_value, u32::from(setup.address.port()));
        let request = attributes.request.expect("a request");
        assert!(request.time.expect("a time").seconds > 1_700_000_000);
        let http = request.http.expect("a request of HTTP");
        assert_eq!(
            (http.method.as_str(), http.path.as_str(), http.host.as_str()),
            ("GET", "/asked/yes?q=1&a=1", "shop.test")
        );
        assert_eq!((http.scheme.as_str(), http.size), ("http", 0));
        for (name, value) in [
            (":path", "/asked/yes?q=1&a=1"),
            (":authority", "shop.test"),
            ("x-user", "root"),
            ("x-many", "a,b"),
            ("x-forwarded-for", "127.0.0.1"),
        ] {
            assert_eq!(
                http.headers.get(name).map(String::as_str),
                Some(value),
                "{name}"
            );
        }
        assert_eq!(http.headers.get("x-request-id"), Some(&http.id));
        assert!(!http.id.is_empty() && !http.headers.contains_key("connection"));

        let (answered, answer) = setup.get("/asked/no", "");
        assert_eq!(answered, 401, "{answer}");
        assert!(answer.ends_with("\r\n\r\nnot you"), "{answer}");
        assert!(answer.contains("\r\nx-why: no reason\r\n"), "{answer}");
        assert!(answer.contains("\r\nset-cookie: a=1\r\n"), "{answer}");
        let line = log.line_with("ext_authz_denied");
        assert!(line.contains("\"response_flags\":\"UAEX\""), "{line}");
        assert_eq!(setup.upstream.heads().len(), 1);
        // Checks are streams of one connection for each worker.
        for _ in 0..6 {
            assert_eq!(setup.get("/asked/yes", "").0, 200);
        }
        assert!(
            judge.upstream.connections() <= 2,
            "{}",
            judge.upstream.connections()
        );
        setup.until_sum_of("ext_authz_ok", 7);
        setup.until_sum_of("ext_authz_denied", 1);
    }
}

#[test]
fn a_body_is_part_of_the_message() {
    for driver in DRIVERS {
        for (more, as_bytes) in [("", false), (", packAsBytes: true", true)] {
            let judge = Judge::start(|_| denied(403));
            let body = format!(
                ", includeRequestBodyInCheck: {{maxRequestBytes: 4, allowPartialMessage: true{more}}}"
            );
            let setup = setup(driver, judge.upstream.address, &body);
            let ask = |body: &str| {
                let request = format!(
                    "POST /asked HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\
                     content-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let (answer, _) = converse(setup.address, &[request.as_bytes()]);
                assert_eq!(status(&answer), 403, "{answer}");
                let attributes = judge.last().attributes.expect("attributes");
                let request = attributes.request.expect("a request");
                let http = request.http.expect("a request of HTTP");
                let shown = match as_bytes {
                    true => http.raw_body.clone(),
                    false => http.body.clone().into_bytes(),
                };
                (shown, http)
            };
            let partial = "x-envoy-auth-partial-body";
            let (shown, http) = ask("abc");
            assert_eq!(shown, b"abc");
            assert_eq!(http.headers[partial], "false");
            assert_eq!(http.size, 3);
            let (shown, http) = ask("abcdefgh");
            assert_eq!(shown, b"abcd");
            assert_eq!(http.headers[partial], "true");
        }
    }
}

#[test]
fn a_call_that_fails_refuses_or_passes_as_the_provider_says() {
    for driver in DRIVERS {
        type Fail = fn(&mut Call) -> Option<(Vec<u8>, &'static str)>;
        let failures: [Fail; 4] = [
            // A status in the head alone.
            |call| {
                call.start(ok_with(&[("grpc-status", "14")]), true);
                None
            },
            |_| Some((vec![0, 0, 0, 0, 0], "5")),
            // Shorter than it says.
            |_| Some((vec![0, 0, 0, 0, 9, 1], "0")),
            |call| {
                call.close_connection();
                None
            },
        ];
        for (at, fail) in failures.into_iter().enumerate() {
            let judge = Http2Upstream::start(move |mut call: Call| async move {
                if let Some((message, status)) = fail(&mut call) {
                    let trailers = fields(&[("grpc-status", status)]);
                    call.answer(&message, Some(trailers)).await;
                }
            });
            let closed = setup(driver, judge.address, ", statusOnError: '503'");
            assert_eq!(closed.get("/asked", "").0, 503, "failure {at}");
            closed.until_sum_of("ext_authz_error", 1);
            assert!(closed.upstream.heads().is_empty());
            if at == 0 {
                let open = setup(driver, judge.address, ", failOpen: true");
                assert_eq!(open.get("/asked", "").0, 200);
            }
        }
        let silent = Http2Upstream::start(|mut call: Call| async move {
            call.wait_for_reset().await;
        });
        let setup = setup(driver, silent.address, ", timeout: 2s");
        let mut waiting = Client::connect(setup.address).expect("connects");
        waiting.start("GET", "shop.test", "/asked").expect("sent");
        until("the check", || silent.requests() == 1);
        assert_eq!(setup.get("/other", "").0, 200, "others are served");
        assert_eq!(waiting.answer().expect("an answer").status, 403);
        until("the call is given up", || silent.resets().len() == 1);
    }
}

#[test]
fn connections_of_tcp_are_asked_about_too() {
    for driver in DRIVERS {
        let allows = Arc::new(Mutex::new(true));
        let answer = Arc::clone(&allows);
        let judge = Judge::start(move |_| match *answer.lock().expect("not poisoned") {
            true => CheckResponse::default(),
            false => denied(403),
        });
        let address = free_address();
        let asking = policy(
            "ask",
            &json!({"action": "CUSTOM", "provider": {"name": "judge"}, "rules": [
                {"to": [{"operation": {"ports": [address.port().to_string()]}}]},
            ]}),
        );
        let spec = format!("{{role: gateway, {}}}", provider(""));
        let documents = route(address) + &service(echo()) + &judge_at(judge.upstream.address);
        let config = folder(&[
            ("gate.yaml", &raw_gateway(address, "TCP", "")),
            ("route.yaml", &(documents + &asking)),
            ("settings.yaml", &settings(&spec)),
        ]);
        let mut proxy = Proxy::start_with_stdout(config, &["--driver", driver], Stdio::piped());
        let log = LogLines::of(&mut proxy);
        let mut client = connect(address);
        client.write_all(b"a").expect("sent");
        client.read_exact(&mut [0]).expect("it may pass");
        let attributes = judge.last().attributes.expect("attributes");
        assert!(attributes.request.is_none());
        let source = attributes.source.and_then(|peer| peer.address);
        let source = source
            .and_then(|address| address.socket_address)
            .expect("an address");
        let own = client.local_addr().expect("an address");
        assert_eq!(source.port_value, u32::from(own.port()));
        *allows.lock().expect("not poisoned") = false;
        let mut refused = connect(address);
        assert!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)));
        let line = log.line_with("ext_authz_denied");
        assert!(line.contains("\"response_flags\":\"UAEX\""), "{line}");
    }
}

/// What the client has sent must not pass for what the service has said of it.
#[test]
fn a_header_that_cannot_be_written_does_not_leave_the_clients_own_in_its_place() {
    for driver in DRIVERS {
        for fail_open in ["", ", failOpen: true"] {
            let judge = Judge::start(|_| CheckResponse {
                status: None,
                denied_response: None,
                ok_response: Some(OkHttpResponse {
                    headers: vec![option("x-user", "a\r\nx-evil: 1", false)],
                    ..OkHttpResponse::default()
                }),
            });
            let setup = setup(driver, judge.upstream.address, fail_open);
            let request = b"GET /asked HTTP/1.1\r\nhost: a.test\r\nx-user: eve\r\n\
                            connection: close\r\n\r\n";
            let (answer, _) = converse(setup.address, &[request]);
            assert_eq!(status(&answer), 403, "{fail_open} {answer}");
            assert_eq!(setup.upstream.heads(), [""; 0]);
            setup.until_sum_of("ext_authz_error", 1);
        }
    }
}
