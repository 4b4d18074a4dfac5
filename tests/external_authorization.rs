//! The action CUSTOM: a service is asked over HTTP, on both drivers, and what it says happens.

mod harness;
#[path = "../policy/tests/support/tokens.rs"]
mod tokens;

use harness::access::{Setup, authentication, bearer, now_unix_s, policy, start_with_settings};
use harness::raw::{ScriptedUpstream, converse, status};
use harness::{Client, DRIVERS, LogLines, until};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;
use tokens::Signer;

/// The service that is asked, as a document.
fn service(address: SocketAddr) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: judge}}\n\
         spec:\n  hosts: [judge.test]\n  resolution: STATIC\n  \
         ports: [{{number: 9191, name: http, protocol: HTTP}}]\n  endpoints:\n  \
         - address: {}\n    ports: {{http: {}}}\n",
        address.ip(),
        address.port()
    )
}

/// Everything below `/asked` is for the service to decide.
fn asking(judge: SocketAddr) -> String {
    let policy = policy(
        "ask",
        &json!({"action": "CUSTOM", "provider": {"name": "judge"}, "rules": [
            {"to": [{"operation": {"paths": ["/asked", "/asked/*"]}}]},
        ]}),
    );
    service(judge) + &policy
}

fn setup(driver: &str, judge: SocketAddr, provider: &str, more: &str, stdout: Stdio) -> Setup {
    let spec = format!(
        "{{accessLog: {{format: JSON}}, extensionProviders: [{{name: judge, envoyExtAuthzHttp: \
         {{service: judge.test, port: 9191{provider}}}}}]}}"
    );
    start_with_settings(driver, &(asking(judge) + more), &spec, stdout)
}

const YES: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A service that says the same to all.
fn saying(answer: impl Into<String>) -> ScriptedUpstream {
    let answer = answer.into();
    ScriptedUpstream::start(move |connection| {
        while connection.head().is_some() {
            connection.send(&answer);
        }
    })
}

#[test]
fn a_service_decides_and_sees_what_it_was_meant_to() {
    for driver in DRIVERS {
        let judge = ScriptedUpstream::start(|connection| {
            while let Some((path, _)) = connection.head() {
                match path.contains("/asked/no") {
                    false => connection.send(YES),
                    true => connection.send(
                        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic\r\nset-cookie: a=1\r\n\
                         set-cookie: b=2\r\ncontent-type: text/html\r\nserver: judge\r\n\
                         content-length: 5\r\n\r\nlogin",
                    ),
                }
            }
        });
        let provider = ", pathPrefix: /check, includeRequestHeadersInCheck: [x-shown, x-all-*], \
                        includeAdditionalHeadersInCheck: {x-from: gate, x-all-mine: set}";
        let mut setup = setup(driver, judge.address, provider, "", Stdio::piped());
        let log = LogLines::of(&mut setup.proxy);
        let headers = "x-shown: 1\r\nX-All-2: 2\r\nx-all-mine: theirs\r\nx-hidden: 3\r\n\
                       authorization: Basic x\r\ncookie: c=1";
        let (status, answer) = setup.get("/x/%2e./asked/yes?q=1", headers);
        assert_eq!(status, 200, "{answer}");
        let seen = judge.heads().pop().expect("it was asked");
        assert!(
            seen.starts_with("GET /check/asked/yes?q=1 HTTP/1.1\r\nhost: shop.test\r\n"),
            "{seen}"
        );
        for line in [
            "content-length: 0",
            "x-shown: 1",
            "X-All-2: 2",
            "authorization: Basic x",
            "x-from: gate",
            "x-all-mine: set",
        ] {
            assert!(seen.contains(&format!("\r\n{line}\r\n")), "{line}: {seen}");
        }
        for absent in ["x-hidden", "cookie", "theirs", "connection"] {
            assert!(!seen.contains(absent), "{absent}: {seen}");
        }
        assert!(
            setup.last_head().contains("x-hidden: 3\r\n"),
            "all of it goes on"
        );

        let (status, answer) = setup.get("/asked/no", "");
        assert_eq!(status, 401, "{answer}");
        let told = answer.to_ascii_lowercase();
        assert!(told.ends_with("\r\n\r\nlogin"), "{answer}");
        for line in [
            "www-authenticate: basic",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "content-type: text/html",
            "content-length: 5",
        ] {
            assert_eq!(
                told.matches(&format!("\r\n{line}\r\n")).count(),
                1,
                "{answer}"
            );
        }
        assert!(
            !told.contains("text/plain") && !told.contains("judge"),
            "{answer}"
        );
        assert_eq!(setup.get("/other", "").0, 200);
        assert_eq!(judge.heads().len(), 2, "nobody asks about other requests");
        assert_eq!(setup.upstream.heads().len(), 2);
        log.wait_for(3);
        let line = log.line_with("ext_authz_denied");
        assert!(line.contains("\"response_flags\":\"UAEX\""), "{line}");
        assert!(line.contains("\"route_name\""), "{line}");
        until("the counters", || {
            setup.sum_of("ext_authz_ok") == 1 && setup.sum_of("ext_authz_denied") == 1
        });
        let asked = "cluster.outbound|9191||judge.test.upstream_rq_total";
        setup.proxy.until_stat(asked, 2);
    }
}

