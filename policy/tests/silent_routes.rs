//! Routes and documents that do less than they seem to: each is named, and the form that does what
//! was meant is not.

mod support;

use ringroad_policy::diagnostic::{Place, render_json, render_text};
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;
use ringroad_policy::source::SourceFile;
use support::*;

/// The code and field of each warning about a rule with this item of `http`, whose fields stand
/// beside a destination unless it is an answer.
fn of_route(fields: &str) -> Vec<(&'static str, String)> {
    let text = format!(
        "{GATEWAY}{}{}",
        service("a.com", 80, 2),
        rule(
            "r",
            &format!("hosts: ['*']\ngateways: [edge]\nhttp: [{{{fields}}}]\n")
        )
    );
    of_text(&text)
}

fn of_text(text: &str) -> Vec<(&'static str, String)> {
    let loaded = load_text(text);
    assert!(loaded.snapshot.is_some(), "{:#?}", loaded.diagnostics);
    let silenced = ["field-not-carried", "value-not-carried"];
    let heard = loaded
        .diagnostics
        .iter()
        .filter(|found| !silenced.contains(&found.code));
    heard
        .map(|found| {
            let (Place::Field(origin) | Place::Key(origin)) = &found.place else {
                panic!("{found:?}")
            };
            assert!(found.help.is_some(), "what to write instead: {found:?}");
            (found.code, origin.field.to_string())
        })
        .collect()
}

const TO_A: &str = "route: [{destination: {host: a.com}}]";

/// `forward` beside a destination warns at `field` by `no-effect`.
#[track_caller]
fn idle(fields: &str, field: &str) {
    let found = of_route(&format!("{TO_A}, {fields}"));
    assert_eq!(
        found,
        [("no-effect", format!("spec.http[0].{field}"))],
        "{fields}"
    );
}

#[track_caller]
fn clean(fields: &str) {
    assert_eq!(of_route(&format!("{TO_A}, {fields}")), [], "{fields}");
}

#[test]
fn what_only_forwarding_needs_is_idle_beside_an_answer() {
    for answer in ["redirect: {uri: /new}", "directResponse: {status: 200}"] {
        for (field, name) in [
            ("timeout: 1s", "timeout"),
            ("retries: {attempts: 1}", "retries"),
            ("mirror: {host: a.com}", "mirror"),
            ("corsPolicy: {allowOrigins: [{exact: '*'}]}", "corsPolicy"),
            ("headers: {request: {set: {x: z}}}", "headers.request"),
        ] {
            let found = of_route(&format!("{answer}, {field}"));
            assert_eq!(found, [("no-effect", format!("spec.http[0].{name}"))]);
        }
        assert_eq!(of_route(answer), []);
        let response = format!("{answer}, headers: {{response: {{set: {{x: z}}}}}}");
        assert_eq!(of_route(&response), []);
    }
    clean("timeout: 1s, retries: {attempts: 1}, mirror: {host: a.com}");
}

#[test]
fn a_share_of_the_only_destination_is_idle() {
    let weight = |weight: u32| {
        of_route(&format!(
            "route: [{{destination: {{host: a.com}}, weight: {weight}}}]"
        ))
    };
    let field = "spec.http[0].route[0].weight".to_string();
    assert_eq!(weight(10), [("no-effect", field)]);
    assert_eq!(weight(100), []);
    assert_eq!(weight(0), []);
}

#[test]
fn faults_and_mirrors_without_their_share_are_named() {
    idle("fault: {delay: {fixedDelay: 5s}}", "fault.delay");
    clean("fault: {delay: {fixedDelay: 5s, percentage: {value: 10}}}");
    idle(
        "fault: {delay: {fixedDelay: 5s, percentage: {value: 0}}}",
        "fault.delay.percentage",
    );
    idle("fault: {abort: {httpStatus: 500}}", "fault.abort");
    clean("fault: {abort: {httpStatus: 500, percentage: {value: 5}}}");
    idle("mirrorPercentage: {value: 10}", "mirrorPercentage");
    clean("mirror: {host: a.com}, mirrorPercentage: {value: 10}");
}

#[test]
fn headers_that_are_set_to_nothing_are_named() {
    for side in ["request", "response"] {
        for operation in ["set", "add"] {
            let to =
                |value: &str| format!("headers: {{{side}: {{{operation}: {{x-a: '{value}'}}}}}}");
            idle(&to(""), &format!("headers.{side}.{operation}.x-a"));
            clean(&to("%REQ(x-b)%"));
        }
    }
}

