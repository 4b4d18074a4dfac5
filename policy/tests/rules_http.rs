//! What a VirtualService may say: for each rule one document that breaks it, and where it is told.

mod findings;

use findings::{errors, find};

fn virtual_service(spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\n\
         spec:\n{spec}"
    )
}

/// A VirtualService with one HTTP route that holds `lines`.
fn route(lines: &str) -> String {
    let indented = lines.replace('\n', "\n  ");
    virtual_service(&format!("hosts: [a.example.com]\nhttp:\n- {indented}"))
}

/// A route to a service that also holds `lines`.
fn forwarding(lines: &str) -> String {
    route(&format!("route: [{{destination: {{host: b}}}}]\n{lines}"))
}

#[track_caller]
fn refused(text: &str, code: &str, path: &str) {
    let found = errors(text);
    let expected = (code, path.to_string());
    let found: Vec<_> = found
        .iter()
        .map(|(code, path)| (*code, path.clone()))
        .collect();
    assert_eq!(found, [expected], "{text}");
}

#[track_caller]
fn accepted(text: &str) {
    assert_eq!(errors(text), [], "{text}");
}

const ROUTE: &str = "http: [{route: [{destination: {host: b}}]}]\n";

#[test]
fn hosts_are_names_with_a_wildcard_in_front_at_most() {
    for (host, is_host) in [
        ("reviews", true),
        ("a.example.com.", true),
        ("'*.example.com'", true),
        ("'*-a.example.com'", true),
        ("10.0.0.1", true),
        ("'2001:db8::1'", true),
        ("a..b", false),
        ("a_b.example.com", false),
        ("'a.*.com'", false),
        ("'a*.example.com'", false),
        ("example.123", false),
        ("-a.example.com", false),
        ("''", false),
        ("'*'", false),
    ] {
        let text = virtual_service(&format!("hosts: [{host}]\n{ROUTE}"));
        if is_host {
            accepted(&text);
        } else {
            refused(&text, "invalid-host", "spec.hosts[0]");
        }
    }
    accepted(&virtual_service(&format!(
        "hosts: ['*']\ngateways: [edge]\n{ROUTE}"
    )));
    let long = format!("hosts: [{}.example.com]\n{ROUTE}", "a".repeat(64));
    refused(&virtual_service(&long), "invalid-host", "spec.hosts[0]");
}

#[test]
fn hosts_do_not_cover_each_other() {
    for (hosts, at) in [
        ("[a.com, b.com, a.com]", Some(2)),
        ("[a.example.com, '*.example.com']", Some(1)),
        ("['*.example.com', a.example.com]", Some(1)),
        ("['*.example.com', '*.com']", Some(1)),
        ("['*.example.com', example.com, '*.example.org']", None),
    ] {
        let text = virtual_service(&format!("hosts: {hosts}\n{ROUTE}"));
        match at {
            Some(at) => refused(&text, "duplicate-value", &format!("spec.hosts[{at}]")),
            None => accepted(&text),
        }
    }
}

#[test]
fn a_route_does_one_thing() {
    let to = "route: [{destination: {host: b}}]";
    let redirect = "redirect: {uri: /new}";
    let direct = "directResponse: {status: 200}";
    refused(&route("name: a"), "missing-field", "spec.http[0]");
    refused(
        &route(&format!("{to}\n{redirect}")),
        "conflicting-fields",
        "spec.http[0].route",
    );
    refused(
        &route(&format!("{to}\n{direct}")),
        "conflicting-fields",
        "spec.http[0].route",
    );
    let both = route(&format!("{redirect}\n{direct}"));
    refused(&both, "conflicting-fields", "spec.http[0].directResponse");
    let rewrite = route(&format!("{direct}\nrewrite: {{uri: /}}"));
    refused(&rewrite, "conflicting-fields", "spec.http[0].rewrite");
    let fault = route(&format!(
        "{redirect}\nfault: {{abort: {{httpStatus: 500}}}}"
    ));
    refused(&fault, "conflicting-fields", "spec.http[0].fault");
    accepted(&route("delegate: {name: b}"));
    let delegate = route(&format!("delegate: {{name: b}}\n{to}"));
    refused(&delegate, "conflicting-fields", "spec.http[0].route");
}

