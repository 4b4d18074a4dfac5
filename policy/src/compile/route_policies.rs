//! Retries, faults, mirrors and cross-origin rules of a route.

use std::sync::{Arc, LazyLock};

use super::http_match::string_match;
use crate::grpc_status;
use crate::resource::virtual_service::{
    self, Destination, FaultAbort, HttpFault, HttpRetry, HttpRoute, Percent,
};
use crate::settings::duration;
use crate::snapshot::{
    self, AbortAnswer, CorsPolicy, Fault, FaultSide, PartsPerMillion, RetryConditions, RetryPolicy,
    StringMatch,
};
use crate::source::Origin;

/// What Istio retries without being told.
const DEFAULT_RETRY_ON: &str =
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

/// The policy of routes that say nothing of retries, shared by all of them.
pub fn default_retry() -> Arc<RetryPolicy> {
    static DEFAULT: LazyLock<Arc<RetryPolicy>> = LazyLock::new(|| {
        Arc::new(RetryPolicy {
            attempts: 2,
            per_try_timeout_ms: None,
            retry_on: names(DEFAULT_RETRY_ON),
            conditions: RetryConditions::of(DEFAULT_RETRY_ON.split(',')),
            status_codes: Vec::new(),
            header_names: Vec::new(),
            retry_remote_localities: false,
            exclude_tried: true,
            backoff_base_ms: 25,
            origin: None,
        })
    });
    Arc::clone(&DEFAULT)
}

/// The same where requests of one key have to stay with one endpoint.
pub fn default_retry_in_place() -> Arc<RetryPolicy> {
    static DEFAULT: LazyLock<Arc<RetryPolicy>> = LazyLock::new(|| {
        Arc::new(RetryPolicy {
            exclude_tried: false,
            ..default_retry().as_ref().clone()
        })
    });
    Arc::clone(&DEFAULT)
}

/// The policy of requests to the workload at hand.
pub fn inbound_retry() -> Arc<RetryPolicy> {
    const RETRY_ON: &str = "reset-before-request";
    static INBOUND: LazyLock<Arc<RetryPolicy>> = LazyLock::new(|| {
        let mut policy = default_retry().as_ref().clone();
        policy.retry_on = names(RETRY_ON);
        policy.conditions = RetryConditions::of(RETRY_ON.split(','));
        policy.exclude_tried = false;
        Arc::new(policy)
    });
    Arc::clone(&INBOUND)
}

/// Names in a list with commas.
pub fn names(list: &str) -> Vec<String> {
    let names = list
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names.map(str::to_string).collect()
}

/// The policy that was written at `origin`; `None` is no retry. `stays` says that requests of one
/// key have to stay with one endpoint, unless the policy itself says otherwise.
pub fn retry(written: &HttpRetry, stays: bool, origin: Origin) -> Option<RetryPolicy> {
    if written.attempts <= 0 {
        return None;
    }
    let mut policy = default_retry().as_ref().clone();
    policy.origin = Some(origin);
    policy.attempts = u32::try_from(written.attempts).unwrap_or(u32::MAX);
    if !written.retry_on.is_empty() {
        let (codes, named): (Vec<_>, Vec<_>) = names(&written.retry_on)
            .into_iter()
            .partition(|name| is_status(name));
        policy.status_codes = codes.iter().filter_map(|code| code.parse().ok()).collect();
        policy.retry_on = named;
        let by_code = "retriable-status-codes";
        if !policy.status_codes.is_empty() && !policy.retry_on.iter().any(|name| name == by_code) {
            policy.retry_on.push(by_code.to_string());
        }
        policy.conditions = RetryConditions::of(policy.retry_on.iter().map(String::as_str));
    }
    let ms = |text: &Option<String>| text.as_deref().and_then(|t| duration::parse_ms(t).ok());
    policy.per_try_timeout_ms = ms(&written.per_try_timeout).filter(|ms| *ms > 0);
    policy.retry_remote_localities = written.retry_remote_localities.unwrap_or(false);
    policy.exclude_tried = written.retry_ignore_previous_hosts.unwrap_or(!stays);
    if let Some(base) = ms(&written.backoff).filter(|ms| *ms > 0) {
        policy.backoff_base_ms = base;
    }
    Some(policy)
}

