//! What the fields of an HTTP rule do: conditions, header operations, actions, policies.

mod support;

use ringroad_policy::snapshot::{
    AbortAnswer, FormatContext, HeaderEdits, HeaderValue, Operator, RequestFacts, Route,
    RouteAction, Snapshot, WriteMode,
};
use support::*;

fn edge(http: &str) -> Snapshot {
    let spec = format!("hosts: ['*']\ngateways: [edge]\nhttp:\n{http}");
    snapshot(&format!(
        "{GATEWAY}{}{}",
        service("a.com", 80, 1),
        rule("rule", &spec)
    ))
}

/// Whether a rule with this match takes the request.
fn takes(condition: &str, request: &Get<'_>) -> bool {
    let http = format!("- match: [{condition}]\n  directResponse: {{status: 200}}\n");
    request.route(table(&edge(&http), 8080)).is_ok()
}

fn route_of(http: &str) -> Route {
    let snapshot = edge(http);
    get("h", "/")
        .route(table(&snapshot, 8080))
        .expect("a route")
        .clone()
}

#[test]
fn headers_match_by_value_presence_and_absence() {
    let none = get("h", "/");
    let a = get("h", "/").with("x", "a");
    let empty = get("h", "/").with("x", "");
    let both = get("h", "/").with("x", "a").with("X", "b");
    for (condition, expected) in [
        ("headers: {x: {exact: a}}", [false, true, false, true]),
        ("headers: {X: {prefix: a}}", [false, true, false, true]),
        ("headers: {x: {exact: b}}", [false, false, false, true]),
        ("headers: {x: {regex: 'a|c'}}", [false, true, false, true]),
        ("headers: {x: {exact: 'a,b'}}", [false, false, false, false]),
        ("headers: {x: {}}", [false, true, true, true]),
        (
            "withoutHeaders: {x: {exact: a}}",
            [true, false, true, false],
        ),
        ("withoutHeaders: {x: {exact: b}}", [true, true, true, false]),
        ("withoutHeaders: {x: {}}", [true, false, false, false]),
        (
            "withoutHeaders: {x: {regex: '*'}}",
            [true, false, false, false],
        ),
    ] {
        let found =
            [&none, &a, &empty, &both].map(|request| takes(&format!("{{{condition}}}"), request));
        assert_eq!(found, expected, "{condition}");
    }
}

#[test]
fn method_scheme_and_authority_are_compared_as_sent() {
    let request = get("Host.example:8080", "/");
    assert!(takes("{method: {exact: GET}}", &request));
    assert!(!takes("{method: {exact: get}}", &request));
    assert!(takes("{scheme: {exact: http}}", &request));
    assert!(!takes("{scheme: {exact: https}}", &request));
    assert!(takes("{authority: {exact: 'Host.example:8080'}}", &request));
    assert!(!takes("{authority: {exact: 'host.example'}}", &request));
}

#[test]
fn query_parameters_are_compared_as_sent_and_the_first_of_a_name_counts() {
    for (path, condition, expected) in [
        ("/?v=1", "{queryParams: {v: {exact: '1'}}}", true),
        ("/?v=2&v=1", "{queryParams: {v: {exact: '1'}}}", false),
        ("/?v", "{queryParams: {v: {}}}", true),
        ("/", "{queryParams: {v: {}}}", false),
        ("/?v=a%20b", "{queryParams: {v: {exact: 'a b'}}}", false),
        ("/?v=a%20b", "{queryParams: {v: {exact: 'a%20b'}}}", true),
        (
            "/?w=1&v=12",
            "{queryParams: {v: {prefix: '1'}, w: {regex: '[0-9]'}}}",
            true,
        ),
        ("/?v=12", "{queryParams: {v: {regex: '[0-9]'}}}", false),
    ] {
        assert_eq!(
            takes(condition, &get("h", path)),
            expected,
            "{path} {condition}"
        );
    }
}

#[test]
fn paths_match_without_query_and_prefixes_are_plain_text() {
    for (path, condition, expected) in [
        ("/v2foo", "{uri: {prefix: /v2}}", true),
        ("/v2?x=1", "{uri: {exact: /v2}}", true),
        ("/V2", "{uri: {exact: /v2}}", false),
        ("/V2", "{uri: {exact: /v2}, ignoreUriCase: true}", true),
        ("/V2/x", "{uri: {prefix: /v2}, ignoreUriCase: true}", true),
        ("/V2", "{uri: {regex: /v2}, ignoreUriCase: true}", false),
        ("/a/b/c", "{uri: {regex: /a/b}}", false),
        ("/a/b", "{uri: {regex: '/a/(b|c)'}}", true),
        ("/x", "{uri: {prefix: ''}}", true),
    ] {
        assert_eq!(
            takes(condition, &get("h", path)),
            expected,
            "{path} {condition}"
        );
    }
}

