//! DestinationRules that do less than they seem to: each is named, and the form that does what was
//! meant is not.

mod support;

use ringroad_policy::diagnostic::{Diagnostic, Place};
use support::*;

/// Code, field and message of each warning.
fn found(text: &str) -> Vec<(&'static str, String, String)> {
    let loaded = load_text(text);
    assert!(loaded.snapshot.is_some(), "{:#?}", loaded.diagnostics);
    let silenced = ["field-not-carried", "value-not-carried"];
    let heard = |found: &&Diagnostic| !silenced.contains(&found.code);
    let each = loaded.diagnostics.iter().filter(heard);
    each.map(|found| {
        let (Place::Field(origin) | Place::Key(origin)) = &found.place else {
            panic!("{found:?}")
        };
        assert!(found.help.is_some(), "what to write instead: {found:?}");
        (found.code, origin.field.to_string(), found.message.clone())
    })
    .collect()
}

/// The same without messages.
fn codes_of(text: &str) -> Vec<(&'static str, String)> {
    let all = found(text).into_iter();
    all.map(|(code, field, _)| (code, field)).collect()
}

fn with_service(versions: u8, rules: &[&str]) -> String {
    let mut text = sidecar("default") + &service("a.com", 80, versions);
    for (at, spec) in rules.iter().enumerate() {
        text += &destination_rule(&format!("r{at}"), spec);
    }
    text
}

#[test]
fn a_subset_that_drops_part_of_the_rules_policy_is_told_what_to_repeat() {
    let rule = |block: &str| {
        format!(
            "host: a.com\n\
             trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 100}}}}}}\n\
             subsets:\n\
             - name: v1\n  labels: {{version: v1}}\n  \
               trafficPolicy: {{connectionPool: {block}}}\n"
        )
    };
    let text = with_service(1, &[&rule("{http: {maxRetries: 3}}")]);
    let [(code, field, message)] = found(&text).try_into().expect("one warning");
    assert_eq!(code, "policy-replaced");
    assert_eq!(field, "spec.subsets[0].trafficPolicy.connectionPool");
    assert!(message.contains("`tcp.maxConnections`"), "{message}");
    let repeated = "{tcp: {maxConnections: 100}, http: {maxRetries: 3}}";
    assert_eq!(found(&with_service(1, &[&rule(repeated)])), []);
}

#[test]
fn another_balancer_in_a_subset_is_no_loss() {
    let rule = "host: a.com\n\
        trafficPolicy: {loadBalancer: {simple: RANDOM}}\n\
        subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}]\n";
    assert_eq!(found(&with_service(1, &[rule])), []);
}

#[test]
fn settings_of_a_port_that_drop_whole_blocks_are_told() {
    let rule = |port: &str| {
        format!(
            "host: a.com\n\
             trafficPolicy:\n  outlierDetection: {{consecutive5xxErrors: 3, maxEjectionPercent: 100}}\n  \
             portLevelSettings: [{{port: {{number: 80}}, {port}}}]\n"
        )
    };
    let text = with_service(1, &[&rule("loadBalancer: {simple: RANDOM}")]);
    let [(code, field, message)] = found(&text).try_into().expect("one warning");
    assert_eq!(code, "policy-replaced");
    assert_eq!(field, "spec.trafficPolicy.portLevelSettings[0]");
    assert!(
        message.contains("port 80 loses `outlierDetection.consecutive5xxErrors`"),
        "{message}"
    );
    let repeated = "loadBalancer: {simple: RANDOM}, \
                    outlierDetection: {consecutive5xxErrors: 3, maxEjectionPercent: 100}";
    assert_eq!(found(&with_service(1, &[&rule(repeated)])), []);
}

#[test]
fn a_subset_and_its_ports_replace_the_rule_too() {
    let rule = "host: a.com\n\
        trafficPolicy: {connectionPool: {tcp: {maxConnections: 9}}}\n\
        subsets:\n\
        - name: v1\n  labels: {version: v1}\n  \
          trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}\n";
    assert_eq!(
        codes_of(&with_service(1, &[rule])),
        [(
            "policy-replaced",
            "spec.subsets[0].trafficPolicy.portLevelSettings[0]".to_string()
        )]
    );
}