#[test]
fn a_try_that_may_take_as_long_as_all_tries_is_named() {
    let tries = |per_try: &str, all: &str| {
        format!("timeout: {all}, retries: {{attempts: 2, perTryTimeout: {per_try}}}")
    };
    idle(&tries("3s", "2s"), "retries.perTryTimeout");
    idle(&tries("2s", "2s"), "retries.perTryTimeout");
    clean(&tries("500ms", "2s"));
}

#[test]
fn conditions_that_are_not_looked_at_are_named() {
    idle(
        "match: [{gateways: [edge], sourceLabels: {app: x}}]",
        "match[0].sourceLabels",
    );
    idle(
        "match: [{uri: {regex: '/a.*'}, ignoreUriCase: true}]",
        "match[0].ignoreUriCase",
    );
    idle(
        "match: [{method: {exact: GET}, ignoreUriCase: true}]",
        "match[0].ignoreUriCase",
    );
    clean("match: [{uri: {prefix: /a}, ignoreUriCase: true, gateways: [edge]}]");
    idle("corsPolicy: {allowMethods: [GET]}", "corsPolicy");
    clean("corsPolicy: {allowOrigins: [{exact: 'http://x.com'}], allowMethods: [GET]}");
    for (origin, is_one) in [
        ("x.com", false),
        ("https://x.com/", false),
        ("https://X.com", false),
        ("https://x.com:8443", true),
        ("*", true),
        ("null", true),
    ] {
        let fields = format!("{TO_A}, corsPolicy: {{allowOrigins: [{{exact: '{origin}'}}]}}");
        let field = "spec.http[0].corsPolicy.allowOrigins[0].exact".to_string();
        let wanted = (!is_one).then_some(("never-matches", field));
        assert_eq!(of_route(&fields), Vec::from_iter(wanted), "{origin}");
    }
}

#[test]
fn a_prefix_rewrite_that_doubles_or_loses_a_slash_is_named() {
    let rewrite = |prefix: &str, to: &str| {
        of_route(&format!(
            "{TO_A}, match: [{{uri: {{prefix: {prefix}}}}}], rewrite: {{uri: {to}}}"
        ))
    };
    let uri = || vec![("rewrite-slash", "spec.http[0].rewrite.uri".to_string())];
    assert_eq!(rewrite("/api", "/"), uri());
    assert_eq!(rewrite("/api/", "/v2"), uri());
    assert_eq!(rewrite("/api/", "/"), []);
    assert_eq!(rewrite("/api", "/v2"), []);
    assert_eq!(rewrite("/", "/v2/"), []);
    let both = "match: [{uri: {prefix: /api/}}, {uri: {exact: /api}}], rewrite: {uri: /}";
    clean(both);
}

#[test]
fn what_a_rewrite_without_its_slash_does_is_told_by_example() {
    let text = |prefix: &str, to: &str| {
        let route = format!(
            "hosts: ['*']\ngateways: [edge]\nhttp: [{{{TO_A}, match: [{{uri: {{prefix: {prefix}}}}}], rewrite: {{uri: {to}}}}}]\n"
        );
        let loaded =
            load_text(&(GATEWAY.to_string() + &service("a.com", 80, 1) + &rule("r", &route)));
        loaded.diagnostics[0].message.clone()
    };
    assert!(text("/api", "/").ends_with("`/api/x` becomes `//x`"));
    assert!(text("/api/", "/v2").ends_with("`/api/x` becomes `/v2x`"));
}

/// Warnings of a gateway with these matches, each with an answer of its own.
fn of_matches(matches: &[&str]) -> Vec<(&'static str, String)> {
    let each = matches
        .iter()
        .map(|one| format!("{{match: [{one}], directResponse: {{status: 200}}}}"));
    let http: Vec<String> = each.collect();
    let spec = format!(
        "hosts: ['*']\ngateways: [edge]\nhttp: [{}]\n",
        http.join(", ")
    );
    of_text(&(GATEWAY.to_string() + &rule("r", &spec)))
}

