//! What is done to paths, by `pathNormalization`: routes, policies and upstreams see the same. On
//! both drivers, and both versions of HTTP.

mod harness;

use harness::access::{policy, upstream};
use harness::frames::{DATA, FrameClient, RST_STREAM, get_frame};
use harness::raw::{ScriptedUpstream, converse};
use harness::{DRIVERS, Proxy, folder, free_address, gateway, settings, splitting};
use serde_json::json;
use std::net::SocketAddr;
use std::process::Stdio;

/// A gateway that answers `routed` below `/special` itself, and lets nobody to `/admin` and below.
fn start(driver: &str, normalization: &str, upstream: &ScriptedUpstream) -> (Proxy, SocketAddr) {
    let address = free_address();
    let routes = splitting(&[(upstream.address, 1)]).replace(
        "  http:\n",
        "  http:\n  - match: [{uri: {prefix: /special/}}]\n    \
         directResponse: {status: 200, body: {string: routed}}\n",
    );
    let paths = json!(["/admin", "/admin/*"]);
    let denied = json!({"action": "DENY", "rules": [{"to": [{"operation": {"paths": paths}}]}]});
    let spec = format!("{{role: gateway, pathNormalization: {{normalization: {normalization}}}}}");
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("routes.yaml", &routes),
        ("policy.yaml", &policy("no", &denied)),
        ("settings.yaml", &settings(&spec)),
    ]);
    let args = ["--driver", driver];
    let proxy = Proxy::start_with_stdout(config, &args, Stdio::null());
    (proxy, address)
}

fn body_over_http1(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n");
    let (answer, _) = converse(address, &[request.as_bytes()]);
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    body.to_string()
}

fn body_over_http2(address: SocketAddr, path: &str) -> String {
    let mut client = FrameClient::connect(address, &[]);
    client.settle();
    client.send(&get_frame(1, path));
    let mut body = Vec::new();
    client.until("an answer", |frame| {
        if frame.kind == DATA {
            body.extend_from_slice(&frame.payload);
        }
        assert_ne!(frame.kind, RST_STREAM, "{path}");
        frame.stream == 1 && frame.ends_stream()
    });
    String::from_utf8(body).expect("text")
}

#[test]
fn routes_policies_and_upstreams_see_the_same_path() {
    const DENIED: &str = "RBAC: access denied";
    const ROUTED: &str = "routed";
    // What becomes of each path: an answer, or what the upstream is asked for.
    let cases = [
        ("NONE", "/%61dmin", "/%61dmin"),
        ("NONE", "/x/../admin", "/x/../admin"),
        ("NONE", "//admin", "//admin"),
        ("BASE", "/%61dmin", DENIED),
        ("BASE", "/x/../admin", DENIED),
        ("BASE", "/x/..;/admin", DENIED),
        ("BASE", "/x/..;a=b/special/", ROUTED),
        ("BASE", "/x/..;a=b/y", "/y"),
        ("NONE", "/x/..;/admin", "/x/..;/admin"),
        ("MERGE_SLASHES", "/x/..;//admin", DENIED),
        ("BASE", "/%%36%31dmin", "/%2561dmin"),
        ("BASE", "//admin", "//admin"),
        ("BASE", "/admin%2fx", "/admin%2fx"),
        ("BASE", "//special/", "//special/"),
        ("MERGE_SLASHES", "//admin", DENIED),
        ("MERGE_SLASHES", "/x//..///admin", "/x/admin"),
        ("MERGE_SLASHES", "/x/..///admin", DENIED),
        ("MERGE_SLASHES", "/\\\\admin//x", DENIED),
        ("MERGE_SLASHES", "/admin%2fx", "/admin%2fx"),
        ("MERGE_SLASHES", "//special///a", ROUTED),
        ("MERGE_SLASHES", "/a//b///", "/a/b/"),
        ("DECODE_AND_MERGE_SLASHES", "/admin%2fx", DENIED),
        ("DECODE_AND_MERGE_SLASHES", "/x%2f..%5Cadmin", DENIED),
        ("DECODE_AND_MERGE_SLASHES", "/%2f%2fspecial%2f", ROUTED),
        ("DECODE_AND_MERGE_SLASHES", "/admin%252fx", "/admin%252fx"),
        ("DECODE_AND_MERGE_SLASHES", "/a%2F%2fb", "/a/b"),
    ];
    for driver in DRIVERS {
        for kinds in cases.chunk_by(|one, other| one.0 == other.0) {
            let upstream = upstream();
            let (_proxy, address) = start(driver, kinds[0].0, &upstream);
            for (kind, path, becomes) in kinds {
                for body in [
                    body_over_http1(address, path),
                    body_over_http2(address, path),
                ] {
                    let seen = match body.as_str() {
                        "ok" => {
                            let heads = upstream.heads();
                            let head = heads.last().expect("a request");
                            head.split(' ').nth(1).expect("a path").to_string()
                        }
                        answer => answer.to_string(),
                    };
                    assert_eq!(seen, *becomes, "{kind}, {path}, {driver}");
                }
            }
        }
    }
}