#[test]
fn a_rule_that_keeps_a_wider_one_away_is_told() {
    let wide = "host: '*.com'\ntrafficPolicy: {outlierDetection: {maxEjectionPercent: 100}}\n";
    let narrow = "host: a.com\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}\n";
    let [(code, field, message)] = found(&with_service(1, &[wide, narrow]))
        .try_into()
        .expect("one warning");
    assert_eq!((code, field.as_str()), ("policy-replaced", "spec.host"));
    assert!(message.contains("`outlierDetection`"), "{message}");
    let both = "host: a.com\ntrafficPolicy: {loadBalancer: {simple: RANDOM}, \
                outlierDetection: {maxEjectionPercent: 100}}\n";
    assert_eq!(found(&with_service(1, &[wide, both])), []);
    // In the root namespace it is wider whatever its host.
    let in_root =
        destination_rule("r", wide).replace("{name: r}", "{name: r, namespace: istio-system}");
    let text = with_service(1, &[narrow]) + &in_root;
    assert_eq!(
        codes_of(&text),
        [("policy-replaced", "spec.host".to_string())]
    );
}

#[test]
fn fields_of_a_block_that_a_narrower_rule_has_too_are_told_when_they_are_lost() {
    let wide = "host: '*.com'\ntrafficPolicy:\n  connectionPool: {tcp: {maxConnections: 100}}\n  \
                outlierDetection: {consecutive5xxErrors: 3, maxEjectionPercent: 100}\n  \
                loadBalancer: {simple: RANDOM}\n";
    let narrow = |pool: &str| {
        format!(
            "host: a.com\ntrafficPolicy:\n  connectionPool: {pool}\n  \
             outlierDetection: {{maxEjectionPercent: 100, consecutive5xxErrors: 7}}\n  \
             loadBalancer: {{simple: ROUND_ROBIN}}\n"
        )
    };
    let text = with_service(1, &[wide, &narrow("{http: {maxRetries: 3}}")]);
    let [(code, field, message)] = found(&text).try_into().expect("one warning");
    assert_eq!((code, field.as_str()), ("policy-replaced", "spec.host"));
    assert!(
        message.contains("`connectionPool.tcp.maxConnections` of the rule for `*.com`"),
        "{message}"
    );
    assert!(!message.contains("outlier"), "{message}");
    let repeated = narrow("{tcp: {maxConnections: 5}, http: {maxRetries: 3}}");
    assert_eq!(found(&with_service(1, &[wide, &repeated])), []);
}

#[test]
fn second_rules_for_a_host_are_named_with_what_is_dropped() {
    let first = "host: a.com\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}\n\
                 subsets: [{name: v1, labels: {version: v1}}]\n";
    let second = "host: a.com\ntrafficPolicy: {connectionPool: {tcp: {maxConnections: 9}}}\n\
                  subsets: [{name: v1, labels: {version: v2}}, {name: v2, labels: {version: v2}}]\n";
    let dropped = codes_of(&with_service(2, &[first, second]));
    assert_eq!(
        dropped,
        [
            ("duplicate-rule", "spec.trafficPolicy".to_string()),
            ("duplicate-rule", "spec.subsets[0]".to_string()),
        ]
    );
    let further = "host: a.com\nsubsets: [{name: v2, labels: {version: v2}}]\n";
    assert_eq!(found(&with_service(2, &[first, further])), []);
}

#[test]
fn a_rule_for_nobody_is_named() {
    let rule =
        |host: &str| format!("host: {host}\nsubsets: [{{name: v1, labels: {{version: v1}}}}]\n");
    let host = || vec![("unknown-host", "spec.host".to_string())];
    assert_eq!(codes_of(&with_service(1, &[&rule("b.com")])), host());
    assert_eq!(codes_of(&with_service(1, &[&rule("'*.org'")])), host());
    assert_eq!(found(&with_service(1, &[&rule("a.com")])), []);
    assert_eq!(found(&with_service(1, &[&rule("'*.com'")])), []);
}

#[test]
fn an_ejection_percentage_of_less_than_one_endpoint_is_named_with_one_that_works() {
    let rule = |percent: &str| {
        format!(
            "host: a.com\ntrafficPolicy: {{outlierDetection: {{consecutive5xxErrors: 3{percent}}}}}\n"
        )
    };
    let help_of = |versions: u8, percent: &str| {
        let loaded = load_text(&with_service(versions, &[&rule(percent)]));
        let mut found = loaded.diagnostics.into_iter();
        found
            .find(|found| found.code == "never-ejects")
            .and_then(|found| found.help)
    };
    let help = help_of(3, "").expect("10% of three is none");
    assert!(help.contains("`maxEjectionPercent: 34`"), "{help}");
    assert!(help_of(3, ", maxEjectionPercent: 33").is_some());
    assert_eq!(help_of(3, ", maxEjectionPercent: 34"), None);
    assert_eq!(help_of(10, ""), None);
    assert!(help_of(9, "").is_some());
}