#[test]
fn delegates_have_http_routes_alone_and_do_not_delegate() {
    accepted(&virtual_service(ROUTE));
    let bound = virtual_service(&format!("gateways: [edge]\n{ROUTE}"));
    refused(&bound, "conflicting-fields", "spec.gateways");
    let chain = "http: [{delegate: {name: c}, redirect: {uri: /}}]";
    refused(
        &virtual_service(chain),
        "conflicting-fields",
        "spec.http[0].delegate",
    );
    // That it leads nowhere follows from that, and is not said as well.
    refused(
        &virtual_service("http: [{delegate: {name: c}}]"),
        "conflicting-fields",
        "spec.http[0].delegate",
    );
    refused(&virtual_service("hosts: [a]"), "missing-field", "spec");
}

#[test]
fn weights_are_shares_of_their_sum() {
    let weighted = |weights: &[i32]| {
        let each = weights.iter();
        let each = each.map(|w| format!("{{destination: {{host: b}}, weight: {w}}}"));
        route(&format!("route: [{}]", each.collect::<Vec<_>>().join(", ")))
    };
    accepted(&weighted(&[0]));
    accepted(&weighted(&[1, 2, 0]));
    accepted(&weighted(&[200, 1]));
    refused(&weighted(&[0, 0]), "invalid-weight", "spec.http[0].route");
    refused(
        &weighted(&[-1]),
        "invalid-weight",
        "spec.http[0].route[0].weight",
    );
}

#[test]
fn destinations_are_single_hosts_with_subsets_and_ports_that_can_be() {
    let to = |destination: &str| route(&format!("route: [{{destination: {{{destination}}}}}]"));
    let at = |field: &str| format!("spec.http[0].route[0].destination.{field}");
    accepted(&to(
        "host: b.ns.svc.cluster.local, subset: v1, port: {number: 80}",
    ));
    refused(&to("host: '*'"), "invalid-host", &at("host"));
    refused(&to("host: a/b"), "invalid-host", &at("host"));
    refused(&to("host: b, subset: v_1"), "invalid-name", &at("subset"));
    refused(
        &to("host: b, port: {number: 70000}"),
        "invalid-port",
        &at("port.number"),
    );
    refused(&to("host: b, port: {}"), "invalid-port", &at("port"));
}

#[test]
fn conditions_are_texts_prefixes_and_expressions_of_re2() {
    let matching = |condition: &str| forwarding(&format!("match: [{{{condition}}}]"));
    let at = |field: &str| format!("spec.http[0].match[0].{field}");
    accepted(&matching("uri: {prefix: ''}"));
    accepted(&matching("uri: {regex: '/users/{id}/[0-9]+'}"));
    accepted(&matching("headers: {x-a: {}, ':path': {exact: /}}"));
    accepted(&matching("withoutHeaders: {x-a: {regex: '*'}}"));
    refused(
        &matching("method: {prefix: ''}"),
        "empty-value",
        &at("method.prefix"),
    );
    refused(
        &matching("headers: {x: null}"),
        "empty-value",
        &at("headers.x"),
    );
    refused(
        &matching("headers: {x: {regex: '*'}}"),
        "invalid-regex",
        &at("headers.x.regex"),
    );
    for regex in ["(?=a)b", "(a)\\1", "[a", "a{2000}", "(a", ""] {
        let text = matching(&format!("uri: {{regex: '{regex}'}}"));
        refused(&text, "invalid-regex", &at("uri.regex"));
    }
    let long = matching(&format!("uri: {{regex: '{}'}}", "a".repeat(1025)));
    refused(&long, "invalid-regex", &at("uri.regex"));
    refused(
        &matching("headers: {'x y': {exact: a}}"),
        "invalid-header",
        &at("headers.x y"),
    );
    refused(&matching("port: 70000"), "invalid-port", &at("port"));
    refused(
        &matching("sourceNamespace: a.b"),
        "invalid-name",
        &at("sourceNamespace"),
    );
    refused(
        &matching("sourceLabels: {a: 'b c'}"),
        "invalid-label",
        &at("sourceLabels.a"),
    );
    refused(
        &matching("gateways: [a/b/c]"),
        "invalid-name",
        &at("gateways[0]"),
    );
}

