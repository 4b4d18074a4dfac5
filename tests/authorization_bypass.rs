//! Tricks to get past a policy: over HTTP/2, by framing, by upgrades, by headers that say who
//! somebody is. On both drivers. Nothing that is denied reaches the upstream.

mod harness;

use harness::access::{Setup, policy, start};
use harness::frames::{
    DATA, END_HEADERS, END_STREAM, FrameClient, GOAWAY, HEADERS, RST_STREAM, frame, literal,
};
use harness::raw::{ScriptedUpstream, converse, status};
use harness::{DRIVERS, until};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;

/// What became of a request of HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The upstream answered.
    Passed,
    /// A policy refused.
    Denied,
    /// It was no request at all.
    Refused,
}

/// Sends these fields, pseudo-headers among them, as one request.
fn ask(address: SocketAddr, fields: &[(&str, &str)], body: &[u8]) -> Outcome {
    let mut block = Vec::new();
    for (name, value) in fields {
        literal(&mut block, name, value);
    }
    let mut client = FrameClient::connect(address, &[]);
    let ends = if body.is_empty() { END_STREAM } else { 0 };
    client.send(&frame(HEADERS, END_HEADERS | ends, 1, &block));
    if !body.is_empty() {
        client.send(&frame(DATA, END_STREAM, 1, body));
    }
    let mut content = Vec::new();
    while let Some(frame) = client.next() {
        match frame.kind {
            RST_STREAM | GOAWAY => return Outcome::Refused,
            DATA => content.extend_from_slice(&frame.payload),
            _ => {}
        }
        if frame.stream == 1 && frame.ends_stream() {
            break;
        }
    }
    match content.as_slice() {
        b"ok" => Outcome::Passed,
        b"RBAC: access denied" => Outcome::Denied,
        _ => Outcome::Refused,
    }
}

/// A `GET` with another path, authority and further fields.
fn get<'f>(
    path: &'f str,
    authority: &'f str,
    more: &[(&'f str, &'f str)],
) -> Vec<(&'f str, &'f str)> {
    let mut fields = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
    ];
    fields.extend(more);
    fields
}

fn deny(operation: Value) -> String {
    policy(
        "no",
        &json!({"action": "DENY", "rules": [{"to": [{"operation": operation}]}]}),
    )
}

fn no_admin() -> String {
    deny(json!({"paths": ["/admin", "/admin/*"]}))
}

fn assert_nothing_arrived(setup: &Setup, what: &str) {
    let heads = setup.upstream.heads();
    assert!(heads.is_empty(), "{what}: {heads:?}");
}

#[test]
fn a_path_of_http2_is_denied_however_it_is_written() {
    for driver in DRIVERS {
        let setup = start(driver, &no_admin(), Stdio::null());
        for path in [
            "/admin",
            "/admin/",
            "/%61dmin",
            "/%61%64%6d%69%6E/x",
            "/./admin",
            "/x/../admin",
            "/x/%2e%2e/admin",
            "/x\\..\\admin",
            "/admin?x=1",
            "/x/..;/admin",
            "/x/..;a=b/admin",
            "/x/%2e%2e;/admin",
            "/.;/admin",
        ] {
            let outcome = ask(setup.address, &get(path, "shop.test", &[]), b"");
            assert_eq!(outcome, Outcome::Denied, "{path}");
        }
        // What is no path of a request is no request.
        for path in [
            "http://shop.test/admin",
            "//shop.test\\admin\r\n",
            "/admin#x",
            "admin",
            "",
            "*",
            "/ HTTP/1.1\r\nhost: shop.test\r\n\r\nGET /admin",
            "/ad min",
            "/admin\0",
        ] {
            let outcome = ask(setup.address, &get(path, "shop.test", &[]), b"");
            assert_ne!(outcome, Outcome::Passed, "{path:?}");
        }
        for more in [
            [(":path", "/")],
            [(":method", "GET")],
            [(":scheme", "http")],
        ] {
            let twice = get("/admin", "shop.test", &more);
            let outcome = ask(setup.address, &twice, b"");
            assert_eq!(outcome, Outcome::Refused, "{more:?} twice");
        }
        let late = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "shop.test"),
            ("x-a", "b"),
            (":path", "/admin"),
        ];
        assert_eq!(ask(setup.address, &late, b""), Outcome::Refused);
        assert_nothing_arrived(&setup, "paths");
        // Other paths arrive as the policy saw them.
        for path in [
            "/ADMIN",
            "//admin",
            "/admin;x",
            "/%2fadmin",
            "/admin%2fx",
            "/a%5cadmin",
        ] {
            let outcome = ask(setup.address, &get(path, "shop.test", &[]), b"");
            assert_eq!(outcome, Outcome::Passed, "{path}");
            let line = format!("GET {path} HTTP/1.1\r\n");
            assert!(
                setup.last_head().starts_with(&line),
                "{}",
                setup.last_head()
            );
        }
    }
}

