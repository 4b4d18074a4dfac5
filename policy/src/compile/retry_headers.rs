//! `x-envoy-` headers about retries that a route or one of its destinations sets in its requests.
//! Envoy takes them for its own when the request is about to leave, whoever has set them: they are
//! heeded and go no further.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::route_policies::{default_retry, names};
use crate::snapshot::{
    HeaderEdits, HeaderValue, RetryConditions, RetryPolicy, TimeoutStatus, WriteMode,
};
use crate::source::Origin;

const RETRY_ON: &str = "x-envoy-retry-on";
const GRPC_ON: &str = "x-envoy-retry-grpc-on";
const MAX_RETRIES: &str = "x-envoy-max-retries";
const HEADER_NAMES: &str = "x-envoy-retriable-header-names";
/// Whatever its value.
const ALT_RESPONSE: &str = "x-envoy-upstream-rq-timeout-alt-response";
const STATUS_CODES: &str = "x-envoy-retriable-status-codes";
/// Two of them are taken out and nothing more: the time limits stand when they are read, and nothing
/// is hedged.
const STEERING: [&str; 8] = [
    RETRY_ON,
    GRPC_ON,
    MAX_RETRIES,
    HEADER_NAMES,
    STATUS_CODES,
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-hedge-on-per-try-timeout",
    ALT_RESPONSE,
];

/// What such headers say after one level of edits or more: those of a destination come before those
/// of its route.
#[derive(Debug, Clone, Default)]
pub struct RetryWishes(BTreeMap<&'static str, String>);

impl RetryWishes {
    /// Takes these headers out of `edits`, which is the next level. Values with operators are left
    /// alone.
    pub fn take_from(&mut self, edits: &mut HeaderEdits) {
        for name in &edits.remove {
            self.0.remove(name.as_str());
        }
        edits.write.retain(|line| {
            let known = STEERING.iter().find(|name| **name == line.name);
            let (Some(name), HeaderValue::Literal(value)) = (known, &line.value) else {
                return true;
            };
            match (line.mode, self.0.get_mut(name)) {
                // To Envoy each of them is one line, which grows.
                (WriteMode::Add, Some(before)) => *before = format!("{before},{value}"),
                _ => {
                    self.0.insert(name, value.clone());
                }
            }
            false
        });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a time limit is answered.
    pub fn timeout_status(&self) -> TimeoutStatus {
        match self.0.contains_key(ALT_RESPONSE) {
            true => TimeoutStatus::NoContent,
            false => TimeoutStatus::default(),
        }
    }

    /// `policy` as these headers, which are written at `origin`, make it.
    pub fn steer(
        &self,
        policy: Option<Arc<RetryPolicy>>,
        origin: impl FnOnce() -> Origin,
    ) -> Option<Arc<RetryPolicy>> {
        let of = |name: &str| self.0.get(name).map(String::as_str);
        let conditions: Vec<String> = [RETRY_ON, GRPC_ON]
            .into_iter()
            .filter_map(of)
            .flat_map(names)
            .collect();
        let steers = [MAX_RETRIES, HEADER_NAMES, STATUS_CODES];
        if conditions.is_empty() && !steers.into_iter().any(|name| of(name).is_some()) {
            return policy;
        }
        if policy.is_none() && conditions.is_empty() {
            return None;
        }
        let mut steered = match policy {
            Some(policy) => policy.as_ref().clone(),
            None => bare(),
        };
        for name in conditions {
            if !steered.retry_on.contains(&name) {
                steered.retry_on.push(name);
            }
        }
        steered.conditions = RetryConditions::of(steered.retry_on.iter().map(String::as_str));
        if let Some(attempts) = of(MAX_RETRIES).and_then(|value| value.trim().parse::<u32>().ok()) {
            steered.attempts = attempts;
        }
        let codes = of(STATUS_CODES).map(names).unwrap_or_default();
        let codes = codes.iter().filter_map(|code| code.parse::<u16>().ok());
        steered.status_codes.extend(codes);
        let headers = of(HEADER_NAMES).map(names).unwrap_or_default();
        let headers = headers.iter().map(|name| name.to_ascii_lowercase());
        steered.header_names.extend(headers);
        steered.origin = steered.origin.or_else(|| Some(origin()));
        Some(Arc::new(steered))
    }
}

/// What Envoy makes of such a header on a route that retries nothing by itself.
fn bare() -> RetryPolicy {
    RetryPolicy {
        attempts: 1,
        retry_on: Vec::new(),
        conditions: RetryConditions::default(),
        exclude_tried: false,
        ..default_retry().as_ref().clone()
    }
}
