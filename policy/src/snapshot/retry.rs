//! Which failed tries are tried again, and when.

use super::random::Random;
use crate::source::Origin;

/// An effective retry policy, defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Retries after the first try.
    pub attempts: u32,
    /// Until the response head; `None` is no limit of its own.
    pub per_try_timeout_ms: Option<u64>,
    /// Envoy's names of conditions, in the order written.
    pub retry_on: Vec<String>,
    /// The same conditions, for decisions.
    pub conditions: RetryConditions,
    /// Status codes that `retriable-status-codes` stands for.
    pub status_codes: Vec<u16>,
    /// Response headers that `retriable-headers` stands for, in lower case.
    pub header_names: Vec<String>,
    /// Retries prefer endpoints of other localities.
    pub retry_remote_localities: bool,
    /// Retries leave out endpoints that were tried; off with a consistent hash and one
    /// destination.
    pub exclude_tried: bool,
    /// B of the jittered back-off `[0, (2^N - 1) * B)`, at most 10 * B.
    pub backoff_base_ms: u64,
    /// Where it was written; `None` is Istio's default policy.
    pub origin: Option<Origin>,
}

/// A set of conditions. Istio: `http[].retries.retryOn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetryConditions(u32);

macro_rules! conditions {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $written:literal;)*) => {
        impl RetryConditions {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*
            const NAMES: &'static [(Self, &'static str)] = &[$((Self::$name, $written),)*];
        }
    };
}

conditions! {
    /// Any 5xx, or no response at all.
    SERVER_ERROR = 0, "5xx";
    /// 502, 503 or 504, or no response at all.
    GATEWAY_ERROR = 1, "gateway-error";
    /// No response at all.
    RESET = 2, "reset";
    /// No response, and nothing of the request was sent.
    RESET_BEFORE_REQUEST = 3, "reset-before-request";
    /// No connection.
    CONNECT_FAILURE = 4, "connect-failure";
    /// The upstream refused the stream unprocessed (HTTP/2 `REFUSED_STREAM`).
    REFUSED_STREAM = 5, "refused-stream";
    /// 409.
    RETRIABLE_4XX = 6, "retriable-4xx";
    /// One of [`RetryPolicy::status_codes`].
    RETRIABLE_STATUS_CODES = 7, "retriable-status-codes";
    /// One of [`RetryPolicy::header_names`] is there.
    RETRIABLE_HEADERS = 8, "retriable-headers";
    /// `x-envoy-ratelimited` is there.
    RATE_LIMITED = 9, "envoy-ratelimited";
    /// `grpc-status` 1.
    GRPC_CANCELLED = 10, "cancelled";
    /// `grpc-status` 4.
    GRPC_DEADLINE_EXCEEDED = 11, "deadline-exceeded";
    /// `grpc-status` 13.
    GRPC_INTERNAL = 12, "internal";
    /// `grpc-status` 8.
    GRPC_RESOURCE_EXHAUSTED = 13, "resource-exhausted";
    /// `grpc-status` 14.
    GRPC_UNAVAILABLE = 14, "unavailable";
}

/// How a try ended without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryFailure {
    /// No connection came about.
    NoConnection,
    /// The connection ended, or what came was no HTTP.
    Reset {
        /// Whether any byte of the request may have reached the upstream.
        request_began: bool,
    },
    /// The upstream said that it has not begun with the request.
    Refused,
    /// `perTryTimeout` has passed.
    TimedOut,
}

/// What a response says about being tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TryResponse {
    pub status: u16,
    /// `grpc-status`, if it came with the head.
    pub grpc_status: Option<u16>,
    /// `x-envoy-ratelimited` is there.
    pub is_rate_limited: bool,
    /// One of [`RetryPolicy::header_names`] is there.
    pub has_retriable_header: bool,
}

impl RetryConditions {
    /// The conditions of a list of names; names that are none are left out.
    pub fn of<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        names.into_iter().fold(Self::default(), |set, name| {
            let known = Self::NAMES.iter().find(|(_, written)| *written == name);
            known.map_or(set, |(condition, _)| Self(set.0 | condition.0))
        })
    }

    /// Whether one of `others` is among these.
    #[inline]
    pub fn has(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }
}

impl RetryPolicy {
    /// Whether a try that ended without a response is to be tried again.
    pub fn repeats_failure(&self, failure: TryFailure) -> bool {
        use RetryConditions as On;
        let any = |conditions: &[On]| conditions.iter().any(|on| self.conditions.has(*on));
        // Whatever ended the try, the client would get a 5xx for it.
        if any(&[On::SERVER_ERROR, On::GATEWAY_ERROR, On::RESET]) {
            return true;
        }
        match failure {
            TryFailure::NoConnection => any(&[On::CONNECT_FAILURE, On::RESET_BEFORE_REQUEST]),
            TryFailure::Reset { request_began } => {
                !request_began && any(&[On::RESET_BEFORE_REQUEST])
            }
            TryFailure::Refused => any(&[On::REFUSED_STREAM]),
            TryFailure::TimedOut => false,
        }
    }