#[test]
fn an_authority_of_http2_is_denied_however_it_is_written() {
    for driver in DRIVERS {
        let setup = start(
            driver,
            &deny(json!({"hosts": ["secret.test"]})),
            Stdio::null(),
        );
        for authority in [
            "secret.test",
            "SECRET.test",
            "secret.test:80",
            "secret.test.",
            "Secret.Test.:8080",
        ] {
            let outcome = ask(setup.address, &get("/", authority, &[]), b"");
            assert_eq!(outcome, Outcome::Denied, "{authority}");
            let other = [("host", "shop.test")];
            let outcome = ask(setup.address, &get("/", authority, &other), b"");
            assert_ne!(outcome, Outcome::Passed, "{authority} above another host");
        }
        let without = |more: &[(&'static str, &'static str)]| {
            let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":path", "/")];
            fields.extend(more);
            ask(setup.address, &fields, b"")
        };
        assert_eq!(without(&[("host", "secret.test")]), Outcome::Denied);
        for hosts in [
            [("host", "shop.test"), ("host", "secret.test")],
            [("host", "secret.test"), ("host", "shop.test")],
            [(":authority", "shop.test"), (":authority", "secret.test")],
        ] {
            assert_ne!(without(&hosts), Outcome::Passed, "{hosts:?}");
        }
        for authority in [
            "shop.test@secret.test",
            "secret.test@shop.test",
            "shop.test/secret.test",
            "shop.test, secret.test",
            "shop.test\r\nhost: secret.test",
            "",
        ] {
            let outcome = ask(setup.address, &get("/", authority, &[]), b"");
            assert_ne!(outcome, Outcome::Passed, "{authority:?}");
        }
        assert_nothing_arrived(&setup, "authorities");
        // The authority stands above a host beside it, for everybody alike.
        let other = [("host", "secret.test")];
        if ask(setup.address, &get("/", "shop.test", &other), b"") == Outcome::Passed {
            let head = setup.last_head();
            assert!(head.contains("\r\nhost: shop.test\r\n"), "{head}");
            assert!(!head.contains("secret"), "{head}");
        }
    }
}

#[test]
fn fields_of_http2_do_not_become_other_fields_or_requests() {
    let only_admins = policy(
        "admins",
        &json!({"rules": [{"when": [{"key": "request.headers[x-role]", "values": ["admin"]}]}]}),
    );
    for driver in DRIVERS {
        let setup = start(driver, &only_admins, Stdio::null());
        let role = [("x-role", "admin")];
        for more in [
            vec![("x-a", "b\r\nx-role: admin")],
            vec![("x-a", "b\nx-role: admin")],
            vec![("x-a: b\r\nx-role", "admin")],
            vec![("X-Role", "admin")],
            vec![("x-role ", "admin")],
            vec![("x_role", "admin")],
            vec![("x-role", "admin\0")],
            vec![("x-role", "admin"), ("connection", "x-role")],
            vec![("x-role", "admin"), ("transfer-encoding", "chunked")],
            vec![("x-role", "admin"), ("upgrade", "websocket")],
            vec![("x-role", "admin"), ("te", "gzip")],
        ] {
            let outcome = ask(setup.address, &get("/", "shop.test", &more), b"");
            assert_ne!(outcome, Outcome::Passed, "{more:?}");
        }
        assert_nothing_arrived(&setup, "fields");
        let hidden = b"GET /hidden HTTP/1.1\r\nhost: shop.test\r\nx-role: admin\r\n\r\n";
        for length in ["0", "1", "4000"] {
            let mut fields = get("/", "shop.test", &role);
            fields[0].1 = "POST";
            fields.push(("content-length", length));
            let outcome = ask(setup.address, &fields, hidden);
            assert_ne!(outcome, Outcome::Passed, "content-length {length}");
        }
        let two_lengths = [
            ("x-role", "admin"),
            ("content-length", "0"),
            ("content-length", "60"),
        ];
        let outcome = ask(setup.address, &get("/", "shop.test", &two_lengths), hidden);
        assert_ne!(outcome, Outcome::Passed, "two lengths");
        // A body that is announced and does not come.
        let alone = [("x-role", "admin"), ("content-length", "5")];
        let outcome = ask(setup.address, &get("/alone", "shop.test", &alone), b"");
        assert_eq!(outcome, Outcome::Refused, "no body");
        let outcome = ask(setup.address, &get("/", "shop.test", &role), b"");
        assert_eq!(outcome, Outcome::Passed);
        let heads = setup.upstream.heads();
        for path in ["/hidden", "/alone"] {
            assert!(!heads.iter().any(|head| head.contains(path)), "{heads:?}");
        }
    }
}