#[test]
fn routes_whose_conditions_an_earlier_one_implies_are_named() {
    let second = || vec![("unreachable-route", "spec.http[1].match[0]".to_string())];
    for (wide, narrow) in [
        ("{headers: {a: {}}}", "{headers: {a: {exact: b}}}"),
        ("{headers: {a: {prefix: b}}}", "{headers: {a: {exact: bc}}}"),
        (
            "{headers: {a: {regex: 'b+'}}}",
            "{headers: {a: {exact: bbb}}}",
        ),
        (
            "{headers: {a: {}}}",
            "{uri: {prefix: /x}, headers: {a: {}, b: {}}}",
        ),
        ("{queryParams: {q: {}}}", "{queryParams: {q: {exact: '1'}}}"),
        (
            "{method: {regex: 'GET|HEAD'}}",
            "{method: {exact: GET}, uri: {exact: /x}}",
        ),
        (
            "{withoutHeaders: {a: {exact: x}}}",
            "{headers: {a: {exact: z}}}",
        ),
        ("{uri: {regex: '/a.*'}}", "{uri: {exact: /abc}}"),
        (
            "{uri: {prefix: /A}, ignoreUriCase: true}",
            "{uri: {prefix: /ab}}",
        ),
    ] {
        assert_eq!(of_matches(&[wide, narrow]), second(), "{wide} {narrow}");
    }
    for (one, other) in [
        ("{headers: {a: {exact: b}}}", "{headers: {a: {}}}"),
        ("{headers: {a: {exact: b}}}", "{headers: {a: {exact: c}}}"),
        ("{headers: {a: {}}}", "{headers: {b: {}}}"),
        (
            "{headers: {a: {}}, method: {exact: GET}}",
            "{headers: {a: {}}}",
        ),
        (
            "{queryParams: {q: {exact: '1'}}}",
            "{queryParams: {q: {exact: '2'}}}",
        ),
        (
            "{withoutHeaders: {a: {exact: x}}}",
            "{headers: {a: {exact: x}}}",
        ),
        ("{withoutHeaders: {a: {}}}", "{headers: {b: {exact: z}}}"),
        ("{uri: {regex: '/a.*'}}", "{uri: {prefix: /a}}"),
        (
            "{uri: {prefix: /ab}}",
            "{uri: {prefix: /A}, ignoreUriCase: true}",
        ),
    ] {
        assert_eq!(of_matches(&[one, other]), [], "{one} {other}");
    }
}

#[test]
fn the_route_that_wins_is_shown_by_file_and_line() {
    let files = [
        ("gate.yaml", GATEWAY.to_string()),
        ("old.yaml", rule("a", "hosts: ['*']\ngateways: [edge]\nhttp:\n- match: [{uri: {prefix: /x}}]\n  directResponse: {status: 200}\n")),
        ("new.yaml", rule("b", "hosts: ['*']\ngateways: [edge]\nhttp:\n- match: [{uri: {exact: /x/y}}]\n  directResponse: {status: 200}\n")),
    ]
    .map(|(path, text)| SourceFile { path: path.to_string(), text });
    let loaded = ringroad_policy::load(&files, &Overrides::default(), &DnsTable::default());
    assert_eq!(codes(&loaded.diagnostics), ["unreachable-route"]);
    let text = render_text(&files, &loaded.diagnostics);
    assert!(text.contains(" --> new.yaml:9:13\n"), "{text}");
    assert!(
        text.contains(" = note: this route takes them: old.yaml:9:13\n"),
        "{text}"
    );
    let json = render_json(&files, &loaded.diagnostics);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["related"]["file"], "old.yaml");
    assert_eq!(json[0]["related"]["line"], 9);
    assert_eq!(json[0]["related"]["field"], "spec.http[0].match[0]");
}

#[test]
fn hosts_that_no_gateway_has_are_named() {
    let gateway = GATEWAY.replace("['*']", "['shop.com', 'other/api.com']");
    let of = |hosts: &str| {
        let spec = format!(
            "hosts: [{hosts}]\ngateways: [edge]\nhttp: [{{directResponse: {{status: 200}}}}]\n"
        );
        of_text(&(gateway.clone() + &rule("r", &spec)))
    };
    let code = "host-not-in-gateway";
    assert_eq!(of("web.com"), [(code, "spec.gateways[0]".to_string())]);
    assert_eq!(
        of("shop.com, web.com"),
        [(code, "spec.hosts[1]".to_string())]
    );
    assert_eq!(of("api.com"), [(code, "spec.gateways[0]".to_string())]);
    assert_eq!(of("shop.com"), []);
    assert_eq!(of("'*.com'"), []);
    let meshed = "hosts: [shop.com, web.com]\ngateways: [edge, mesh]\nhttp: [{directResponse: {status: 200}}]\n";
    assert_eq!(of_text(&(gateway.clone() + &rule("r", meshed))), []);
}

