//! Fields and values that are accepted and do nothing, or something else than they seem to: each
//! is named with its place and what to write instead, and the form that was meant is not.

mod support;

use ringroad_policy::diagnostic::Place;
use support::*;

/// Code, field and message of each warning.
fn found(text: &str) -> Vec<(&'static str, String, String)> {
    let loaded = load_text(text);
    assert!(loaded.snapshot.is_some(), "{:#?}", loaded.diagnostics);
    let heard = loaded.diagnostics.iter();
    let each = heard.filter(|found| found.code != "value-not-carried");
    let each = each.map(|found| {
        let (Place::Field(origin) | Place::Key(origin)) = &found.place else {
            panic!("{found:?}")
        };
        assert!(found.help.is_some(), "what to write instead: {found:?}");
        (found.code, origin.field.to_string(), found.message.clone())
    });
    each.collect()
}

/// Code and field of each warning.
fn codes_of(text: &str) -> Vec<(&'static str, String)> {
    let all = found(text).into_iter();
    all.map(|(code, field, _)| (code, field)).collect()
}

/// One rule of a VirtualService that is bound to a gateway, with these fields beside its
/// destination.
fn route(fields: &str) -> String {
    let spec = format!(
        "hosts: ['*']\ngateways: [edge]\nhttp: [{{route: [{{destination: {{host: a.com}}}}], {fields}}}]\n"
    );
    GATEWAY.to_string() + &service("a.com", 80, 2) + &rule("r", &spec)
}

fn policy(spec: &str) -> String {
    sidecar("default")
        + &service("a.com", 80, 2)
        + &destination_rule("d", &format!("host: a.com\n{spec}"))
}

fn warned(code: &'static str, field: &str) -> Vec<(&'static str, String)> {
    vec![(code, field.to_string())]
}

#[test]
fn a_warm_up_that_no_balancer_heeds_is_named() {
    let balancer = |how: &str| {
        policy(&format!(
            "trafficPolicy: {{loadBalancer: {{{how}, warmup: {{duration: 30s}}}}}}\n"
        ))
    };
    let at = "spec.trafficPolicy.loadBalancer.warmup";
    for how in [
        "simple: RANDOM",
        "simple: PASSTHROUGH",
        "consistentHash: {useSourceIp: true}",
    ] {
        assert_eq!(codes_of(&balancer(how)), warned("no-effect", at), "{how}");
    }
    for how in ["simple: ROUND_ROBIN", "simple: LEAST_REQUEST"] {
        assert_eq!(codes_of(&balancer(how)), [], "{how}");
    }
}

#[test]
fn max_retries_beside_a_budget_is_named() {
    let pool = "connectionPool: {http: {maxRetries: 3}}";
    let budget = "retryBudget: {percent: 20}";
    let at = "spec.trafficPolicy.connectionPool.http.maxRetries";
    let both = policy(&format!("trafficPolicy: {{{pool}, {budget}}}\n"));
    let [(code, field, message)] = found(&both).try_into().expect("one warning");
    assert_eq!((code, field.as_str()), ("no-effect", at));
    assert!(
        message.contains("`retryBudget` takes its place"),
        "{message}"
    );
    assert_eq!(
        codes_of(&policy(&format!("trafficPolicy: {{{pool}}}\n"))),
        []
    );
    let in_subset = format!(
        "trafficPolicy: {{{budget}}}\nsubsets: [{{name: v1, labels: {{version: v1}}, trafficPolicy: {{{pool}}}}}]\n"
    );
    assert_eq!(
        codes_of(&policy(&in_subset)),
        warned(
            "no-effect",
            "spec.subsets[0].trafficPolicy.connectionPool.http.maxRetries"
        )
    );
    let at_port = format!(
        "trafficPolicy: {{{budget}, portLevelSettings: [{{port: {{number: 80}}, {pool}}}]}}\n"
    );
    assert_eq!(
        codes_of(&policy(&at_port)),
        warned(
            "no-effect",
            "spec.trafficPolicy.portLevelSettings[0].connectionPool.http.maxRetries"
        )
    );
}

#[test]
fn a_gateway_of_a_match_that_the_rule_is_not_bound_to_is_named() {
    let matching = |gateways: &str| route(&format!("match: [{{gateways: [{gateways}]}}]"));
    let at = "spec.http[0].match[0].gateways[0]";
    assert_eq!(
        codes_of(&matching("other/edge")),
        warned("never-matches", at)
    );
    assert_eq!(codes_of(&matching("mesh")), warned("never-matches", at));
    assert_eq!(codes_of(&matching("default/edge")), []);
    let unbound = |gateways: &str| {
        let spec = format!(
            "hosts: [a.com]\nhttp: [{{match: [{{gateways: [{gateways}]}}], route: [{{destination: {{host: a.com}}}}]}}]\n"
        );
        sidecar("default") + &service("a.com", 80, 1) + &rule("r", &spec)
    };
    assert_eq!(codes_of(&unbound("edge")), warned("never-matches", at));
    assert_eq!(codes_of(&unbound("mesh")), []);
}

