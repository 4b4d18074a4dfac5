//! Two configurations side by side, with and without recorded requests.

#[path = "support/sides.rs"]
mod sides;
mod support;

use ringroad_policy::difference::{
    ChangeKind, Comparison, GroupKind, RequestDifference, render_requests, render_structure,
    structure,
};
use sides::load;
use support::{log_line as line, *};

/// A gateway at 8080, services a.com and b.com, and a VirtualService with this `http`.
fn shop(http: &str) -> String {
    format!(
        "{GATEWAY}{}{}{}",
        service("a.com", 80, 2),
        service("b.com", 80, 1),
        rule(
            "shop",
            &format!("hosts: ['*']\ngateways: [edge]\nhttp:\n{http}")
        )
    )
}

fn compare(old: &str, new: &str, lines: &[String]) -> RequestDifference {
    let (old, new) = (load("old.yaml", old), load("new.yaml", new));
    let mut comparison = Comparison::new(old.side(), new.side());
    for line in lines {
        comparison.add_line(line);
    }
    comparison.finish()
}

const A: &str = "outbound|80||a.com";
const B: &str = "outbound|80||b.com";

#[test]
fn requests_that_go_elsewhere_are_grouped_with_the_reason() {
    let old = shop("- route: [{destination: {host: a.com}}]\n");
    let new = shop(
        "- name: api\n  match: [{uri: {prefix: /api}}]\n  route: [{destination: {host: b.com}}]\n\
         - route: [{destination: {host: a.com}}]\n",
    );
    let mut log = vec![line("GET", "/", "shop.com", A, "-"); 3];
    log.extend(vec![line("GET", "/api/1", "shop.com", A, "-"); 2]);
    log.push("no log line".to_string());
    let difference = compare(&old, &new, &log);
    assert_eq!((difference.requests, difference.same), (5, 3));
    assert_eq!((difference.elsewhere, difference.moved), (2, 2));
    assert_eq!(difference.contradicted, 0);
    assert_eq!(
        (difference.unreadable_lines, &difference.first_unreadable),
        (1, &vec![6])
    );
    let [group] = difference.groups.as_slice() else {
        panic!("{:#?}", difference.groups)
    };
    assert_eq!((group.from.as_str(), group.to.as_str()), (A, B));
    assert_eq!(group.requests, 2);
    assert_eq!(group.examples[0], "GET shop.com/api/1");
    assert!(
        group
            .why
            .contains("comes later; now route `api` (new.yaml:"),
        "{}",
        group.why
    );
    let text = render_requests(&difference);
    for part in [
        "5 requests\n",
        "         3  go where they went\n",
        "         2  are routed elsewhere\n",
        "lines are no access log (line 6)",
        "2 requests routed elsewhere\n  from    outbound|80||a.com\n  to      outbound|80||b.com\n",
        "  like    GET shop.com/api/1\n",
    ] {
        assert!(text.contains(part), "{part} not in\n{text}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 110),
        "{text}"
    );
}

#[test]
fn the_same_configuration_changes_nothing() {
    let old = shop("- route: [{destination: {host: a.com}}]\n");
    // Other words and another file for the same.
    let new =
        shop("- route:\n  - destination: {host: a.com, port: {number: 80}}\n    weight: 100\n");
    let difference = compare(&old, &new, &[line("GET", "/", "shop.com", A, "-")]);
    assert_eq!((difference.same, difference.groups.len()), (1, 0));
    let (old, new) = (load("old.yaml", &old), load("new.yaml", &new));
    assert_eq!(
        render_structure(&structure(old.side(), new.side())),
        "no difference\n"
    );
}

#[test]
fn another_share_moves_its_part_of_the_requests() {
    let split = |a: u32, b: u32| {
        shop(&format!(
            "- route:\n  - {{destination: {{host: a.com}}, weight: {a}}}\n  \
             - {{destination: {{host: b.com}}, weight: {b}}}\n"
        ))
    };
    let log = vec![line("GET", "/", "shop.com", A, "-"); 100];
    let difference = compare(&split(90, 10), &split(50, 50), &log);
    assert_eq!((difference.elsewhere, difference.moved), (100, 40));
    assert!(difference.groups[0].from.contains("90% outbound|80||a.com"));
    assert!(
        difference.groups[0].why.contains("was changed"),
        "{}",
        difference.groups[0].why
    );
}

#[test]
fn what_headers_decided_is_learned_from_the_log() {
    let old = shop(
        "- name: testers\n  match: [{headers: {x-canary: {exact: 'true'}}}]\n  \
           route: [{destination: {host: b.com}}]\n\
         - route: [{destination: {host: a.com}}]\n",
    );
    let gone = shop("- route: [{destination: {host: a.com}}]\n");
    let log = [
        line("GET", "/", "shop.com", B, "testers"),
        line("GET", "/", "shop.com", A, "-"),
    ];
    let difference = compare(&old, &gone, &log);
    assert_eq!(
        (
            difference.same,
            difference.elsewhere,
            difference.contradicted
        ),
        (1, 1, 0)
    );
    let group = &difference.groups[0];
    assert_eq!((group.from.as_str(), group.to.as_str()), (B, A));
    assert!(
        group.why.starts_with("route `testers` (old.yaml:"),
        "{}",
        group.why
    );
    assert!(group.why.contains("is gone; now"), "{}", group.why);
}

/// The log has the host as it went upstream.
#[test]
fn requests_whose_host_was_rewritten_are_judged_by_the_host_that_was_asked_for() {
    let to = |host: &str, how: &str| {
        let text = shop(&format!(
            "- {how}\n  match: [{{uri: {{prefix: /a}}}}]\n  route: [{{destination: {{host: {host}}}}}]\n"
        ));
        text.replace(
            "  hosts: ['*']\n  gateways",
            "  hosts: [shop.com]\n  gateways",
        )
    };
    for how in [
        "rewrite: {authority: inner.local}",
        "headers: {request: {set: {host: inner.local}}}",
    ] {
        let (old, new) = (to("a.com", how), to("b.com", how));
        let log = [line("GET", "/a/b", "inner.local", A, "-")];
        let difference = compare(&old, &new, &log);
        assert_eq!((difference.contradicted, difference.elsewhere), (0, 1));
        assert_eq!(difference.groups[0].examples, ["GET shop.com/a/b"]);
        assert_eq!(compare(&old, &old, &log).same, 1);
        let other = [line("GET", "/b", "inner.local", A, "-")];
        assert_eq!(compare(&old, &new, &other).contradicted, 1);
    }
}

#[test]
fn what_the_log_cannot_tell_is_said() {
    let old = shop("- route: [{destination: {host: a.com}}]\n");
    let new = shop(
        "- match: [{headers: {x-beta: {}}}]\n  route: [{destination: {host: b.com}}]\n\
         - route: [{destination: {host: a.com}}]\n",
    );
    let log = [line("GET", "/", "shop.com", A, "-")];
    let difference = compare(&old, &new, &log);
    assert_eq!(difference.same, 1);
    assert_eq!(difference.unknown_headers["x-beta"], 1);
    let other = [line("GET", "/", "shop.com", B, "-")];
    assert_eq!(
        compare(&old, &new, &other).contradicted,
        1,
        "a log of something else"
    );
}

#[test]
fn another_treatment_of_the_same_place_is_told_apart() {
    let with = |more: &str| {
        shop(&format!(
            "- route: [{{destination: {{host: a.com}}}}]\n{more}"
        ))
    };
    let log = [line("GET", "/", "shop.com", A, "-")];
    let difference = compare(&with(""), &with("  timeout: 3s\n"), &log);
    assert_eq!(
        (difference.elsewhere, difference.treated_differently),
        (0, 1)
    );
    let group = &difference.groups[0];
    assert_eq!(group.kind, GroupKind::Treatment);
    let [detail] = group.details.as_slice() else {
        panic!("{:?}", group.details)
    };
    assert_eq!(
        (
            detail.name.as_str(),
            detail.old.as_str(),
            detail.new.as_str()
        ),
        ("timeout", "none", "3s")
    );
    for (more, elsewhere) in [
        ("  rewrite: {uri: /v2}\n", 1),
        ("  headers: {request: {set: {x: y}}}\n", 0),
        ("  mirror: {host: b.com}\n", 0),
    ] {
        let difference = compare(&with(""), &with(more), &log);
        assert_eq!(difference.elsewhere, elsewhere, "{more}");
        assert_eq!(difference.groups.len(), 1, "{more}");
    }
}

#[test]
fn other_endpoints_and_answers_are_elsewhere() {
    let old = shop("- route: [{destination: {host: a.com}}]\n");
    let log = [line("GET", "/", "shop.com", A, "-")];
    let of = |new: &str| {
        let difference = compare(&old, new, &log);
        assert_eq!(difference.elsewhere, 1);
        let group = difference.groups[0].clone();
        (group.to, group.details, group.why)
    };
    let (to, details, _) = of(&old.replace("10.0.0.2", "10.0.0.7"));
    assert_eq!(to, A);
    assert_eq!(
        (details[0].old.as_str(), details[0].new.as_str()),
        ("10.0.0.2:80", "10.0.0.7:80")
    );
    assert_eq!(
        of(&shop("- directResponse: {status: 503}\n")).0,
        "answered here: 503"
    );
    assert_eq!(
        of(&shop(
            "- redirect: {authority: new.com, redirectCode: 308}\n"
        ))
        .0,
        "answered here: 308 to new.com"
    );
    let (to, _, why) = of(&shop(
        "- match: [{uri: {prefix: /a}}]\n  directResponse: {status: 200}\n",
    ));
    assert_eq!(to, "answered here: 404 NR");
    assert!(why.contains("is gone, and no other takes it"), "{why}");
    let (to, _, _) = of(&old.replace("number: 8080", "number: 9090"));
    assert_eq!(to, "answered here: no listener");
}

/// Name, old and new value.
type Values = Vec<(String, String, String)>;

fn changes(old: &str, new: &str) -> Vec<(ChangeKind, String, Values)> {
    let (old, new) = (load("old.yaml", old), load("new.yaml", new));
    let difference = structure(old.side(), new.side());
    let each = difference.changes.into_iter().map(|change| {
        let details = change.details.into_iter();
        let details = details.map(|one| (one.name, one.old, one.new));
        (change.kind, change.path.join(" / "), details.collect())
    });
    each.collect()
}

fn detail(name: &str, old: &str, new: &str) -> Values {
    vec![(name.to_string(), old.to_string(), new.to_string())]
}

#[test]
fn changes_are_told_by_listener_virtual_host_and_route() {
    let place = "listener 0.0.0.0_8080 / virtual host *:8080";
    let one =
        "- name: one\n  match: [{uri: {prefix: /1}}]\n  route: [{destination: {host: a.com}}]\n";
    let two =
        "- name: two\n  match: [{uri: {prefix: /2}}]\n  route: [{destination: {host: b.com}}]\n";
    let all = "- route: [{destination: {host: a.com}}]\n";
    let http = |rules: &[&str]| shop(&rules.concat());
    let base = http(&[one, two, all]);
    let route = |title: &str| format!("{place} / route {title}");
    assert_eq!(
        changes(&base, &http(&[one, all])),
        [(
            ChangeKind::Removed,
            route("`two` of default/shop for path `/2...`"),
            detail("to", B, "")
        )]
    );
    assert_eq!(
        changes(&http(&[one, all]), &base),
        [(
            ChangeKind::Added,
            route("`two` of default/shop for path `/2...`"),
            detail("to", "", B)
        )]
    );
    assert_eq!(
        changes(&base, &http(&[two, one, all])),
        [(
            ChangeKind::Moved,
            route("`one` of default/shop for path `/1...`"),
            detail("order", "place 1", "place 2")
        )]
    );
    let slower = two.to_string() + "  timeout: 3s\n";
    assert_eq!(
        changes(&base, &http(&[one, &slower, all])),
        [(
            ChangeKind::Changed,
            route("`two` of default/shop for path `/2...`"),
            detail("timeout", "none", "3s")
        )]
    );
    // A route is the same by its name, whatever it asks for.
    let wider = two.replace("/2", "/3");
    let found = changes(&base, &http(&[one, &wider, all]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].2[0].0, "for");
    let other_port = base.replace("number: 8080", "number: 9090");
    assert_eq!(
        changes(&base, &other_port),
        [
            (
                ChangeKind::Removed,
                "listener 0.0.0.0_8080".to_string(),
                vec![]
            ),
            (
                ChangeKind::Added,
                "listener 0.0.0.0_9090".to_string(),
                vec![]
            ),
        ]
    );
}

#[test]
fn changes_of_clusters_are_told_with_their_endpoints() {
    let base = shop("- route: [{destination: {host: a.com}}]\n");
    let moved = base.replace("10.0.0.2", "10.0.0.7");
    let found = changes(&base, &moved);
    let cluster = format!("cluster {A}");
    let endpoints = || detail("endpoints", "10.0.0.2:80", "10.0.0.7:80");
    assert!(
        found.contains(&(ChangeKind::Changed, cluster.clone(), endpoints())),
        "{found:?}"
    );
    let balanced = base.clone()
        + &destination_rule(
            "a",
            "host: a.com\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}\n",
        );
    let found = changes(&base, &balanced);
    let balancer = detail("load balancer", "LEAST_REQUEST", "RANDOM");
    assert!(
        found.contains(&(ChangeKind::Changed, cluster, balancer)),
        "{found:?}"
    );
    let text = {
        let (old, new) = (load("old.yaml", &base), load("new.yaml", &moved));
        render_structure(&structure(old.side(), new.side()))
    };
    assert!(text.contains("10.0.0.2:80 gone, 10.0.0.7:80 new"), "{text}");
}

#[test]
fn a_route_that_gets_a_name_is_still_the_same() {
    let old = shop("- route: [{destination: {host: a.com}}]\n");
    let new = shop("- name: all\n  route: [{destination: {host: b.com}}]\n")
        + &rule(
            "younger",
            "hosts: ['*']\ngateways: [edge]\nhttp: [{route: [{destination: {host: a.com}}]}]\n",
        );
    let difference = compare(&old, &new, &[line("GET", "/", "shop.com", A, "-")]);
    let why = &difference.groups[0].why;
    assert!(
        why.starts_with("route `all` (new.yaml:") && why.ends_with("was changed"),
        "{why}"
    );
}

#[test]
fn only_clusters_that_stay_are_compared() {
    let to = |host: &str| {
        shop(&format!("- route: [{{destination: {{host: {host}}}}}]\n"))
            + &destination_rule(
                "b",
                "host: b.com\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}\n",
            )
    };
    let log = [line("GET", "/", "shop.com", A, "-")];
    let difference = compare(&to("a.com"), &to("b.com"), &log);
    let names: Vec<&str> = difference.groups[0]
        .details
        .iter()
        .map(|d| d.name.as_str())
        .collect();
    assert_eq!(names, ["to"]);
    let balanced = to("a.com")
        + &destination_rule(
            "a",
            "host: a.com\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}\n",
        );
    let difference = compare(&to("a.com"), &balanced, &log);
    assert_eq!(
        (difference.elsewhere, difference.treated_differently),
        (0, 1)
    );
    assert_eq!(difference.groups[0].details[0].name, "load balancer");
}

#[test]
fn chains_and_policies_are_told_too() {
    let tcp = |host: &str| {
        format!(
            "{}{}{}{}",
            GATEWAY.replace("protocol: HTTP", "protocol: TCP"),
            service("a.com", 80, 1),
            service("b.com", 80, 1),
            rule(
                "r",
                &format!(
                    "hosts: ['*']\ngateways: [edge]\n\
                     tcp: [{{route: [{{destination: {{host: {host}, port: {{number: 80}}}}}}]}}]\n"
                )
            )
        )
    };
    let [(kind, path, details)] = changes(&tcp("a.com"), &tcp("b.com"))
        .try_into()
        .expect("one");
    assert_eq!(kind, ChangeKind::Changed);
    assert!(
        path.starts_with("listener 0.0.0.0_8080 / filter chain"),
        "{path}"
    );
    assert!(
        details[0].1.contains(A) && details[0].2.contains(B),
        "{details:?}"
    );
    let base = shop("- route: [{destination: {host: a.com}}]\n");
    let policy = |action: &str| {
        format!(
            "{base}---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: p}}\nspec: {{action: {action}, rules: [{{}}]}}\n"
        )
    };
    let title = || "AuthorizationPolicy default/p".to_string();
    assert_eq!(
        changes(&base, &policy("DENY")),
        [(ChangeKind::Added, title(), vec![])]
    );
    assert_eq!(
        changes(&policy("DENY"), &policy("ALLOW")),
        [(ChangeKind::Changed, title(), vec![])]
    );
}

#[test]
fn a_route_that_is_left_out_is_not_called_gone() {
    let rules = |port: u32| {
        shop(&format!(
            "- name: api\n  match: [{{uri: {{prefix: /api}}, port: {port}}}]\n  \
             route: [{{destination: {{host: b.com}}}}]\n\
             - route: [{{destination: {{host: a.com}}}}]\n"
        ))
    };
    let because = "match.port is 443, and this is port 8080";
    let [(kind, path, details)] = changes(&rules(8080), &rules(443)).try_into().expect("one");
    assert_eq!(kind, ChangeKind::Removed);
    assert!(path.contains("route `api`"), "{path}");
    let left_out = ("left out".to_string(), String::new(), because.to_string());
    assert!(details.contains(&left_out), "{details:?}");
    // Back again it is told why it was not there.
    let [(kind, _, details)] = changes(&rules(443), &rules(8080)).try_into().expect("one");
    let was = ("left out".to_string(), because.to_string(), String::new());
    assert_eq!(kind, ChangeKind::Added);
    assert!(details.contains(&was), "{details:?}");
    let log = [line("GET", "/api/1", "shop.com", B, "api")];
    let why = &compare(&rules(8080), &rules(443), &log).groups[0].why;
    assert!(
        why.contains(&format!("is left out ({because}); now ")),
        "{why}"
    );
    // One that nobody writes any more is gone.
    let gone = shop("- route: [{destination: {host: a.com}}]\n");
    let why = &compare(&rules(8080), &gone, &log).groups[0].why;
    assert!(why.contains(" is gone; now "), "{why}");
}

#[test]
fn a_virtual_service_that_is_left_out_as_a_whole_is_not_called_gone() {
    let only = |port: u32| {
        shop(&format!(
            "- match: [{{port: {port}}}]\n  route: [{{destination: {{host: a.com}}}}]\n"
        ))
    };
    let because = "match.port is 443, and this is port 8080";
    let told = changes(&only(8080), &only(443));
    let details: Vec<_> = told.iter().flat_map(|(_, _, details)| details).collect();
    assert!(details.iter().any(|(_, _, new)| new == because), "{told:?}");
    let log = [line("GET", "/", "shop.com", A, "-")];
    let why = &compare(&only(8080), &only(443), &log).groups[0].why;
    assert!(why.contains(&format!("is left out ({because})")), "{why}");
}
