//! What is told about a request when it is over: counters, Istio's metrics, the access log.

use super::answer::Answer;
use super::body::{Body, ByteCount};
use super::connection::Connection;
use super::format::{RequestFormat, Response, Target, protocol};
use super::grpc::{self, is_grpc};
use super::labels::peer_labels;
use super::request_head::write_forwarded_for;
use super::request_id::RequestId;
use super::target::{Plan, scheme};
use super::upstream::{ClusterView, Endpoint};
use crate::control::access_log;
use crate::rt;
use crate::stats::{CallKind, ResponseFlags, RouteStats, Series, SeriesKey};
use crate::worker::{ListenerSlot, Rules, Worker};
use ringroad_codec::http1::{Headers, RequestHead, Version};
use ringroad_policy::settings::AccessLogFormat;
use ringroad_policy::snapshot::{Direction, EndpointAddress, path::Normalization};
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

/// A request as it will be told.
pub struct Record<'a> {
    worker: Rc<Worker>,
    listener: Rc<ListenerSlot>,
    /// None when no head was understood.
    request: Option<(&'a RequestHead, &'a [u8], &'a RequestId)>,
    rules: Option<&'a Rules>,
    /// How it is logged.
    log_format: Option<AccessLogFormat>,
    started: Instant,
    pub direction: Direction,
    pub route_name: &'a str,
    /// Where its route is counted by itself.
    route_stats: Option<Arc<RouteStats>>,
    cluster: Option<Rc<ClusterView>>,
    pub endpoint: Option<Rc<Endpoint>>,
    status: u16,
    /// Whether it came as far as to be forwarded: what is answered before is nothing to the route.
    is_forwarded: bool,
    /// The status that its cluster was charged with, that of an answer of ours before it becomes
    /// a gRPC status; 0 is none.
    charged_status: u16,
    flags: ResponseFlags,
    details: Cow<'static, str>,
    transport_failure: Option<String>,
    has_response: bool,
    upstream_service_time_ms: Option<u64>,
    /// The request's body, as far as it came.
    received: Option<&'a ByteCount>,
    /// The answer, head and body.
    pub sent: ByteCount,
    response_head_bytes: u64,
    /// The `Host` that the upstream saw, once there is a plan.
    authority: Option<&'a str>,
    pub keep_alive: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// As metrics tell requests apart.
    pub call: CallKind,
}

impl<'a> Record<'a> {
    /// A request whose head has been understood.
    pub fn begin(
        connection: &Connection,
        worker: &Rc<Worker>,
        rules: &'a Rules,
        head: &'a RequestHead,
        bytes: &'a [u8],
        request_id: &'a RequestId,
        received: &'a ByteCount,
    ) -> Self {
        let mut record = Self::without_request(connection, worker);
        record.listener.stats.downstream_rq_total.add(1);
        worker.stats.requests.add(1);
        record.request = Some((head, bytes, request_id));
        record.rules = Some(rules);
        record.log_format = rules.view.snapshot.settings.access_log;
        record.received = Some(received);
        record.direction = rules.listener().direction;
        record
    }

    /// A request whose head was refused, so that nothing is known of it. It is logged as Envoy
    /// does, and counted with no service.
    pub fn of_refused_head(connection: &Connection, worker: &Rc<Worker>) -> Self {
        let mut record = Self::without_request(connection, worker);
        if let Some(rules) = worker.rules(&connection.listener) {
            record.direction = rules.listener().direction;
            record.log_format = rules.view.snapshot.settings.access_log;
        }
        record
    }