#[test]
fn two_documents_without_effect_are_not_said_to_count_both() {
    let filter = "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: f}\nspec: {}\n---\n";
    let other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n---\n";
    let found = of_text(&format!("{filter}{filter}{other}{other}{GATEWAY}"));
    let idle = ["kind-not-carried", "kind-not-supported"];
    assert!(
        found.iter().all(|(code, _)| idle.contains(code)),
        "{found:?}"
    );
    assert_eq!(found.len(), 4);
}

#[test]
fn two_documents_of_one_name_are_named() {
    let spec = |path: &str| {
        format!(
            "hosts: ['*']\ngateways: [edge]\nhttp: [{{match: [{{uri: {{exact: {path}}}}}], directResponse: {{status: 200}}}}]\n"
        )
    };
    let one = rule("r", &spec("/1"));
    let twice = format!("{GATEWAY}{one}{}", rule("r", &spec("/2")));
    assert_eq!(
        of_text(&twice),
        [("duplicate-document", "metadata.name".to_string())]
    );
    let elsewhere = rule("r", &spec("/2")).replace("{name: r}", "{name: r, namespace: other}");
    assert_eq!(
        of_text(&format!(
            "{GATEWAY}{one}{}",
            elsewhere.replace("[edge]", "[default/edge]")
        )),
        []
    );
    let other_version = rule("r", &spec("/2")).replace("io/v1", "io/v1beta1");
    assert_eq!(
        of_text(&format!("{GATEWAY}{one}{other_version}")),
        [("duplicate-document", "metadata.name".to_string())]
    );
    let other_kind = destination_rule("r", "host: a.com\nsubsets: []\n");
    let text = format!("{GATEWAY}{}{one}{other_kind}", service("a.com", 80, 1));
    assert_eq!(of_text(&text), []);
}

#[test]
fn test_cases_among_the_configuration_are_recognised() {
    let loaded = load_text("testCases:\n- description: x\n");
    assert!(loaded.snapshot.is_none());
    let help = loaded.diagnostics[0].help.as_deref().unwrap();
    assert!(help.contains("ringroad test"), "{help}");
}

#[test]
fn the_winner_of_a_host_in_a_sidecar_is_shown() {
    let spec = "hosts: [a.com]\nhttp: [{route: [{destination: {host: a.com}}]}]\n";
    let text = format!(
        "{}{}{}{}",
        sidecar("default"),
        service("a.com", 80, 1),
        rule("first", spec),
        rule("second", spec)
    );
    let loaded = load_text(&text);
    let [found] = loaded.diagnostics.as_slice() else {
        panic!("{:#?}", loaded.diagnostics)
    };
    assert_eq!(found.code, "duplicate-host");
    let related = found.related.as_ref().unwrap();
    assert_eq!(related.origin.field.to_string(), "spec.hosts");
    assert_eq!(related.origin.document.index, 2);
}

#[test]
fn operators_without_a_value_are_named() {
    let warnings = |value: &str| {
        let fields = format!(
            "headers: {{request: {{set: {{x-a: '{value}'}}}}}}, \
             route: [{{destination: {{host: a.com}}}}]"
        );
        let text = format!(
            "{GATEWAY}{}{}",
            service("a.com", 80, 2),
            rule(
                "r",
                &format!("hosts: ['*']\ngateways: [edge]\nhttp: [{{{fields}}}]\n")
            )
        );
        let all = load_text(&text).diagnostics.into_iter();
        let about = all.filter(|found| found.message.contains("header `x-a`"));
        about.map(|found| found.code).collect::<Vec<_>>()
    };
    assert_eq!(warnings("%REQ(x-b)% at %START_TIME(%s.%3f)%"), [""; 0]);
    assert_eq!(warnings("%PATH(NQ)% at %HOSTNAME%"), [""; 0]);
    assert_eq!(warnings("%QUERY_PARAMS%"), [""; 0]);
    assert_eq!(
        warnings("%QUERY_PARAMS(DECODED)%"),
        ["value-not-carried"],
        "Envoy decodes only some of it"
    );
    assert_eq!(warnings("at %TRACE_ID%"), ["value-not-carried"]);
    assert_eq!(warnings("%SPAN_ID%"), ["value-not-carried"]);
    assert_eq!(warnings("%NO_SUCH%"), ["header-format"]);
    assert_eq!(warnings("%REQ%"), ["header-format"], "of no name");
    assert_eq!(
        warnings("%REQ(x-b):4% %DYNAMIC_METADATA(a:b):3%"),
        ["value-not-carried"]
    );
}