fn is_status(name: &str) -> bool {
    name.parse::<u16>()
        .is_ok_and(|code| (100..600).contains(&code))
}

/// A share: parts of a million, cut off, not rounded.
fn share(percent: Percent) -> PartsPerMillion {
    PartsPerMillion((percent.value * 10_000.0).clamp(0.0, 1_000_000.0) as u32)
}

/// The annotation of a VirtualService that says where its faults happen.
pub const FAULT_SIDE: &str = "ringroad.dev/fault-side";

/// The side that a value of [`FAULT_SIDE`] names.
pub fn fault_side(written: &str) -> Option<FaultSide> {
    match written {
        "downstream" => Some(FaultSide::Downstream),
        "upstream" => Some(FaultSide::Upstream),
        _ => None,
    }
}

/// The faults of a route; `None` when none can ever happen.
pub fn fault(written: &HttpFault, side: FaultSide) -> Option<Fault> {
    let delay = written.delay.as_ref().and_then(|delay| {
        let share = match delay.percentage {
            Some(percentage) => share(percentage),
            None => PartsPerMillion(delay.percent.min(100) * 10_000),
        };
        let delay_ms = duration::parse_ms(delay.fixed_delay.as_deref()?).ok()?;
        Some(snapshot::FaultDelay { share, delay_ms })
    });
    let abort = written.abort.as_ref().and_then(|abort| {
        let share = share(abort.percentage?);
        Some(snapshot::FaultAbort {
            share,
            answer: abort_answer(abort)?,
        })
    });
    let delay = delay.filter(|delay| delay.share.0 > 0);
    let abort = abort.filter(|abort| abort.share.0 > 0);
    (delay.is_some() || abort.is_some()).then_some(Fault { side, delay, abort })
}

fn abort_answer(abort: &FaultAbort) -> Option<AbortAnswer> {
    if let Some(name) = &abort.grpc_status {
        return grpc_status::number(name).map(AbortAnswer::GrpcStatus);
    }
    u16::try_from(abort.http_status?)
        .ok()
        .map(AbortAnswer::HttpStatus)
}

/// The destinations that get copies, with their shares; those without a share are left out.
pub fn mirrors(written: &HttpRoute) -> Vec<(&Destination, PartsPerMillion)> {
    const ALL: PartsPerMillion = PartsPerMillion(1_000_000);
    let mut mirrors = Vec::new();
    if let Some(destination) = &written.mirror {
        let share = match (written.mirror_percentage, written.mirror_percent) {
            (Some(percentage), _) => share(percentage),
            (None, Some(percent)) => PartsPerMillion(percent.min(100) * 10_000),
            (None, None) => ALL,
        };
        mirrors.push((destination, share));
    }
    for mirror in &written.mirrors {
        if let Some(destination) = &mirror.destination {
            mirrors.push((destination, mirror.percentage.map_or(ALL, share)));
        }
    }
    mirrors.retain(|(_, share)| share.0 > 0);
    mirrors
}

/// Cross-origin rules.
///
/// # Errors
///
/// What is wrong with a regular expression.
pub fn cors(written: &virtual_service::CorsPolicy) -> Result<CorsPolicy, String> {
    let mut allow_origins = Vec::new();
    for origin in &written.allow_origins {
        allow_origins.extend(string_match(origin)?);
    }
    if written.allow_origins.is_empty() {
        allow_origins.extend(written.allow_origin.iter().cloned().map(StringMatch::Exact));
    }
    let max_age = written
        .max_age
        .as_deref()
        .and_then(|text| duration::parse_ms(text).ok());
    Ok(CorsPolicy {
        allow_origins,
        allow_methods: written.allow_methods.join(","),
        allow_headers: written.allow_headers.join(","),
        expose_headers: written.expose_headers.join(","),
        max_age_s: max_age.map(|ms| ms / 1000),
        allow_credentials: written.allow_credentials,
        forward_unmatched_preflights: written.unmatched_preflights.as_deref() != Some("IGNORE"),
    })
}