    fn without_request(connection: &Connection, worker: &Rc<Worker>) -> Self {
        let listener = connection.listener.clone();
        listener.stats.downstream_rq_active.add(1);
        Self {
            worker: worker.clone(),
            listener,
            request: None,
            rules: None,
            log_format: None,
            started: rt::now(),
            direction: Direction::Gateway,
            route_name: "",
            route_stats: None,
            cluster: None,
            endpoint: None,
            status: 0,
            is_forwarded: false,
            charged_status: 0,
            flags: ResponseFlags::NONE,
            details: Cow::Borrowed(""),
            transport_failure: None,
            has_response: false,
            upstream_service_time_ms: None,
            received: None,
            sent: ByteCount::default(),
            response_head_bytes: 0,
            authority: None,
            keep_alive: false,
            attempts: 0,
            call: CallKind::Http,
        }
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The request has lasted since then.
    pub fn count_from(&mut self, began: Instant) {
        self.started = began;
    }

    pub fn set_plan(&mut self, plan: &Plan<'a>) {
        self.route_name = &plan.route.name;
        self.cluster = Some(plan.cluster.clone());
        let stats_name = plan.route.stats_name.as_ref();
        self.route_stats = stats_name.map(|name| self.worker.route_stats(name));
        self.authority = Some(plan.authority);
    }

    /// Its tries begin.
    pub fn forwarded(&mut self) {
        self.is_forwarded = true;
    }

    /// An answer of ours in the place of the upstream's.
    pub fn charged(&mut self, answer: Answer) -> Answer {
        self.charge(answer.status);
        answer
    }

    /// This status is the response of its cluster, whoever gives it.
    fn charge(&mut self, status: u16) {
        self.charged_status = status;
        if let Some(cluster) = &self.cluster {
            cluster.stats.responses.add(status);
        }
    }

    /// The upstream's response head has come.
    pub fn response_started(&mut self, status: u16, sent_at: Instant) {
        self.charge(status);
        self.status = status;
        self.has_response = true;
        self.details = Cow::Borrowed("via_upstream");
        self.upstream_service_time_ms =
            Some(rt::now().saturating_duration_since(sent_at).as_millis() as u64);
    }

    /// Milliseconds from the request's departure to the response head.
    pub fn upstream_service_time_ms(&self) -> u64 {
        self.upstream_service_time_ms.unwrap_or_default()
    }

    pub fn set_response_head_bytes(&mut self, bytes: usize) {
        self.response_head_bytes = bytes as u64;
    }

    /// Whether a response head of the upstream went downstream.
    pub fn has_response(&self) -> bool {
        self.has_response
    }

    pub fn is_head_request(&self) -> bool {
        self.request
            .is_some_and(|(head, bytes, _)| head.method.of(bytes) == b"HEAD")
    }

    /// Flags and detail, as they are by now.
    pub fn told(&self) -> (ResponseFlags, &str) {
        (self.flags, &self.details)
    }

    /// What header values of an answer of ours are rendered from.
    pub fn format<'f>(&'f self, connection: &'f Connection, path: &'f str) -> RequestFormat<'f> {
        let came = self.request.and_then(|(head, bytes, _)| {
            let host = head.host?;
            std::str::from_utf8(host.of(bytes)).ok()
        });
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        RequestFormat {
            head: self.request.map(|(head, bytes, _)| (head, bytes)),
            request_id: self.request.map(|(.., id)| id),
            target: Target {
                path: path.as_bytes(),
                query,
                authority: self.authority.or(came).unwrap_or_default(),
                ..Target::default()
            },
            scheme: connection.facts.get().map_or("http", |facts| scheme(facts)),
            direction: self.direction,
            client: connection.told(),
            upstream: self.endpoint.as_ref().and_then(|to| to.socket_address()),
            cluster: self.cluster.as_ref().map_or("", |view| &view.cluster.name),
            route: self.route_name,
            started: self.started,
            attempts: self.attempts,
            response: Some(Response {
                headers: None,
                code: self.status,
                flags: self.flags,
                details: &self.details,
                received: self.bytes_received(),
            }),
            worker: &self.worker,
        }
    }

    /// Path and query as they are logged; empty when there was no request.
    pub fn path(&self) -> Cow<'a, str> {
        self.request.map_or(Cow::Borrowed(""), |(head, bytes, _)| {
            logged_path(head, bytes, self.paths())
        })
    }

    fn paths(&self) -> Normalization {
        self.rules.map(Rules::paths).unwrap_or_default()
    }

    /// Whether the caller takes a gRPC status for an answer.
    pub fn is_grpc_request(&self) -> bool {
        self.request
            .is_some_and(|(head, bytes, _)| is_grpc(&head.headers(bytes)))
    }

    /// An answer of gRPC has passed, whole.
    pub fn grpc_answered(&mut self, headers: &Headers<'_>, body: &Body<'_>) {
        let status = grpc::status(&body.trailers()).or_else(|| grpc::status(headers));
        self.call = CallKind::Grpc(status);
        self.sent.messages.set(body.message_count());
    }

    /// The proxy answers by itself.
    pub fn answered(&mut self, answer: &Answer) {
        self.status = answer.status;
        if self.is_grpc_request() {
            self.status = 200;
            self.call = CallKind::Grpc(Some(answer.grpc_status()));
        }
        self.details = answer.details.clone();
        self.flags.insert(answer.flags);
        self.transport_failure.clone_from(&answer.transport_failure);
        if answer.flags.contains(ResponseFlags::NO_ROUTE_FOUND) {
            self.listener.stats.no_route.add(1);
        }
        if answer.flags.contains(ResponseFlags::NO_CLUSTER_FOUND) {
            self.listener.stats.no_cluster.add(1);
        }
        if answer.details == Answer::UPGRADE_REFUSED {
            self.listener.stats.downstream_rq_upgrade_refused.add(1);
        }
        self.count_timeout(answer.flags, &answer.details);
    }

    fn count_timeout(&self, flags: ResponseFlags, details: &str) {
        if let Some(cluster) = &self.cluster
            && flags.contains(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT)
            // Those are counted with each try.
            && details != Answer::PER_TRY_TIMEOUT
        {
            cluster.stats.upstream_rq_timeout.add(1);
        }
    }

    /// Adds a flag, whatever comes of the request.
    pub fn flag(&mut self, flags: ResponseFlags) {
        self.flags.insert(flags);
    }

    /// The request came to a bad end.
    pub fn fail(&mut self, flags: ResponseFlags, details: &'static str) {
        self.flags.insert(flags);
        self.count_timeout(flags, details);
        self.details = Cow::Borrowed(details);
        if !self.has_response {
            self.status = 0;
        }
    }

    /// Counts and logs.
    pub fn finish(self, connection: &Connection) {
        let by_class = match self.status / 100 {
            2 => Some(&self.listener.stats.downstream_rq_2xx),
            3 => Some(&self.listener.stats.downstream_rq_3xx),
            4 => Some(&self.listener.stats.downstream_rq_4xx),
            5 => Some(&self.listener.stats.downstream_rq_5xx),
            _ => None,
        };
        if let Some(counter) = by_class {
            counter.add(1);
        }
        let head_bytes = self.request.map_or(0, |(head, ..)| head.head_len as u64);
        let body_bytes = self.received.map_or(0, |received| received.wire.get());
        let stats = &self.listener.stats;
        stats.downstream_cx_tx_bytes_total.add(self.sent.wire.get());
        stats
            .downstream_cx_rx_bytes_total
            .add(head_bytes + body_bytes);
        // The body of an answer of ours has come from nowhere.
        if let Some(cluster) = self.cluster.as_ref().filter(|_| self.has_response) {
            let body_bytes = self.sent.payload.get();
            cluster.stats.upstream_cx_rx_bytes_total.add(body_bytes);
        }
        if let Some(route) = self.route_stats.as_ref().filter(|_| self.is_forwarded) {
            route.count(self.charged_status, self.flags);
        }
        if let Some(rules) = self.rules {
            self.count_istio(connection, rules, head_bytes);
        }
        if let Some(format) = self.log_format {
            self.log(connection, format);
        }
    }

    fn count_istio(&self, connection: &Connection, rules: &Rules, head_bytes: u64) {
        // Who asks is told apart on the way in, where its certificate says it.
        let facts = connection.facts.get();
        let identity = facts
            .filter(|_| self.direction == Direction::Inbound)
            .and_then(|facts| facts.identity.as_deref());
        let create = || {
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
            let peers = Arc::new(peer_labels(
                settings,
                self.direction,
                cluster,
                endpoint,
                identity,
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
        record(
            list.borrow_mut()
                .get(self.status, self.flags, self.call, identity, create),
        );
    }

    /// Bytes of the client have gone on behind the request.
    pub fn count_received(&self, bytes: u64) {
        if let Some(received) = self.received {
            received.add(bytes as usize, bytes as usize);
        }
    }

    /// Content of the request's body, without framing.
    pub fn bytes_received(&self) -> u64 {
        self.received.map_or(0, |received| received.payload.get())
    }

    /// The detail, and within its braces why there was no connection.
    fn details(&self) -> Cow<'_, str> {
        match (&self.transport_failure, self.details.strip_suffix('}')) {
            (Some(reason), Some(open)) => Cow::Owned(format!("{open}|{reason}}}")),
            _ => Cow::Borrowed(&*self.details),
        }
    }

    #[cold]
    fn log(&self, connection: &Connection, format: AccessLogFormat) {
        let wall = self.worker.wall_clock_at(self.started);
        let flags = if self.flags == ResponseFlags::NONE {
            None
        } else {
            Some(self.flags.to_string())
        };
        let upstream = self.endpoint.as_ref().map(|endpoint| &endpoint.address);
        let facts = connection.facts.get();
        let mut record = access_log::Record {
            start_unix_ms: wall
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_millis() as u64,
            protocol: Some(match self.request {
                _ if connection.stream.is_http2() => "HTTP/2",
                Some((head, ..)) => protocol(head.version),
                None => protocol(Version::Http11),
            }),
            response_code: self.status,
            response_flags: flags.as_deref().unwrap_or_default(),
            response_code_details: Some(&self.details()),
            upstream_transport_failure_reason: self.transport_failure.as_deref(),
            bytes_received: self.bytes_received(),
            bytes_sent: self.sent.payload.get(),
            duration_ms: rt::now()
                .saturating_duration_since(self.started)
                .as_millis() as u64,
            upstream_service_time_ms: self.upstream_service_time_ms,
            upstream_host: upstream.map(|address| match address {
                EndpointAddress::Socket(address) => access_log::Address::Socket(*address),
                EndpointAddress::Unix(path) => access_log::Address::Unix(path),
            }),
            upstream_cluster: self.cluster.as_ref().map(|view| view.cluster.name.as_str()),
            downstream_local_address: connection.local_addr(),
            downstream_remote_address: Some(connection.peer),
            requested_server_name: facts.and_then(|facts| facts.server_name.as_deref()),
            route_name: (!self.route_name.is_empty()).then_some(self.route_name),
            ..access_log::Record::default()
        };
        let path = self.path();
        let mut forwarded_for = Vec::new();
        if let Some((head, bytes, request_id)) = self.request {
            // Envoy logs the head as it stands after its own edits, not as it came.
            let appended = self.direction == Direction::Gateway;
            let peer = appended.then(|| connection.peer.ip());
            write_forwarded_for(head, bytes, peer, &mut forwarded_for);
            let headers = head.headers(bytes);
            let authority = self.authority.map(str::as_bytes);
            record.method = Some(head.method.of(bytes));
            record.path = Some(path.as_bytes());
            record.x_forwarded_for = (!forwarded_for.is_empty()).then_some(&forwarded_for);
            record.user_agent = headers.first("user-agent");
            record.request_id = request_id.get().or_else(|| headers.first("x-request-id"));
            record.authority = authority.or_else(|| head.host.map(|host| host.of(bytes)));
        }
        self.worker.log(|out| match format {
            AccessLogFormat::Text => access_log::format_text(&record, out),
            AccessLogFormat::Json => access_log::format_json(&record, out),
        });
    }
}

/// Path and query as Envoy logs them: before a rewrite, but in normal form.
fn logged_path<'b>(head: &RequestHead, bytes: &'b [u8], paths: Normalization) -> Cow<'b, str> {
    let (prefix, rest) = head.path_and_query(bytes);
    let came = String::from_utf8_lossy(rest);
    let came = match prefix {
        "" => came,
        prefix => Cow::Owned(format!("{prefix}{came}")),
    };
    let path_len = came.find('?').unwrap_or(came.len());
    match paths.apply(&came[..path_len]) {
        Ok(Cow::Owned(normal)) => Cow::Owned(normal + &came[path_len..]),
        _ => came,
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.listener.stats.downstream_rq_active.sub(1);
    }
}
