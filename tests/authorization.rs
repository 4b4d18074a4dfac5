//! Who may do what, through real sockets on both drivers: nothing gets past a policy by writing
//! the same thing differently, and tokens count as Istio has them count.

mod harness;
#[path = "../policy/tests/support/tokens.rs"]
mod tokens;

use harness::access::{authentication, bearer, now_unix_s, policy, start};
use harness::http2::{client, exchange, request};
use harness::raw::{converse, status};
use harness::{DRIVERS, LogLines, until};
use http::{HeaderMap, Method};
use serde_json::json;
use std::process::Stdio;
use tokens::Signer;

#[test]
fn a_path_is_denied_however_it_is_written() {
    let denied = policy(
        "no-admin",
        &json!({"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/admin", "/admin/*"]}}]}]}),
    );
    for driver in DRIVERS {
        let setup = start(driver, &denied, Stdio::null());
        let same = [
            "/admin",
            "/admin/",
            "/admin/x",
            "/%61dmin",
            "/%61%64%6d%69%6E/x",
            "/./admin",
            "/x/../admin",
            "/x/%2e%2e/admin",
            "/x/.%2E/admin/y",
            "/admin/../admin/x",
            "/admin?x=1",
            "/admin/?x=/../y",
            "/x\\..\\admin",
            "http://shop.test/admin",
            "http://shop.test/x/../admin",
            "HTTP://shop.test/%61dmin/x",
        ];
        for target in same {
            let (status, answer) = setup.get(target, "");
            assert_eq!(status, 403, "{target}: {answer}");
            assert!(
                answer.ends_with("RBAC: access denied"),
                "{target}: {answer}"
            );
        }
        assert!(
            setup.upstream.heads().is_empty(),
            "nothing denied went upstream"
        );
        // Other paths, which the upstream is shown exactly as the policy saw them.
        let others = [
            ("/", "/"),
            ("/administrator", "/administrator"),
            ("/ADMIN", "/ADMIN"),
            ("//admin", "//admin"),
            ("/admin;x", "/admin;x"),
            ("/%2fadmin", "/%2fadmin"),
            ("/admin%2fx", "/admin%2fx"),
            ("/admin%252fx", "/admin%252fx"),
            ("/admin/../x", "/x"),
            ("/x?y=/admin", "/x?y=/admin"),
        ];
        for (target, seen) in others {
            let (status, answer) = setup.get(target, "");
            assert_eq!(status, 200, "{target}: {answer}");
            let line = format!("GET {seen} HTTP/1.1\r\n");
            assert!(
                setup.last_head().starts_with(&line),
                "{target}: {}",
                setup.last_head()
            );
        }
        // What no server may be asked is refused before anybody is.
        for target in ["\\admin", "/a#/admin", "/a%00", "admin", "/\u{0}"] {
            let (status, answer) = setup.get(target, "");
            assert_eq!(status, 400, "{target:?}: {answer}");
        }
    }
}

#[test]
fn a_host_is_denied_however_it_is_written() {
    let denied = policy(
        "no-secret",
        &json!({"action": "DENY", "rules": [{"to": [{"operation": {"hosts": ["secret.test", "*.hidden.test"]}}]}]}),
    );
    for driver in DRIVERS {
        let setup = start(driver, &denied, Stdio::null());
        for host in [
            "secret.test",
            "SECRET.test",
            "secret.test:80",
            "secret.test:8080",
            "secret.test.",
            "Secret.Test.:80",
            "a.hidden.test",
            "A.HIDDEN.TEST:1",
            "a.hidden.test.",
        ] {
            let (status, answer) = setup.ask(&format!("GET / HTTP/1.1\r\nHost: {host}"));
            assert_eq!(status, 403, "{host}: {answer}");
        }
        // The target's own authority counts, whatever the header says.
        let (status, _) = setup.ask("GET http://secret.test/ HTTP/1.1\r\nhost: shop.test");
        assert_eq!(status, 403);
        let (status, _) = setup.ask("GET / HTTP/1.1\r\nhost: shop.test\r\nhost: secret.test");
        assert_eq!(status, 400, "two hosts");
        let (status, _) = setup.ask("GET / HTTP/1.1\r\nhost : secret.test");
        assert_eq!(status, 400, "a space before the colon");
        assert!(setup.upstream.heads().is_empty());
        let (status, _) = setup.ask("GET / HTTP/1.1\r\nhost: notsecret.test");
        assert_eq!(status, 200);
        let (status, _) = setup.ask("GET http://shop.test/ HTTP/1.1\r\nhost: secret.test");
        assert_eq!(status, 200);
        assert!(
            setup.last_head().contains("host: shop.test\r\n"),
            "{}",
            setup.last_head()
        );
    }
}