#[test]
fn retries_that_nothing_limits_are_named() {
    let text = |attempts: u32, policy: &str| {
        let retries = format!("retries: {{attempts: {attempts}, retryOn: 5xx}}");
        let route = format!(
            "hosts: [a.com]\nhttp: [{{route: [{{destination: {{host: a.com}}}}], {retries}}}]\n"
        );
        with_service(2, &[&format!("host: a.com\n{policy}")]) + &rule("r", &route)
    };
    let [(code, field, message)] = found(&text(5, "subsets: []\n")).try_into().expect("one");
    assert_eq!(
        (code, field.as_str()),
        ("unlimited-retries", "spec.http[0].retries")
    );
    assert!(
        message.contains("6 times") && message.contains("2 endpoints"),
        "{message}"
    );
    let limited = "trafficPolicy: {connectionPool: {http: {maxRetries: 10}}}\n";
    assert_eq!(found(&text(5, limited)), []);
    assert_eq!(
        found(&text(5, "trafficPolicy: {retryBudget: {percent: 20}}\n")),
        []
    );
    assert_eq!(found(&text(2, "subsets: []\n")), []);
}

#[test]
fn unlimited_retries_of_many_routes_to_one_host_are_named_once_by_the_worst() {
    let route = |path: &str, attempts: u32| {
        format!(
            "  - match: [{{uri: {{prefix: {path}}}}}]\n    \
             retries: {{attempts: {attempts}, retryOn: 5xx}}\n    \
             route: [{{destination: {{host: a.com}}}}]\n"
        )
    };
    let routes = route("/a", 3) + &route("/b", 7) + &route("/c", 5);
    let spec = format!("hosts: [a.com]\nhttp:\n{routes}");
    let all = found(&(with_service(2, &[]) + &rule("r", &spec)));
    let [(code, field, message)] = all.try_into().expect("one");
    assert_eq!(
        (code, field.as_str()),
        ("unlimited-retries", "spec.http[1].retries")
    );
    assert!(message.contains("8 times"), "{message}");
}

#[test]
fn a_rule_for_a_host_that_the_sidecar_hides_is_not_called_unknown() {
    let hiding = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\n\
                  spec: {egress: [{hosts: ['other/*']}]}\n---\n";
    let text = with_service(2, &["host: a.com\ntrafficPolicy: {tls: {mode: DISABLE}}\n"]);
    assert_eq!(codes_of(&(hiding.to_string() + &text)), []);
}

#[test]
fn limits_that_limit_nothing_are_named() {
    let of = |policy: &str| {
        let rule = format!("host: a.com\ntrafficPolicy: {{{policy}}}\n");
        codes_of(&with_service(1, &[&rule]))
    };
    let no_effect = |field: &str| vec![("no-effect", format!("spec.trafficPolicy.{field}"))];
    let outlier = |fields: &str| {
        of(&format!(
            "outlierDetection: {{maxEjectionPercent: 100{fields}}}"
        ))
    };
    assert_eq!(
        outlier(", consecutive5xxErrors: 0"),
        no_effect("outlierDetection.consecutive5xxErrors")
    );
    assert_eq!(
        outlier(", consecutive5xxErrors: 0, consecutiveGatewayErrors: 2"),
        []
    );
    assert_eq!(
        outlier(", consecutiveGatewayErrors: 5"),
        no_effect("outlierDetection.consecutiveGatewayErrors")
    );
    assert_eq!(outlier(", consecutiveGatewayErrors: 4"), []);
    assert_eq!(
        of("connectionPool: {http: {maxRetries: 0}}"),
        no_effect("connectionPool.http.maxRetries")
    );
    assert_eq!(of("connectionPool: {http: {maxRetries: 1}}"), []);
    assert_eq!(
        of("connectionPool: {tcp: {maxConnections: 0}}"),
        no_effect("connectionPool.tcp.maxConnections")
    );
}

#[test]
fn a_percentage_of_zero_is_the_default_and_that_is_said() {
    let rule = "host: a.com\ntrafficPolicy: {outlierDetection: {maxEjectionPercent: 0}}\n";
    assert_eq!(
        codes_of(&with_service(10, &[rule])),
        [(
            "no-effect",
            "spec.trafficPolicy.outlierDetection.maxEjectionPercent".to_string()
        )]
    );
}

