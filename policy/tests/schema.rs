//! Names, types, ranges, and what is checked but not carried yet.

mod findings;

use findings::{Found, find, severity_and_codes};
use ringroad_policy::diagnostic::Severity;

/// A VirtualService whose `spec` holds a host, and then these lines.
fn virtual_service(spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\n\
         spec:\n  hosts: [a.example.com]\n{spec}"
    )
}

fn route(route: &str) -> String {
    virtual_service(&format!("http:\n- {}", route.replace('\n', "\n  ")))
}

const TO_B: &str = "route: [{destination: {host: b.example.com}}]\n";

#[track_caller]
fn only(text: &str) -> Found {
    let mut found = find(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

#[track_caller]
fn refused(text: &str, code: &str, path: &str, help: &str) {
    let found = only(text);
    assert_eq!(found.severity, Severity::Error, "{found:?}");
    assert_eq!((found.code, found.path.as_str()), (code, path), "{found:?}");
    assert!(found.help.contains(help), "{found:?}");
}

#[test]
fn accepts_what_is_right() {
    assert_eq!(find(&route(TO_B)), []);
    let null = route(&format!("{TO_B}timeout: null\nrewrite:\n"));
    assert_eq!(find(&null), [], "null is as if it were not written");
}

#[test]
fn says_what_an_unknown_field_was_meant_to_be() {
    refused(
        &route(&format!("{TO_B}timeot: 1s")),
        "unknown-field",
        "spec.http[0].timeot",
        "did you mean `timeout`?",
    );
    refused(
        &route("route: [{destnation: {host: b.example.com}, destination: {host: c.example.com}}]"),
        "unknown-field",
        "spec.http[0].route[0].destnation",
        "did you mean `destination`?",
    );
    refused(
        &route(&format!("{TO_B}cors_policy: {{}}")),
        "unknown-field",
        "spec.http[0].cors_policy",
        "did you mean `corsPolicy`?",
    );
    refused(
        &route(&format!("{TO_B}banana: 1")),
        "unknown-field",
        "spec.http[0].banana",
        "the fields here are",
    );
    // As near to `mirror` as to this one.
    refused(
        &route(&format!("{TO_B}mirrosr: []")),
        "unknown-field",
        "spec.http[0].mirrosr",
        "did you mean `mirrors`?",
    );
    let top = route(TO_B).replace("spec:", "specs: {}\nspec:");
    refused(&top, "unknown-field", "specs", "did you mean `spec`?");
    let head = route(TO_B).replace("{name: a}", "{name: a, namspace: b}");
    refused(
        &head,
        "unknown-field",
        "metadata.namspace",
        "did you mean `namespace`?",
    );
}

#[test]
fn checks_types() {
    let with = |lines: &str| route(&format!("{TO_B}{lines}"));
    let cases = [
        ("timeout: 5", "spec.http[0].timeout", "a duration"),
        ("match: {uri: {exact: /}}", "spec.http[0].match", "a list"),
        ("match: [[]]", "spec.http[0].match[0]", "a mapping"),
        (
            "match: [{port: '80'}]",
            "spec.http[0].match[0].port",
            "without quotes: 80",
        ),
        (
            "match: [{port: 080}]",
            "spec.http[0].match[0].port",
            "without leading zeros: 80",
        ),
        (
            "match: [{port: 8.5}]",
            "spec.http[0].match[0].port",
            "a whole number",
        ),
        (
            "match: [{uri: {exact: 7}}]",
            "spec.http[0].match[0].uri.exact",
            "write it in quotes",
        ),
        (
            "match: [{ignoreUriCase: 'true'}]",
            "spec.http[0].match[0].ignoreUriCase",
            "true",
        ),
        (
            "match: [{sourceLabels: [a]}]",
            "spec.http[0].match[0].sourceLabels",
            "sourceLabels: {NAME: VALUE}",
        ),
        (
            "match: [{sourceLabels: {a: true}}]",
            "spec.http[0].match[0].sourceLabels.a",
            "quotes",
        ),
        (
            "directResponse: {status: 200, body: hi}",
            "spec.http[0].directResponse.body",
            "write `body: {string: hi}`",
        ),
    ];
    for (lines, path, help) in cases {
        refused(&with(lines), "wrong-type", path, help);
    }
    refused(
        &with("match: [null]"),
        "empty-item",
        "spec.http[0].match[0]",
        "remove",
    );
}

#[test]
fn checks_ranges_and_durations() {
    let with = |lines: &str| route(&format!("{TO_B}{lines}"));
    let cases = [
        ("timeout: 5 s", "bad-duration", "spec.http[0].timeout"),
        ("timeout: 5", "wrong-type", "spec.http[0].timeout"),
        (
            "timeout: 0s",
            "duration-out-of-range",
            "spec.http[0].timeout",
        ),
        (
            "timeout: -1s",
            "duration-out-of-range",
            "spec.http[0].timeout",
        ),
        (
            "timeout: 1500us",
            "duration-too-fine",
            "spec.http[0].timeout",
        ),
        (
            "match: [{port: -1}]",
            "out-of-range",
            "spec.http[0].match[0].port",
        ),
        (
            "match: [{port: 4294967296}]",
            "out-of-range",
            "spec.http[0].match[0].port",
        ),
    ];
    for (lines, code, path) in cases {
        refused(&with(lines), code, path, "");
    }
    for duration in ["1h30m", "0.5s", "100ms", "1h2m3.5s"] {
        assert_eq!(
            find(&with(&format!("timeout: {duration}"))),
            [],
            "{duration}"
        );
    }
}

#[test]
fn checks_what_is_required_and_what_excludes_each_other() {
    refused(
        &route("route: [{weight: 1}]"),
        "missing-field",
        "spec.http[0].route[0]",
        "write `destination:`",
    );
    refused(
        &route(&format!("{TO_B}match: [{{uri: {{exact: a, prefix: b}}}}]")),
        "exclusive-fields",
        "spec.http[0].match[0].uri.prefix",
        "keep one",
    );
}

#[test]
fn finds_the_word_that_was_meant() {
    let rule = |simple: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a}}\n\
             spec: {{host: a.example.com, trafficPolicy: {{loadBalancer: {{simple: {simple}}}}}}}"
        )
    };
    let path = "spec.trafficPolicy.loadBalancer.simple";
    refused(
        &rule("ROUND_ROBBIN"),
        "unknown-value",
        path,
        "did you mean `ROUND_ROBIN`?",
    );
    refused(
        &rule("round_robin"),
        "unknown-value",
        path,
        "did you mean `ROUND_ROBIN`?",
    );
    refused(
        &rule("SOMEHOW"),
        "unknown-value",
        path,
        "one of UNSPECIFIED",
    );
    for word in [
        "ROUND_ROBIN",
        "LEAST_REQUEST",
        "RANDOM",
        "LEAST_CONN",
        "UNSPECIFIED",
    ] {
        assert_eq!(find(&rule(word)), [], "{word}");
    }
}