#[test]
fn claims_of_tokens_are_matched_at_gateways_alone() {
    let claim = "match: [{headers: {'@request.auth.claims[group]': {exact: dev}}}]";
    let path = "spec.http[0].match[0].headers.@request.auth.claims[group]";
    refused(&forwarding(claim), "conflicting-fields", path);
    let bound = forwarding(claim).replace("  http:", "  gateways: [ns/edge]\n  http:");
    accepted(&bound);
}

#[test]
fn what_is_rewritten_cannot_end_its_line_early() {
    for (lines, path) in [
        ("rewrite: {uri: /x y}", "rewrite.uri"),
        ("rewrite: {uri: \"/x\\r\\nevil: 1\"}", "rewrite.uri"),
        ("rewrite: {authority: a b}", "rewrite.authority"),
        (
            "rewrite: {uriRegexRewrite: {match: a, rewrite: \"/\\n\"}}",
            "rewrite.uriRegexRewrite.rewrite",
        ),
        (
            "headers: {request: {set: {host: a b}}}",
            "headers.request.set.host",
        ),
    ] {
        let path = format!("spec.http[0].{path}");
        refused(&forwarding(lines), "unsendable-text", &path);
    }
    for (field, value) in [("uri", "/x"), ("authority", "a"), ("prefixRewrite", "/x")] {
        let redirect = |value: &str| {
            route(&format!(
                "match: [{{uri: {{prefix: /}}}}]\nredirect: {{{field}: \"{value}\"}}"
            ))
        };
        let path = format!("spec.http[0].redirect.{field}");
        refused(
            &redirect(&format!("{value}\\r\\nevil: 1")),
            "unsendable-text",
            &path,
        );
        accepted(&redirect(value));
    }
    accepted(&forwarding("rewrite: {uri: /x%20y, authority: a.b}"));
}

#[test]
fn headers_of_the_connection_are_left_alone() {
    for name in [
        "content-length",
        "Transfer-Encoding",
        "connection",
        "upgrade",
    ] {
        for (operation, path) in [
            (format!("set: {{{name}: x}}"), format!("set.{name}")),
            (format!("remove: [{name}]"), "remove[0]".to_string()),
        ] {
            for side in ["request", "response"] {
                let text = forwarding(&format!("headers: {{{side}: {{{operation}}}}}"));
                accepted(&text);
                let found = find(&text);
                let found: Vec<_> = found
                    .iter()
                    .filter(|found| found.code == "framing-header")
                    .map(|found| found.path.clone())
                    .collect();
                assert_eq!(found, [format!("spec.http[0].headers.{side}.{path}")]);
            }
        }
    }
}