#[test]
fn what_the_service_says_reaches_upstream_and_client_and_nobody_can_forge_it() {
    for driver in DRIVERS {
        let judge = saying(
            "HTTP/1.1 200 OK\r\nx-user: ann\r\nx-user: eve\r\nX-Role: cook\r\nx-not-listed: 1\r\n\
             x-envoy-auth-headers-to-remove: x-secret, host, content-length\r\n\
             host: evil.test\r\nset-cookie: s=1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        );
        let provider = ", headersToUpstreamOnAllow: [x-user, x-role, host, transfer-encoding], \
                        headersToDownstreamOnAllow: [set-cookie]";
        let setup = setup(driver, judge.address, provider, "", Stdio::null());
        let forged = "x-user: root\r\nX-USER: root\r\nx-secret: 1\r\nx-other: 2\r\n\
                      connection: x-role, keep-alive";
        let request = format!(
            "POST /asked HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 2\r\n{forged}\r\n\r\nhi\
             GET /other HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n"
        );
        let (answers, _) = converse(setup.address, &[request.as_bytes()]);
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
        assert_eq!(
            answers.matches("set-cookie: s=1\r\n").count(),
            1,
            "{answers}"
        );
        let heads = setup.upstream.heads();
        let head = heads.iter().find(|head| head.contains("/asked"));
        let head = head.expect("it went on").to_ascii_lowercase();
        assert_eq!(head.matches("x-user: ").count(), 1, "{head}");
        for line in [
            "host: shop.test",
            "x-user: eve",
            "x-role: cook",
            "x-other: 2",
            "content-length: 2",
        ] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
        }
        for absent in [
            "x-secret",
            "x-not-listed",
            "root",
            "transfer-encoding",
            "evil",
        ] {
            assert!(!head.contains(absent), "{absent}: {head}");
        }
    }
}

/// A route of its own for requests with `x-user: ann`.
const ROUTES: &str = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
    metadata: {name: a, creationTimestamp: '2020-01-01T00:00:00Z'}\nspec:\n  hosts: [by.test]\n  \
    gateways: [gate]\n  http:\n  - match: [{headers: {x-user: {exact: ann}}}]\n    \
    directResponse: {status: 200, body: {string: for-ann}}\n  - directResponse: {status: 200, \
    body: {string: for-all}}\n";

#[test]
fn headers_of_the_service_choose_a_route_only_with_clear_route_cache() {
    let driver = DRIVERS[0];
    for (setting, expected) in [("", "for-all"), (", clearRouteCache: true", "for-ann")] {
        let judge = saying("HTTP/1.1 200 OK\r\nx-user: ann\r\ncontent-length: 0\r\n\r\n");
        let provider = format!(", headersToUpstreamOnAllow: [x-user]{setting}");
        let setup = setup(driver, judge.address, &provider, ROUTES, Stdio::null());
        let (_, answer) = setup.ask("GET /asked HTTP/1.1\r\nhost: by.test");
        assert!(answer.ends_with(expected), "{setting}: {answer}");
    }
}

#[test]
fn what_only_tokens_may_say_chooses_no_route_behind_a_check() {
    let signer = Signer::ec_p256("a");
    let tokens = authentication(&json!([{
        "issuer": "shop", "jwks": signer.key_set(),
        "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}],
    }]));
    for driver in DRIVERS {
        let judge = saying("HTTP/1.1 200 OK\r\nx-other: 1\r\ncontent-length: 0\r\n\r\n");
        let provider = ", headersToUpstreamOnAllow: [x-other]";
        let more = ROUTES.to_string() + &tokens;
        let setup = setup(driver, judge.address, provider, &more, Stdio::null());
        let (_, answer) = setup.ask("GET /asked HTTP/1.1\r\nhost: by.test\r\nx-user: ann");
        assert!(answer.ends_with("for-all"), "{answer}");
        let claims = json!({"iss": "shop", "sub": "ann", "exp": now_unix_s() + 600});
        let token = bearer(&signer.sign(&claims));
        let head = format!("GET /asked HTTP/1.1\r\nhost: by.test\r\n{token}");
        let (_, answer) = setup.ask(&head);
        assert!(answer.ends_with("for-ann"), "{answer}");
    }
}