#[test]
fn a_port_that_nothing_listens_on_is_named_with_those_there_are() {
    let at = "spec.http[0].match[0].port";
    let wrong = route("match: [{port: 80}]");
    let [(code, field, message)] = found(&wrong).try_into().expect("one warning");
    assert_eq!((code, field.as_str()), ("never-matches", at));
    assert!(message.contains("only on 8080"), "{message}");
    assert_eq!(codes_of(&route("match: [{port: 8080}]")), []);
    let in_mesh = |gateways: &str, port: u16| {
        let spec = format!(
            "hosts: [a.com]\n{gateways}http: [{{match: [{{port: {port}}}], route: [{{destination: {{host: a.com, port: {{number: 80}}}}}}]}}]\n"
        );
        let mesh = sidecar("default") + GATEWAY + &service("a.com", 80, 1);
        let mut told = codes_of(&(mesh + &rule("r", &spec)));
        // That a Gateway counts for nothing there.
        told.retain(|(code, _)| *code != "no-effect");
        told
    };
    assert_eq!(in_mesh("", 9), warned("never-matches", at));
    assert_eq!(in_mesh("", 80), []);
    let both = "gateways: [mesh, edge]\n";
    assert_eq!(in_mesh(both, 8080), []);
    assert_eq!(in_mesh(both, 9), warned("never-matches", at));
    // Whoever has the host may have the port.
    let elsewhere = "hosts: [b.com]\nhttp: [{match: [{port: 9}], directResponse: {status: 200}}]\n";
    let text = sidecar("default") + &service("a.com", 80, 1) + &rule("r", elsewhere);
    assert_eq!(codes_of(&text), []);
}

#[test]
fn paths_and_methods_that_no_request_has_are_named() {
    let matching = |condition: &str| route(&format!("match: [{{{condition}}}]"));
    for (condition, field) in [
        ("uri: {exact: '/a?x=1'}", "uri.exact"),
        ("uri: {prefix: '/a?'}", "uri.prefix"),
        ("uri: {prefix: '/a#b'}", "uri.prefix"),
        ("uri: {exact: a}", "uri.exact"),
        ("method: {exact: get}", "method.exact"),
        ("method: {exact: Post}", "method.exact"),
    ] {
        let field = format!("spec.http[0].match[0].{field}");
        assert_eq!(
            codes_of(&matching(condition)),
            warned("never-matches", &field),
            "{condition}"
        );
    }
    for fine in [
        "uri: {exact: /a}",
        "uri: {prefix: ''}",
        "uri: {regex: '/a\\?b'}",
        "uri: {exact: '*'}",
        "method: {exact: GET}",
        "method: {exact: custom}",
        "method: {prefix: g}",
    ] {
        assert_eq!(codes_of(&matching(fine)), [], "{fine}");
    }
}

#[test]
fn a_mirror_of_nothing_is_named() {
    for (fields, field) in [
        (
            "mirror: {host: a.com}, mirrorPercentage: {value: 0}",
            "mirrorPercentage",
        ),
        ("mirrorPercentage: {value: 1}", "mirrorPercentage"),
        (
            "mirrors: [{destination: {host: a.com}, percentage: {value: 0.0}}]",
            "mirrors[0].percentage",
        ),
    ] {
        let field = format!("spec.http[0].{field}");
        assert_eq!(
            codes_of(&route(fields)),
            warned("no-effect", &field),
            "{fields}"
        );
    }
    for fine in [
        "mirror: {host: a.com}, mirrorPercentage: {value: 0.1}",
        "mirror: {host: a.com}",
        "mirrors: [{destination: {host: a.com}}]",
    ] {
        assert_eq!(codes_of(&route(fine)), [], "{fine}");
    }
}

#[test]
fn a_delay_that_no_timeout_cuts_is_named() {
    let delayed = |timeout: &str| {
        route(&format!(
            "timeout: {timeout}, fault: {{delay: {{fixedDelay: 5s, percentage: {{value: 100}}}}}}"
        ))
    };
    let [(code, field, message)] = found(&delayed("2s")).try_into().expect("one warning");
    assert_eq!(
        (code, field.as_str()),
        ("delay-outside-timeout", "spec.http[0].timeout")
    );
    assert!(message.contains("begins when it is over"), "{message}");
    assert_eq!(codes_of(&delayed("6s")), []);
    let upstream = "metadata: {name: r, annotations: {ringroad.dev/fault-side: upstream}}";
    let within = delayed("2s").replace("metadata: {name: r}", upstream);
    assert!(within.contains("fault-side"));
    assert_eq!(codes_of(&within), []);
}

