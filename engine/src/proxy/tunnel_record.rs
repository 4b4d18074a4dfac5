//! What is told about a connection whose bytes are carried as they are: Istio's metrics of TCP,
//! Envoy's counters, the access log.

use super::connection::Connection;
use super::labels::{Ends, tcp_labels};
use super::upstream::{ClusterView, Endpoint};
use crate::control::access_log;
use crate::rt;
use crate::stats::{ResponseFlags, TcpSeries, TcpSeriesKey, TcpStats};
use crate::worker::{Rules, Worker};
use ringroad_policy::settings::AccessLogFormat;
use ringroad_policy::snapshot::{ConnectionFacts, Direction, EndpointAddress};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

/// Why one of Envoy's filters has ended a connection.
pub const IDLE: &str = "tcp_session_idle_timeout";
pub const TOO_LONG: &str = "max_connection_duration_reached";

/// A connection as it will be told.
pub struct TunnelRecord<'a> {
    worker: Rc<Worker>,
    rules: &'a Rules,
    facts: &'a ConnectionFacts,
    direction: Direction,
    started: Instant,
    /// Who the bytes are for, as far as it is known.
    cluster: Option<Rc<ClusterView>>,
    cluster_name: &'a str,
    endpoint: Option<Rc<Endpoint>>,
    upstream_local_address: Option<SocketAddr>,
    flags: ResponseFlags,
    /// Envoy's `CONNECTION_TERMINATION_DETAILS`.
    ended_by: Cow<'a, str>,
    transport_failure: Option<String>,
    pub from_client: Cell<u64>,
    pub from_upstream: Cell<u64>,
    stats: Option<Arc<TcpStats>>,
    series: Option<Arc<TcpSeries>>,
}

/// The figures of TCP that a worker has met in one snapshot.
#[derive(Default)]
pub struct TcpFigures {
    generation: u64,
    stats: HashMap<String, Arc<TcpStats>>,
    series: HashMap<SeriesName, Arc<TcpSeries>>,
}

/// What tells series apart within a snapshot.
#[derive(PartialEq, Eq, Hash)]
struct SeriesName {
    direction: Direction,
    cluster: String,
    endpoint: Option<EndpointAddress>,
    principal: Option<String>,
    flags: ResponseFlags,
}

impl<'a> TunnelRecord<'a> {
    pub fn begin(connection: &Connection, rules: &'a Rules, facts: &'a ConnectionFacts) -> Self {
        Self {
            worker: connection.worker.clone(),
            rules,
            facts,
            direction: rules.listener().direction,
            started: connection.accepted_at,
            cluster: None,
            cluster_name: "",
            endpoint: None,
            upstream_local_address: None,
            flags: ResponseFlags::NONE,
            ended_by: Cow::Borrowed(""),
            transport_failure: None,
            from_client: Cell::new(0),
            from_upstream: Cell::new(0),
            stats: None,
            series: None,
        }
    }

    /// The route leads to this cluster; `None` when it does not exist.
    pub fn leads_to(&mut self, name: &'a str, cluster: Option<Rc<ClusterView>>) {
        let stats = self.worker.tcp_stats(self.rules.view.generation, name);
        stats.downstream_cx_total.add(1);
        self.cluster_name = name;
        if cluster.is_none() {
            stats.downstream_cx_no_route.add(1);
            self.flags.insert(ResponseFlags::NO_CLUSTER_FOUND);
        }
        self.cluster = cluster;
        self.stats = Some(stats);
    }

    /// This endpoint is tried.
    pub fn tries(&mut self, endpoint: &Rc<Endpoint>) {
        self.endpoint = Some(endpoint.clone());
    }

    /// The connection stands: bytes are counted as they pass from here on.
    pub fn connected(&mut self, local_address: Option<SocketAddr>) {
        self.upstream_local_address = local_address;
        let series = self.series(ResponseFlags::NONE);
        series.opened.add(1);
        self.series = Some(series);
    }

    pub fn fail(&mut self, flags: ResponseFlags, transport_failure: Option<String>) {
        self.flags.insert(flags);
        self.transport_failure = transport_failure;
    }

    /// The last endpoint could not be connected to.
    pub fn no_connection(&mut self, transport_failure: Option<String>) {
        self.fail(
            ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
            transport_failure,
        );
        self.flags
            .insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
        if let Some(stats) = &self.stats {
            stats.max_connect_attempts.add(1);
        }
    }

    /// The proxy ends the connection.
    pub fn end_by(&mut self, details: impl Into<Cow<'a, str>>) {
        self.ended_by = details.into();
        if let Some(stats) = &self.stats {
            match &*self.ended_by {
                IDLE => stats.idle_timeout.add(1),
                TOO_LONG => {
                    stats.max_downstream_connection_duration.add(1);
                    self.flags.insert(ResponseFlags::DURATION_TIMEOUT);
                }
                _ => {}
            }
        }
    }

    /// Bytes of the client have gone on.
    pub fn count_up(&self, connection: &Connection, bytes: u64) {
        self.from_client.set(self.from_client.get() + bytes);
        let listener = &connection.listener.stats;
        listener.downstream_cx_rx_bytes_total.add(bytes);
        if let Some(stats) = &self.stats {
            stats.downstream_cx_rx_bytes_total.add(bytes);
        }
        if let Some(cluster) = &self.cluster {
            cluster.stats.upstream_cx_tx_bytes_total.add(bytes);
        }
        if let Some(series) = &self.series {
            series.received_bytes.add(bytes);
        }
    }

