//! What Envoy's operators in configured headers stand for, in requests and in their responses.

mod harness;

use harness::raw::{ScriptedUpstream, converse};
use harness::{DRIVERS, Proxy, folder, free_address, gateway};

/// Header and value: what goes upstream and what comes back are set alike.
const OPERATORS: [(&str, &str); 27] = [
    ("hostname", "%HOSTNAME%"),
    ("connection", "%CONNECTION_ID%"),
    ("stream", "%STREAM_ID%"),
    ("id", "%REQ(X-REQUEST-ID)%"),
    ("unique", "%UNIQUE_ID%"),
    ("received", "%BYTES_RECEIVED%"),
    ("sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("path", "%PATH%"),
    ("bare-path", "%PATH(NQ)%"),
    ("present-path", "%PATH(WQ:PATH)%"),
    ("old-path", "<%PATH(NQ:ORIG)%>"),
    ("header-path", "%REQ(:PATH)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("parameter", "%QUERY_PARAM(a)%"),
    ("absent-parameter", "%QUERY_PARAM(z)%"),
    ("parameters", "%QUERY_PARAMS%"),
    ("flags", "%RESPONSE_FLAGS_LONG%"),
    ("attempts", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ("host", "<%UPSTREAM_HOST%>"),
    ("masked", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(8)%"),
    ("forwarded", "%REQUEST_HEADER(X-FORWARDED-FOR)%"),
    ("cut-path", "%PATH(WQ:PATH):5%|%REQ(:AUTHORITY):3%"),
    ("cut-parameter", "%QUERY_PARAM(a):1%"),
    ("cut-variable", "<%ENVIRONMENT(PATH):1%>"),
    ("longer", "%REQ(:AUTHORITY):400%"),
    ("cut-to-nothing", "%REQ(:AUTHORITY):0%"),
];

fn rules(upstream: std::net::SocketAddr) -> String {
    let set: String = OPERATORS
        .iter()
        .map(|(name, value)| format!("          v-{name}: '{value}'\n"))
        .collect();
    let (ip, port) = (upstream.ip(), upstream.port());
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: shop}}\nspec:\n  \
         hosts: [\"*\"]\n  gateways: [gate]\n  http:\n  - match: [{{uri: {{prefix: /old/}}}}]\n    \
         rewrite: {{uri: /new/, authority: new.test}}\n    \
         retries: {{attempts: 2, retryOn: 5xx, backoff: 1ms}}\n    \
         route: [{{destination: {{host: shop.test, port: {{number: 80}}}}}}]\n    headers:\n      \
         request:\n        set:\n{set}      response:\n        set:\n{set}---\n\
         apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: shop}}\nspec:\n  \
         hosts: [shop.test]\n  resolution: STATIC\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
         endpoints: [{{address: {ip}, ports: {{http: {port}}}}}]\n"
    )
}

/// The value of a header that was set, of the last head in a text.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let start = format!("v-{name}: ");
    text.lines().find_map(|line| line.strip_prefix(&start))
}

#[test]
fn operators_have_their_value_at_the_moment_that_the_head_is_written() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            let mut statuses = [503, 200].into_iter().cycle();
            while connection.head().is_some() {
                connection.body(5);
                let status = statuses.next().unwrap_or(200);
                connection.send(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"));
            }
        });
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("rules.yaml", &rules(upstream.address)),
        ]);
        let proxy = Proxy::start_with_workers(config, &["--driver", driver, "--workers", "1"]);
        assert!(
            !proxy.log().contains("value-not-carried"),
            "{}",
            proxy.log()
        );
        let request = "POST /old/x?a=1%202&b=3 HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n\
                       connection: close\r\n\r\nhello";
        let (answer, _) = converse(address, &[request.as_bytes()]);
        let heads = upstream.heads();
        let sent = heads.last().expect("a request");

        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
        for (name, in_request, in_response) in [
            ("hostname", hostname.trim(), hostname.trim()),
            ("connection", "0", "0"),
            ("received", "0", "5"),
            ("sent", "0", "0"),
            ("path", "/old/x?a=1%202&b=3", "/old/x?a=1%202&b=3"),
            ("bare-path", "/old/x", "/old/x"),
            ("present-path", "/old/x?a=1%202&b=3", "/new/x?a=1%202&b=3"),
            ("old-path", "<>", "</old/x>"),
            ("header-path", "/old/x?a=1%202&b=3", "/new/x?a=1%202&b=3"),
            ("authority", "a.test", "new.test"),
            ("parameter", "1 2", "1 2"),
            ("parameters", "a=1%202&b=3", "a=1%202&b=3"),
            ("flags", "-", "-"),
            ("attempts", "1", "2"),
            ("host", "<>", &format!("<{}>", upstream.address)),
            ("masked", "127.0.0.0/8", "127.0.0.0/8"),
            ("forwarded", "127.0.0.1", "127.0.0.1"),
            ("cut-path", "/old/|a.t", "/new/|new"),
            ("cut-parameter", "1", "1"),
            ("cut-variable", "</>", "</>"),
            ("longer", "a.test", "new.test"),
        ] {
            assert_eq!(value(sent, name), Some(in_request), "{name} in {sent}");
            assert_eq!(
                value(&answer, name),
                Some(in_response),
                "{name} in {answer}"
            );
        }
        // One operator that has no value is no header.
        assert_eq!(value(sent, "absent-parameter"), None);
        assert_eq!(value(sent, "cut-to-nothing"), None);
        let id = sent
            .lines()
            .find_map(|line| line.strip_prefix("x-request-id: "));
        for text in [sent.as_str(), &answer] {
            assert_eq!(value(text, "stream"), id, "{text}");
            assert_eq!(value(text, "id"), id, "{text}");
            let lasted = value(text, "duration").and_then(|ms| ms.parse::<u64>().ok());
            assert!(lasted.is_some_and(|ms| ms < 60_000), "{text}");
        }
        let unique = [value(sent, "unique"), value(&answer, "unique")];
        assert!(unique.iter().all(|id| id.is_some_and(|id| id.len() == 36)));
        assert_ne!(unique[0], unique[1]);

        let (other, _) = converse(address, &[request.as_bytes()]);
        assert_eq!(value(&other, "connection"), Some("1"));
    }
}

