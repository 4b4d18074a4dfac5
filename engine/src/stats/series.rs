//! Istio's standard metrics: one series for each set of labels.

use super::counter::{Counter, Histogram};
use super::flags::ResponseFlags;
use ringroad_policy::snapshot::PeerIdentity;
use std::sync::Arc;

/// Labels of `istio_requests_total` that do not depend on the answer, in the order they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerLabels(pub Vec<(&'static str, String)>);

/// What tells one series from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeriesKey {
    pub peers: Arc<PeerLabels>,
    pub response_code: u16,
    pub flags: ResponseFlags,
    pub call: CallKind,
}

/// What a request is to Istio's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CallKind {
    #[default]
    Http,
    /// With `grpc-status`, if there was one.
    Grpc(Option<u16>),
}

impl CallKind {
    /// The labels of such a request, in place of those of a plain one.
    pub fn mark(self, labels: &mut [(&'static str, String)]) {
        let Self::Grpc(status) = self else {
            return;
        };
        for (name, value) in labels {
            match *name {
                "request_protocol" => *value = "grpc".to_string(),
                "grpc_response_status" => {
                    *value = status.map_or(String::new(), |status| status.to_string());
                }
                _ => {}
            }
        }
    }
}

/// One worker's figures of one series. Aligned, so that two workers never write one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Series {
    pub requests: Counter,
    pub duration_ms: Histogram,
    pub request_bytes: Histogram,
    pub response_bytes: Histogram,
    /// Messages of gRPC.
    pub request_messages: Counter,
    pub response_messages: Counter,
}

/// What tells one series of connections from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TcpSeriesKey {
    pub peers: PeerLabels,
    pub flags: ResponseFlags,
}

/// One worker's figures of one series of connections that are no HTTP.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct TcpSeries {
    pub opened: Counter,
    pub closed: Counter,
    /// From clients.
    pub received_bytes: Counter,
    /// To clients.
    pub sent_bytes: Counter,
}

/// The series that one peer's requests have met so far. A worker asks it for each request; the
/// list is short, because a peer gives few different answers.
#[derive(Debug, Default)]
pub struct SeriesList(Vec<KnownSeries>);

#[derive(Debug)]
struct KnownSeries {
    response_code: u16,
    flags: ResponseFlags,
    call: CallKind,
    principal: Option<String>,
    series: Arc<Series>,
}

impl SeriesList {
    /// The series for this answer; `create` makes it the first time.
    #[inline]
    pub fn get(
        &mut self,
        response_code: u16,
        flags: ResponseFlags,
        call: CallKind,
        identity: Option<&PeerIdentity>,
        create: impl FnOnce() -> Arc<Series>,
    ) -> &Series {
        let principal = identity.map(|identity| identity.principal.as_str());
        let known = self.0.iter().position(|known| {
            known.response_code == response_code
                && known.flags == flags
                && known.call == call
                && known.principal.as_deref() == principal
        });
        let at = known.unwrap_or_else(|| {
            self.0.push(KnownSeries {
                response_code,
                flags,
                call,
                principal: principal.map(str::to_string),
                series: create(),
            });
            self.0.len() - 1
        });
        &self.0[at].series
    }
}
