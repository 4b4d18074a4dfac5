//! Outlier detection and retry budgets as decisions, without a socket or a clock.

use proptest::prelude::*;
use ringroad_policy::health::{
    Detector, EjectionCause, FailureCounts, RequestWindow, RetryBudget, TryOutcome, Verdict,
};
use ringroad_policy::snapshot::OutlierDetection;

/// Istio's defaults, but that all endpoints may be out.
fn rules() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: Some(5),
        consecutive_gateway_errors: None,
        watched_gateway_errors: Some(5),
        consecutive_local_origin_failures: None,
        split_local_origin_errors: false,
        error_codes: Vec::new(),
        interval_ms: 10_000,
        base_ejection_time_ms: 30_000,
        max_ejection_percent: 100,
    }
}

fn status(status: u16) -> TryOutcome {
    let grpc_status = None;
    TryOutcome::Response {
        status,
        grpc_status,
    }
}

/// The causes that a sequence of outcomes triggers, each with the number of the outcome; a count
/// that triggers is cleared.
fn triggered(rules: &OutlierDetection, outcomes: &[TryOutcome]) -> Vec<(usize, EjectionCause)> {
    let mut counts = FailureCounts::default();
    let mut all = Vec::new();
    for (number, outcome) in outcomes.iter().enumerate() {
        let (after, causes) = counts.after(*outcome, rules);
        counts = after;
        for cause in causes.iter() {
            counts = counts.cleared_of(cause);
            all.push((number + 1, cause));
        }
    }
    all
}

#[test]
fn failures_of_our_own_count_as_5xx_unless_they_are_split_off() {
    use EjectionCause::{Consecutive5xx, ConsecutiveGatewayFailure, ConsecutiveLocalOriginFailure};
    let local = [
        TryOutcome::ConnectFailed,
        TryOutcome::Reset,
        TryOutcome::Timeout { status: 504 },
        TryOutcome::ConnectFailed,
        TryOutcome::Reset,
    ];
    // They stand for 503 and 504, which are gateway errors as well.
    assert_eq!(
        triggered(&rules(), &local),
        [(5, ConsecutiveGatewayFailure), (5, Consecutive5xx)]
    );
    let split = OutlierDetection {
        split_local_origin_errors: true,
        consecutive_local_origin_failures: Some(4),
        ..rules()
    };
    assert_eq!(
        triggered(&split, &local),
        [(4, ConsecutiveLocalOriginFailure)]
    );
    // A connection ends a row of local failures, a response does not; and the other way round.
    let mixed = [
        TryOutcome::Reset,
        TryOutcome::Reset,
        TryOutcome::Reset,
        status(200),
        TryOutcome::Connected,
        TryOutcome::Reset,
    ];
    assert_eq!(triggered(&split, &mixed), []);
    let responses = [
        status(500),
        status(500),
        TryOutcome::Connected,
        TryOutcome::Reset,
    ];
    let responses: Vec<_> = responses.into_iter().chain([status(500); 3]).collect();
    assert_eq!(triggered(&split, &responses), [(7, Consecutive5xx)]);
}

#[test]
fn only_gateway_errors_in_a_row_are_gateway_errors() {
    let only_gateway = OutlierDetection {
        consecutive_5xx: None,
        consecutive_gateway_errors: Some(3),
        watched_gateway_errors: None,
        ..rules()
    };
    let outcomes = [502, 503, 500, 504, 503, 502].map(status);
    assert_eq!(
        triggered(&only_gateway, &outcomes),
        [(6, EjectionCause::ConsecutiveGatewayFailure)]
    );
    assert_eq!(
        triggered(&only_gateway, &[502, 503, 200, 504].map(status)),
        []
    );
    assert_eq!(triggered(&only_gateway, &[status(500); 20]), []);
}

#[test]
fn listed_statuses_stand_in_the_place_of_5xx() {
    let listed = OutlierDetection {
        error_codes: vec![429, 503],
        ..rules()
    };
    assert_eq!(triggered(&listed, &[status(500); 20]), []);
    let cause = EjectionCause::Consecutive5xx;
    assert_eq!(
        triggered(&listed, &[429, 503, 429, 503, 429].map(status)),
        [(5, cause)]
    );
    // A call that failed is a failure by its gRPC status, whatever the HTTP status.
    let grpc = |grpc_status| TryOutcome::Response {
        status: 200,
        grpc_status: Some(grpc_status),
    };
    assert_eq!(triggered(&rules(), &[grpc(13); 5]), [(5, cause)]);
    assert_eq!(triggered(&rules(), &[grpc(5); 5]), []);
}