/// A DestinationRule whose ports have these balancers.
fn balancers(blocks: &[&str]) -> String {
    let mut text = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                    metadata: {name: a}\nspec:\n  host: b.example.com\n  trafficPolicy:\n    \
                    portLevelSettings:\n"
        .to_string();
    for (at, block) in blocks.iter().enumerate() {
        text += &format!(
            "    - {{port: {{number: {}}}, loadBalancer: {{{block}}}}}\n",
            at + 80
        );
    }
    text
}

#[test]
fn warns_once_for_each_field_that_is_not_carried() {
    let block = "backendUtilization: {weightUpdatePeriod: 1s}";
    let found = only(&balancers(&[block, block, block]));
    assert_eq!(found.severity, Severity::Warning);
    assert_eq!(found.code, "field-not-carried");
    let below = "loadBalancer.backendUtilization";
    let first = format!("spec.trafficPolicy.portLevelSettings[0].{below}");
    assert_eq!(found.path, first);
    let all = format!("`spec.trafficPolicy.portLevelSettings[].{below}`");
    assert!(found.message.contains(&all), "{found:?}");
}

#[test]
fn checks_below_a_field_that_is_not_carried_but_warns_only_there() {
    let text = balancers(&["backendUtilization: {weightUpdatePeriod: often}"]);
    assert_eq!(
        severity_and_codes(&text),
        [
            (Severity::Warning, "field-not-carried"),
            (Severity::Error, "bad-duration")
        ]
    );
}

#[test]
fn warns_about_words_that_are_not_carried() {
    let entry = |resolution: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\n\
             spec:\n  hosts: [a.example.com]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n\
             {resolution}"
        )
    };
    assert_eq!(find(&entry("  resolution: DNS\n")), []);
    assert_eq!(find(&entry("  resolution: NONE\n")), []);
    let found = find(&entry("  resolution: DYNAMIC_DNS\n"));
    let named = found.iter().find(|one| one.code == "value-not-carried");
    let named = named.unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(named.severity, Severity::Warning);
}

