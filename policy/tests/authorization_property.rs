//! The compiled, indexed rules decide as a plain reading of the documents does.

#[path = "support/access.rs"]
mod access;
mod support;

use access::{Ask, Caller, OPERATION, PlainPolicy, PlainRule, SOURCE};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;
use ringroad_policy::authorize::{Authorization, Stages};
use serde_json::{Value, json};

/// Values of an attribute that occur in policies; callers have some of the same.
fn values_of(key: &str) -> Vec<&'static str> {
    match key {
        "source.principal" => vec![
            "cluster.local/ns/shop/sa/order",
            "cluster.local/ns/shop/sa/*",
            "*/sa/order",
            "*",
            "cluster.local/ns/pay/sa/order",
        ],
        "request.auth.principal" => vec![
            "https://a.example/me",
            "*",
            "*/me",
            "*.example/me",
            "https://a.example/*",
            "https://a*",
            "*me",
            "https://a.example/m*",
        ],
        "source.namespace" => vec!["shop", "pay", "s*", "*p", "*", "s*p"],
        "source.serviceAccount" => vec!["order", "shop/order", "pay/order", "default/order"],
        "source.trustDomain" => vec!["cluster.local", "*", "*.local", "other*", "other.example"],
        "source.ip" | "remote.ip" | "destination.ip" => vec![
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.3",
            "10.1.2.3/31",
            "0.0.0.0/0",
            "fd00::/8",
            "fd00::1",
            "::/0",
        ],
        "destination.port" => vec!["8080", "9090", "443"],
        "connection.sni" => vec!["a.example", "*.example", "a*", "*"],
        "host" => vec![
            "a.example",
            "A.Example",
            "*.example",
            "a.*",
            "*",
            "a.example:8080",
        ],
        "method" => vec!["GET", "POST", "*", "P*", "*T"],
        "path" => vec![
            "/a",
            "/a/b",
            "/a*",
            "/a/*",
            "*/b",
            "*",
            "/a/{*}",
            "/{*}/b",
            "/{**}",
            "/a/{**}",
            "/a/{**}/b",
            "/{*}/{**}",
        ],
        _ if key.starts_with("request.headers") => vec!["x", "x*", "*y", "*", "x,y"],
        _ => vec!["x", "x*", "*y", "*", "y"],
    }
}

const CONDITIONS: [&str; 15] = [
    "request.headers[x-kind]",
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.claims[group]",
    "request.auth.claims[inner][group]",
    "destination.ip",
    "destination.port",
    "connection.sni",
    "request.auth.claims[number]",
    "experimental.envoy.filters.network.x[y]",
];

fn ask(key: &str) -> impl Strategy<Value = Ask> + use<> {
    let key = key.to_string();
    let values = values_of(&key);
    let some = || subsequence(values.clone(), 1..3);
    let (yes, no) = (some(), some());
    (yes, no, 0..4_u8).prop_map(move |(yes, no, which)| {
        let texts = |list: Vec<&str>| list.into_iter().map(str::to_string).collect();
        Ask {
            key: key.clone(),
            values: if which == 1 { Vec::new() } else { texts(yes) },
            not_values: if which == 0 || which == 3 {
                Vec::new()
            } else {
                texts(no)
            },
        }
    })
}