#[test]
fn an_ejection_lasts_longer_each_time_and_shrinks_with_health() {
    let rules = rules();
    let cause = EjectionCause::Consecutive5xx;
    let mut detector = Detector::new(1);
    let mut now_ms = 0;
    let back_after = |detector: &mut Detector, now_ms: &mut u64| {
        let ejected_at = *now_ms;
        while detector.ejected() > 0 {
            *now_ms += rules.interval_ms;
            detector.sweep(&rules, *now_ms, |_, _| {});
        }
        *now_ms - ejected_at
    };
    // 30 s, 60 s and so on, up to 300 s.
    for number in 1..=12 {
        let verdict = detector.judge(0, cause, &rules, now_ms);
        let for_ms = (number * 30_000).min(300_000);
        assert_eq!(verdict, Verdict::Ejected { for_ms }, "number {number}");
        assert_eq!(
            detector.judge(0, cause, &rules, now_ms),
            Verdict::AlreadyOut
        );
        assert_eq!(back_after(&mut detector, &mut now_ms), for_ms);
    }
    assert_eq!(detector.endpoint(0).map(|it| it.count()), Some(12));
    // One base time less for each interval that it stays in, the first of which begins with its
    // return. Eleven base times were stored, of which ten count.
    for _ in 0..6 {
        now_ms += rules.interval_ms;
        detector.sweep(&rules, now_ms, |_, _| {});
    }
    assert_eq!(
        detector.judge(0, cause, &rules, now_ms),
        Verdict::Ejected { for_ms: 180_000 }
    );
    back_after(&mut detector, &mut now_ms);
    while detector.needs_sweeps() {
        now_ms += rules.interval_ms;
        detector.sweep(&rules, now_ms, |_, _| {});
    }
    assert_eq!(
        detector.judge(0, cause, &rules, now_ms),
        Verdict::Ejected { for_ms: 30_000 }
    );
}

#[test]
fn a_base_time_above_five_minutes_is_the_longest_time() {
    let rules = OutlierDetection {
        base_ejection_time_ms: 400_000,
        ..rules()
    };
    let mut detector = Detector::new(1);
    for turn in 0..3_u64 {
        let now_ms = turn * 10_000_000;
        let verdict = detector.judge(0, EjectionCause::Consecutive5xx, &rules, now_ms);
        assert_eq!(verdict, Verdict::Ejected { for_ms: 400_000 });
        detector.sweep(&rules, now_ms + 399_999, |_, _| panic!("too early"));
        detector.sweep(&rules, now_ms + 400_000, |_, _| {});
        assert_eq!(detector.ejected(), 0);
    }
}

#[test]
fn the_default_share_of_fewer_than_ten_endpoints_is_none() {
    let rules = OutlierDetection {
        max_ejection_percent: 10,
        ..rules()
    };
    for (endpoints, most) in [(1, 0), (9, 0), (10, 1), (19, 1), (20, 2)] {
        let mut detector = Detector::new(endpoints);
        for index in 0..endpoints {
            detector.judge(index, EjectionCause::Consecutive5xx, &rules, 0);
        }
        assert_eq!(detector.ejected(), most, "{endpoints}");
        assert_eq!(rules.max_ejected(endpoints), most);
    }
}

#[test]
fn a_watched_threshold_ejects_nothing() {
    let mut detector = Detector::new(1);
    let cause = EjectionCause::ConsecutiveGatewayFailure;
    assert_eq!(detector.judge(0, cause, &rules(), 0), Verdict::NotEnforced);
    assert!(!detector.needs_sweeps());
}

#[test]
fn endpoints_that_stay_keep_their_ejections() {
    let mut detector = Detector::new(3);
    detector.judge(1, EjectionCause::Consecutive5xx, &rules(), 0);
    let adopted = detector.adopted([None, Some(1), Some(0)].into_iter());
    assert_eq!(adopted.ejected(), 1);
    assert!(adopted.endpoint(1).is_some_and(|it| it.is_ejected()));
    assert_eq!(
        detector.adopted([Some(0), Some(2)].into_iter()).ejected(),
        0
    );
}

