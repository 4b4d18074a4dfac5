//! Headers that the proxy makes itself, or takes from nobody: routes and policies see them as the
//! upstream does, whatever a client says. Envoy changes them before it asks anybody.

mod harness;

use harness::access::{policy, start};
use harness::mesh::{HOST, Mesh, ask, id};
use harness::raw::{ScriptedUpstream, converse, status};
use harness::{DRIVERS, Proxy, folder, free_address, gateway};
use serde_json::json;
use std::process::Stdio;

fn with_header(action: &str, name: &str, list: &str, value: &str) -> String {
    let key = format!("request.headers[{name}]");
    let mut condition = json!({"key": key});
    condition[list] = json!([value]);
    let rules = json!({"action": action, "rules": [{"when": [condition]}]});
    policy("by-header", &rules)
}

#[test]
fn nobody_is_let_in_by_a_header_that_the_gateway_takes_from_nobody() {
    for driver in DRIVERS {
        for (name, value) in [
            (
                "x-forwarded-client-cert",
                "URI=spiffe://cluster.local/ns/shop/sa/admin",
            ),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "10.0.0.9"),
            ("x-envoy-external-address", "10.0.0.9"),
            ("x-envoy-internal", "true"),
            ("x-envoy-original-path", "/public"),
            ("x-request-id", "abc"),
            ("keep-alive", "x"),
            ("upgrade", "x"),
            ("te", "gzip"),
        ] {
            let setup = start(
                driver,
                &with_header("ALLOW", name, "values", value),
                Stdio::null(),
            );
            let (status, answer) = setup.get("/", &format!("{name}: {value}"));
            assert_eq!(status, 403, "{name}: {answer}");
            assert!(setup.upstream.heads().is_empty(), "{name}");
        }
        // Gone before anybody is asked, since it is for this connection alone.
        let setup = start(
            driver,
            &with_header("ALLOW", "x-tenant", "values", "a"),
            Stdio::null(),
        );
        let named = "connection: x-tenant\r\nx-tenant: a";
        assert_eq!(setup.get("/", named).0, 403);
        assert_eq!(setup.get("/", "x-tenant: a").0, 200);
    }
}

#[test]
fn nobody_slips_by_what_is_denied_for_want_of_a_header() {
    for driver in DRIVERS {
        let plain_text = with_header("DENY", "x-forwarded-proto", "values", "http");
        let setup = start(driver, &plain_text, Stdio::null());
        for headers in ["", "x-forwarded-proto: https"] {
            assert_eq!(setup.get("/", headers).0, 403, "{headers}");
        }
        let others = with_header("DENY", "x-tenant", "notValues", "a");
        let setup = start(driver, &others, Stdio::null());
        let named = "connection: x-tenant\r\nx-tenant: a";
        assert_eq!(setup.get("/", named).0, 403);
        assert_eq!(setup.get("/", "x-tenant: a").0, 200);
        // The address that Envoy sets is that of the peer.
        let local = with_header("DENY", "x-forwarded-for", "values", "*127.0.0.1");
        let setup = start(driver, &local, Stdio::null());
        assert_eq!(setup.get("/", "x-forwarded-for: 10.0.0.9").0, 403);
    }
}

#[test]
fn routes_are_chosen_by_what_the_upstream_sees() {
    let upstream = ScriptedUpstream::start(|connection| {
        while connection.head().is_some() {
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nup");
        }
    });
    let route = |name: &str, value: &str, status: u16| {
        format!(
            "  - match: [{{headers: {{{name}: {value}}}}}]\n    directResponse: {{status: {status}}}\n"
        )
    };
    let answers = [
        route("x-forwarded-client-cert", "{prefix: URI}", 431),
        route("x-forwarded-proto", "{exact: https}", 432),
        route("x-envoy-external-address", "{exact: 10.0.0.9}", 433),
        route("x-tenant", "{exact: a}", 434),
        route("':path'", "{exact: /b?c}", 435),
    ];
    let otherwise = harness::splitting(&[(upstream.address, 1)]);
    let rules = otherwise.replace("  http:\n", &format!("  http:\n{}", answers.concat()));
    assert!(rules.contains("434"), "{rules}");
    for driver in DRIVERS {
        let address = free_address();
        let config = folder(&[("gate.yaml", &gateway(address)), ("rules.yaml", &rules)]);
        let _proxy = Proxy::start(config, &["--driver", driver]);
        let ask = |header: &str| {
            let request =
                format!("GET / HTTP/1.1\r\nhost: a\r\n{header}\r\nconnection: close\r\n\r\n");
            status(&converse(address, &[request.as_bytes()]).0)
        };
        for forged in [
            "x-forwarded-client-cert: URI=spiffe://a",
            "x-forwarded-proto: https",
            "x-envoy-external-address: 10.0.0.9",
            "connection: x-tenant\r\nx-tenant: a",
        ] {
            assert_eq!(ask(forged), 200, "{forged}");
        }
        assert_eq!(ask("x-tenant: a"), 434);
        let by_path = b"GET /./b?c HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        assert_eq!(status(&converse(address, &[by_path]).0), 435);
    }
}

#[test]
fn a_policy_knows_a_peer_by_its_certificate_and_not_by_what_it_says() {
    let mesh = Mesh::new("auto");
    let condition = json!({
        "key": "request.headers[x-forwarded-client-cert]",
        "values": [format!("*{}", id("order-service"))],
    });
    let policy = format!(
        "---\n{}\n",
        json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "told", "namespace": "shop"},
            "spec": {"action": "ALLOW", "rules": [{"when": [condition]}]},
        })
    );
    let (_payment, inbound) = mesh.payment("PERMISSIVE", "", &policy);
    let (_order, order) = mesh.caller("order-service", inbound);
    assert_eq!(ask(order, "GET").expect("an answer").status, 200);
    let forged = format!(
        "GET / HTTP/1.1\r\nhost: {HOST}\r\nx-forwarded-client-cert: URI={}\r\n\
         connection: close\r\n\r\n",
        id("order-service")
    );
    let (answer, _) = converse(inbound, &[forged.as_bytes()]);
    assert_eq!(status(&answer), 403, "{answer}");
}
