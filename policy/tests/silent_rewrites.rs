//! What a route says and something else is always before, and rewrites that make what nobody can
//! read: each is named, and the form that does what was meant is not.

mod support;

use support::*;

/// Code and field, below the rule, of each warning about a route with these fields.
fn of_route(fields: &str) -> Vec<(&'static str, String)> {
    of_rule("r", fields)
}

fn of_rule(name: &str, fields: &str) -> Vec<(&'static str, String)> {
    let spec = format!(
        "hosts: ['*']\ngateways: [edge]\nhttp: [{{{fields}, route: [{{destination: {{host: a.com}}}}]}}]\n"
    );
    let text = GATEWAY.to_string() + &service("a.com", 80, 2) + &rule(name, &spec);
    let found = found_in(&text).into_iter();
    found
        .map(|(code, field)| (code, field.replace("spec.http[0].", "")))
        .collect()
}

fn one(code: &'static str, field: &str) -> Vec<(&'static str, String)> {
    vec![(code, field.to_string())]
}

const NOTHING: [(&str, String); 0] = [];

#[test]
fn a_back_off_as_long_as_the_timeout_is_told() {
    let with = |timeout: &str, back_off: &str| {
        of_route(&format!(
            "{timeout}retries: {{attempts: 2, backoff: {back_off}}}"
        ))
    };
    assert_eq!(
        with("timeout: 1s, ", "5s"),
        one("no-effect", "retries.backoff")
    );
    assert_eq!(
        with("timeout: 1s, ", "1s"),
        one("no-effect", "retries.backoff")
    );
    assert_eq!(with("timeout: 1s, ", "900ms"), NOTHING);
    assert_eq!(with("", "5s"), NOTHING);
}

#[test]
fn what_an_abort_of_all_requests_leaves_idle_is_told() {
    let aborting = |name: &str, percent: &str, rest: &str| {
        let fault =
            format!("fault: {{abort: {{httpStatus: 503, percentage: {{value: {percent}}}}}}}");
        of_rule(name, &format!("{fault}, {rest}"))
    };
    for (field, value) in [
        ("timeout", "1s"),
        ("retries", "{attempts: 1}"),
        ("rewrite", "{uri: /x}"),
        ("mirror", "{host: a.com}"),
        ("mirrors", "[{destination: {host: a.com}}]"),
        ("corsPolicy", "{allowOrigins: [{exact: 'https://a.test'}]}"),
    ] {
        let rest = format!("{field}: {value}");
        assert_eq!(aborting("r", "100", &rest), one("no-effect", field));
        assert_eq!(aborting("r", "99", &rest), NOTHING, "{field}");
        let upstream = "r, annotations: {ringroad.dev/fault-side: upstream}";
        assert_eq!(aborting(upstream, "100", &rest), NOTHING, "{field}");
    }
    // The delay is drawn before, and the headers are those of the answer.
    let fault = "fault: {delay: {fixedDelay: 1s, percentage: {value: 100}}, abort: {httpStatus: 503, \
                 percentage: {value: 100}}}, headers: {response: {set: {x-a: b}}}";
    assert_eq!(of_route(fault), NOTHING);
}

#[test]
fn a_host_that_is_none_is_told() {
    for wrong in [
        "a.com:80:81",
        "a.com:",
        "a.com:http",
        "a.com:0",
        "a.com:99999",
        "a.com:+80",
        "a.com/x",
        "a.com?x",
        "me@a.com",
        "http://a.com",
        "2001:db8::1",
        "[2001:db8::1",
        "[2001:db8::1]80",
    ] {
        let rewrite = format!("rewrite: {{authority: '{wrong}'}}");
        assert_eq!(
            of_route(&rewrite),
            one("invalid-host", "rewrite.authority"),
            "{wrong}"
        );
        let set = format!("headers: {{request: {{set: {{Host: '{wrong}'}}}}}}");
        assert_eq!(
            of_route(&set),
            one("invalid-host", "headers.request.set.Host"),
            "{wrong}"
        );
    }
    for right in [
        "a.com",
        "a.com:8080",
        "a_b",
        "10.0.0.1:80",
        "[2001:db8::1]",
        "[2001:db8::1]:80",
    ] {
        let rewrite = format!("rewrite: {{authority: '{right}'}}");
        assert_eq!(of_route(&rewrite), NOTHING, "{right}");
    }
}

#[test]
fn a_path_that_would_get_a_query_or_a_fragment_is_told() {
    for wrong in ["/x?y=1", "/x#y", "/?"] {
        let rewrite = format!("rewrite: {{uri: '{wrong}'}}");
        assert_eq!(
            of_route(&rewrite),
            one("invalid-path", "rewrite.uri"),
            "{wrong}"
        );
    }
    assert_eq!(of_route("rewrite: {uri: /x%3Fy}"), NOTHING);
}