/// They pointed at the rule, which may have many headers.
#[test]
fn headers_whose_value_has_no_effect_are_named_where_it_is_written() {
    for (value, code) in [
        ("%TRACE_ID%", "value-not-carried"),
        ("%NO_SUCH%", "header-format"),
    ] {
        let line = format!("headers: {{response: {{add: {{x-b: b, x-a: '{value}'}}}}}}");
        let at_rule = format!("http: [{{{TO_A}, {line}}}]\n");
        let at_destination =
            format!("http: [{{route: [{{destination: {{host: a.com}}, {line}}}]}}]\n");
        for (http, at) in [(at_rule, ""), (at_destination, ".route[0]")] {
            let bound = rule("r", &format!("hosts: ['*']\ngateways: [edge]\n{http}"));
            let text = GATEWAY.to_string() + &service("a.com", 80, 2) + &bound;
            let field = format!("spec.http[0]{at}.headers.response.add.x-a");
            assert_eq!(found_in(&text), [(code, field)]);
        }
    }
}

#[test]
fn answers_and_redirects_that_do_not_do_what_they_say_are_named() {
    for (answer, field) in [
        (
            "directResponse: {status: 204, body: {string: hi}}",
            "directResponse.body",
        ),
        (
            "directResponse: {status: 304, body: {bytes: aGk=}}",
            "directResponse.body",
        ),
        (
            "redirect: {authority: 'https://x.test'}",
            "redirect.authority",
        ),
        ("redirect: {uri: /x, port: 0}", "redirect.port"),
    ] {
        let at = format!("spec.http[0].{field}");
        assert_eq!(of_route(answer), [("no-effect", at)], "{answer}");
    }
    for answer in [
        "directResponse: {status: 204}",
        "directResponse: {status: 404, body: {string: hi}}",
        "redirect: {authority: x.test, scheme: https, port: 8443}",
    ] {
        assert_eq!(of_route(answer), [], "{answer}");
    }
}

/// Where the services of a mesh were not in the folder, nothing was said of its routes.
#[test]
fn routes_of_rules_that_are_bound_nowhere_are_looked_at_too() {
    let answers = "directResponse: {status: 200}";
    let of = |bound: &str, second: &str| {
        let spec = format!(
            "hosts: [far.com]\n{bound}http:\n- match: [{{uri: {{prefix: /a}}}}]\n  {answers}\n\
             - match: [{second}]\n  {answers}\n"
        );
        let mut found = of_text(&(sidecar("default") + &rule("r", &spec)));
        found.retain(|(code, _)| *code == "unreachable-route");
        found
    };
    let dead = vec![("unreachable-route", "spec.http[1].match[0]".to_string())];
    for bound in ["", "gateways: [nobody]\n"] {
        assert_eq!(of(bound, "{uri: {prefix: /ab}}"), dead, "{bound}");
        assert_eq!(of(bound, "{uri: {prefix: /}}"), [], "{bound}");
        // For another port it may be the only one.
        assert_eq!(of(bound, "{uri: {prefix: /ab}, port: 81}"), [], "{bound}");
    }
}

#[test]
fn rules_of_two_gateways_that_share_a_port_do_not_hide_themselves() {
    let inner = GATEWAY.replace("name: edge}", "name: inner}");
    let spec = "hosts: [a.example.com]\ngateways: [edge, inner]\nhttp:\n\
                - {match: [{uri: {prefix: /a}}], directResponse: {status: 200}}\n\
                - {match: [{uri: {prefix: /a/b}}], directResponse: {status: 201}}\n\
                - {directResponse: {status: 202}}\n";
    let text = GATEWAY.to_string() + &inner + &rule("r", spec);
    assert_eq!(
        of_text(&text),
        [("unreachable-route", "spec.http[1].match[0]".to_string())]
    );
}

/// They all have the match of the rule that delegates, which is reached.
#[test]
fn a_delegates_rule_behind_one_for_everything_is_named_where_it_stands() {
    let root = rule(
        "root",
        "hosts: ['*']\ngateways: [edge]\nhttp: [{match: [{uri: {prefix: /a}}], delegate: {name: d}}]\n",
    );
    let to_a = "- route: [{destination: {host: a.com}}]\n";
    let delegate = rule("d", &format!("http:\n{to_a}{to_a}"));
    let text = GATEWAY.to_string() + &service("a.com", 80, 1) + &root + &delegate;
    assert_eq!(
        of_text(&text),
        [("unreachable-route", "spec.http[1]".to_string())]
    );
}
