//! Lines of the access log, as `diff` reads them.

mod support;

use ringroad_policy::difference::{Comparison, Line, Recorded, Side, parse_line, render_requests};
use support::{GATEWAY, log_line as line, snapshot};

const A: &str = "outbound|80||a.com";

fn request(line: &str) -> Recorded {
    match parse_line(line) {
        Some(Line::Request(recorded)) => recorded,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn both_formats_of_the_log_are_read() {
    let text = request(&line("GET", "/a?b=c", "shop.com:8080", A, "the route"));
    let json = "{\"method\":\"GET\",\"path\":\"/a?b=c\",\"authority\":\"shop.com:8080\",\
        \"user_agent\":\"curl/8 \\\"x\\\" y\",\"x_forwarded_for\":\"10.1.1.1\",\
        \"downstream_local_address\":\"127.0.0.1:8080\",\"requested_server_name\":null,\
        \"upstream_cluster\":\"outbound|80||a.com\",\"route_name\":\"the route\"}";
    assert_eq!(request(json), text);
    assert_eq!(
        (text.method.as_str(), text.target.as_str()),
        ("GET", "/a?b=c")
    );
    assert_eq!(text.authority, "shop.com:8080");
    assert_eq!(text.port, Some(8080));
    assert!(!text.is_tls);
    assert_eq!(text.cluster.as_deref(), Some(A));
    assert_eq!(text.route_name.as_deref(), Some("the route"));
    assert_eq!(
        text.headers[1],
        ("user-agent".to_string(), "curl/8 \"x\" y".to_string())
    );
    let unknown = request(&line("GET", "/", "shop.com", "-", "-"));
    assert_eq!((unknown.cluster, unknown.route_name), (None, None));
    for broken in [
        "",
        "hello",
        "{}",
        "{\"method\":\"GET\"}",
        "[x] \"GET / HTTP/1.1\" 200",
    ] {
        assert_eq!(parse_line(broken), None, "{broken}");
    }
}

/// Each is a line that the proxy writes itself.
#[test]
fn lines_about_what_no_route_decides_are_no_access_log() {
    let refused = line("-", "-", "-", "-", "-").replace("200 -", "400 DPE");
    let tcp = line("-", "-", "-", A, "-")
        .replace("HTTP/1.1", "-")
        .replace("200 -", "0 -");
    let connect = line("CONNECT", "-", "a.com:443", "-", "-");
    let asterisk = line("OPTIONS", "*", "a.com", "-", "-");
    let no_host = line("GET", "/a", "-", "-", "-");
    let json = "{\"method\":null,\"path\":null,\"protocol\":\"HTTP/1.1\",\"authority\":null}";
    let lines = [&refused, &tcp, &connect, &asterisk, &no_host, json].map(String::from);
    for line in &lines {
        assert_eq!(parse_line(line), Some(Line::Unrouted), "{line}");
    }
    let config = snapshot(GATEWAY);
    let side = Side {
        snapshot: &config,
        files: &[],
    };
    let mut comparison = Comparison::new(side, side);
    for line in &lines {
        comparison.add_line(line);
    }
    let difference = comparison.finish();
    assert_eq!((difference.requests, difference.unrouted_lines), (0, 6));
    assert_eq!(difference.unreadable_lines, 0);
    let text = render_requests(&difference);
    assert!(
        text.contains("6  lines are left out, since no route decides"),
        "{text}"
    );
}