/// What a response says of its date, by what the upstream said and what the route does with it.
#[test]
fn a_response_has_one_date_whatever_a_route_does_with_it() {
    let upstream = ScriptedUpstream::start(|connection| {
        while let Some((head, _)) = connection.head() {
            let date = if head.contains("/dated") {
                "date: UP\r\n"
            } else {
                ""
            };
            connection.send(format!(
                "HTTP/1.1 200 OK\r\n{date}content-length: 0\r\n\r\n"
            ));
        }
    });
    let (ip, port) = (upstream.address.ip(), upstream.address.port());
    let changes = [
        ("/remove", "remove: [date]"),
        ("/add", "add: {date: X}"),
        ("/set", "set: {date: X}"),
        ("/nothing", "set: {date: '%RESP(x-none)%'}"),
    ];
    let rules = changes.map(|(path, change)| {
        format!(
            "  - match: [{{uri: {{prefix: {path}}}}}]\n    headers: {{response: {{{change}}}}}\n    \
             route: [{{destination: {{host: shop.test}}}}]\n"
        )
    });
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: shop}}\n\
         spec:\n  hosts: [\"*\"]\n  gateways: [gate]\n  http:\n{}---\n\
         apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: shop}}\n\
         spec:\n  hosts: [shop.test]\n  resolution: STATIC\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
         endpoints: [{{address: {ip}, ports: {{http: {port}}}}}]\n",
        rules.concat()
    );
    for driver in DRIVERS {
        let address = free_address();
        let config = folder(&[("gate.yaml", &gateway(address)), ("rules.yaml", &text)]);
        let _proxy = Proxy::start(config, &["--driver", driver]);
        let dates = |path: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            let (answer, _) = converse(address, &[request.as_bytes()]);
            let dates = answer
                .lines()
                .filter_map(|line| line.strip_prefix("date: "));
            let own = |date: &str| date.ends_with(" GMT");
            let dates = dates.map(|date| if own(date) { "own" } else { date });
            dates.collect::<Vec<_>>().join(" ")
        };
        for (path, told) in [
            ("/remove", "own"),
            ("/remove/dated", "own"),
            ("/add", "X"),
            ("/add/dated", "UP X"),
            ("/set", "X"),
            ("/set/dated", "X"),
            ("/nothing", "own"),
            ("/nothing/dated", "UP"),
        ] {
            assert_eq!(dates(path), told, "{path} {driver}");
        }
    }
}