    /// Whether a response is to be thrown away and the request tried again.
    #[inline]
    pub fn repeats_response(&self, response: &TryResponse) -> bool {
        use RetryConditions as On;
        let on = |condition: On| self.conditions.has(condition);
        if response.is_rate_limited {
            return on(On::RATE_LIMITED);
        }
        let by_status = match response.status {
            409 if on(On::RETRIABLE_4XX) => true,
            502..=504 if on(On::GATEWAY_ERROR) => true,
            500..=599 => on(On::SERVER_ERROR),
            _ => false,
        };
        let listed =
            || on(On::RETRIABLE_STATUS_CODES) && self.status_codes.contains(&response.status);
        let by_grpc = || match response.grpc_status {
            Some(1) => on(On::GRPC_CANCELLED),
            Some(4) => on(On::GRPC_DEADLINE_EXCEEDED),
            Some(8) => on(On::GRPC_RESOURCE_EXHAUSTED),
            Some(13) => on(On::GRPC_INTERNAL),
            Some(14) => on(On::GRPC_UNAVAILABLE),
            _ => false,
        };
        let by_header = || on(On::RETRIABLE_HEADERS) && response.has_retriable_header;
        by_status || listed() || by_header() || by_grpc()
    }

    /// How long to wait before the `number`th retry, counted from 1: a random time below
    /// `2^(number - 1) * B` and never above `10 * B`, in microseconds. B is
    /// [`backoff_base_ms`](Self::backoff_base_ms). Envoy: `JitteredExponentialBackOffStrategy`.
    pub fn backoff_us(&self, number: u32, random: &mut Random) -> u64 {
        let base_us = self.backoff_base_ms.saturating_mul(1000);
        let doubled = number.saturating_sub(1);
        let steps = 1u64.checked_shl(doubled).map_or(10, |power| power.min(10));
        random.below(base_us.saturating_mul(steps) as usize) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(retry_on: &str, status_codes: &[u16]) -> RetryPolicy {
        let names: Vec<String> = retry_on.split(',').map(str::to_string).collect();
        RetryPolicy {
            attempts: 2,
            per_try_timeout_ms: None,
            conditions: RetryConditions::of(names.iter().map(String::as_str)),
            retry_on: names,
            status_codes: status_codes.to_vec(),
            header_names: Vec::new(),
            retry_remote_localities: false,
            exclude_tried: true,
            backoff_base_ms: 25,
            origin: None,
        }
    }

    fn status(status: u16) -> TryResponse {
        TryResponse {
            status,
            ..TryResponse::default()
        }
    }

    #[test]
    fn each_condition_repeats_what_it_names_and_nothing_else() {
        let began = TryFailure::Reset {
            request_began: true,
        };
        let not_begun = TryFailure::Reset {
            request_began: false,
        };
        let failures = [
            TryFailure::NoConnection,
            began,
            not_begun,
            TryFailure::Refused,
            TryFailure::TimedOut,
        ];
        for (name, repeated) in [
            ("5xx", &failures[..]),
            ("gateway-error", &failures[..]),
            ("reset", &failures[..]),
            (
                "reset-before-request",
                &[TryFailure::NoConnection, not_begun],
            ),
            ("connect-failure", &[TryFailure::NoConnection]),
            ("refused-stream", &[TryFailure::Refused]),
            ("retriable-4xx", &[]),
        ] {
            for failure in failures {
                assert_eq!(
                    policy(name, &[]).repeats_failure(failure),
                    repeated.contains(&failure),
                    "{name} {failure:?}"
                );
            }
        }
        for (name, repeated) in [
            ("5xx", &[500, 501, 502, 503, 504, 599][..]),
            ("gateway-error", &[502, 503, 504]),
            ("retriable-4xx", &[409]),
            ("retriable-status-codes", &[418]),
            ("reset", &[]),
            ("unavailable", &[]),
        ] {
            for code in [200, 404, 409, 418, 500, 501, 502, 503, 504, 599] {
                assert_eq!(
                    policy(name, &[418]).repeats_response(&status(code)),
                    repeated.contains(&code),
                    "{name} {code}"
                );
            }
        }
        for (name, repeated) in [
            ("cancelled", 1),
            ("deadline-exceeded", 4),
            ("resource-exhausted", 8),
            ("internal", 13),
            ("unavailable", 14),
        ] {
            for code in 0..17 {
                let response = TryResponse {
                    grpc_status: Some(code),
                    ..status(200)
                };
                assert_eq!(
                    policy(name, &[]).repeats_response(&response),
                    code == repeated,
                    "{name} {code}"
                );
            }
        }
    }

    #[test]
    fn a_limited_upstream_is_not_asked_again_unless_the_policy_says_so() {
        let limited = TryResponse {
            is_rate_limited: true,
            ..status(503)
        };
        assert!(!policy("5xx", &[]).repeats_response(&limited));
        assert!(policy("envoy-ratelimited", &[]).repeats_response(&limited));
    }

    #[test]
    fn the_back_off_grows_up_to_ten_times_its_base() {
        let policy = policy("5xx", &[]);
        let mut random = Random::new(1);
        for (number, most_ms) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (65, 250)] {
            let drawn: Vec<u64> = (0..2000)
                .map(|_| policy.backoff_us(number, &mut random))
                .collect();
            let longest = *drawn.iter().max().unwrap();
            assert!(longest < most_ms * 1000, "{number}: {longest}");
            assert!(longest > most_ms * 950, "{number}: {longest}");
            assert!(*drawn.iter().min().unwrap() < most_ms * 50, "{number}");
        }
    }
}