#[test]
fn doubled_headers_and_other_methods_do_not_help() {
    let policies = policy(
        "only-admins",
        &json!({"rules": [{
            "to": [{"operation": {"methods": ["GET"]}}],
            "when": [{"key": "request.headers[X-Role]", "values": ["admin"]}],
        }]}),
    );
    for driver in DRIVERS {
        let setup = start(driver, &policies, Stdio::null());
        let cases = [
            ("x-role: admin", 200),
            ("X-ROLE:admin", 200),
            ("", 403),
            ("x-role: guest", 403),
            ("x-role: Admin", 403),
            // Each line counts by itself, as in Envoy.
            ("x-role: admin\r\nx-role: guest", 200),
            ("x-role: guest\r\nX-Role: admin", 200),
            ("x-role: guest\r\nX-Role: other", 403),
            ("x-role: admin,guest", 403),
            ("x-role: guest\r\n admin", 400),
            ("x-role : admin", 400),
        ];
        for (headers, expected) in cases {
            let (status, answer) = setup.get("/", headers);
            assert_eq!(status, expected, "{headers:?}: {answer}");
        }
        for method in ["POST", "HEAD", "get", "DELETE"] {
            let head = format!(
                "{method} / HTTP/1.1\r\nhost: shop.test\r\nx-role: admin\r\ncontent-length: 0"
            );
            assert_eq!(setup.ask(&head).0, 403, "{method}");
        }
        // A second request smuggled into the body of a denied one is not answered.
        let hidden = "GET /hidden HTTP/1.1\r\nhost: shop.test\r\nx-role: admin\r\n\r\n";
        let request = format!(
            "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: {}\r\n\r\n{hidden}{}",
            hidden.len(),
            "GET /last HTTP/1.1\r\nhost: shop.test\r\nx-role: admin\r\nconnection: close\r\n\r\n"
        );
        let (answer, _) = converse(setup.address, &[request.as_bytes()]);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{answer}");
        assert!(setup.last_head().starts_with("GET /last "));
        assert!(
            !setup
                .upstream
                .heads()
                .iter()
                .any(|head| head.contains("/hidden"))
        );
    }
}

#[test]
fn the_order_service_may_post_to_payments_and_nobody_else_may() {
    let signer = Signer::ec_p256("mesh");
    let policies = authentication(&json!([{"issuer": "shop", "jwks": signer.key_set()}]))
        + &policy(
            "payments",
            &json!({"action": "ALLOW", "rules": [{
                "from": [{"source": {
                    "requestPrincipals": ["shop/order-service"],
                    "ipBlocks": ["127.0.0.0/8"],
                }}],
                "to": [{"operation": {"methods": ["POST"], "paths": ["/pay"]}}],
            }]}),
        );
    let token = |subject: &str| {
        signer.sign(&json!({"iss": "shop", "sub": subject, "exp": now_unix_s() + 600}))
    };
    for driver in DRIVERS {
        let mut setup = start(driver, &policies, Stdio::piped());
        let log = LogLines::of(&mut setup.proxy);
        let ask = |method: &str, path: &str, token: Option<&str>| {
            let token = token.map_or(String::new(), |token| format!("\r\n{}", bearer(token)));
            let head = format!("{method} {path} HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 0");
            setup.ask(&(head + &token)).0
        };
        let (order, cart) = (token("order-service"), token("cart-service"));
        assert_eq!(ask("POST", "/pay", Some(&order)), 200);
        assert_eq!(ask("POST", "/pay", Some(&cart)), 403);
        assert_eq!(ask("POST", "/pay", None), 403);
        assert_eq!(ask("GET", "/pay", Some(&order)), 403);
        assert_eq!(ask("POST", "/refund", Some(&order)), 403);
        assert_eq!(setup.upstream.heads().len(), 1);
        let stat = |name: &str| setup.sum_of(name);
        until("the counters", || {
            stat("rbac_allowed") == 1 && stat("rbac_denied") == 4 && stat("jwt_authn_allowed") == 5
        });
        log.wait_for(5);
        let denied = log.count_with("rbac_access_denied_matched_policy[none]");
        assert_eq!(denied, 4);
    }
}