#[test]
fn a_budget_is_a_share_of_the_requests_and_never_less_than_its_least() {
    let budget = RetryBudget {
        percent: 20.0,
        min_concurrency: 3,
        interval_ms: 0,
    };
    let most: Vec<u64> = [0, 15, 19, 20, 99, 100]
        .map(|it| budget.max_retries(it))
        .into();
    assert_eq!(most, [3, 3, 3, 4, 19, 20]);
    assert_eq!(budget.tick_ms(), None);
}

#[test]
fn a_window_holds_the_requests_of_one_interval() {
    let budget = RetryBudget {
        percent: 10.0,
        min_concurrency: 0,
        interval_ms: 1_000,
    };
    assert_eq!(budget.tick_ms(), Some(100));
    let mut window = RequestWindow::new(7);
    assert_eq!(window.requests(107), 100);
    let mut total = 7;
    for _ in 0..30 {
        total += 5;
        window.tick(total);
    }
    // Ten ticks of five, and what came since.
    assert_eq!(window.requests(total), 45);
    assert_eq!(window.requests(total + 3), 48);
    for _ in 0..10 {
        window.tick(total);
    }
    assert_eq!(window.requests(total), 0);
}

fn outcomes() -> impl Strategy<Value = TryOutcome> {
    prop_oneof![
        Just(TryOutcome::Connected),
        Just(TryOutcome::ConnectFailed),
        Just(TryOutcome::Reset),
        Just(TryOutcome::Timeout { status: 504 }),
        prop_oneof![Just(200_u16), Just(404), Just(500), Just(502), Just(503)].prop_map(status),
    ]
}

/// Counts as three plain numbers, changed one by one.
fn plainly(outcomes: &[TryOutcome], split: bool) -> (u32, u32, u32) {
    let (mut five_xx, mut gateway, mut local) = (0, 0, 0);
    for outcome in outcomes {
        let code = match outcome {
            TryOutcome::Connected => {
                if split {
                    local = 0;
                }
                continue;
            }
            TryOutcome::Response { status, .. } => *status,
            _ if split => {
                local += 1;
                continue;
            }
            TryOutcome::Timeout { status } => *status,
            TryOutcome::ConnectFailed | TryOutcome::Reset => 503,
        };
        five_xx = if code >= 500 { five_xx + 1 } else { 0 };
        gateway = if (502..505).contains(&code) {
            gateway + 1
        } else {
            0
        };
    }
    (five_xx, gateway, local)
}

proptest! {
    /// The three counts in one word are what three separate counts would be.
    #[test]
    fn counts_do_not_touch_each_other(
        outcomes in prop::collection::vec(outcomes(), 0..60),
        split in any::<bool>(),
    ) {
        let rules = OutlierDetection { split_local_origin_errors: split, ..rules() };
        let counts = outcomes
            .iter()
            .fold(FailureCounts::default(), |counts, outcome| counts.after(*outcome, &rules).0);
        let got = (
            counts.consecutive_5xx(),
            counts.consecutive_gateway_failures(),
            counts.consecutive_local_origin_failures(),
        );
        prop_assert_eq!(got, plainly(&outcomes, split));
        prop_assert_eq!(FailureCounts::from_bits(counts.bits()), counts);
    }

    /// Whatever happens, no more than the share is out, and what is out comes back.
    #[test]
    fn the_share_holds_and_nobody_stays_out_for_ever(
        events in prop::collection::vec((0_usize..12, 0_u64..40_000), 1..200),
        endpoints in 1_usize..12,
        percent in 0_u32..=100,
    ) {
        let rules = OutlierDetection { max_ejection_percent: percent, ..rules() };
        let mut detector = Detector::new(endpoints);
        let mut now_ms = 0;
        for (index, later_ms) in events {
            now_ms += later_ms;
            detector.judge(index % endpoints, EjectionCause::Consecutive5xx, &rules, now_ms);
            detector.sweep(&rules, now_ms, |_, _| {});
            prop_assert!(detector.ejected() * 100 <= endpoints * percent as usize);
            let out = (0..endpoints)
                .filter(|at| detector.endpoint(*at).is_some_and(|it| it.is_ejected()));
            prop_assert_eq!(out.count(), detector.ejected());
        }
        detector.sweep(&rules, now_ms + 300_000, |_, _| {});
        prop_assert_eq!(detector.ejected(), 0);
    }
}