    /// Bytes of the upstream have gone on.
    pub fn count_down(&self, connection: &Connection, bytes: u64) {
        self.from_upstream.set(self.from_upstream.get() + bytes);
        let listener = &connection.listener.stats;
        listener.downstream_cx_tx_bytes_total.add(bytes);
        if let Some(stats) = &self.stats {
            stats.downstream_cx_tx_bytes_total.add(bytes);
        }
        if let Some(cluster) = &self.cluster {
            cluster.stats.upstream_cx_rx_bytes_total.add(bytes);
        }
        if let Some(series) = &self.series {
            series.sent_bytes.add(bytes);
        }
    }

    /// Logs a connection that suits no filter chain.
    pub fn log_unmatched(connection: &Connection, rules: &'a Rules, facts: &'a ConnectionFacts) {
        let mut record = Self::begin(connection, rules, facts);
        record.flags.insert(ResponseFlags::NO_ROUTE_FOUND);
        if let Some(format) = rules.view.snapshot.settings.access_log {
            record.log(connection, format);
        }
    }

    /// Counts and logs the end.
    pub fn finish(self, connection: &Connection) {
        let series = self.series(self.flags);
        if self.series.is_none() {
            series.opened.add(1);
        }
        series.closed.add(1);
        if let Some(format) = self.rules.view.snapshot.settings.access_log {
            self.log(connection, format);
        }
    }

    fn series(&self, flags: ResponseFlags) -> Arc<TcpSeries> {
        let met = self.endpoint.as_ref().map(|known| known.series.borrow());
        let ends = match self.direction {
            Direction::Inbound => Ends::of_client(self.facts),
            _ => Ends::of_endpoint(met.as_ref().and_then(|known| known.principals())),
        };
        let cluster = self.cluster.as_deref();
        let name = SeriesName {
            direction: self.direction,
            cluster: self.cluster_name.to_string(),
            endpoint: self.endpoint.as_ref().map(|known| known.address.clone()),
            principal: ends.peer.map(|identity| identity.principal.clone()),
            flags,
        };
        let rules = self.rules;
        self.worker.tcp_series(rules.view.generation, name, || {
            let endpoint = cluster
                .zip(self.endpoint.as_ref())
                .and_then(|(view, known)| {
                    let mut all = view.cluster.endpoints.iter();
                    all.find(|endpoint| endpoint.address == known.address)
                });
            let settings = &rules.view.snapshot.settings;
            let cluster = cluster.map(|view| &*view.cluster);
            let peers = tcp_labels(settings, self.direction, cluster, endpoint, ends);
            TcpSeriesKey { peers, flags }
        })
    }

    #[cold]
    fn log(&self, connection: &Connection, format: AccessLogFormat) {
        let wall = self.worker.wall_clock_at(self.started);
        let started = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let lasted = rt::now().saturating_duration_since(self.started);
        // As Envoy lets them come to light for a connection: first the failure of the last try.
        let flags = self.flags.to_string().replace("URX,UF", "UF,URX");
        let upstream = self.endpoint.as_ref().map(|endpoint| &endpoint.address);
        let record = access_log::Record {
            start_unix_ms: started.as_millis() as u64,
            response_flags: &flags,
            connection_termination_details: (!self.ended_by.is_empty()).then_some(&self.ended_by),
            upstream_transport_failure_reason: self.transport_failure.as_deref(),
            bytes_received: self.from_client.get(),
            bytes_sent: self.from_upstream.get(),
            duration_ms: lasted.as_millis() as u64,
            upstream_host: upstream.map(|address| match address {
                EndpointAddress::Socket(address) => access_log::Address::Socket(*address),
                EndpointAddress::Unix(path) => access_log::Address::Unix(path),
            }),
            upstream_cluster: (!self.cluster_name.is_empty()).then_some(self.cluster_name),
            upstream_local_address: self.upstream_local_address,
            downstream_local_address: self.facts.destination,
            downstream_remote_address: Some(connection.peer),
            requested_server_name: self.facts.server_name.as_deref(),
            ..access_log::Record::default()
        };
        self.worker.log(|out| match format {
            AccessLogFormat::Text => access_log::format_text(&record, out),
            AccessLogFormat::Json => access_log::format_json(&record, out),
        });
    }
}

impl TcpFigures {
    /// What was met in another snapshot may have other labels in this one.
    fn of(&mut self, generation: u64) -> &mut Self {
        if self.generation != generation {
            *self = Self {
                generation,
                ..Self::default()
            };
        }
        self
    }
}

impl Worker {
    fn tcp_stats(&self, generation: u64, cluster: &str) -> Arc<TcpStats> {
        let mut figures = self.tcp_figures.borrow_mut();
        let stats = &mut figures.of(generation).stats;
        match stats.get(cluster) {
            Some(known) => known.clone(),
            None => {
                let new = self.registry.tcp(cluster, self.id);
                stats.insert(cluster.to_string(), new.clone());
                new
            }
        }
    }

    fn tcp_series(
        &self,
        generation: u64,
        name: SeriesName,
        key: impl FnOnce() -> TcpSeriesKey,
    ) -> Arc<TcpSeries> {
        let mut figures = self.tcp_figures.borrow_mut();
        let series = &mut figures.of(generation).series;
        let new = || self.registry.tcp_series(key(), self.id);
        series.entry(name).or_insert_with(new).clone()
    }
}
