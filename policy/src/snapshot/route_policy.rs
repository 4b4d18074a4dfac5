//! What a route adds to forwarding: retries, faults, mirrors, cross-origin rules.

use super::ClusterId;
use super::matching::StringMatch;
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
    /// Status codes that `retriable-status-codes` stands for.
    pub status_codes: Vec<u16>,
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

/// A share in parts of a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartsPerMillion(pub u32);

/// Faults that are injected before forwarding.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub delay: Option<FaultDelay>,
    pub abort: Option<FaultAbort>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FaultDelay {
    pub share: PartsPerMillion,
    pub delay_ms: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FaultAbort {
    pub share: PartsPerMillion,
    pub answer: AbortAnswer,
}

#[derive(Debug, Clone, PartialEq)]
pub enum AbortAnswer {
    HttpStatus(u16),
    /// The number of a gRPC status.
    GrpcStatus(u16),
}

/// A copy of requests that nobody waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    pub cluster: Option<ClusterId>,
    pub cluster_name: String,
    pub share: PartsPerMillion,
}

/// Cross-origin resource sharing.
#[derive(Debug, Clone)]
pub struct CorsPolicy {
    pub allow_origins: Vec<StringMatch>,
    /// The values of the headers, joined by commas; empty is no header.
    pub allow_methods: String,
    pub allow_headers: String,
    pub expose_headers: String,
    /// Whole seconds.
    pub max_age_s: Option<u64>,
    pub allow_credentials: Option<bool>,
    /// Preflights of other origins go to the upstream.
    pub forward_unmatched_preflights: bool,
}