/// Retries without `attempts` are off, as in Istio, and whoever sets their pace means them.
#[test]
fn the_pace_of_retries_that_are_off_is_named() {
    for (off, name) in [
        ("backoff: 1s", "backoff"),
        (
            "attempts: 0, retryIgnorePreviousHosts: false",
            "retryIgnorePreviousHosts",
        ),
    ] {
        let at = format!("spec.http[0].retries.{name}");
        let found = codes_of(&route(&format!("retries: {{{off}}}")));
        assert_eq!(found, warned("no-effect", &at));
    }
    assert_eq!(codes_of(&route("retries: {attempts: 0}")), []);
    assert_eq!(codes_of(&route("retries: {attempts: 1, backoff: 1s}")), []);
}

#[test]
fn a_service_entry_without_ports_is_named() {
    let entry = service("a.com", 80, 2);
    let ports = entry
        .lines()
        .find(|line| line.contains("ports: ["))
        .expect("ports");
    assert_eq!(codes_of(&entry), []);
    let without = entry.replace(&format!("{ports}\n"), "");
    assert_eq!(codes_of(&without), warned("no-effect", "spec.hosts"));
}

#[test]
fn retriable_headers_are_named_since_none_can_be_told() {
    let retrying = |on: &str| route(&format!("retries: {{attempts: 1, retryOn: '{on}'}}"));
    let at = "spec.http[0].retries.retryOn";
    assert_eq!(
        codes_of(&retrying("5xx,retriable-headers")),
        warned("no-effect", at)
    );
    assert_eq!(codes_of(&retrying("5xx,reset")), []);
}

#[test]
fn conditions_on_codes_that_nobody_names_are_named() {
    let retrying =
        |on: &str, more: &str| route(&format!("retries: {{attempts: 1, retryOn: '{on}'}}{more}"));
    let at = "spec.http[0].retries.retryOn";
    assert_eq!(
        codes_of(&retrying("5xx,retriable-status-codes", "")),
        warned("no-effect", at)
    );
    assert_eq!(codes_of(&retrying("retriable-status-codes,418", "")), []);
    let told = ", headers: {request: {set: {x-envoy-retriable-status-codes: '418'}}}";
    assert_eq!(codes_of(&retrying("retriable-status-codes", told)), []);
}

/// What one of several destinations sets holds for its share.
#[test]
fn conditions_whose_codes_one_of_several_destinations_names_are_let_be() {
    let told = "headers: {request: {set: {x-envoy-retriable-status-codes: '418'}}}";
    let shares =
        "[{destination: {host: a.com}, weight: 1}, {destination: {host: a.com}, weight: 1}]";
    let retrying = |shares: &str| {
        let rule = "retries: {attempts: 1, retryOn: retriable-status-codes}";
        let whole = route(rule).replace("[{destination: {host: a.com}}]", shares);
        assert!(whole.contains(shares), "{whole}");
        whole
    };
    let at = "spec.http[0].retries.retryOn";
    assert_eq!(codes_of(&retrying(shares)), warned("no-effect", at));
    let shares = shares.replacen("weight: 1", &format!("weight: 1, {told}"), 1);
    assert_eq!(codes_of(&retrying(&shares)), []);
}

#[test]
fn faults_that_never_happen_or_take_no_time_are_named() {
    let fault = |kind: &str| route(&format!("fault: {{{kind}}}"));
    for (idle, at) in [
        (
            "abort: {httpStatus: 503, percentage: {value: 0}}",
            "spec.http[0].fault.abort.percentage",
        ),
        (
            "delay: {fixedDelay: 1s, percentage: {value: 0}}",
            "spec.http[0].fault.delay.percentage",
        ),
        (
            "delay: {percentage: {value: 1}}",
            "spec.http[0].fault.delay",
        ),
    ] {
        assert_eq!(codes_of(&fault(idle)), warned("no-effect", at), "{idle}");
    }
    let fine = "delay: {fixedDelay: 1s, percentage: {value: 0.1}}";
    assert_eq!(codes_of(&fault(fine)), []);
}

