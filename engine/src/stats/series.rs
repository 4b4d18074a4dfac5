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
    /// With `grpc-status`, if there was one that gRPC knows.
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

/// Whom certificates name at the two ends of the connections to an endpoint.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Principals {
    /// The SPIFFE id of our own.
    pub own: Option<String>,
    pub peer: Option<PeerIdentity>,
}

/// The series that one peer's requests have met so far. A worker asks it for each request; the
/// list is short, because a peer gives few different answers.
#[derive(Debug, Default)]
pub struct SeriesList {
    /// The generation of the snapshot that the series have their labels from.
    since: u64,
    principals: Option<Box<Principals>>,
    known: Vec<KnownSeries>,
}

#[derive(Debug)]
struct KnownSeries {
    response_code: u16,
    flags: ResponseFlags,
    call: CallKind,
    apart: Option<String>,
    series: Arc<Series>,
}

impl SeriesList {
    /// The series for this answer, where labels hold since that generation; `create` makes it the
    /// first time. `apart` is what else tells it from others, such as who asks.
    #[inline]
    pub fn get(
        &mut self,
        since: u64,
        (response_code, flags, call): (u16, ResponseFlags, CallKind),
        apart: Option<&str>,
        create: impl FnOnce(Option<&Principals>) -> Arc<Series>,
    ) -> &Series {
        if self.since != since {
            self.known.clear();
            self.since = since;
        }
        let known = self.known.iter().position(|known| {
            known.response_code == response_code
                && known.flags == flags
                && known.call == call
                && known.apart.as_deref() == apart
        });
        let at = known.unwrap_or_else(|| {
            self.known.push(KnownSeries {
                response_code,
                flags,
                call,
                apart: apart.map(str::to_string),
                series: create(self.principals.as_deref()),
            });
            self.known.len() - 1
        });
        &self.known[at].series
    }

    /// The peer has shown itself to be this one.
    pub fn meet(&mut self, principals: Principals) {
        if self.principals.as_deref() != Some(&principals) {
            self.known.clear();
            self.principals = Some(Box::new(principals));
        }
    }

    pub fn principals(&self) -> Option<&Principals> {
        self.principals.as_deref()
    }
}
