//! What is told about a request when it is over: counters, Istio's metrics, the access log.

mod log;
mod metrics;

use super::answer::Answer;
use super::body::{Body, ByteCount};
use super::connection::Connection;
use super::format::{RequestFormat, Response};
use super::grpc::{self, is_grpc};
use super::seen_head::SeenHead;
use super::target::Plan;
use super::upstream::{ClusterView, Endpoint};
use crate::rt;
use crate::stats::{CallKind, ResponseFlags, RouteStats};
use crate::transport::Transport;
use crate::worker::{ListenerSlot, Rules, Worker};
use ringroad_codec::http1::Headers;
use ringroad_policy::settings::AccessLogFormat;
use ringroad_policy::snapshot::{Direction, Target};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// A request as it will be told.
pub struct Record<'a> {
    worker: Rc<Worker>,
    listener: Rc<ListenerSlot>,
    /// None when no head was understood.
    request: Option<&'a SeenHead<'a>>,
    /// There is none, though its caller awaits a status of gRPC.
    is_refused_call: bool,
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
    /// Whether a head was refused that asked for no body.
    is_refused_head_request: bool,
    /// The status that its cluster was charged with, that of an answer of ours before it becomes
    /// a gRPC status; 0 is none.
    charged_status: u16,
    flags: ResponseFlags,
    details: Cow<'static, str>,
    transport_failure: Option<String>,
    /// Of the connection that it went out on, where it is logged.
    upstream_local_address: Option<SocketAddr>,
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
        seen: &'a SeenHead<'a>,
        received: &'a ByteCount,
    ) -> Self {
        worker.stats.requests.add(1);
        Self::new(connection, worker, Some((rules, seen, received)))
    }

    /// A request whose head was refused, so that nothing is known of it. It is logged as Envoy
    /// does, and counted with no service.
    pub fn of_refused_head(connection: &Connection, worker: &Rc<Worker>) -> Self {
        let mut record = Self::new(connection, worker, None);
        record.is_refused_call = connection.stream.is_call();
        // What was refused at once is still there.
        record.is_refused_head_request = connection.unread.starts_with(b"HEAD ");
        if let Some(rules) = worker.rules(&connection.listener) {
            record.direction = rules.listener().direction;
            record.log_format = rules.view.snapshot.settings.access_log;
        }
        record
    }

    /// Written as a whole: what is changed in a record that is then returned is copied.
    fn new(
        connection: &Connection,
        worker: &Rc<Worker>,
        understood: Option<(&'a Rules, &'a SeenHead<'a>, &'a ByteCount)>,
    ) -> Self {
        let rules = understood.map(|(rules, ..)| rules);
        let listener = connection.listener.clone();
        listener.stats.downstream_rq_total.add(1);
        listener.stats.downstream_rq_active.add(1);
        Self {
            worker: worker.clone(),
            listener,
            request: understood.map(|(_, seen, _)| seen),
            is_refused_call: false,
            rules,
            log_format: rules.and_then(|rules| rules.view.snapshot.settings.access_log),
            started: rt::now(),
            direction: rules.map_or(Direction::Gateway, |rules| rules.listener().direction),
            route_name: "",
            route_stats: None,
            cluster: None,
            endpoint: None,
            status: 0,
            is_forwarded: false,
            is_refused_head_request: false,
            charged_status: 0,
            flags: ResponseFlags::NONE,
            details: Cow::Borrowed(""),
            transport_failure: None,
            upstream_local_address: None,
            has_response: false,
            upstream_service_time_ms: None,
            received: understood.map(|(.., received)| received),
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
        self.listener.stats.rq_total.add(1);
    }

    /// A try goes out on this connection. Its address costs a system call.
    pub fn sent_on(&mut self, upstream: &Transport) {
        if self.log_format.is_some() {
            self.upstream_local_address = upstream.local_addr().ok();
        }
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
        let asks_so = self.request.is_some_and(|seen| seen.method() == b"HEAD");
        asks_so || self.is_refused_head_request
    }

    /// Flags and detail, as they are by now.
    pub fn told(&self) -> (ResponseFlags, &str) {
        (self.flags, &self.details)
    }

    /// What header values of an answer of ours are rendered from.
    pub fn format<'f>(&'f self, connection: &'f Connection, path: &'f str) -> RequestFormat<'f> {
        let came = self.request.and_then(|seen| {
            let host = seen.head.host?;
            std::str::from_utf8(host.of(seen.bytes)).ok()
        });
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        RequestFormat {
            seen: self.request,
            target: Target {
                path: path.as_bytes(),
                query,
                authority: self.authority.or(came).unwrap_or_default(),
                ..Target::default()
            },
            client: connection.told(),
            upstream: self.endpoint.as_ref().and_then(|to| to.socket_address()),
            cluster: self.cluster.as_ref().map_or("", |view| &view.cluster.name),
            route: self.route_name,
            started: self.started,
            response: Some(Response {
                headers: None,
                code: self.status,
                flags: self.flags,
                details: &self.details,
                received: self.bytes_received(),
                attempts: self.attempts,
            }),
            worker: &self.worker,
        }
    }

    /// Whether the caller takes a gRPC status for an answer.
    pub fn is_grpc_request(&self) -> bool {
        match self.request {
            Some(seen) => is_grpc(&seen.head.headers(seen.bytes)),
            None => self.is_refused_call,
        }
    }

    /// An answer of gRPC has passed, whole.
    pub fn grpc_answered(&mut self, headers: &Headers<'_>, body: &Body<'_>) {
        let status = grpc::status(&body.trailers()).or_else(|| grpc::status(headers));
        // Others, of which an upstream could send 65,000, share the series of those without one.
        self.call = CallKind::Grpc(status.filter(|status| *status <= grpc::LAST_STATUS));
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
        let stats = &self.listener.stats;
        let by_router = match &*answer.details {
            Answer::DIRECT_RESPONSE => Some(&stats.rq_direct_response),
            _ if answer.flags.contains(ResponseFlags::NO_ROUTE_FOUND) => Some(&stats.no_route),
            _ if answer.flags.contains(ResponseFlags::NO_CLUSTER_FOUND) => Some(&stats.no_cluster),
            _ => None,
        };
        if let Some(counter) = by_router {
            stats.rq_total.add(1);
            counter.add(1);
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

    /// The response broke off when its head had gone downstream.
    pub fn broken_off(&mut self, flags: ResponseFlags, details: &'static str) {
        // Envoy counts those of gRPC alone: others have told their status already.
        if matches!(self.call, CallKind::Grpc(_)) {
            let stats = &self.listener.stats;
            stats.rq_reset_after_downstream_response_started.add(1);
        }
        self.fail(flags, details);
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

    /// Counts and logs, at its end. Borrows, since a record is too long to be moved for each request.
    pub fn finish(&self, connection: &Connection) {
        let by_class = match self.status / 100 {
            1 => Some(&self.listener.stats.downstream_rq_1xx),
            2 => Some(&self.listener.stats.downstream_rq_2xx),
            3 => Some(&self.listener.stats.downstream_rq_3xx),
            4 => Some(&self.listener.stats.downstream_rq_4xx),
            5 => Some(&self.listener.stats.downstream_rq_5xx),
            _ => None,
        };
        if let Some(counter) = by_class {
            counter.add(1);
        }
        if self.status != 0 {
            self.listener.stats.downstream_rq_completed.add(1);
        }
        let head_bytes = self.request.map_or(0, |seen| seen.head.head_len as u64);
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
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.listener.stats.downstream_rq_active.sub(1);
    }
}
