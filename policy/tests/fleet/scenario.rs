//! What a seed stands for: the policy, and how the upstreams fail.

use super::UPSTREAMS;
use ringroad_policy::health::RetryBudget;
use ringroad_policy::snapshot::{
    Balancer, Cluster, Endpoint, EndpointAddress, OutlierDetection, Random, RetryConditions,
    RetryPolicy,
};

/// Requests to one proxy in a second, in the phases in which it counts.
const BUSY_PER_SECOND: usize = 200;
/// While endpoints come back.
const QUIET_PER_SECOND: usize = 10;
const FAILURES_FROM_US: u64 = 500_000;
const FAILURES_UNTIL_US: u64 = 3_000_000;
/// How long load is measured in the end.
const EVEN_US: u64 = 1_000_000;

pub struct Scenario {
    pub cluster: Cluster,
    pub outlier: OutlierDetection,
    pub retry: RetryPolicy,
    pub budget: RetryBudget,
    failures: Vec<Option<Failure>>,
    /// From here on every endpoint should be in again.
    pub even_from_us: u64,
    pub ends_at_us: u64,
}

/// How an upstream fails between [`FAILURES_FROM_US`] and [`FAILURES_UNTIL_US`].
#[derive(Debug, Clone, Copy)]
struct Failure {
    kind: Reply,
    percent: usize,
    /// It is well every second time of so many microseconds; 0 is never.
    flaps_us: u64,
}

/// How a try ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    Status(u16),
    /// No connection.
    Refused,
    /// The connection ends before a response.
    Reset,
    /// Nothing ever comes.
    Silence,
    /// The limit of the try has passed.
    TimedOut,
}

impl Reply {
    pub fn is_success(self) -> bool {
        self == Self::Status(200)
    }
}

/// A reply and when it would come.
pub struct Awaited {
    after_us: u64,
    reply: Reply,
}

impl Awaited {
    /// The reply, or the end of the try at its limit.
    pub fn within(self, limit_us: u64) -> (u64, Reply) {
        if self.reply == Reply::Silence || self.after_us > limit_us {
            (limit_us, Reply::TimedOut)
        } else {
            (self.after_us, self.reply)
        }
    }
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            cluster,
            outlier,
            retry,
            budget,
            failures,
            ..
        } = self;
        let (balancer, panic) = (cluster.balancer, cluster.panic_threshold_percent);
        write!(
            f,
            "{balancer:?}, panic below {panic} %, {outlier:?}, {retry:?}, {budget:?}, {failures:?}"
        )
    }
}

fn between(random: &mut Random, least: usize, most: usize) -> usize {
    least + random.below(most - least + 1)
}

fn one_of<T: Copy>(random: &mut Random, choices: &[T]) -> T {
    choices[random.below(choices.len())]
}

impl Scenario {
    pub fn draw(random: &mut Random) -> Self {
        let outlier = draw_outlier(random);
        // Each ejection of a proxy takes at least one interval; so many can follow each other.
        let longest_ms = outlier.base_ejection_time_ms * 40;
        let back_by_us = FAILURES_UNTIL_US + (longest_ms + 2 * outlier.interval_ms) * 1000;
        let even_from_us = back_by_us + 1_000_000;
        Self {
            cluster: draw_cluster(random, &outlier),
            retry: draw_retry(random),
            budget: RetryBudget {
                percent: f64::from(one_of(random, &[1_u8, 5, 10, 20, 50])),
                min_concurrency: between(random, 1, 3) as u32,
                interval_ms: one_of(random, &[0, 0, 0, 200]),
            },
            failures: draw_failures(random),
            even_from_us,
            ends_at_us: even_from_us + EVEN_US,
            outlier,
        }
    }

    pub fn interval_us(&self) -> u64 {
        self.outlier.interval_ms * 1000
    }

    pub fn per_try_us(&self) -> u64 {
        self.retry.per_try_timeout_ms.unwrap_or(u64::MAX / 2000) * 1000
    }

    /// When the last try that met a failing upstream has ended, retries and all.
    pub fn quiet_from_us(&self) -> u64 {
        let tries = u64::from(self.retry.attempts) + 1;
        FAILURES_UNTIL_US + tries * (self.per_try_us() + 300_000)
    }

