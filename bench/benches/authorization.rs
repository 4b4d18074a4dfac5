//! A decision by many AuthorizationPolicy rules.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringroad_policy::authorize::AccessFacts;
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::{ConnectionFacts, DnsTable, PeerIdentity, RequestFacts, Snapshot};
use ringroad_policy::source::SourceFile;

/// Most rules that a policy may have.
const RULES_PER_POLICY: usize = 500;

/// What the rules of a case ask, by number.
type Rule = fn(usize) -> String;

fn by_caller_path_and_method(at: usize) -> String {
    format!(
        "{{from: [{{source: {{principals: [cluster.local/ns/n{}/sa/s{at}]}}}}], \
         to: [{{operation: {{methods: [GET, POST], paths: [/service-{at}/*]}}}}]}}",
        at % 20
    )
}

fn by_path_and_address(at: usize) -> String {
    format!(
        "{{from: [{{source: {{ipBlocks: [10.{}.{}.0/24]}}}}], \
         to: [{{operation: {{paths: ['/v1/{{*}}/item-{at}', '/item-{at}']}}}}]}}",
        at / 250,
        at % 250
    )
}

fn by_host_and_claim(at: usize) -> String {
    format!(
        "{{to: [{{operation: {{hosts: ['h{at}.example', '*.h{at}.example']}}}}], \
         when: [{{key: 'request.headers[x-tenant]', values: [t{at}]}}]}}"
    )
}

fn compile(rules: usize, action: &str, rule: Rule) -> Snapshot {
    let mut text = String::new();
    for start in (0..rules).step_by(RULES_PER_POLICY) {
        text += &format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: p{start}}}\nspec:\n  action: {action}\n  rules:\n"
        );
        for at in start..rules.min(start + RULES_PER_POLICY) {
            text += &format!("  - {}\n", rule(at));
        }
    }
    let path = "policies.yaml".to_string();
    let loaded = ringroad_policy::load(
        &[SourceFile { path, text }],
        &Overrides::default(),
        &DnsTable::default(),
    );
    loaded.snapshot.expect("a configuration without errors")
}

/// Requests that rule number `at` matches.
struct Calls {
    connections: Vec<ConnectionFacts>,
    headers: Vec<Vec<(&'static str, String)>>,
    hosts: Vec<String>,
    paths: Vec<String>,
}

impl Calls {
    fn new(rules: usize) -> Self {
        let order = (0..1024).map(|n| n * 7919 % rules);
        let connection = |at: usize| ConnectionFacts {
            peer: Some(([10, (at / 250) as u8, (at % 250) as u8, 7], 4000).into()),
            destination: Some(([10, 255, 0, 1], 8080).into()),
            identity: PeerIdentity::from_spiffe(&format!(
                "spiffe://cluster.local/ns/n{}/sa/s{at}",
                at % 20
            ))
            .map(Box::new),
            ..ConnectionFacts::default()
        };
        Self {
            connections: order.clone().map(connection).collect(),
            headers: order
                .clone()
                .map(|at| {
                    vec![
                        ("user-agent", "bench".to_string()),
                        ("x-tenant", format!("t{at}")),
                    ]
                })
                .collect(),
            hosts: order
                .clone()
                .map(|at| format!("www.h{at}.example"))
                .collect(),
            paths: order.map(|at| format!("/service-{at}/item-{at}")).collect(),
        }
    }

    fn decide(&self, snapshot: &Snapshot, at: usize) {
        let request = RequestFacts {
            method: "GET",
            scheme: "http",
            authority: &self.hosts[at],
            path: &self.paths[at],
            query: None,
            headers: &self.headers[at],
            connection: &self.connections[at],
            claims: None,
        };
        let facts = AccessFacts {
            request: Some(&request),
            ..AccessFacts::of_connection(&self.connections[at])
        };
        let access = snapshot.access.as_ref().expect("policies");
        let authorization = access.authorization.as_ref().expect("policies");
        black_box(authorization.http.decide(black_box(&facts)));
    }
}

fn decisions(criterion: &mut Criterion) {
    let cases: [(&str, &str, Rule); 4] = [
        (
            "allow by caller, path and method",
            "ALLOW",
            by_caller_path_and_method,
        ),
        ("deny by path and address", "DENY", by_path_and_address),
        ("deny by host and header", "DENY", by_host_and_claim),
        ("allow by host and header", "ALLOW", by_host_and_claim),
    ];
    for (name, action, rule) in cases {
        let mut group = criterion.benchmark_group(format!("authorization: {name}"));
        for rules in [10, 1_000, 10_000] {
            let snapshot = compile(rules, action, rule);
            let calls = Calls::new(rules);
            let mut next = (0..calls.paths.len()).cycle();
            group.bench_function(BenchmarkId::from_parameter(rules), |bencher| {
                bencher.iter(|| calls.decide(&snapshot, next.next().expect("endless")));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
