//! Where the keys of tokens come from, what claims decide, and connections that are no HTTP.

mod harness;
#[path = "../policy/tests/support/tokens.rs"]
mod tokens;

use harness::access::{Setup, authentication, bearer, now_unix_s, policy, start, upstream};
use harness::raw::ScriptedUpstream;
use harness::{DRIVERS, Proxy, folder, free_address, gateway, splitting, until};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokens::Signer;

/// A server of keys, and of an issuer's configuration, that can be down.
fn key_server(keys: String) -> (ScriptedUpstream, Arc<AtomicBool>) {
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let server = ScriptedUpstream::start(move |connection| {
        let Some((path, head)) = connection.head() else {
            return;
        };
        if !up.load(Ordering::SeqCst) {
            return;
        }
        let host = head.lines().find_map(|line| line.strip_prefix("host: "));
        let body = match path.as_str() {
            "/keys" => keys.clone(),
            "/issuer/.well-known/openid-configuration" => {
                let host = host.expect("a host");
                json!({"jwks_uri": format!("http://{host}/keys")}).to_string()
            }
            _ => String::new(),
        };
        let length = body.len();
        connection.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
    });
    (server, is_up)
}

#[test]
fn keys_are_fetched_and_a_server_that_is_down_keeps_nobody_waiting() {
    let signer = Signer::ec_p256("a");
    for driver in DRIVERS {
        let (server, is_up) = key_server(signer.key_set());
        let issuer = format!("http://{}/issuer", server.address);
        let rules = json!([
            {"issuer": "shop", "jwksUri": format!("http://{}/keys", server.address), "timeout": "1s"},
            {"issuer": issuer},
        ]);
        let setup = start(driver, &authentication(&rules), Stdio::null());
        let tokens = ["shop", &issuer].map(|issuer| {
            signer.sign(&json!({"iss": issuer, "sub": "ann", "exp": now_unix_s() + 600}))
        });
        for token in &tokens {
            let (status, answer) = setup.get("/", &bearer(token));
            assert_eq!(status, 401, "{answer}");
            assert!(answer.ends_with("Jwt verification fails"), "{answer}");
        }
        assert_eq!(
            setup.get("/", "").0,
            200,
            "without a token nobody needs the keys"
        );
        is_up.store(true, Ordering::SeqCst);
        for token in &tokens {
            until("the keys", || setup.get("/", &bearer(token)).0 == 200);
        }
        // Known keys stay when the server goes, and when the configuration changes.
        is_up.store(false, Ordering::SeqCst);
        setup.proxy.put(
            "more.yaml",
            &policy(
                "no-x",
                &json!({"action": "DENY", "rules": [
                    {"to": [{"operation": {"paths": ["/x"]}}]},
                ]}),
            ),
        );
        until("the policy", || setup.get("/x", "").0 == 403);
        assert_eq!(setup.get("/", &bearer(&tokens[0])).0, 200);
    }
}

#[test]
fn keys_come_from_a_file_and_follow_it() {
    let (old, new) = (Signer::ed25519("old"), Signer::ec_p256("new"));
    for driver in DRIVERS {
        let place = tempfile::tempdir().expect("a temporary folder");
        let path = place.path().join("keys.json");
        std::fs::write(&path, old.key_set()).expect("written");
        let uri = format!("file://{}", path.display());
        let rules = authentication(&json!([{"issuer": "shop", "jwksUri": uri}]));
        let setup = start(driver, &rules, Stdio::null());
        let ask = |signer: &Signer| {
            setup
                .get("/", &bearer(&signer.sign(&json!({"iss": "shop"}))))
                .0
        };
        until("the first keys", || ask(&old) == 200);
        assert_eq!(ask(&new), 401);
        // A file that is half written changes nothing.
        std::fs::write(&path, "{\"keys\": [").expect("written");
        assert_eq!(ask(&old), 200);
        std::fs::write(&path, new.key_set()).expect("written");
        until("the new keys", || ask(&new) == 200);
        assert_eq!(
            ask(&old),
            401,
            "a token that was verified before counts no longer"
        );
    }
}

#[test]
fn routes_follow_the_claims_of_a_token() {
    let signer = Signer::ec_p256("a");
    for driver in DRIVERS {
        let address = free_address();
        let (beta, others) = (upstream(), upstream());
        let routes = splitting(&[(beta.address, 1)]).replace(
            "  http:\n  - route:\n",
            "  http:\n  - match: [{headers: {'@request.auth.claims[group]': {exact: beta}}}]\n    route:\n",
        );
        let rest = splitting(&[(others.address, 1)])
            .replace("up0", "rest")
            .replace("name: split", "name: rest");
        let folder = folder(&[
            ("gateway.yaml", &gateway(address)),
            ("a.yaml", &routes),
            ("b.yaml", &rest),
            (
                "tokens.yaml",
                &authentication(&json!([{"issuer": "shop", "jwks": signer.key_set()}])),
            ),
        ]);
        let proxy = Proxy::start(folder, &["--driver", driver]);
        let setup = Setup {
            proxy,
            address,
            upstream: beta,
        };
        let token = |group: &Value| signer.sign(&json!({"iss": "shop", "group": group}));
        for group in [json!("beta"), json!(["alpha", "beta"])] {
            assert_eq!(setup.get("/", &bearer(&token(&group))).0, 200);
        }
        assert_eq!(setup.upstream.heads().len(), 2);
        assert_eq!(setup.get("/", &bearer(&token(&json!("alpha")))).0, 200);
        assert_eq!(setup.get("/", "@request.auth.claims[group]: beta").0, 400);
        assert_eq!(setup.get("/", "").0, 200);
        assert_eq!(setup.upstream.heads().len(), 2, "the others went elsewhere");
        assert_eq!(others.heads().len(), 2);
    }
}