#[test]
fn a_host_that_two_declare_is_named_with_the_one_that_counts() {
    let one = service("a.com", 80, 1);
    let other = |namespace: &str, port: u16| {
        service("a.com", port, 2).replace(
            "{name: a-com}",
            &format!("{{name: b, namespace: {namespace}}}"),
        )
    };
    let with = |other: &str| codes_of(&(sidecar("default") + &one + other));
    assert_eq!(
        with(&other("far", 80)),
        [("duplicate-service", "spec.hosts".to_string())]
    );
    // Another port adds to it, and so does an entry of the same namespace.
    assert_eq!(with(&other("far", 81)), []);
    assert_eq!(with(&other("default", 80)), []);
    let hidden = other("far", 80).replace("spec:\n", "spec:\n  exportTo: [.]\n");
    assert_eq!(with(&hidden), []);
}

#[test]
fn a_host_that_nobody_declares_comes_with_what_may_be_meant() {
    let help_for = |host: &str| {
        let text = sidecar("default")
            + &service("cart.shop.svc.cluster.local", 80, 1)
            + &service("reviews.default.svc.cluster.local", 80, 1)
            + &destination_rule("r", &format!("host: {host}\nsubsets: []\n"));
        let mut found = load_text(&text).diagnostics.into_iter();
        let found = found.find(|found| found.code == "unknown-host");
        found.and_then(|found| found.help).expect("a help")
    };
    assert!(help_for("cart").contains("`cart.shop.svc.cluster.local`"));
    assert!(help_for("review").contains("did you mean `reviews`?"));
    assert!(help_for("nothing.like.it").starts_with("add a ServiceEntry"));
}

#[test]
fn settings_of_http2_for_a_service_of_http1_are_idle() {
    let rule =
        |http: &str| format!("host: a.com\ntrafficPolicy: {{connectionPool: {{http: {http}}}}}\n");
    const KEEPALIVE: &str = "http2KeepAlive: {interval: 5s, timeout: 1s}";
    let path = "spec.trafficPolicy.connectionPool.http";
    for (name, written) in [
        ("maxConcurrentStreams", "maxConcurrentStreams: 10"),
        ("http2KeepAlive", KEEPALIVE),
    ] {
        let plain = with_service(1, &[&rule(&format!("{{{written}}}"))]);
        let field = format!("{path}.{name}");
        assert_eq!(codes_of(&plain), [("no-effect", field)]);
        let upgraded = rule(&format!("{{{written}, h2UpgradePolicy: UPGRADE}}"));
        assert_eq!(codes_of(&with_service(1, &[&upgraded])), []);
        let named = plain.replace("protocol: HTTP}", "protocol: HTTP2}");
        assert_eq!(codes_of(&named), []);
    }
}

#[test]
fn shares_for_places_without_endpoints_are_told() {
    let found = |locality: &str| {
        let settings = sidecar("default").replace(
            "role: sidecar",
            "workload: {locality: r1/z1}, role: sidecar",
        );
        let rule = destination_rule(
            "a",
            "host: a.com\ntrafficPolicy:\n  loadBalancer:\n    localityLbSetting:\n      \
             distribute: [{from: 'r1/*', to: {'r1/*': 90, 'r2/*': 10}}]\n",
        );
        let service = service("a.com", 80, 2).replace("labels", &format!("{locality}labels"));
        let all = codes_of(&(settings + &service + &rule));
        all.into_iter()
            .filter(|(code, _)| *code == "unused-endpoints")
            .collect::<Vec<_>>()
    };
    let field = "spec.trafficPolicy.loadBalancer.localityLbSetting".to_string();
    assert_eq!(found(""), [("unused-endpoints", field)]);
    assert_eq!(found("locality: r2/z9, "), []);
}

/// The port spoke what the older entry said, and nobody was told.
#[test]
fn a_port_that_two_entries_declare_differently_is_named() {
    let one = service("a.com", 80, 1);
    let other = |entry: &str| one.replace("{name: a-com}", "{name: b}") + entry;
    let of = |other: String| codes_of(&(sidecar("default") + &one + &other));
    let tcp = other("").replace("protocol: HTTP}", "protocol: TCP}");
    assert_eq!(
        of(tcp.clone()),
        [("duplicate-service", "spec.ports[0]".to_string())]
    );
    assert_eq!(of(tcp.replace("number: 80", "number: 81")), []);
    assert_eq!(
        of(other("").replace("protocol: HTTP}", "protocol: http}")),
        []
    );
    let far = tcp.replace("{name: b}", "{name: b, namespace: far}");
    assert_eq!(of(far), [("duplicate-service", "spec.hosts".to_string())]);
}
