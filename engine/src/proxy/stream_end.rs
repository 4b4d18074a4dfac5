//! What it means for a request that its upstream broke off or broke the protocol. Flags and details
//! are Envoy's.

use super::answer::Answer;
use super::upstream::{ClusterView, Endpoint};
use super::upstream_exchange::Sent;
use crate::http2::StreamFailure;
use crate::stats::{ClusterStats, ResponseFlags};
use ringroad_policy::health::TryOutcome;
use ringroad_policy::snapshot::TryFailure;

/// A stream of HTTP/2 has ended without a response.
#[cold]
pub(super) fn stream_failed(
    cluster: &ClusterView,
    endpoint: &Endpoint,
    failure: StreamFailure,
) -> Sent {
    let stats = &cluster.stats;
    let (failure, answer) = match failure {
        StreamFailure::Connection => {
            stats.upstream_cx_destroy_remote_with_active_rq.add(1);
            return Sent::NoResponse {
                nothing_sent: false,
            };
        }
        StreamFailure::LeftBehind => return Sent::LeftBehind,
        StreamFailure::Protocol | StreamFailure::NoUpgrades => {
            return malformed_response(cluster, endpoint);
        }
        StreamFailure::Refused => (TryFailure::Refused, Answer::upstream_refused()),
        StreamFailure::Reset => {
            let request_began = true;
            let failure = TryFailure::Reset { request_began };
            (failure, Answer::upstream_reset())
        }
    };
    stats.upstream_rq_rx_reset.add(1);
    cluster.report(endpoint, TryOutcome::Reset);
    Sent::Failed(failure, Box::new(answer))
}

/// A stream of HTTP/2 has ended within its response.
#[cold]
pub(super) fn stream_broke_off(
    stats: &ClusterStats,
    failure: StreamFailure,
) -> (ResponseFlags, &'static str) {
    match failure {
        StreamFailure::Connection => (
            ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
            "upstream_reset_after_response_started{connection_termination}",
        ),
        StreamFailure::Protocol | StreamFailure::NoUpgrades => (
            ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
            "upstream_reset_after_response_started{protocol_error}",
        ),
        StreamFailure::Reset | StreamFailure::Refused | StreamFailure::LeftBehind => {
            stats.upstream_rq_rx_reset.add(1);
            (
                ResponseFlags::UPSTREAM_REMOTE_RESET,
                "upstream_reset_after_response_started{remote_reset}",
            )
        }
    }
}

/// The upstream broke the protocol before anything went downstream.
pub(super) fn malformed_response(cluster: &ClusterView, endpoint: &Endpoint) -> Sent {
    cluster.report(endpoint, TryOutcome::Reset);
    cluster.stats.upstream_cx_protocol_error.add(1);
    let failure = TryFailure::Reset {
        request_began: true,
    };
    Sent::Failed(failure, Box::new(Answer::upstream_protocol_error()))
}