#[test]
fn a_service_that_fails_refuses_or_passes_as_the_provider_says() {
    let answers = [
        "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 503 Oops\r\ncontent-length: 0\r\n\r\n",
        "no HTTP\r\n\r\n",
        "HTTP/1.1 403 No\r\ncontent-length: 9\r\n\r\nshort",
    ];
    for driver in DRIVERS {
        for (at, answer) in answers.into_iter().enumerate() {
            let judge = ScriptedUpstream::start(move |connection| {
                if connection.head().is_some() {
                    connection.send(answer);
                }
            });
            let closed = setup(
                driver,
                judge.address,
                ", statusOnError: '429'",
                "",
                Stdio::null(),
            );
            assert_eq!(closed.get("/asked", "").0, 429, "{answer}");
            assert!(closed.upstream.heads().is_empty());
            closed.until_sum_of("ext_authz_error", 1);
            if at == 0 {
                let open = setup(driver, judge.address, ", failOpen: true", "", Stdio::null());
                assert_eq!(open.get("/asked", "").0, 200, "{answer}");
                open.until_sum_of("ext_authz_failure_mode_allowed", 1);
            }
        }
        // Nobody listens there.
        let nobody = harness::free_address();
        let mut closed = setup(driver, nobody, "", "", Stdio::piped());
        let log = LogLines::of(&mut closed.proxy);
        let (status, answer) = closed.get("/asked", "");
        assert_eq!(status, 403, "{answer}");
        let line = log.line_with("ext_authz_error");
        assert!(line.contains("\"response_flags\":\"UAEX\""), "{line}");
    }
}

#[test]
fn a_slow_service_holds_up_its_own_requests_alone_and_not_for_ever() {
    for driver in DRIVERS {
        let judge = ScriptedUpstream::start(|connection| {
            connection.head();
            // The answer never comes.
            let _ = connection.head();
        });
        let provider = ", timeout: 2s";
        let mut setup = setup(driver, judge.address, provider, "", Stdio::piped());
        let log = LogLines::of(&mut setup.proxy);
        let mut waiting = Client::connect(setup.address).expect("connects");
        waiting.start("GET", "shop.test", "/asked").expect("sent");
        until("the check", || judge.heads().len() == 1);
        assert_eq!(setup.get("/other", "").0, 200);
        assert_eq!(waiting.answer().expect("an answer").status, 403);
        let line = log.line_with("ext_authz_error");
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert!(line["duration"].as_u64() >= Some(2000), "{line}");
        let timeouts = "cluster.outbound|9191||judge.test.upstream_rq_timeout";
        setup.proxy.until_stat(timeouts, 1);
    }
}

#[test]
fn a_client_that_leaves_ends_its_check() {
    for driver in DRIVERS {
        let judge = ScriptedUpstream::start(|connection| {
            connection.head();
            let _ = connection.head();
        });
        let mut setup = setup(driver, judge.address, "", "", Stdio::piped());
        let log = LogLines::of(&mut setup.proxy);
        let mut client = TcpStream::connect(setup.address).expect("connects");
        let head = b"GET /asked HTTP/1.1\r\nhost: shop.test\r\n\r\n";
        client.write_all(head).expect("sent");
        until("the check", || judge.heads().len() == 1);
        drop(client);
        let line = log.line_with("/asked");
        assert!(line.contains("\"response_flags\":\"DC\""), "{line}");
        until("no connection to the service", || {
            let active = "cluster.outbound|9191||judge.test.upstream_cx_active";
            setup.proxy.stat(active) == 0
        });
    }
}