#[test]
fn header_operations_name_headers_that_can_be_changed() {
    let request = |operations: &str| forwarding(&format!("headers: {{request: {{{operations}}}}}"));
    let at = |field: &str| format!("spec.http[0].headers.request.{field}");
    accepted(&request("set: {':authority': a, x-b: '%REQ(x-c)% 100%%'}"));
    refused(
        &request("set: {':path': /}"),
        "invalid-header",
        &at("set.:path"),
    );
    refused(&request("add: {'': b}"), "invalid-header", &at("add."));
    refused(&request("set: {a b: c}"), "invalid-header", &at("set.a b"));
    refused(
        &request("remove: [\"a\\r\\nb\"]"),
        "invalid-header",
        &at("remove[0]"),
    );
    refused(
        &request("remove: [Host]"),
        "invalid-header",
        &at("remove[0]"),
    );
    for operator in [
        "REQ(user-agent)",
        "RESP(x)",
        "PATH(WQ:ORIG)",
        "QUERY_PARAM(a)",
        "DYNAMIC_METADATA(a:b)",
        "ENVIRONMENT(X)",
    ] {
        accepted(&request(&format!("set: {{x: 'a %{operator}:3% b'}}")));
    }
    for wrong in ["50%", "%REQ(a):%", "%REQ(a):n%", "%REQ()%", "%REQ():4%"] {
        let text = request(&format!("set: {{x: '{wrong}'}}"));
        refused(&text, "invalid-header", &at("set.x"));
    }
    let nameless = find(&request("set: {x: '%REQ()%'}")).remove(0);
    assert!(nameless.message.contains("without a name"), "{nameless:?}");
    assert!(nameless.help.contains("`%REQ(x-user)%`"), "{nameless:?}");
    refused(
        &request("set: {x: \"a\\nb\"}"),
        "invalid-header",
        &at("set.x"),
    );
    let response = forwarding("headers: {response: {set: {':authority': a}}}");
    refused(
        &response,
        "invalid-header",
        "spec.http[0].headers.response.set.:authority",
    );
    let twice = "rewrite: {authority: a}\nheaders: {request: {set: {host: b}}}";
    refused(&forwarding(twice), "conflicting-fields", &at("set.host"));
}

#[test]
fn redirects_and_answers_lead_somewhere() {
    let at = |field: &str| format!("spec.http[0].{field}");
    accepted(&route(
        "redirect: {port: 443, scheme: https, redirectCode: 308}",
    ));
    refused(
        &route("redirect: {redirectCode: 302}"),
        "missing-field",
        &at("redirect"),
    );
    let code = route("redirect: {uri: /, redirectCode: 200}");
    refused(&code, "out-of-range", &at("redirect.redirectCode"));
    let scheme = route("redirect: {uri: /, scheme: ftp}");
    refused(&scheme, "unknown-value", &at("redirect.scheme"));
    let prefix = "match: [{uri: {exact: /a}}]\nredirect: {prefixRewrite: /b}";
    refused(
        &route(prefix),
        "conflicting-fields",
        &at("redirect.prefixRewrite"),
    );
    refused(
        &route("directResponse: {status: 99}"),
        "out-of-range",
        &at("directResponse.status"),
    );
    let body = format!(
        "directResponse: {{status: 200, body: {{string: {}}}}}",
        "a".repeat(1_048_577)
    );
    refused(&route(&body), "out-of-range", &at("directResponse.body"));
}