/// What a TCP listener answers to a request that its upstream would answer; nothing when closed.
fn over_tcp(driver: &str, policies: &str) -> String {
    let address = free_address();
    let upstream = upstream();
    let gate = gateway(address)
        .replace("protocol: HTTP", "protocol: TCP")
        .replace("name: http", "name: tcp");
    let routes = splitting(&[(upstream.address, 1)])
        .replace("  http:\n  - route:", "  tcp:\n  - route:")
        .replace("name: http, protocol: HTTP", "name: tcp, protocol: TCP")
        .replace("ports: {http:", "ports: {tcp:");
    let folder = folder(&[
        ("gate.yaml", &gate),
        ("routes.yaml", &routes),
        ("policies.yaml", policies),
    ]);
    let _proxy = Proxy::start(folder, &["--driver", driver]);
    let mut client = std::net::TcpStream::connect(address).expect("connects");
    client
        .set_read_timeout(Some(harness::PATIENCE))
        .expect("set");
    let _ = client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut first = [0; 12];
    match client.read_exact(&mut first) {
        Ok(()) => String::from_utf8_lossy(&first).into_owned(),
        Err(_) => String::new(),
    }
}

#[test]
fn connections_that_are_no_http_are_judged_by_their_ends() {
    let from = |block: &str| json!({"from": [{"source": {"ipBlocks": [block]}}]});
    let gets = json!({"to": [{"operation": {"methods": ["GET"]}}]});
    let cases = [
        (
            json!({"action": "ALLOW", "rules": [from("127.0.0.0/8")]}),
            true,
        ),
        (
            json!({"action": "ALLOW", "rules": [from("10.0.0.0/8")]}),
            false,
        ),
        (
            json!({"action": "DENY", "rules": [from("127.0.0.1")]}),
            false,
        ),
        // Of a rule that asks for HTTP, ALLOW loses the rule and DENY the question.
        (json!({"action": "ALLOW", "rules": [gets]}), false),
        (json!({"action": "DENY", "rules": [gets]}), false),
    ];
    for driver in DRIVERS {
        for (spec, passes) in &cases {
            let answer = over_tcp(driver, &policy("tcp", spec));
            assert_eq!(answer == "HTTP/1.1 200", *passes, "{spec}: {answer:?}");
        }
    }
}

/// A server whose keys change, and that takes its time.
fn slow_key_server(keys: String, delay: Duration) -> (ScriptedUpstream, Arc<Mutex<String>>) {
    let keys = Arc::new(Mutex::new(keys));
    let now = Arc::clone(&keys);
    let server = ScriptedUpstream::start(move |connection| {
        if connection.head().is_some() {
            std::thread::sleep(delay);
            let body = now.lock().expect("not poisoned").clone();
            let length = body.len();
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"
            ));
        }
    });
    (server, keys)
}

fn rule_of(server: &ScriptedUpstream, path: &str) -> String {
    let uri = format!("http://{}{path}", server.address);
    authentication(&json!([{"issuer": "shop", "jwksUri": uri}]))
}

#[test]
fn the_first_request_finds_the_keys_of_a_server_that_answers() {
    let signer = Signer::ec_p256("a");
    let claims = json!({"iss": "shop", "sub": "ann", "exp": now_unix_s() + 600});
    let token = bearer(&signer.sign(&claims));
    for driver in DRIVERS {
        let (server, _) = slow_key_server(signer.key_set(), Duration::from_millis(200));
        let setup = start(driver, &rule_of(&server, "/a"), Stdio::null());
        let (status, answer) = setup.get("/", &token);
        assert_eq!(status, 200, "at the start: {answer}");
        // Another address of keys, which takes as long: no token is refused meanwhile.
        let only_b = policy(
            "only-b",
            &json!({"action": "DENY", "rules": [
                {"to": [{"operation": {"paths": ["/x"]}}]},
            ]}),
        );
        setup
            .proxy
            .put("policies.yaml", &(rule_of(&server, "/b") + &only_b));
        until("the policy", || {
            let (status, answer) = setup.get("/", &token);
            assert_eq!(status, 200, "at a reload: {answer}");
            setup.get("/x", &token).0 == 403
        });
    }
}

#[test]
fn a_key_that_nobody_knows_is_fetched_before_its_time() {
    let (old, new) = (Signer::ec_p256("old"), Signer::ec_p256("new"));
    let claims = json!({"iss": "shop", "sub": "ann", "exp": now_unix_s() + 600});
    let [with_old, with_new] = [&old, &new].map(|signer| bearer(&signer.sign(&claims)));
    let (server, keys) = slow_key_server(old.key_set(), Duration::ZERO);
    let setup = start("auto", &rule_of(&server, "/keys"), Stdio::null());
    assert_eq!(setup.get("/", &with_old).0, 200);
    *keys.lock().expect("not poisoned") = new.key_set();
    until("the new key", || setup.get("/", &with_new).0 == 200);
    assert_eq!(setup.get("/", &with_old).0, 401);
    // Who sends such tokens on and on makes nobody fetch on and on.
    let asked = server.heads().len();
    assert_eq!(asked, 2);
    for _ in 0..50 {
        assert_eq!(setup.get("/", &with_old).0, 401);
    }
    assert_eq!(server.heads().len(), asked);
}
