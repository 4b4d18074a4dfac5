//! What a route adds to forwarding: faults, mirrors, cross-origin rules.

use super::ClusterId;
use super::matching::StringMatch;
use super::random::Random;

/// A share in parts of a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartsPerMillion(pub u32);

impl PartsPerMillion {
    /// Draws once.
    pub fn hits(self, random: &mut Random) -> bool {
        (random.below(1_000_000) as u32) < self.0
    }

    /// Whether each draw hits.
    pub fn is_all(self) -> bool {
        self.0 >= 1_000_000
    }
}

/// Where faults happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FaultSide {
    /// Before the request is forwarded, as in Istio: no retry, timeout or ejection sees them.
    #[default]
    Downstream,
    /// In each try, as if the upstream were slow or answered so: retries, timeouts and ejection
    /// act on them.
    Upstream,
}

/// Faults that are injected. Delay and abort are drawn independently, the delay first.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub side: FaultSide,
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

/// Cross-origin resource sharing (the Fetch standard, section "CORS protocol").
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

impl CorsPolicy {
    /// Whether pages of the `origin` that a request names may read responses. A condition that
    /// holds for a lone `*` stands for every origin.
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.allow_origins
            .iter()
            .any(|allowed| allowed.is_match(b"*") || allowed.is_match(origin))
    }
}