    /// Until the next request of a proxy: requests come independently of each other.
    pub fn gap_us(&self, now_us: u64, random: &mut Random) -> u64 {
        let is_quiet = now_us > FAILURES_UNTIL_US && now_us < self.even_from_us - 500_000;
        let rate = if is_quiet {
            QUIET_PER_SECOND
        } else {
            BUSY_PER_SECOND
        };
        let uniform = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        (-(1.0 - uniform).ln() * 1e6 / rate as f64) as u64 + 1
    }

    /// What an upstream does with a try that begins now.
    pub fn reply(&self, upstream: usize, now_us: u64, random: &mut Random) -> Awaited {
        let usual_us = between(random, 5_000, 60_000) as u64;
        let well = Awaited {
            after_us: usual_us,
            reply: Reply::Status(200),
        };
        let Some(failure) = self.failures[upstream] else {
            return well;
        };
        let is_time = (FAILURES_FROM_US..FAILURES_UNTIL_US).contains(&now_us);
        let is_up = failure.flaps_us > 0 && (now_us / failure.flaps_us).is_multiple_of(2);
        if !is_time || is_up || random.below(100) >= failure.percent {
            return well;
        }
        let after_us = match failure.kind {
            Reply::Refused => 100,
            Reply::Reset => usual_us / 2,
            _ => usual_us,
        };
        Awaited {
            after_us,
            reply: failure.kind,
        }
    }
}

fn draw_outlier(random: &mut Random) -> OutlierDetection {
    let split = random.below(3) == 0;
    let gateway = (random.below(3) == 0).then(|| between(random, 1, 5) as u32);
    OutlierDetection {
        consecutive_5xx: Some(between(random, 1, 6) as u32),
        consecutive_gateway_errors: gateway,
        watched_gateway_errors: gateway.is_none().then_some(5),
        consecutive_local_origin_failures: split.then(|| between(random, 1, 6) as u32),
        split_local_origin_errors: split,
        error_codes: Vec::new(),
        interval_ms: between(random, 50, 500) as u64,
        base_ejection_time_ms: between(random, 50, 400) as u64,
        max_ejection_percent: one_of(random, &[1, 5, 10, 25, 33, 50, 99, 100]),
    }
}

fn draw_cluster(random: &mut Random, outlier: &OutlierDetection) -> Cluster {
    let mut cluster = Cluster::new("outbound|80||fleet.test".to_string());
    let endpoint = |at: usize| {
        let address = format!("192.0.2.{}:80", at + 1)
            .parse()
            .expect("an address");
        Endpoint::at(EndpointAddress::Socket(address))
    };
    cluster.balancer = one_of(
        random,
        &[
            Balancer::RoundRobin,
            Balancer::LeastRequest,
            Balancer::Random,
        ],
    );
    cluster.set_endpoints((0..UPSTREAMS).map(endpoint).collect());
    cluster.panic_threshold_percent = one_of(random, &[0, 0, 30, 50, 90]);
    cluster.outlier_detection = Some(outlier.clone());
    cluster
}

fn draw_retry(random: &mut Random) -> RetryPolicy {
    let names = one_of(
        random,
        &[
            "5xx",
            "gateway-error",
            "connect-failure,refused-stream,unavailable,cancelled",
            "reset-before-request,gateway-error",
        ],
    );
    RetryPolicy {
        attempts: between(random, 0, 4) as u32,
        // Longer than anybody takes who is well.
        per_try_timeout_ms: Some(between(random, 70, 200) as u64),
        retry_on: names.split(',').map(str::to_string).collect(),
        conditions: RetryConditions::of(names.split(',')),
        status_codes: Vec::new(),
        header_names: Vec::new(),
        retry_remote_localities: false,
        exclude_tried: random.below(4) > 0,
        backoff_base_ms: 25,
        origin: None,
    }
}

fn draw_failures(random: &mut Random) -> Vec<Option<Failure>> {
    // One, some or all of them.
    let share = one_of(random, &[5, 20, 50, 100]);
    let failure = |_| {
        let fails = random.below(100) < share;
        let failure = Failure {
            kind: one_of(
                random,
                &[
                    Reply::Status(500),
                    Reply::Status(503),
                    Reply::Refused,
                    Reply::Reset,
                    Reply::Silence,
                ],
            ),
            percent: one_of(random, &[30, 80, 100]),
            flaps_us: one_of(random, &[0, 0, 150_000, 700_000]),
        };
        fails.then_some(failure)
    };
    (0..UPSTREAMS).map(failure).collect()
}