#[test]
fn a_wrong_audience_is_refused_and_a_missing_token_follows_the_policy() {
    let (signer, other) = (Signer::rsa("a", "RS256"), Signer::ec_p256("a"));
    let tokens = authentication(&json!([{
        "issuer": "shop", "audiences": ["payments"], "jwks": signer.key_set(),
        "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}],
        "outputPayloadToHeader": "x-payload",
    }]));
    let needs_token = policy(
        "token",
        &json!({"rules": [{"from": [{"source": {"requestPrincipals": ["*"]}}]}]}),
    );
    let claims = |audience: &str, expiry: u64| json!({"iss": "shop", "sub": "ann", "aud": audience, "exp": expiry});
    let soon = now_unix_s() + 600;
    for driver in DRIVERS {
        let mut setup = start(driver, &tokens, Stdio::piped());
        let log = LogLines::of(&mut setup.proxy);
        let good = signer.sign(&claims("payments", soon));
        let refused = [
            (
                signer.sign(&claims("other", soon)),
                403,
                "Audiences in Jwt are not allowed",
            ),
            (
                signer.sign(&claims("payments", soon - 1_000)),
                401,
                "Jwt is expired",
            ),
            (
                other.sign(&claims("payments", soon)),
                401,
                "Jwks doesn't have key to match kid or alg from Jwt",
            ),
            (
                "a.b".to_string(),
                401,
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
            ),
            (
                format!("{}AAAA", &good[..good.len() - 4]),
                401,
                "Jwt verification fails",
            ),
        ];
        for (token, expected, text) in &refused {
            let (status, answer) = setup.get("/a?b=c", &bearer(token));
            assert_eq!(status, *expected, "{answer}");
            assert!(answer.ends_with(text), "{answer}");
            let challenge = "www-authenticate: Bearer realm=\"http://shop.test/a?b=c\", \
                             error=\"invalid_token\"\r\n";
            assert!(answer.contains(challenge), "{answer}");
        }
        assert!(setup.upstream.heads().is_empty());
        // Without a token, the upstream is asked, and what only we may say is taken out.
        assert_eq!(setup.get("/", "x-user: admin\r\nX-Payload: x").0, 200);
        let head = setup.last_head().to_lowercase();
        assert!(
            !head.contains("x-user") && !head.contains("x-payload"),
            "{head}"
        );
        // With one, the upstream gets what it says, and not the token.
        assert_eq!(
            setup
                .get("/", &format!("{}\r\nx-user: admin", bearer(&good)))
                .0,
            200
        );
        let head = setup.last_head();
        assert!(head.contains("x-user: ann\r\n"), "{head}");
        assert_eq!(head.to_lowercase().matches("x-user").count(), 1, "{head}");
        let payload = good.split('.').nth(1).expect("a payload");
        assert!(
            head.contains(&format!("x-payload: {payload}\r\n")),
            "{head}"
        );
        assert!(!head.to_lowercase().contains("authorization"), "{head}");
        assert_eq!(
            setup.get(&format!("/p?a=1&access_token={good}&b=2"), "").0,
            200
        );
        assert!(
            setup.last_head().starts_with("GET /p?a=1&b=2 HTTP/1.1\r\n"),
            "{}",
            setup.last_head()
        );
        log.wait_for(refused.len() + 3);
        assert_eq!(
            log.count_with("jwt_authn_access_denied{Audiences_in_Jwt_are_not_allowed}"),
            1
        );
        assert_eq!(log.count_with(&good), 0, "tokens stay out of the log");
        // A policy may ask for a token; it takes effect with the next request.
        setup.proxy.put("token.yaml", &needs_token);
        until("the policy is in force", || setup.get("/", "").0 == 403);
        assert_eq!(setup.get("/", &bearer(&good)).0, 200);
        setup.proxy.remove("token.yaml");
        until("the policy is gone", || setup.get("/", "").0 == 200);
    }
}