#[test]
fn rewrites_retries_faults_and_cors_keep_to_their_values() {
    let at = |field: &str| format!("spec.http[0].{field}");
    for (lines, code, path) in [
        ("rewrite: {}", "missing-field", "rewrite"),
        (
            "rewrite: {uri: /, uriRegexRewrite: {match: a, rewrite: b}}",
            "conflicting-fields",
            "rewrite.uriRegexRewrite",
        ),
        (
            "rewrite: {uriRegexRewrite: {match: a}}",
            "missing-field",
            "rewrite.uriRegexRewrite",
        ),
        (
            "rewrite: {uriRegexRewrite: {match: '[', rewrite: b}}",
            "invalid-regex",
            "rewrite.uriRegexRewrite.match",
        ),
        (
            "retries: {attempts: -1}",
            "out-of-range",
            "retries.attempts",
        ),
        (
            "fault: {delay: {percent: -1, fixedDelay: 1s}}",
            "out-of-range",
            "fault.delay.percent",
        ),
        (
            "mirror: {host: c}\nmirrorPercent: 1\nmirror_percent: 1",
            "conflicting-fields",
            "mirror_percent",
        ),
        (
            "retries: {attempts: 0, retryOn: 5xx}",
            "conflicting-fields",
            "retries",
        ),
        (
            "retries: {attempts: 1, retryOn: '5xx, reset'}",
            "unknown-value",
            "retries.retryOn",
        ),
        (
            "retries: {attempts: 1, retryOn: '299'}",
            "unknown-value",
            "retries.retryOn",
        ),
        ("fault: {}", "missing-field", "fault"),
        (
            "fault: {abort: {httpStatus: 199}}",
            "out-of-range",
            "fault.abort.httpStatus",
        ),
        (
            "fault: {abort: {grpcStatus: '14'}}",
            "unknown-value",
            "fault.abort.grpcStatus",
        ),
        (
            "fault: {delay: {fixedDelay: 1s, percentage: {value: 0.00001}}}",
            "out-of-range",
            "fault.delay.percentage.value",
        ),
        (
            "fault: {delay: {exponentialDelay: 1s}}",
            "unknown-value",
            "fault.delay.exponentialDelay",
        ),
        (
            "corsPolicy: {allowOrigins: [{exact: ''}]}",
            "missing-field",
            "corsPolicy.allowOrigins[0]",
        ),
        (
            "corsPolicy: {allowMethods: [get]}",
            "unknown-value",
            "corsPolicy.allowMethods[0]",
        ),
        (
            "corsPolicy: {allowHeaders: ['a b']}",
            "invalid-header",
            "corsPolicy.allowHeaders[0]",
        ),
        (
            "corsPolicy: {maxAge: 1500ms}",
            "invalid-duration",
            "corsPolicy.maxAge",
        ),
        (
            "mirrorPercentage: {value: 101}",
            "out-of-range",
            "mirrorPercentage.value",
        ),
        ("mirror: {host: '*'}", "invalid-host", "mirror.host"),
    ] {
        refused(&forwarding(lines), code, &at(path));
    }
    accepted(&forwarding(
        "retries: {attempts: 3, retryOn: 'gateway-error,503,unavailable'}",
    ));
    accepted(&forwarding(
        "corsPolicy: {allowMethods: ['*'], allowHeaders: ['*'], maxAge: 24h}",
    ));
}

#[test]
fn tls_and_tcp_routes_lead_somewhere_and_tls_by_hosts_of_its_own() {
    let to = "route: [{destination: {host: b}}]";
    let tls = |lines: &str| virtual_service(&format!("hosts: ['*.a.com']\ntls:\n- {lines}"));
    accepted(&tls(&format!(
        "match: [{{sniHosts: [x.a.com], port: 443}}]\n  {to}"
    )));
    let foreign = tls(&format!("match: [{{sniHosts: [b.com]}}]\n  {to}"));
    refused(&foreign, "invalid-host", "spec.tls[0].match[0].sniHosts[0]");
    let nowhere = tls("match: [{sniHosts: [x.a.com]}]");
    refused(&nowhere, "missing-field", "spec.tls[0]");
    let tcp = |lines: &str| virtual_service(&format!("hosts: [a]\ntcp:\n- {lines}"));
    accepted(&tcp(&format!(
        "match: [{{destinationSubnets: [10.0.0.0/8]}}]\n  {to}"
    )));
    let subnet = tcp(&format!(
        "match: [{{destinationSubnets: [10.0.0.0/40]}}]\n  {to}"
    ));
    refused(
        &subnet,
        "invalid-address",
        "spec.tcp[0].match[0].destinationSubnets[0]",
    );
}

#[test]
fn objects_are_exported_to_namespaces_or_to_all() {
    let exported = |to: &str| virtual_service(&format!("hosts: [a]\nexportTo: {to}\n{ROUTE}"));
    accepted(&exported("['.', other]"));
    refused(
        &exported("['*', other]"),
        "conflicting-fields",
        "spec.exportTo",
    );
    refused(
        &exported("['.', default]"),
        "duplicate-value",
        "spec.exportTo[1]",
    );
    refused(&exported("['~']"), "invalid-name", "spec.exportTo[0]");
}
