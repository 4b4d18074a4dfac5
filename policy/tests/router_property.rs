//! The compiled router against a plain one that is obviously right: it asks every host, every
//! rule and every condition in turn, and shares no code with the compiler.
//!
//! `RINGROAD_ROUTER_PAIRS` sets how many pairs of configuration and request are compared.

mod router;
mod support;

use ringroad_policy::snapshot::{Decision, Random, RequestFacts};
use router::{ask, expanded, is_for_us, plain, services, yaml};
use support::*;

const SEED: u64 = 0x5eed_0001;
const REQUESTS_PER_CONFIG: usize = 250;

#[test]
fn the_compiled_router_agrees_with_a_plain_one() {
    let pairs = std::env::var("RINGROAD_ROUTER_PAIRS")
        .ok()
        .and_then(|text| text.parse().ok());
    let pairs: usize = pairs.unwrap_or(25_000);
    let mut random = Random::new(SEED);
    let (mut routed, mut refused) = (0, 0);
    for config in 0..pairs.div_ceil(REQUESTS_PER_CONFIG) {
        let services = services(&mut random);
        // A host without any route falls to a wildcard in one router and not in the other; the
        // case has a test of its own.
        let has_empty = services.iter().any(|service| {
            expanded(service)
                .iter()
                .all(|rule| !rule.matches.is_empty() && !rule.matches.iter().any(is_for_us))
        });
        if has_empty {
            continue;
        }
        let text = yaml(&services);
        let snapshot = snapshot(&text);
        let table = table(&snapshot, 8080);
        for _ in 0..REQUESTS_PER_CONFIG {
            let ask = ask(&mut random);
            let request = Get {
                host: ask.host,
                path: ask.path,
                headers: ask.headers.clone(),
            };
            let facts = RequestFacts {
                method: ask.method,
                query: ask.query,
                ..request.facts()
            };
            let decided = match table.route(&facts) {
                Decision::Route { route, .. } => {
                    Ok(route.name.split('.').next().unwrap_or_default().to_string())
                }
                Decision::NoVirtualHost => Err("no virtual host"),
                _ => Err("no route"),
            };
            let expected = plain(&services, &ask);
            assert_eq!(
                decided, expected,
                "config {config} of seed {SEED}: {ask:?}\n{text}"
            );
            *(if decided.is_ok() {
                &mut routed
            } else {
                &mut refused
            }) += 1;
        }
    }
    // Both outcomes have to be common for the comparison to mean something.
    assert!(
        routed > refused / 4 && refused > routed / 20,
        "{routed} routed, {refused} refused"
    );
}
