//! Values that come to nothing, contradict each other, or count as others: each is named, and the
//! form that was meant is not.

mod support;

use support::*;

/// One rule of a VirtualService that is bound to a gateway, with these fields beside its
/// destination.
fn route(fields: &str) -> String {
    let rules = format!("http: [{{route: [{{destination: {{host: a.com}}}}], {fields}}}]\n");
    let bound = rule("r", &format!("hosts: ['*']\ngateways: [edge]\n{rules}"));
    GATEWAY.to_string() + &service("a.com", 80, 2) + &bound
}

/// A service with this rule.
fn policy(spec: &str) -> String {
    let governed = sidecar("default") + &service("a.com", 80, 2);
    governed + &destination_rule("d", &format!("host: a.com\n{spec}"))
}

fn warned(code: &'static str, field: &str) -> Vec<(&'static str, String)> {
    vec![(code, field.to_string())]
}

#[test]
fn headers_that_another_line_overwrites_are_named() {
    for (operations, field) in [
        ("{set: {X-A: b, x-a: c}}", "set.X-A"),
        ("{set: {x-a: b}, remove: [X-A]}", "remove[0]"),
    ] {
        for side in ["request", "response"] {
            let text = route(&format!("headers: {{{side}: {operations}}}"));
            let at = format!("spec.http[0].headers.{side}.{field}");
            assert_eq!(found_in(&text), warned("no-effect", &at), "{operations}");
        }
    }
    for operations in [
        "{set: {x-a: b, x-b: c}, remove: [x-c]}",
        "{add: {x-a: b}, remove: [x-a]}",
        // Where the client has sent none, the old one is to go.
        "{set: {x-a: '%REQ(x-b)%'}, remove: [x-a]}",
    ] {
        let text = route(&format!("headers: {{request: {operations}}}"));
        assert_eq!(found_in(&text), [], "{operations}");
    }
}

/// `set` beside `remove` was said to write it.
#[test]
fn a_response_whose_server_would_be_changed_is_warned_of() {
    let at = |field: &str| {
        let field = format!("spec.http[0].headers.response.{field}");
        ("framing-header", field)
    };
    for (operations, fields) in [
        ("{set: {server: mine}}", &["set.server"][..]),
        ("{add: {Server: '%HOSTNAME%'}}", &["add.Server"]),
        (
            "{set: {server: mine}, remove: [server]}",
            &["set.server", "remove[0]"],
        ),
    ] {
        let of = |side: &str| found_in(&route(&format!("headers: {{{side}: {operations}}}")));
        let all: Vec<_> = fields.iter().map(|field| at(field)).collect();
        assert_eq!(of("response"), all, "{operations}");
        let is_about_server = |(code, _): &(&str, String)| *code == "framing-header";
        assert!(!of("request").iter().any(is_about_server), "{operations}");
    }
}

#[test]
fn matches_that_contradict_themselves_are_named() {
    for (condition, field) in [
        ("scheme: {exact: HTTPS}", "scheme.exact"),
        (
            "headers: {x: {exact: a}}, withoutHeaders: {X: {exact: a}}",
            "withoutHeaders.X",
        ),
        (
            "headers: {x: {prefix: a}}, withoutHeaders: {x: {}}",
            "withoutHeaders.x",
        ),
    ] {
        let at = format!("spec.http[0].match[0].{field}");
        let text = route(&format!("match: [{{{condition}}}]"));
        assert_eq!(found_in(&text), warned("never-matches", &at), "{condition}");
    }
    for condition in [
        "scheme: {exact: https}",
        "headers: {x: {exact: a}}, withoutHeaders: {x: {exact: b}}",
        "headers: {x: {prefix: a}}, withoutHeaders: {x: {exact: ab}}",
        "headers: {x: {exact: a}}, withoutHeaders: {y: {}}",
    ] {
        let text = route(&format!("match: [{{{condition}}}]"));
        assert_eq!(found_in(&text), [], "{condition}");
    }
}

#[test]
fn shares_that_are_none_or_counted_elsewhere_are_named() {
    for (fields, field) in [
        (
            "mirror: {host: a.com}, mirrorPercentage: {value: 0.00001}",
            "mirrorPercentage",
        ),
        (
            "fault: {delay: {fixedDelay: 1s, percent: 101}}",
            "fault.delay.percent",
        ),
        (
            "fault: {delay: {fixedDelay: 1s, percent: 50, percentage: {value: 20}}}",
            "fault.delay.percent",
        ),
    ] {
        let at = format!("spec.http[0].{field}");
        assert_eq!(
            found_in(&route(fields)),
            warned("no-effect", &at),
            "{fields}"
        );
    }
    let least = "mirror: {host: a.com}, mirrorPercentage: {value: 0.0001}";
    assert_eq!(found_in(&route(least)), []);
}

#[test]
fn a_new_path_without_a_slash_is_named() {
    let rewritten = |uri: &str| {
        route(&format!(
            "match: [{{uri: {{prefix: /a}}}}], rewrite: {{uri: {uri}}}"
        ))
    };
    let at = "spec.http[0].rewrite.uri";
    assert_eq!(found_in(&rewritten("abc")), warned("rewrite-slash", at));
    assert_eq!(found_in(&rewritten("/abc")), []);
}