#[test]
fn hashes_of_nothing_and_least_numbers_that_count_as_others_are_named() {
    let balanced = |hash: &str| {
        policy(&format!(
            "trafficPolicy: {{loadBalancer: {{consistentHash: {{{hash}}}}}}}\n"
        ))
    };
    let at = "spec.trafficPolicy.loadBalancer.consistentHash";
    for idle in ["", "ringHash: {minimumRingSize: 64}", "useSourceIp: false"] {
        assert_eq!(codes_of(&balanced(idle)), warned("no-effect", at), "{idle}");
    }
    for fine in [
        "httpHeaderName: x",
        "useSourceIp: true",
        "httpQueryParameterName: q",
        "httpCookie: {name: c, ttl: 0s}",
    ] {
        assert_eq!(codes_of(&balanced(fine)), [], "{fine}");
    }
    let budget = |least: u32| {
        policy(&format!(
            "trafficPolicy: {{retryBudget: {{percent: 20, minRetryConcurrency: {least}}}}}\n"
        ))
    };
    let at = "spec.trafficPolicy.retryBudget.minRetryConcurrency";
    assert_eq!(codes_of(&budget(0)), warned("no-effect", at));
    assert_eq!(codes_of(&budget(1)), []);
}

#[test]
fn the_prefix_operator_in_a_redirect_is_named() {
    let redirect = |uri: &str| {
        let spec = format!(
            "hosts: ['*']\ngateways: [edge]\nhttp: [{{match: [{{uri: {{prefix: /a}}}}], redirect: {{{uri}}}}}]\n"
        );
        GATEWAY.to_string() + &rule("r", &spec)
    };
    assert_eq!(
        codes_of(&redirect("uri: '%PREFIX()%/b'")),
        warned("no-effect", "spec.http[0].redirect.uri")
    );
    assert_eq!(codes_of(&redirect("prefixRewrite: /b")), []);
}

#[test]
fn hosts_of_a_sidecar_that_import_nothing_are_named() {
    let importing = |host: &str| {
        let other = service("b.com", 80, 1).replace("{name: b-com}", "{name: b, namespace: shop}");
        let rule = rule(
            "r",
            "hosts: [only.rule]\nhttp: [{directResponse: {status: 200}}]\n",
        );
        let document = format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: s}}\n\
             spec: {{egress: [{{hosts: ['{host}', 'other/*']}}]}}\n"
        );
        sidecar("default") + &service("a.com", 80, 1) + &other + &rule + &document
    };
    let at = "spec.egress[0].hosts[0]";
    for idle in ["./c.com", "shop/a.com", "*/c.com", "shop/*.org"] {
        assert_eq!(
            codes_of(&importing(idle)),
            warned("no-effect", at),
            "{idle}"
        );
    }
    for fine in [
        "./a.com",
        "shop/b.com",
        "*/b.com",
        "shop/*.com",
        "istio-system/*",
        "*/only.rule",
        "~shop/c.com",
    ] {
        assert_eq!(codes_of(&importing(fine)), [], "{fine}");
    }
}

#[test]
fn peers_that_nobody_verifies_are_named() {
    let tls = |more: &str| policy(&format!("trafficPolicy: {{tls: {{mode: SIMPLE{more}}}}}\n"));
    let at = "spec.trafficPolicy.tls.insecureSkipVerify";
    assert_eq!(
        codes_of(&tls(", insecureSkipVerify: true")),
        warned("unverified-peers", at)
    );
    assert_eq!(codes_of(&tls(", insecureSkipVerify: false")), []);
    assert_eq!(codes_of(&tls("")), []);
}

#[test]
fn versions_and_suites_that_leave_nothing_are_named() {
    let server = |more: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec:\n  \
             servers:\n  - port: {{number: 8443, name: https, protocol: HTTPS}}\n    \
             hosts: [a.com]\n    tls: {{mode: SIMPLE, serverCertificate: a, privateKey: b{more}}}\n"
        )
    };
    let at = |field: &str| format!("spec.servers[0].tls.{field}");
    for more in [
        "maxProtocolVersion: TLSV1_1",
        "minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2",
    ] {
        let found = codes_of(&server(&format!(", {more}")));
        assert_eq!(
            found,
            warned("no-effect", &at("maxProtocolVersion")),
            "{more}"
        );
    }
    let suites = |names: &str| codes_of(&server(&format!(", cipherSuites: [{names}]")));
    let weak = warned("no-effect", &at("cipherSuites[1]"));
    assert_eq!(suites("ECDHE-RSA-AES128-GCM-SHA256, AES128-SHA"), weak);
    assert_eq!(suites("ECDHE-RSA-CHACHA20-POLY1305"), []);
    let fine = ", minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_3";
    assert_eq!(codes_of(&server(fine)), []);
}
