//! Counting consecutive failures of an endpoint.

use crate::snapshot::OutlierDetection;

/// How a try ended, or how far it came, as far as the endpoint's health is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryOutcome {
    /// There is a connection, new or pooled.
    Connected,
    /// The final response head has come.
    Response {
        status: u16,
        /// `grpc-status` of a gRPC request, if it came with the head.
        grpc_status: Option<u16>,
    },
    /// No connection came about.
    ConnectFailed,
    /// The connection ended or broke the protocol within the request.
    Reset,
    /// The response head took longer than the route or the try allows.
    Timeout {
        /// What that is answered, and what it counts as without the split.
        status: u16,
    },
}

/// What an endpoint is ejected for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EjectionCause {
    /// Istio: `consecutive5xxErrors`.
    Consecutive5xx,
    /// Istio: `consecutiveGatewayErrors`.
    ConsecutiveGatewayFailure,
    /// Istio: `consecutiveLocalOriginFailures`.
    ConsecutiveLocalOriginFailure,
}

impl EjectionCause {
    /// Envoy's name of the `type` in its outlier event log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "CONSECUTIVE_5XX",
            Self::ConsecutiveGatewayFailure => "CONSECUTIVE_GATEWAY_FAILURE",
            Self::ConsecutiveLocalOriginFailure => "CONSECUTIVE_LOCAL_ORIGIN_FAILURE",
        }
    }
}

/// The thresholds that one outcome has reached, in the order in which they are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Triggered([Option<EjectionCause>; 2]);

impl Triggered {
    /// Each cause once.
    pub fn iter(self) -> impl Iterator<Item = EjectionCause> {
        self.0.into_iter().flatten()
    }

    pub fn is_empty(self) -> bool {
        self.0 == [None, None]
    }
}

/// The consecutive failures of one endpoint: three counts in one word, so that they change
/// together by one compare-and-exchange.
///
/// A count stops at 2,097,151; thresholds above it count as that.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct FailureCounts(u64);

const COUNT_BITS: u32 = 21;
const MOST: u64 = (1 << COUNT_BITS) - 1;

/// The place of a count in the word.
#[derive(Clone, Copy)]
enum Count {
    FiveXx = 0,
    Gateway = 1,
    LocalOrigin = 2,
}

impl FailureCounts {
    /// The word as [`bits`](Self::bits) gave it.
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Consecutive responses 5xx; without the split, failures of our own among them.
    pub fn consecutive_5xx(self) -> u32 {
        self.get(Count::FiveXx) as u32
    }

    /// Consecutive 502, 503 and 504.
    pub fn consecutive_gateway_failures(self) -> u32 {
        self.get(Count::Gateway) as u32
    }

    /// Consecutive failures before a response. Only with the split.
    pub fn consecutive_local_origin_failures(self) -> u32 {
        self.get(Count::LocalOrigin) as u32
    }

    /// The counts after `outcome`, and the thresholds that it has reached.
    ///
    /// A reached count goes on counting until it is [cleared](Self::cleared_of).
    pub fn after(self, outcome: TryOutcome, rules: &OutlierDetection) -> (Self, Triggered) {
        let status = match outcome {
            TryOutcome::Connected if rules.split_local_origin_errors => {
                return (self.with(Count::LocalOrigin, 0), Triggered::default());
            }
            TryOutcome::Connected => return (self, Triggered::default()),
            TryOutcome::Response {
                status,
                grpc_status,
            } => judged_status(status, grpc_status, rules),
            _ if rules.split_local_origin_errors => return self.after_local_failure(rules),
            TryOutcome::ConnectFailed | TryOutcome::Reset => 503,
            TryOutcome::Timeout { status } => status,
        };
        self.after_status(status, rules)
    }

    fn after_local_failure(self, rules: &OutlierDetection) -> (Self, Triggered) {
        let counts = self.one_more(Count::LocalOrigin);
        let reached = counts.reaches(
            Count::LocalOrigin,
            rules.consecutive_local_origin_failures,
            EjectionCause::ConsecutiveLocalOriginFailure,
        );
        (counts, Triggered([reached, None]))
    }

    fn after_status(self, status: u16, rules: &OutlierDetection) -> (Self, Triggered) {
        if !(500..600).contains(&status) {
            let counts = self.with(Count::FiveXx, 0).with(Count::Gateway, 0);
            return (counts, Triggered::default());
        }
        let (counts, gateway) = if (502..=504).contains(&status) {
            let counts = self.one_more(Count::Gateway);
            let reached = counts.reaches(
                Count::Gateway,
                rules
                    .consecutive_gateway_errors
                    .or(rules.watched_gateway_errors),
                EjectionCause::ConsecutiveGatewayFailure,
            );
            (counts, reached)
        } else {
            (self.with(Count::Gateway, 0), None)
        };
        let counts = counts.one_more(Count::FiveXx);
        let five_xx = counts.reaches(
            Count::FiveXx,
            rules.consecutive_5xx,
            EjectionCause::Consecutive5xx,
        );
        (counts, Triggered([gateway, five_xx]))
    }

    /// The counts without the one that led to `cause`.
    pub fn cleared_of(self, cause: EjectionCause) -> Self {
        let count = match cause {
            EjectionCause::Consecutive5xx => Count::FiveXx,
            EjectionCause::ConsecutiveGatewayFailure => Count::Gateway,
            EjectionCause::ConsecutiveLocalOriginFailure => Count::LocalOrigin,
        };
        self.with(count, 0)
    }

    #[inline]
    fn get(self, count: Count) -> u64 {
        self.0 >> (count as u32 * COUNT_BITS) & MOST
    }

    fn with(self, count: Count, value: u64) -> Self {
        let shift = count as u32 * COUNT_BITS;
        Self(self.0 & !(MOST << shift) | value << shift)
    }

    fn one_more(self, count: Count) -> Self {
        self.with(count, (self.get(count) + 1).min(MOST))
    }

    fn reaches(
        self,
        count: Count,
        threshold: Option<u32>,
        cause: EjectionCause,
    ) -> Option<EjectionCause> {
        let threshold = u64::from(threshold?).min(MOST);
        (self.get(count) >= threshold).then_some(cause)
    }
}

impl std::fmt::Debug for FailureCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FailureCounts")
            .field("consecutive_5xx", &self.consecutive_5xx())
            .field(
                "consecutive_gateway_failures",
                &self.consecutive_gateway_failures(),
            )
            .field(
                "consecutive_local_origin_failures",
                &self.consecutive_local_origin_failures(),
            )
            .finish()
    }
}

/// The status that a response counts as.
fn judged_status(status: u16, grpc_status: Option<u16>, rules: &OutlierDetection) -> u16 {
    if rules.error_codes.is_empty() {
        return grpc_status.map_or(status, status_of_grpc);
    }
    match (rules.error_codes.contains(&status), status) {
        (true, 500..=599) => status,
        (true, _) => 500,
        (false, _) => 200,
    }
}

/// The HTTP status that stands for a gRPC status, as Envoy maps it.
fn status_of_grpc(grpc_status: u16) -> u16 {
    match grpc_status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}
