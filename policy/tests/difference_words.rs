//! How differences between recorded requests are told: with the number that moves, the rule that
//! changed, and nothing that a terminal obeys.

#[path = "support/sides.rs"]
mod sides;
mod support;

use ringroad_policy::difference::{Comparison, RequestDifference, render_requests};
use sides::load;
use support::{log_line as line, *};

const A: &str = "outbound|80||a.com";

fn compare(old: &str, new: &str, lines: &[String]) -> RequestDifference {
    let (old, new) = (load("old.yaml", old), load("new.yaml", new));
    let mut comparison = Comparison::new(old.side(), new.side());
    for line in lines {
        comparison.add_line(line);
    }
    comparison.finish()
}

fn shop(http: &str, policy: &str) -> String {
    let mut text = GATEWAY.to_string() + &service("a.com", 80, 2) + &service("b.com", 80, 1);
    if !policy.is_empty() {
        text += &destination_rule("a-rule", &format!("host: a.com\ntrafficPolicy: {policy}\n"));
    }
    text + &rule(
        "shop",
        &format!("hosts: ['*']\ngateways: [edge]\nhttp:\n{http}"),
    )
}

#[test]
fn a_shift_of_shares_leads_with_the_requests_that_move() {
    let split = |a: u32, b: u32| {
        let http = format!(
            "- route:\n  - {{destination: {{host: a.com}}, weight: {a}}}\n  \
             - {{destination: {{host: b.com}}, weight: {b}}}\n"
        );
        shop(&http, "")
    };
    let log = vec![line("GET", "/", "shop.com", A, "-"); 1000];
    let text = render_requests(&compare(&split(90, 10), &split(80, 20), &log));
    for part in [
        "       100  are routed elsewhere, by their share of 1000 whose route changed\n",
        "\n100 of 1000 requests routed elsewhere, by their share\n",
    ] {
        assert!(text.contains(part), "{part} not in\n{text}");
    }
    assert!(!text.contains("1000  are routed"), "{text}");
}

#[test]
fn a_changed_destination_rule_is_not_blamed_on_the_route() {
    let http = "- route: [{destination: {host: a.com}}]\n";
    let log = [line("GET", "/", "shop.com", A, "-")];
    let why = |old: &str, new: &str| {
        let difference = compare(&shop(http, old), &shop(http, new), &log);
        assert_eq!(difference.treated_differently, 1);
        difference.groups[0].why.clone()
    };
    let (some, other) = (
        "{loadBalancer: {simple: RANDOM}}",
        "{loadBalancer: {simple: ROUND_ROBIN}}",
    );
    let told = "the route is the same; cluster outbound|80||a.com was changed by DestinationRule \
                default/a-rule";
    assert_eq!(why(some, other), told);
    assert_eq!(why("", some), told);
    assert_eq!(why(some, ""), told, "one that is gone");
    // Endpoints are not of a DestinationRule.
    let (old, new) = (
        shop(http, some),
        shop(http, some).replace("10.0.0.2", "10.0.0.9"),
    );
    let difference = compare(&old, &new, &log);
    assert_eq!(
        difference.groups[0].why,
        "the route is the same; the endpoints of cluster outbound|80||a.com were changed"
    );
    // What the route changes is the route's.
    let timed = http.replace("- route", "- timeout: 3s\n  route");
    let difference = compare(&shop(http, some), &shop(&timed, other), &log);
    let why = &difference.groups[0].why;
    assert!(why.starts_with("route (new.yaml:"), "{why}");
}

#[test]
fn control_characters_of_logs_and_bodies_do_not_reach_the_terminal() {
    let old = shop("- route: [{destination: {host: a.com}}]\n", "");
    let body = "- directResponse: {status: 200, body: {string: \"x\\e[2Jy\"}}\n";
    let log = [
        line("GET", "/\u{1b}[31mred\u{7}", "shop.com", A, "-"),
        line("GET", "/\u{202e}txt", "shop.com", A, "-"),
    ];
    let difference = compare(&old, &shop(body, ""), &log);
    assert_eq!(difference.requests, 2);
    let text = render_requests(&difference);
    let is_obeyed = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(!text.contains(is_obeyed), "{text:?}");
    for part in ["\\u{1b}[31mred\\u{7}", "\\u{202e}txt", "x\\u{1b}[2Jy"] {
        assert!(text.contains(part), "{part} not in\n{text}");
    }
}