#[test]
fn a_kind_of_kubernetes_that_is_nearly_one_of_ours_is_told_so() {
    for (api_version, kind, meant) in [
        ("v1", "Serivce", "Service"),
        ("v1", "secret", "Secret"),
        ("discovery.k8s.io/v1", "Endpointslice", "EndpointSlice"),
    ] {
        let text = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n");
        let found = only(&text);
        assert_eq!(found.code, "kind-not-supported");
        assert_eq!(found.help, format!("did you mean `{meant}`?"));
    }
    for kind in ["ServiceAccount", "Endpoints", "Event", "Namespace"] {
        let found = only(&format!(
            "apiVersion: v1\nkind: {kind}\nmetadata: {{name: a}}\n"
        ));
        assert!(found.help.starts_with("keep it out"), "{found:?}");
    }
}

#[test]
fn tells_kinds_apart() {
    let document = |api_version: &str, kind: &str| {
        format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n")
    };
    let warned = |text: &str, code: &str| {
        let found = only(text);
        assert_eq!(
            (found.severity, found.code),
            (Severity::Warning, code),
            "{found:?}"
        );
    };
    warned(&document("apps/v1", "Deployment"), "kind-not-supported");
    warned(&document("v1", "ConfigMap"), "kind-not-supported");
    warned(
        &document("gateway.networking.k8s.io/v1", "HTTPRoute"),
        "kind-not-supported",
    );
    warned(
        &document("gateway.networking.k8s.io/v1", "Gateway"),
        "kind-not-supported",
    );
    warned(
        &document("networking.istio.io/v1alpha3", "EnvoyFilter"),
        "kind-not-carried",
    );
    warned(
        &document("extensions.istio.io/v1alpha1", "TrafficExtension"),
        "kind-not-supported",
    );
    warned(
        &document("networking.istio.io/v1beta1", "ProxyConfig"),
        "kind-not-carried",
    );
    refused(
        &document("networking.istio.io/v1", "VirtualServce"),
        "unknown-kind",
        "kind",
        "did you mean `VirtualService`?",
    );
    refused(
        &document("networking.istio.io/v1", "Carousel"),
        "unknown-kind",
        "kind",
        "Sidecar",
    );
    refused(
        &document("networking.istio.io/v1", "AuthorizationPolicy"),
        "unknown-api-group",
        "apiVersion",
        "security.istio.io/v1",
    );
    refused(
        &document("networking.istio.io/v7", "VirtualService"),
        "unknown-api-version",
        "apiVersion",
        "networking.istio.io/v1beta1",
    );
    refused(
        &document("networking.istio.oi/v1", "VirtualService"),
        "unknown-api-group",
        "apiVersion",
        "did you mean `networking.istio.io/v1`?",
    );
    for nowhere in [
        "v1",
        "networking.istio.io",
        "istio.io/v1",
        "networking.k8s.io/v1",
    ] {
        refused(
            &document(nowhere, "VirtualService"),
            "unknown-api-group",
            "apiVersion",
            "did you mean `networking.istio.io/v1`?",
        );
    }
}