fn group(fields: &[(&'static str, &'static str, &'static str)]) -> impl Strategy<Value = Vec<Ask>> {
    let keys: Vec<&str> = fields.iter().map(|field| field.1).collect();
    subsequence(keys, 1..3)
        .prop_flat_map(|keys| keys.into_iter().map(ask).collect::<Vec<_>>())
        .prop_map(|mut asks| {
            // A service account stands alone, or the document is refused.
            if asks.iter().any(|ask| ask.key == "source.serviceAccount") {
                asks.retain(|ask| ask.key == "source.serviceAccount");
            }
            asks
        })
}

fn rule() -> impl Strategy<Value = PlainRule> {
    let from = proptest::collection::vec(group(&SOURCE), 0..3);
    let to = proptest::collection::vec(group(&OPERATION), 0..3);
    let when = select(CONDITIONS.to_vec()).prop_flat_map(ask);
    let when = proptest::collection::vec(when, 0..2);
    (from, to, when).prop_map(|(from, to, when)| PlainRule { from, to, when })
}

fn policies() -> impl Strategy<Value = Vec<PlainPolicy>> {
    let rules = proptest::collection::vec(rule(), 1..12);
    let policy = (select(vec!["DENY", "ALLOW", "AUDIT"]), rules);
    proptest::collection::vec(policy, 1..4).prop_map(|list| {
        let named = list
            .into_iter()
            .enumerate()
            .map(|(at, (action, rules))| PlainPolicy {
                name: format!("p{at}"),
                action,
                rules,
            });
        named.collect()
    })
}

fn claims() -> impl Strategy<Value = Option<Value>> {
    select(vec![
        None,
        Some(json!({"iss": "https://a.example", "sub": "me", "group": "x", "number": 1})),
        Some(json!({"iss": "https://b.example", "sub": "me", "group": ["y", "z"]})),
        Some(json!({"iss": "https://a.example", "sub": "you", "inner": {"group": "xy"}})),
        Some(json!({"iss": "https://a.example", "group": {"x": 1}})),
    ])
}

fn caller() -> impl Strategy<Value = Caller> {
    let principals = vec![
        None,
        Some("cluster.local/ns/shop/sa/order"),
        Some("cluster.local/ns/pay/sa/order"),
        Some("other.example/ns/shop/sa/cart"),
        Some("cluster.local/ns/default/sa/order/more"),
        Some("cluster.local/region/ns/shop/x/sa/order"),
        Some("odd"),
    ];
    let addresses = [
        "10.1.2.3",
        "10.1.2.2",
        "10.9.9.9",
        "192.0.2.1",
        "fd00::1",
        "2001:db8::1",
    ];
    let address = || select(addresses.to_vec()).prop_map(|text| text.parse().expect("an address"));
    let hosts = vec![
        "a.example",
        "A.example",
        "a.example:8080",
        "a.example.",
        "b.example.:80",
        "a",
    ];
    let paths = vec![
        "/a", "/a/b", "/a/", "/ab", "/", "/a//b", "/b/b", "/a/b/c/b", "/a/*", "/a/b=c",
    ];
    let headers = vec![
        vec![],
        vec!["x"],
        vec!["xy"],
        vec!["x", "y"],
        vec![""],
        vec!["z"],
    ];
    let request = (
        select(vec!["GET", "POST", "get"]),
        select(hosts),
        select(paths),
        select(headers),
    );
    let ends = (
        address(),
        address(),
        address(),
        select(vec![8080_u16, 9090, 80]),
    );
    let names = select(vec![None, Some("a.example"), Some("b")]);
    (request, ends, names, select(principals), claims()).prop_map(
        |((method, host, path, headers), (peer, client, to, port), name, principal, claims)| {
            let header = |value: &str| ("x-kind".to_string(), value.to_string());
            Caller {
                method: method.to_string(),
                host: host.to_string(),
                path: path.to_string(),
                headers: headers.into_iter().map(header).collect(),
                peer,
                client,
                destination: (to, port).into(),
                server_name: name.map(str::to_string),
                principal: principal.map(str::to_string),
                claims,
            }
        },
    )
}

fn compile(policies: &[PlainPolicy]) -> Arc<Authorization> {
    let text: String = policies.iter().map(PlainPolicy::document).collect();
    let snapshot = support::snapshot(&text);
    let access = snapshot.access.expect("policies");
    access.authorization.clone().expect("policies")
}

fn denial(stages: &Stages, caller: &Caller, is_tcp: bool) -> Option<String> {
    caller.with_facts(is_tcp, |facts| {
        let denied = stages.decide(facts).denied?;
        let details = denied.details();
        let name = details.strip_prefix("rbac_access_denied_matched_policy[");
        let name = name.and_then(|name| name.strip_suffix(']'));
        Some(name.expect("Envoy's details").to_string())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn decides_as_a_plain_reading_of_the_documents(
        policies in policies(),
        callers in proptest::collection::vec(caller(), 8),
    ) {
        let authorization = compile(&policies);
        for caller in &callers {
            for (is_tcp, stages) in [(false, &authorization.http), (true, &authorization.tcp)] {
                let expected = caller.judge(&policies, is_tcp);
                prop_assert_eq!(denial(stages, caller, is_tcp), expected, "{:?}", caller);
                let audited = caller.with_facts(is_tcp, |facts| {
                    stages.decide(facts).audited_by.map(|rule| rule.name.clone())
                });
                let expected = caller.first_match(&policies, "AUDIT", is_tcp);
                prop_assert_eq!(audited, expected, "{:?}", caller);
            }
        }
    }
}

/// More rules than one block of the index holds, all of one kind and of many.
#[test]
fn the_index_over_many_rules_finds_the_same_as_asking_each() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let rules = proptest::collection::vec(rule(), 300);
    let policies: Vec<PlainPolicy> = (0..8)
        .map(|at| PlainPolicy {
            name: format!("p{at}"),
            action: "DENY",
            rules: rules.new_tree(&mut runner).expect("rules").current(),
        })
        .collect();
    let authorization = compile(&policies);
    let set = authorization.http.deny.enforced.as_ref().expect("rules");
    assert_eq!(set.rules().len(), 2_400);
    let mut matches = 0;
    for _ in 0..300 {
        let caller = caller().new_tree(&mut runner).expect("a caller").current();
        caller.with_facts(false, |facts| {
            let found = set.first_match(facts).map(|rule| &rule.name);
            let expected = set.first_match_by_asking_all(facts).map(|rule| &rule.name);
            assert_eq!(found, expected, "{caller:?}");
            matches += usize::from(found.is_some());
        });
    }
    assert!(matches > 50, "{matches} of 300 match");
}

/// One rule among a thousand that differ in one value only.
#[test]
fn each_of_a_thousand_rules_is_found_by_its_own_value() {
    let ask = |key: &str, value: String| Ask {
        key: key.to_string(),
        values: vec![value],
        not_values: Vec::new(),
    };
    let numbered = |at: usize| PlainRule {
        from: vec![vec![ask(
            "source.principal",
            format!("cluster.local/ns/n{}/sa/s", at % 40),
        )]],
        to: vec![vec![
            ask("path", format!("/service-{at}/*")),
            ask("method", ["GET", "POST"][at % 2].to_string()),
        ]],
        when: Vec::new(),
    };
    let policy = PlainPolicy {
        name: "many".to_string(),
        action: "ALLOW",
        rules: (0..512).map(numbered).collect(),
    };
    let policies = [
        PlainPolicy {
            name: "more".to_string(),
            rules: (512..1_000).map(numbered).collect(),
            ..policy.clone()
        },
        policy,
    ];
    let authorization = compile(&policies);
    for at in 0..1_000 {
        let caller = |namespace: usize| Caller {
            method: ["GET", "POST"][at % 2].to_string(),
            host: "a.example".to_string(),
            path: format!("/service-{at}/x"),
            headers: Vec::new(),
            peer: [10, 0, 0, 1].into(),
            client: [10, 0, 0, 1].into(),
            destination: ([10, 0, 0, 2], 8080).into(),
            server_name: None,
            principal: Some(format!("cluster.local/ns/n{namespace}/sa/s")),
            claims: None,
        };
        assert_eq!(
            denial(&authorization.http, &caller(at % 40), false),
            None,
            "{at}"
        );
        let other = denial(&authorization.http, &caller(at % 40 + 1), false);
        assert_eq!(other.as_deref(), Some("none"), "{at}");
    }
}