#[test]
fn each_match_is_a_route_named_by_rule_and_match() {
    let snapshot = edge(
        "- name: rule\n  match:\n  - {name: one, uri: {exact: /1}}\n  - {uri: {exact: /2}}\n  \
         directResponse: {status: 200}\n",
    );
    let table = table(&snapshot, 8080);
    assert_eq!(get("h", "/1").route(table).unwrap().name, "rule.one");
    assert_eq!(get("h", "/2").route(table).unwrap().name, "rule");
}

#[test]
fn what_follows_a_catch_all_is_never_a_route() {
    let snapshot = edge(
        "- name: a\n  match: [{uri: {prefix: /}}]\n  directResponse: {status: 200}\n\
         - name: b\n  match: [{uri: {exact: /b}}]\n  directResponse: {status: 201}\n",
    );
    assert_eq!(
        get("h", "/b").route(table(&snapshot, 8080)).unwrap().name,
        "a"
    );
    assert_eq!(table(&snapshot, 8080).virtual_hosts()[0].routes().len(), 1);
}

#[test]
fn gateways_and_ports_in_a_match_decide_whether_there_is_a_route() {
    let snapshot = edge(
        "- name: mesh\n  match: [{gateways: [mesh]}]\n  directResponse: {status: 200}\n\
         - name: port\n  match: [{port: 9090}]\n  directResponse: {status: 200}\n\
         - name: here\n  match: [{gateways: [default/edge], port: 8080, sourceLabels: {app: x}}]\n  \
         directResponse: {status: 200}\n",
    );
    // With gateways given, source labels are not looked at.
    assert_eq!(
        get("h", "/").route(table(&snapshot, 8080)).unwrap().name,
        "here"
    );
}

#[test]
fn source_labels_and_namespace_are_those_of_the_workload() {
    let settings = "---\napiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {name: p}\n\
                    spec: {role: sidecar, namespace: ns, workload: {labels: {app: shop, tier: web}}}\n";
    let spec = "hosts: [a.com]\nhttp:\n\
                - {name: other, match: [{sourceLabels: {app: bank}}], directResponse: {status: 200}}\n\
                - {name: space, match: [{sourceNamespace: x}], directResponse: {status: 200}}\n\
                - {name: mine, match: [{sourceLabels: {app: shop}, sourceNamespace: ns}], directResponse: {status: 200}}\n";
    let text = format!(
        "{settings}{}{}",
        service("a.com", 80, 1),
        rule("rule", spec)
    );
    let snapshot = snapshot(&text);
    assert_eq!(
        get("a.com", "/").route(table(&snapshot, 80)).unwrap().name,
        "mine"
    );
}

struct Context;

impl FormatContext for Context {
    fn render(&self, operator: &Operator, out: &mut Vec<u8>) -> bool {
        match (operator.name.as_str(), operator.argument.as_deref()) {
            ("PROTOCOL", _) => out.extend_from_slice(b"HTTP/1.1"),
            ("REQ", Some("x")) => out.extend_from_slice(b"from-x"),
            _ => return false,
        }
        true
    }

    fn response_has(&self, _: &str) -> bool {
        false
    }
}

/// The edits applied to `name: old` lines, in the order in which the data path applies them.
fn applied(levels: &[&HeaderEdits], name: &str, old: &str) -> Vec<String> {
    let mut values = vec![old.to_string()];
    for edits in levels {
        if edits.remove.iter().any(|removed| removed == name) {
            values.clear();
        }
        for write in edits.write.iter().filter(|write| write.name == name) {
            if write.mode == WriteMode::Set {
                values.clear();
            }
            let mut out = Vec::new();
            if write.value.render(&Context, &mut out) {
                values.push(String::from_utf8(out).unwrap());
            }
        }
    }
    values
}

#[test]
fn with_one_destination_its_set_wins_and_with_several_the_rules_does() {
    let headers = |value: &str| format!("headers: {{request: {{set: {{X: {value}}}}}}}");
    let one = route_of(&format!(
        "- {}\n  route:\n  - {{destination: {{host: a.com}}, {}}}\n",
        headers("rule"),
        headers("destination")
    ));
    let levels = [&one.destinations()[0].request_headers, &one.request_headers];
    assert_eq!(applied(&levels, "x", "old"), ["destination"]);
    let two = route_of(&format!(
        "- {}\n  route:\n  - {{destination: {{host: a.com}}, weight: 1, {}}}\n  \
         - {{destination: {{host: a.com}}, weight: 1}}\n",
        headers("rule"),
        headers("destination")
    ));
    let levels = [&two.destinations()[0].request_headers, &two.request_headers];
    assert_eq!(applied(&levels, "x", "old"), ["rule"]);
}

