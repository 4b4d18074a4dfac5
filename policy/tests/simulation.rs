//! Fifty proxies and twenty failing upstreams; see `fleet`. More seeds:
//! `cargo run --release -p ringroad-policy --example simulate_fleet -- 1000`.

mod fleet;

use fleet::{Report, run};

#[test]
fn budgets_and_shares_hold_and_load_is_even_after_recovery() {
    let mut total = Report::default();
    for seed in 0..12 {
        match run(seed) {
            Ok(report) => total.add(&report),
            Err(violation) => panic!("{violation}"),
        }
    }
    // It was no idle world.
    assert!(total.requests > 100_000, "{total:?}");
    assert!(total.retries > 1_000, "{total:?}");
    assert!(total.retries_over_budget > 100, "{total:?}");
    assert!(total.ejections > 100, "{total:?}");
    assert!(total.ejections_over_share > 100, "{total:?}");
}
