//! What routes and policies see of a request is what its upstream gets.

use super::super::edits::{EditLevels, tests::NoValues};
use super::super::request_id::{RequestId, request_id_needed, write_uuid};
use super::super::seen_head::SeenHead;
use super::UpstreamHead;
use ringroad_codec::http1::{HeadLimits, Progress, RequestHead, parse_request};
use ringroad_policy::snapshot::{Direction, ForwardedCert, HeaderLookup, Random};

/// Names that something is made of on the way, some that are not, and how they may be written.
const NAMES: &[&str] = &[
    "x-forwarded-for",
    "X-Forwarded-For",
    "x-forwarded-proto",
    "X-FORWARDED-PROTO",
    "x-forwarded-client-cert",
    "X-Forwarded-Client-Cert",
    "x-forwarded-host",
    "x-request-id",
    "X-Request-Id",
    "x-envoy-internal",
    "X-Envoy-External-Address",
    "x-envoy-original-path",
    "x-envoy-attempt-count",
    "x-envoy-peer-metadata",
    "x-envoy-decorator-operation",
    "x-envoy-of-others",
    "te",
    "TE",
    "keep-alive",
    "proxy-connection",
    "Proxy-Authorization",
    "http2-settings",
    "trailer",
    "cookie",
    "Cookie",
    "a",
    "A",
    "b",
];
const VALUES: &[&str] = &[
    "1",
    "https",
    "10.0.0.1",
    "trailers",
    "gzip, trailers",
    "a, b",
    "By=x",
    "",
];
/// What `Connection` may name, besides itself.
const NOMINATED: &[&str] = &[
    "a",
    "B",
    "x-forwarded-for",
    "x-request-id",
    "x-envoy-of-others",
    "te",
];
/// Of the request line, of the framing, or of one try: nobody is asked about them by these names.
const OF_THE_WAY: &[&str] = &["host", "content-length", "x-envoy-attempt-count"];

fn pick<'t>(random: &mut Random, of: &[&'t str]) -> &'t str {
    of[random.below(of.len())]
}

fn random_head(random: &mut Random) -> String {
    let mut text = "GET /a HTTP/1.1\r\nHost: a.test\r\n".to_string();
    for _ in 0..random.below(9) {
        let line = match random.below(6) {
            0 => format!("Connection: {}\r\n", pick(random, NOMINATED)),
            _ => format!("{}: {}\r\n", pick(random, NAMES), pick(random, VALUES)),
        };
        text += &line;
    }
    text + "\r\n"
}

/// The values of a header, lines of one list as one; empty elements are none (RFC 9110 section
/// 5.6.1).
fn joined(values: &[Vec<u8>]) -> String {
    let texts = values.iter().map(|value| String::from_utf8_lossy(value));
    let list = texts.collect::<Vec<_>>().join(",");
    let elements = list.split(',').filter(|element| !element.is_empty());
    elements.collect::<Vec<_>>().join(",")
}

#[test]
fn routes_and_policies_see_the_headers_that_the_upstream_gets() {
    let mut random = Random::new(11);
    let mut compared = 0;
    for _ in 0..20_000 {
        let text = random_head(&mut random);
        let mut head = RequestHead::default();
        let parsed = parse_request(text.as_bytes(), &HeadLimits::default(), &mut head);
        let Ok(Progress::Complete) = parsed else {
            continue;
        };
        let directions = [Direction::Gateway, Direction::Inbound, Direction::Outbound];
        let direction = directions[random.below(3)];
        let mut request_id = RequestId::default();
        if request_id_needed(&head, direction) {
            write_uuid(&mut random, &mut request_id);
        }
        let certs = [
            (false, None),
            (true, None),
            (false, Some("URI=c")),
            (true, Some("URI=c")),
        ];
        let (keeps, adds) = certs[random.below(4)];
        let seen = SeenHead {
            head: &head,
            bytes: text.as_bytes(),
            direction,
            peer: "192.0.2.7".parse().expect("an address"),
            scheme: ["http", "https"][random.below(2)],
            client_cert: ForwardedCert { keeps, adds },
            request_id: &request_id,
        };
        let mut written = Vec::new();
        UpstreamHead {
            seen: &seen,
            path: b"/a",
            query: None,
            authority: "a.test",
            original_path: None,
            original_authority: None,
            attempt: 1,
            timeout_ms: None,
            is_grpc: false,
            edits: &EditLevels::default(),
            format: &NoValues,
        }
        .write(&mut written);
        let mut sent = RequestHead::default();
        let parsed = parse_request(&written, &HeadLimits::default(), &mut sent);
        assert!(matches!(parsed, Ok(Progress::Complete)), "{text}");

        let lower = NAMES.iter().map(|name| name.to_ascii_lowercase());
        let more = ["connection", "upgrade", "transfer-encoding", "expect"];
        let names = lower.chain(more.map(str::to_string));
        for name in names.filter(|name| !OF_THE_WAY.contains(&name.as_str())) {
            let (mut told, mut came) = (Vec::new(), Vec::new());
            seen.visit(&name, &mut |value| told.push(value.to_vec()));
            let headers = sent.headers(&written);
            headers.visit(&name, &mut |value| came.push(value.to_vec()));
            assert_eq!(
                joined(&told),
                joined(&came),
                "{name} of {direction:?}\n{text}"
            );
            compared += 1;
        }
    }
    assert!(compared > 100_000, "{compared}");
}