#[test]
fn headers_are_removed_then_set_then_added() {
    let route = route_of(
        "- headers:\n    request: {add: {X: added}, set: {X: set}, remove: [X, y]}\n    \
         response: {add: {z: more}}\n  route: [{destination: {host: a.com}}]\n",
    );
    assert_eq!(
        applied(&[&route.request_headers], "x", "old"),
        ["set", "added"]
    );
    assert!(applied(&[&route.request_headers], "y", "old").is_empty());
    assert_eq!(
        applied(&[&route.response_headers], "z", "old"),
        ["old", "more"]
    );
}

#[test]
fn values_take_operators_of_the_substitution_format() {
    let rendered = |text: &str| {
        let mut out = Vec::new();
        let written = HeaderValue::parse(text).unwrap().render(&Context, &mut out);
        (String::from_utf8(out).unwrap(), written)
    };
    let written = |text: &str| (text.to_string(), true);
    assert_eq!(rendered("plain"), written("plain"));
    assert_eq!(rendered("100%%"), written("100%"));
    assert_eq!(rendered("a-%PROTOCOL%-b"), written("a-HTTP/1.1-b"));
    assert_eq!(rendered("%REQ(x):4%"), written("from"));
    assert_eq!(rendered("%REQ(x):4%-%REQ(y)%"), written("from-"));
    assert_eq!(rendered("%REQ(y)%!"), written("!"));
    assert_eq!(rendered("%REQ(y)%"), (String::new(), false));
    for wrong in ["100%", "%", "%nope%", "%REQ(x%", "%REQ(x):n%", "%PROTOCOL"] {
        assert!(HeaderValue::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_host_for_the_upstream_comes_from_rewrite_then_rule_then_destination() {
    let host = |rule: &str, destination: &str| {
        let route = route_of(&format!(
            "- {rule}\n  route: [{{destination: {{host: a.com}}{destination}}}]\n"
        ));
        assert!(route.request_headers.is_empty());
        route.host_rewrite.unwrap()
    };
    let of_rule = "headers: {request: {set: {Host: rule}}}";
    let of_destination = ", headers: {request: {set: {':authority': destination}}}";
    assert_eq!(
        host("rewrite: {authority: rewrite}", of_destination),
        "rewrite"
    );
    assert_eq!(host(of_rule, of_destination), "rule");
    assert_eq!(host("timeout: 1s", of_destination), "destination");
}

#[test]
fn rewrites_replace_what_was_matched_or_every_match_of_an_expression() {
    for (path, condition, rewrite, expected) in [
        ("/api/v1", "{uri: {prefix: /api}}", "{uri: /v2}", "/v2/v1"),
        (
            "/API/v1",
            "{uri: {prefix: /api}, ignoreUriCase: true}",
            "{uri: /v2}",
            "/v2/v1",
        ),
        ("/api", "{uri: {exact: /api}}", "{uri: /new}", "/new"),
        ("/api/x", "{uri: {regex: '/api/.*'}}", "{uri: /new}", "/new"),
        ("/x", "{method: {exact: GET}}", "{uri: /new/}", "/new/x"),
        (
            "/a/b/a/c",
            "{uri: {prefix: /}}",
            "{uriRegexRewrite: {match: '/a/(.)', rewrite: '/z\\1'}}",
            "/zb/zc",
        ),
    ] {
        let http = format!(
            "- match: [{condition}]\n  rewrite: {rewrite}\n  route: [{{destination: {{host: a.com}}}}]\n"
        );
        let snapshot = edge(&http);
        let request = get("h", path);
        let mut out = Vec::new();
        assert!(
            request
                .route(table(&snapshot, 8080))
                .unwrap()
                .rewrite_path(path, &mut out)
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            expected,
            "{path} {condition} {rewrite}"
        );
    }
}

#[test]
fn redirects_change_what_they_name() {
    for (asked, path, redirect, status, expected) in [
        ("h:8080", "/a?q=1", "{uri: /b}", 301, "http://h:8080/b?q=1"),
        ("h", "/a?q=1", "{uri: '/b?r=2'}", 301, "http://h/b?r=2"),
        ("h:80", "/a", "{scheme: https}", 301, "https://h/a"),
        ("h:8080", "/a", "{authority: other}", 301, "http://other/a"),
        (
            "h:8080",
            "/a",
            "{port: 9090, redirectCode: 307}",
            307,
            "http://h:9090/a",
        ),
        (
            "h",
            "/a",
            "{derivePort: FROM_REQUEST_PORT}",
            301,
            "http://h:8080/a",
        ),
        ("h", "/a", "{scheme: https, port: 443}", 301, "https://h/a"),
        ("h", "/a/x", "{prefixRewrite: /b}", 301, "http://h/b/x"),
    ] {
        let snapshot = edge(&format!(
            "- match: [{{uri: {{prefix: /a}}}}]\n  redirect: {redirect}\n"
        ));
        let request = get(asked, path);
        let facts: RequestFacts<'_> = request.facts();
        let route = request.route(table(&snapshot, 8080)).unwrap();
        let RouteAction::Redirect(found) = &route.action else {
            panic!("{:?}", route.action)
        };
        let mut location = Vec::new();
        found.location(
            &facts,
            route.matches.path.matched_len(facts.path),
            &mut location,
        );
        assert_eq!(String::from_utf8(location).unwrap(), expected, "{redirect}");
        assert_eq!(found.status, status);
    }
}

#[test]
fn direct_responses_carry_text_or_bytes() {
    for (body, expected) in [("{string: hello}", "hello"), ("{bytes: aGVsbG8=}", "hello")] {
        let route = route_of(&format!(
            "- directResponse: {{status: 503, body: {body}}}\n"
        ));
        let RouteAction::DirectResponse { status, body } = &route.action else {
            panic!()
        };
        assert_eq!((*status, body.as_slice()), (503, expected.as_bytes()));
    }
}

#[test]
fn timeouts_are_off_unless_written() {
    let timeout = |rule: &str| {
        route_of(&format!(
            "- {rule}\n  route: [{{destination: {{host: a.com}}}}]\n"
        ))
        .timeout_ms
    };
    assert_eq!(timeout("name: x"), None);
    assert_eq!(timeout("timeout: 1.5s"), Some(1_500));
    assert_eq!(timeout("timeout: 1m30s"), Some(90_000));
}

#[test]
fn retries_have_istios_defaults_and_take_codes_among_the_conditions() {
    let retry = |retries: &str| {
        route_of(&format!(
            "- {retries}\n  route: [{{destination: {{host: a.com}}}}]\n"
        ))
        .retry
    };
    let default = retry("name: x").unwrap();
    assert_eq!(
        (
            default.attempts,
            default.per_try_timeout_ms,
            default.backoff_base_ms
        ),
        (2, None, 25)
    );
    assert_eq!(
        default.retry_on.join(","),
        "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
    );
    assert!(default.status_codes.is_empty() && default.exclude_tried && default.origin.is_none());
    assert!(retry("retries: {attempts: 0}").is_none());
    let own = retry(
        "retries: {attempts: 3, perTryTimeout: 250ms, retryOn: '5xx,429,reset', backoff: 1s}",
    );
    let own = own.unwrap();
    assert_eq!(
        (own.attempts, own.per_try_timeout_ms, own.backoff_base_ms),
        (3, Some(250), 1_000)
    );
    assert_eq!(own.retry_on, ["5xx", "reset", "retriable-status-codes"]);
    assert_eq!(own.status_codes, [429]);
}

#[test]
fn faults_and_mirrors_count_in_parts_of_a_million_cut_off() {
    let route = route_of(
        "- fault:\n    delay: {percentage: {value: 0.12345}, fixedDelay: 5s}\n    \
         abort: {percentage: {value: 5}, grpcStatus: UNAVAILABLE}\n  mirror: {host: a.com}\n  \
         mirrorPercentage: {value: 12.5}\n  route: [{destination: {host: a.com}}]\n",
    );
    let fault = route.fault.unwrap();
    let delay = fault.delay.unwrap();
    assert_eq!((delay.share.0, delay.delay_ms), (1_234, 5_000));
    let abort = fault.abort.unwrap();
    assert_eq!(
        (abort.share.0, abort.answer),
        (50_000, AbortAnswer::GrpcStatus(14))
    );
    assert_eq!(route.mirrors[0].share.0, 125_000);
    assert_eq!(route.mirrors[0].cluster_name, "outbound|80||a.com");
    let never = route_of(
        "- fault: {abort: {httpStatus: 500}}\n  mirror: {host: a.com}\n  mirrorPercent: 0\n  \
         route: [{destination: {host: a.com}}]\n",
    );
    assert!(never.fault.is_none() && never.mirrors.is_empty());
    // The other name of the field was accepted, and everything mirrored.
    for name in ["mirrorPercent", "mirror_percent"] {
        let tenth = route_of(&format!(
            "- mirror: {{host: a.com}}\n  {name}: 10\n  route: [{{destination: {{host: a.com}}}}]\n"
        ));
        assert_eq!(tenth.mirrors[0].share.0, 100_000, "{name}");
    }
}
