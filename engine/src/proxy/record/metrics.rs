//! What Istio's metrics are told of a request.

use super::super::connection::Connection;
use super::super::labels::{Ends, peer_labels};
use super::Record;
use crate::rt;
use crate::stats::{CallKind, Principals, Series, SeriesKey};
use crate::worker::Rules;
use ringroad_policy::snapshot::{BLACK_HOLE, BLOCK_ALL, Cluster, Direction};
use std::rc::Rc;
use std::sync::Arc;

impl Record<'_> {
    /// Adds the request to its series, by who asked whom and what came of it.
    pub(super) fn count_istio(&self, connection: &Connection, rules: &Rules, head_bytes: u64) {
        // Who asks is told apart on the way in, where its certificate says it.
        let facts = connection.facts.get();
        let inbound = facts.filter(|_| self.direction == Direction::Inbound);
        let identity = inbound.and_then(|facts| facts.identity.as_deref());
        let apart = match identity {
            Some(identity) => Some(identity.principal.as_str()),
            // As in Istio the name of the route tells that the mesh refuses the host.
            None if self.cluster.is_none() && self.route_name == BLOCK_ALL => Some(BLACK_HOLE),
            None => None,
        };
        let create = |met: Option<&Principals>| {
            let index = self
                .cluster
                .as_ref()
                .zip(self.endpoint.as_ref())
                .and_then(|(c, e)| c.endpoints.iter().position(|known| Rc::ptr_eq(known, e)));
            let cluster = self.cluster.as_ref().map(|view| &*view.cluster);
            let endpoint = cluster
                .zip(index)
                .map(|(cluster, at)| &cluster.endpoints[at]);
            let settings = &rules.view.snapshot.settings;
            let black_hole = (apart == Some(BLACK_HOLE)).then(|| Cluster::new(BLACK_HOLE.into()));
            let ends = match inbound {
                Some(facts) => Ends::of_client(facts),
                None => Ends::of_endpoint(met),
            };
            let peers = Arc::new(peer_labels(
                settings,
                self.direction,
                cluster.or(black_hole.as_ref()),
                endpoint,
                ends,
            ));
            let key = SeriesKey {
                peers,
                response_code: self.status,
                flags: self.flags,
                call: self.call,
            };
            self.worker.registry.series(key, self.worker.id)
        };
        let record = |series: &Series| {
            let elapsed_us = rt::now()
                .saturating_duration_since(self.started)
                .as_micros() as u64;
            series.requests.add(1);
            series.duration_ms.record_thousandths(elapsed_us);
            series
                .request_bytes
                .record_thousandths((head_bytes + self.bytes_received()) * 1000);
            let sent = self.response_head_bytes + self.sent.payload.get();
            series.response_bytes.record_thousandths(sent * 1000);
            if self.call != CallKind::Http {
                let received = self.received.map_or(0, |received| received.messages.get());
                series.request_messages.add(received);
                series.response_messages.add(self.sent.messages.get());
            }
        };
        let list = match (&self.endpoint, &self.cluster) {
            (Some(endpoint), _) => &endpoint.series,
            (None, Some(cluster)) => &cluster.series,
            (None, None) => &connection.listener.series,
        };
        let answer = (self.status, self.flags, self.call);
        let since = rules.view.labels_since;
        record(list.borrow_mut().get(since, answer, apart, create));
    }
}