/// The document was left out with a warning.
#[test]
fn the_words_of_a_group_of_istio_in_another_order_are_told_which_was_meant() {
    let document = |group: &str, kind: &str| {
        format!("apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: a}}\n")
    };
    for (group, kind, meant) in [
        (
            "istio.networking.io",
            "VirtualService",
            "networking.istio.io",
        ),
        ("istio.networking.io", "Gateway", "networking.istio.io"),
        ("io.istio.networking", "Sidecar", "networking.istio.io"),
        ("itsio.netwroking.io", "ServiceEntry", "networking.istio.io"),
        (
            "networking.v1.istio.io.com",
            "DestinationRule",
            "networking.istio.io",
        ),
        (
            "istio-security.io",
            "PeerAuthentication",
            "security.istio.io",
        ),
        (
            "istio.networking.io",
            "AuthorizationPolicy",
            "security.istio.io",
        ),
        ("istio.telemetry.io", "Telemetry", "telemetry.istio.io"),
    ] {
        refused(
            &document(group, kind),
            "unknown-api-group",
            "apiVersion",
            &format!("did you mean `{meant}/v1`?"),
        );
    }
    // Others have kinds of these names.
    for (group, kind, own) in [
        (
            "appmesh.k8s.aws",
            "VirtualService",
            "networking.istio.io/v1",
        ),
        (
            "gateway.solo.io",
            "VirtualService",
            "networking.istio.io/v1",
        ),
        (
            "policy.linkerd.io",
            "AuthorizationPolicy",
            "security.istio.io/v1",
        ),
        ("networking.example.io", "Sidecar", "networking.istio.io/v1"),
        (
            "security.solo.io",
            "WasmPlugin",
            "extensions.istio.io/v1alpha1",
        ),
        (
            "istio.example.com",
            "ServiceEntry",
            "networking.istio.io/v1",
        ),
    ] {
        let found = only(&document(group, kind));
        assert_eq!(
            (found.severity, found.code),
            (Severity::Warning, "kind-not-supported"),
            "{found:?}"
        );
        let says = format!("Istio's own {kind} is of `{own}`");
        assert!(found.help.ends_with(&says), "{found:?}");
    }
    for (group, kind) in [
        ("serving.knative.dev", "Service"),
        ("gateway.networking.k8s.io", "Gateway"),
        ("security.istio.tetrate.io", "Workspace"),
    ] {
        let found = only(&document(group, kind));
        assert!(found.help.ends_with("other programs"), "{found:?}");
    }
}

#[test]
fn knows_the_fields_of_kubernetes_kinds() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a, uid: x}\nspec:\n  \
        clusterIP: 10.0.0.1\n  ipFamilies: [IPv4]\n  ports: [{name: http, port: 80, targetPort: web}]\n\
        status: {loadBalancer: {}}\n";
    assert_eq!(find(service), []);
    refused(
        &service.replace("targetPort", "targetport"),
        "unknown-field",
        "spec.ports[0].targetport",
        "did you mean `targetPort`?",
    );
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\n\
        addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\nports: [{name: http, port: 80}]\n";
    assert_eq!(find(slice), []);
    refused(
        &slice.replace("endpoints:", "endponts:"),
        "unknown-field",
        "endponts",
        "did you mean `endpoints`?",
    );
}

/// It was the one kind of Istio's networking group of which nothing was looked at.
#[test]
fn knows_the_fields_of_an_envoy_filter() {
    let filter = "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: a}\n\
        spec:\n  workloadSelector: {labels: {app: a}}\n  priority: -5\n  configPatches:\n  \
        - applyTo: HTTP_FILTER\n    match:\n      context: SIDECAR_INBOUND\n      \
        proxy: {proxyVersion: '^1\\.2.*', metadata: {CLUSTER_ID: a}}\n      \
        listener: {portNumber: 80, filterChain: {filter: {name: hcm, subFilter: {name: router}}}}\n    \
        patch: {operation: INSERT_BEFORE, filterClass: AUTHZ, value: {name: lua, typed_config: {'@type': x}}}\n  \
        - applyTo: HTTP_ROUTE\n    match: {routeConfiguration: {gateway: a/b, vhost: {name: 'a:80', route: {action: ANY}}}}\n    \
        patch: {operation: MERGE, value: {}}\n  \
        - {applyTo: CLUSTER, match: {cluster: {service: a.com, subset: v1}}, patch: {operation: REMOVE}}\n";
    assert_eq!(only(filter).code, "kind-not-carried");
    let wrong = |from: &str, to: &str| {
        let found = find(&filter.replace(from, to));
        let mut errors = found
            .into_iter()
            .filter(|one| one.severity == Severity::Error);
        let first = errors.next().unwrap_or_else(|| panic!("{to} passes"));
        (first.code, first.path, first.help)
    };
    let field = |name: &str| format!("spec.{name}");
    let (code, path, help) = wrong("workloadSelector", "workloadSelectr");
    assert_eq!((code, path), ("unknown-field", field("workloadSelectr")));
    assert_eq!(help, "did you mean `workloadSelector`?");
    let (code, path, _) = wrong("INSERT_BEFORE", "INSERT_BEFOR");
    let at = field("configPatches[0].patch.operation");
    assert_eq!((code, path), ("unknown-value", at));
    let (code, path, _) = wrong("context:", "cluster: {}\n      context:");
    assert_eq!(code, "exclusive-fields", "{path}");
    let (code, path, _) = wrong("labels: {app: a}", "labels: {app: '*'}");
    assert_eq!(
        (code, path),
        ("invalid-label", field("workloadSelector.labels.app"))
    );
}