#[test]
fn a_body_is_shown_and_still_goes_upstream() {
    for driver in DRIVERS {
        let judge = ScriptedUpstream::start(|connection| {
            while let Some((path, head)) = connection.head() {
                let length = head.to_ascii_lowercase();
                let length = length.split("content-length: ").nth(1).expect("a length");
                let length = length.split("\r\n").next().and_then(|it| it.parse().ok());
                let body = connection.body(length.expect("a number"));
                let said = String::from_utf8_lossy(&body).into_owned();
                // The service says what it saw.
                connection.send(format!(
                    "HTTP/1.1 418 Seen\r\nx-path: {path}\r\ncontent-length: {}\r\n\r\n{said}",
                    said.len()
                ));
            }
        });
        let ask = |setup: &Setup, head: &str, body: &str| {
            let request = format!(
                "POST /asked HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n{head}\r\n\r\n{body}"
            );
            let (head, body) = request.split_at(request.len() - body.len());
            let (answer, _) = converse(setup.address, &[head.as_bytes(), body.as_bytes()]);
            answer
        };
        let whole = ", includeRequestBodyInCheck: {maxRequestBytes: 8}";
        let whole = setup(driver, judge.address, whole, "", Stdio::null());
        let answer = ask(&whole, "content-length: 8", "12345678");
        assert!(answer.ends_with("\r\n\r\n12345678"), "{answer}");
        let chunked = "transfer-encoding: chunked";
        let answer = ask(&whole, chunked, "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n");
        assert!(answer.ends_with("\r\n\r\nabcde"), "{answer}");
        for (head, body) in [
            ("content-length: 9", "123456789"),
            (chunked, "5\r\nabcde\r\n5\r\nfghij\r\n0\r\n\r\n"),
        ] {
            let answer = ask(&whole, head, body);
            assert_eq!(status(&answer), 413, "{answer}");
        }
        let broken = ask(&whole, chunked, "zz\r\n");
        assert_eq!(status(&broken), 400, "{broken}");
        // A client that waits to be asked for its body is asked.
        let mut client = TcpStream::connect(whole.address).expect("connects");
        let head = b"POST /asked HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\
                     content-length: 2\r\nexpect: 100-continue\r\n\r\n";
        client.write_all(head).expect("sent");
        let mut asked = [0; 25];
        client.read_exact(&mut asked).expect("received");
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"ok").expect("sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("received");
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");

        let part = ", includeRequestBodyInCheck: {maxRequestBytes: 4, allowPartialMessage: true}";
        let part = setup(driver, judge.address, part, "", Stdio::null());
        let answer = ask(&part, "content-length: 9", "123456789");
        assert!(answer.ends_with("\r\n\r\n1234"), "{answer}");

        // What the service was shown reaches the upstream whole, and only once.
        let (sent, received) = std::sync::mpsc::channel();
        let judge = ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                connection.body(4);
                connection.send(YES);
            }
        });
        let sent = std::sync::Mutex::new(sent);
        let upstream = ScriptedUpstream::start(move |connection| {
            while connection.head().is_some() {
                let body = connection.body(200_000);
                let sent = sent.lock().expect("not poisoned");
                sent.send(body).expect("somebody listens");
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
        });
        let provider = ", includeRequestBodyInCheck: {maxRequestBytes: 4, allowPartialMessage: \
                        true}";
        let setup = setup(driver, judge.address, provider, "", Stdio::null());
        setup
            .proxy
            .put("routes.yaml", &harness::splitting(&[(upstream.address, 1)]));
        until("the new route", || {
            let body: String = (0..200_000u32)
                .map(|at| char::from(b'a' + (at % 26) as u8))
                .collect();
            let answer = ask(&setup, "content-length: 200000", &body);
            assert_eq!(status(&answer), 200, "{answer}");
            match received.recv_timeout(Duration::from_millis(50)) {
                Ok(got) => {
                    assert!(got == body.as_bytes(), "{} bytes", got.len());
                    true
                }
                Err(_) => false,
            }
        });
    }
}

#[test]
fn the_service_is_asked_before_deny_and_its_headers_count_for_policies() {
    let more = policy(
        "cooks",
        &json!({"action": "DENY", "rules": [{
            "to": [{"operation": {"paths": ["/asked/*"]}}],
            "when": [{"key": "request.headers[x-role]", "notValues": ["cook"]}],
        }]}),
    );
    for driver in DRIVERS {
        let judge = ScriptedUpstream::start(|connection| {
            while let Some((path, _)) = connection.head() {
                let role = if path == "/asked/cook" {
                    "cook"
                } else {
                    "guest"
                };
                connection.send(format!(
                    "HTTP/1.1 200 OK\r\nx-role: {role}\r\ncontent-length: 0\r\n\r\n"
                ));
            }
        });
        let provider = ", headersToUpstreamOnAllow: [x-role]";
        let setup = setup(driver, judge.address, provider, &more, Stdio::null());
        assert_eq!(setup.get("/asked/cook", "x-role: none").0, 200);
        let (status, answer) = setup.get("/asked/guest", "x-role: cook");
        assert_eq!(status, 403);
        assert!(answer.ends_with("RBAC: access denied"), "{answer}");
        assert_eq!(judge.heads().len(), 2);
    }
}

#[test]
fn checks_share_connections_and_survive_one_that_died() {
    for driver in DRIVERS {
        let judge = ScriptedUpstream::start(|connection| {
            // Two checks on a connection, which then ends without a word.
            for _ in 0..2 {
                if connection.head().is_none() {
                    return;
                }
                connection.send(YES);
            }
        });
        let setup = setup(driver, judge.address, "", "", Stdio::null());
        let mut client = Client::connect(setup.address).expect("connects");
        for at in 0..10 {
            let answer = client
                .send("GET", "shop.test", "/asked")
                .expect("an answer");
            assert_eq!(answer.status, 200, "check {at}");
        }
        let total = "cluster.outbound|9191||judge.test.upstream_cx_total";
        assert!(setup.proxy.stat(total) <= 10, "connections are kept");
        setup.until_sum_of("ext_authz_ok", 10);
        assert_eq!(setup.sum_of("ext_authz_error"), 0);
    }
}