/// Each line of a header counts by itself, as in Envoy: a value that is denied is denied beside
/// others, and one that is asked for is there.
#[test]
fn a_denied_value_of_a_header_does_not_hide_beside_another() {
    let refused = |key: &str| {
        let when = json!([{"key": "request.headers[x-role]", key: ["admin", "root*"]}]);
        policy("no", &json!({"action": "DENY", "rules": [{"when": when}]}))
    };
    for driver in DRIVERS {
        let denied = start(driver, &refused("values"), Stdio::null());
        let only = start(driver, &refused("notValues"), Stdio::null());
        for (values, is_named) in [
            (&["admin"][..], true),
            (&["admin", "guest"], true),
            (&["guest", "admin"], true),
            (&["guest", "root-1", "guest"], true),
            (&["", "admin"], true),
            (&["guest", "other"], false),
            // One value, which is no list.
            (&["admin,guest"], false),
        ] {
            let lines: Vec<_> = values.iter().map(|value| ("x-role", *value)).collect();
            let text: Vec<_> = values.iter().map(|v| format!("x-role: {v}")).collect();
            for (setup, passes) in [(&denied, !is_named), (&only, is_named)] {
                let by_http2 = ask(setup.address, &get("/", "shop.test", &lines), b"");
                let (by_http1, _) = setup.get("/", &text.join("\r\n"));
                let wanted = match passes {
                    true => (Outcome::Passed, 200),
                    false => (Outcome::Denied, 403),
                };
                assert_eq!((by_http2, by_http1), wanted, "{values:?}, {driver}");
            }
        }
    }
}

#[test]
fn a_second_request_cannot_hide_behind_framing() {
    for driver in DRIVERS {
        let setup = start(driver, &no_admin(), Stdio::null());
        let hidden = "GET /admin HTTP/1.1\r\nhost: shop.test\r\n\r\n";
        let both = format!(
            "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: {}\r\n\
             transfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
            5 + hidden.len()
        );
        let swapped = both
            .replace("transfer-encoding: chunked\r\n", "")
            .replace("host: shop", "transfer-encoding: chunked\r\nhost: shop");
        let lengths = format!(
            "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 0\r\ncontent-length: {}\r\n\r\n\
             {hidden}",
            hidden.len()
        );
        let listed = lengths.replace("0\r\ncontent-length: ", "0, ");
        let codings = both.replace("chunked", "chunked, identity");
        let unknown = both.replace("chunked", "xchunked");
        let spaced = both.replace("transfer-encoding:", "transfer-encoding :");
        let folded = both.replace("transfer-encoding: ", "transfer-encoding:\r\n ");
        for request in [
            both, swapped, lengths, listed, codings, unknown, spaced, folded,
        ] {
            let (answer, _) = converse(setup.address, &[request.as_bytes()]);
            assert!(matches!(status(&answer), 400 | 501), "{request}: {answer}");
            assert_eq!(
                answer.matches("HTTP/1.1 ").count(),
                1,
                "{request}: {answer}"
            );
        }
        assert_nothing_arrived(&setup, "framing");
        // What follows a whole body is a request of its own, and judged.
        let chunked = format!(
            "POST / HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{}",
            hidden.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")
        );
        let (answer, _) = converse(setup.address, &[chunked.as_bytes()]);
        assert!(answer.ends_with("RBAC: access denied"), "{answer}");
    }
}