#[test]
fn deny_comes_before_allow_and_trials_change_nothing() {
    let rule = |path: &str| json!({"rules": [{"to": [{"operation": {"paths": [path]}}]}]});
    let action = |action: &str, path: &str| {
        let mut spec = rule(path);
        spec["action"] = json!(action);
        spec
    };
    let trial = policy("trial", &action("DENY", "/a/tried")).replace(
        "\"name\":\"trial\"",
        "\"name\":\"trial\",\"annotations\":{\"istio.io/dry-run\":\"true\"}",
    );
    let policies = policy("all-of-a", &action("ALLOW", "/a/*"))
        + &policy("not-this", &action("DENY", "/a/secret"))
        + &policy("noted", &action("AUDIT", "/a/noted"))
        + &trial;
    for driver in DRIVERS {
        let mut setup = start(driver, &policies, Stdio::piped());
        let log = LogLines::of(&mut setup.proxy);
        let cases = [
            ("/a/x", 200),
            ("/b", 403),
            ("/a/secret", 403),
            ("/a/tried", 200),
            ("/a/noted", 200),
        ];
        for (path, expected) in cases {
            assert_eq!(setup.get(path, "").0, expected, "{path}");
        }
        log.wait_for(cases.len());
        let by = "rbac_access_denied_matched_policy[ns[default]-policy[not-this]-rule[0]]";
        assert_eq!(log.count_with(by), 1);
        for (name, value) in [
            ("rbac_allowed", 3),
            ("rbac_denied", 2),
            ("rbac_shadow_denied", 1),
            ("rbac_shadow_allowed", 4),
            ("rbac_logged", 1),
        ] {
            setup.until_sum_of(name, value);
        }
    }
}

#[test]
fn a_provider_that_is_not_defined_denies_what_it_should_decide_about() {
    let policies = policy(
        "ask",
        &json!({"action": "CUSTOM", "provider": {"name": "nobody"}, "rules": [
            {"to": [{"operation": {"paths": ["/asked"]}}]},
        ]}),
    );
    for driver in DRIVERS {
        let setup = start(driver, &policies, Stdio::null());
        assert_eq!(setup.get("/asked", "").0, 403);
        assert_eq!(setup.get("/other", "").0, 200);
    }
}

/// The length that a token told took the place of that of the body: what was left of it was read as
/// another request.
#[test]
fn a_body_is_cut_by_what_a_token_says() {
    let signer = Signer::rsa("a", "RS256");
    let tokens = authentication(&json!([{
        "issuer": "shop", "jwks": signer.key_set(),
        "outputClaimToHeaders": [
            {"header": "Content-Length", "claim": "length"},
            {"header": "Host", "claim": "sub"},
        ],
        "outputPayloadToHeader": "transfer-encoding",
    }]));
    let token = signer.sign(&json!({"iss": "shop", "sub": "evil.test", "length": "0"}));
    let hidden = "GET /hidden HTTP/1.1\r\nhost: shop.test\r\n\r\n";
    for driver in DRIVERS {
        let setup = start(driver, &tokens, Stdio::null());
        for token in [String::new(), format!("{}\r\n", bearer(&token))] {
            let request = format!(
                "POST /pay HTTP/1.1\r\nhost: shop.test\r\n{token}connection: close\r\n\
                 content-length: {}\r\n\r\n{hidden}",
                hidden.len()
            );
            let (answer, _) = converse(setup.address, &[request.as_bytes()]);
            assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
            let heads = setup.upstream.heads();
            let head = heads.iter().rfind(|head| head.starts_with("POST /pay "));
            let head = head.expect("it arrived");
            let length = format!("\r\ncontent-length: {}\r\n", hidden.len());
            assert!(head.contains(&length), "{head}");
            assert!(head.contains("\r\nhost: shop.test\r\n"), "{head}");
            assert!(!head.contains("transfer-encoding"), "{head}");
        }
    }
}

/// An upstream that reads trailers as headers took them for what a token says.
#[test]
fn headers_of_a_token_pass_as_trailers() {
    let signer = Signer::rsa("a", "RS256");
    let tokens = authentication(&json!([{
        "issuer": "shop", "jwks": signer.key_set(),
        "outputClaimToHeaders": [{"header": "x-user", "claim": "sub"}],
        "outputPayloadToHeader": "x-payload",
    }]));
    for driver in DRIVERS {
        let setup = start(driver, &tokens, Stdio::null());
        let ask = |trailer: &str| {
            let request = format!(
                "POST / HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\
                 connection: close\r\n\r\n1\r\nx\r\n0\r\n{trailer}: root\r\n\r\n"
            );
            status(&converse(setup.address, &[request.as_bytes()]).0)
        };
        assert_eq!(ask("X-User"), 400);
        assert_eq!(ask("x-payload"), 400);
        assert!(setup.upstream.heads().is_empty());
        assert_eq!(ask("x-users"), 200);

        client(setup.address, |mut send| async move {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-user", "root".parse().expect("a value"));
            let post = request(Method::POST, "/");
            let answer = exchange(&mut send, post, Some(b"x"), Some(trailers)).await;
            // The stream may end before all of the answer is read.
            assert!(answer.is_err() || answer.is_ok_and(|(answer, ..)| answer.status() == 400));
        });
    }
}