#[test]
fn parts_of_a_hash_or_of_ejection_without_effect_are_named() {
    let hash = "loadBalancer: {consistentHash: {httpCookie: {name: c, path: /x}}}";
    let ring = "loadBalancer: {consistentHash: {httpHeaderName: x, ringHash: {minimumRingSize: 100000000}}}";
    let codes =
        "outlierDetection: {maxEjectionPercent: 100, outlierDetectionHttpErrorCodes: [99, 429]}";
    let off = "loadBalancer: {localityLbSetting: {enabled: false, \
               failoverPriority: [topology.kubernetes.io/region]}}, \
               outlierDetection: {maxEjectionPercent: 100}";
    for (block, code, field) in [
        (
            off,
            "no-effect",
            "loadBalancer.localityLbSetting.failoverPriority",
        ),
        (
            hash,
            "no-effect",
            "loadBalancer.consistentHash.httpCookie.path",
        ),
        (
            ring,
            "no-effect",
            "loadBalancer.consistentHash.ringHash.minimumRingSize",
        ),
        (
            codes,
            "never-matches",
            "outlierDetection.outlierDetectionHttpErrorCodes[0]",
        ),
    ] {
        let at = format!("spec.trafficPolicy.{field}");
        let text = policy(&format!("trafficPolicy: {{{block}}}\n"));
        assert_eq!(found_in(&text), warned(code, &at), "{block}");
    }
    for block in [
        hash.replace("path: /x", "path: /x, ttl: 0s"),
        ring.replace("100000000", "8388608"),
        codes.replace("99", "404"),
    ] {
        let text = policy(&format!("trafficPolicy: {{{block}}}\n"));
        assert_eq!(found_in(&text), [], "{block}");
    }
}

/// Istio takes it, and a suite of its documents was refused.
#[test]
fn the_status_600_is_named_and_carried() {
    let delays = "fault: {abort: {httpStatus: 600, percentage: {value: 1}}}";
    let at = "spec.http[0].fault.abort.httpStatus";
    assert_eq!(found_in(&route(delays)), warned("out-of-range", at));
    let answer = "hosts: ['*']\ngateways: [edge]\nhttp: [{directResponse: {status: 600}}]\n";
    let at = "spec.http[0].directResponse.status";
    let found = found_in(&(GATEWAY.to_string() + &rule("r", answer)));
    assert_eq!(found, warned("out-of-range", at));
}

#[test]
fn names_of_routes_that_carry_bytes_are_named() {
    let service =
        service("a.com", 80, 1).replace("name: http, protocol: HTTP", "name: tcp, protocol: TCP");
    let named = |name: &str| {
        let routes = format!("tcp: [{{{name}route: [{{destination: {{host: a.com}}}}]}}]\n");
        let gateway = GATEWAY.replace("name: http, protocol: HTTP", "name: tcp, protocol: TCP");
        let bound = rule("r", &format!("hosts: ['*']\ngateways: [edge]\n{routes}"));
        found_in(&(gateway + &service + &bound))
    };
    assert_eq!(named(""), []);
    assert_eq!(
        named("name: bytes, "),
        warned("no-effect", "spec.tcp[0].name")
    );
}

#[test]
fn a_third_certificate_of_a_server_is_named() {
    let certificates = |count: usize| {
        let one = "{serverCertificate: /none/a.pem, privateKey: /none/a.key}";
        let tls = format!(
            "protocol: HTTPS}}\n    tls: {{mode: SIMPLE, tlsCertificates: [{}]}}",
            vec![one; count].join(", ")
        );
        found_in(&GATEWAY.replace("protocol: HTTP}", &tls))
    };
    assert_eq!(certificates(2), []);
    let at = "spec.servers[0].tls.tlsCertificates";
    assert_eq!(certificates(3), warned("too-many-items", at));
}

/// `check` found nothing, and nobody could connect.
#[test]
fn a_unix_socket_that_nothing_listens_at_is_named() {
    for socket in ["unix:///run/edge.sock", "unix://@edge"] {
        let bound = |number: &str| {
            let server = format!("bind: '{socket}'\n    port: {{number: {number}, ");
            GATEWAY.replace("port: {number: 8080, ", &server)
        };
        let text = bound("0") + &service("a.com", 80, 1);
        assert_eq!(
            found_in(&text),
            warned("value-not-carried", "spec.servers[0].bind"),
            "{socket}"
        );
        let numbered = load_text(&bound("8080")).diagnostics;
        assert_eq!(
            codes(&numbered),
            ["conflicting-fields", "value-not-carried"],
            "{socket}"
        );
        let helps = numbered.iter().filter_map(|found| found.help.as_deref());
        for help in helps {
            assert!(help.contains("remove `bind`"), "{help}");
        }
        let egress = format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: s}}\n\
             spec: {{egress: [{{bind: '{socket}', port: {{number: 0, protocol: HTTP, name: http}}, \
             hosts: ['*/*']}}]}}\n"
        );
        let text = sidecar("default") + &egress + &service("a.com", 80, 1);
        assert_eq!(
            found_in(&text),
            warned("value-not-carried", "spec.egress[0].bind"),
            "{socket}"
        );
    }
}