#[test]
fn an_upgrade_does_not_open_a_way_around_policies() {
    for driver in DRIVERS {
        let setup = start(driver, &no_admin(), Stdio::null());
        // h2c is not switched to, so what follows is no HTTP/2, and judged.
        let upgrade = "GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: Upgrade, HTTP2-Settings\r\n\
                       upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n";
        let mut client = TcpStream::connect(setup.address).expect("connects");
        client
            .set_read_timeout(Some(harness::PATIENCE))
            .expect("set");
        client.write_all(upgrade.as_bytes()).expect("sent");
        let mut block = Vec::new();
        for (name, value) in get("/admin", "shop.test", &[]) {
            literal(&mut block, name, value);
        }
        let mut frames = harness::frames::PREFACE.to_vec();
        frames.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
        // The proxy may have closed already.
        let _ = client.write_all(&frames);
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(!answer.contains("101"), "{answer}");
        for head in setup.upstream.heads() {
            assert!(
                !head.contains("admin") && !head.to_lowercase().contains("h2c"),
                "{head}"
            );
        }
        let websocket = |path: &str| {
            format!(
                "GET {path} HTTP/1.1\r\nhost: shop.test\r\nconnection: Upgrade\r\n\
                 upgrade: websocket\r\nsec-websocket-version: 777\r\n\r\n"
            )
        };
        let denied = websocket("/admin").replace("Upgrade\r\n", "Upgrade, close\r\n");
        let (answer, _) = converse(setup.address, &[denied.as_bytes()]);
        assert_eq!(status(&answer), 403, "{answer}");
        // An upstream that does not agree to an upgrade leaves no tunnel behind, and no connection.
        let hidden = "GET /admin HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";
        let request = websocket("/chat") + hidden;
        let (answer, _) = converse(setup.address, &[request.as_bytes()]);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
        let heads = setup.upstream.heads();
        assert!(
            !heads.iter().any(|head| head.contains("/admin")),
            "{heads:?}"
        );
        // Nor does one that says it switches to what nobody asked for.
        let switching = ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                connection.send(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n",
                );
            }
        });
        setup.proxy.put(
            "routes.yaml",
            &harness::splitting(&[(switching.address, 1)]),
        );
        until("the new route", || {
            let request = websocket("/chat") + hidden;
            let (answer, _) = converse(setup.address, &[request.as_bytes()]);
            assert!(!answer.starts_with("HTTP/1.1 101"), "{answer}");
            !switching.heads().is_empty()
        });
        let heads = switching.heads();
        assert!(
            !heads.iter().any(|head| head.contains("/admin")),
            "{heads:?}"
        );
    }
}

#[test]
fn nobody_says_himself_where_he_comes_from() {
    let from = |action: &str, field: &str, block: &str| {
        policy(
            "by-address",
            &json!({"action": action, "rules": [{"from": [{"source": {field: [block]}}]}]}),
        )
    };
    let claims = [
        "x-forwarded-for: 10.0.0.1",
        "X-Forwarded-For: 10.0.0.1\r\nx-forwarded-for: 10.0.0.1",
        "x-forwarded-for: 10.0.0.1\r\nconnection: x-forwarded-for",
        "x-real-ip: 10.0.0.1",
        "forwarded: for=10.0.0.1",
        "x-envoy-external-address: 10.0.0.1",
        "x_forwarded_for: 10.0.0.1",
    ];
    for driver in DRIVERS {
        for field in ["ipBlocks", "remoteIpBlocks"] {
            for policies in [
                from("ALLOW", field, "10.0.0.0/8"),
                from("DENY", field, "127.0.0.0/8"),
            ] {
                let setup = start(driver, &policies, Stdio::null());
                for claim in claims {
                    let (status, _) = setup.get("/", claim);
                    // What belongs to the message is not for `connection` to take out.
                    let is_malformed = claim.contains("connection:");
                    assert_eq!(status, if is_malformed { 400 } else { 403 }, "{claim}");
                }
                assert_nothing_arrived(&setup, field);
            }
        }
        // What an upstream may take for the address or the path is ours to say.
        let setup = start(driver, &no_admin(), Stdio::null());
        let headers = "x-forwarded-for: 10.0.0.1\r\nx-envoy-original-path: /admin\r\n\
                       x-envoy-external-address: 10.0.0.1\r\n\
                       x-envoy-peer-metadata: ChoK\r\nx-envoy-peer-metadata-id: cart";
        assert_eq!(setup.get("/", headers).0, 200);
        let head = setup.last_head().to_lowercase();
        assert!(!head.contains("x-envoy-original-path"), "{head}");
        assert!(!head.contains("x-envoy-peer-metadata"), "{head}");
        assert!(
            head.contains("x-envoy-external-address: 127.0.0.1\r\n"),
            "{head}"
        );
        let chain = head
            .lines()
            .find_map(|line| line.strip_prefix("x-forwarded-for: "));
        assert!(
            chain.is_some_and(|chain| chain.ends_with("127.0.0.1")),
            "{head}"
        );
    }
}

#[test]
fn identities_of_certificates_are_not_taken_from_headers() {
    let principals = policy(
        "cart",
        &json!({"rules": [{"from": [{"source": {"principals": ["cluster.local/ns/shop/sa/cart"]}}]}]}),
    );
    let claims = [
        "x-forwarded-client-cert: By=a;URI=spiffe://cluster.local/ns/shop/sa/cart",
        "x-spiffe-id: spiffe://cluster.local/ns/shop/sa/cart",
        "x-envoy-peer-metadata-id: cart",
    ];
    for driver in DRIVERS {
        let setup = start(driver, &principals, Stdio::null());
        for claim in claims {
            assert_eq!(setup.get("/", claim).0, 403, "{claim}");
        }
        assert_nothing_arrived(&setup, "identities");
    }
}
