//! The counters of a listener, a cluster and a worker. Names are Envoy's, so that
//! `/stats?filter=upstream_rq` answers as people know it; our own are marked in the text.

use super::counter::Counter;
use super::flags::ResponseFlags;
use super::statuses::{StatusCounts, StatusNames, VisitStatus};

/// Whether a figure only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatKind {
    Counter,
    Gauge,
}

/// Called once for each figure of a set: its name, kind, meaning and value.
pub type VisitStat<'a> = dyn FnMut(&'static str, StatKind, &'static str, u64) + 'a;

/// The name of a figure: that of its field, unless another one is written.
macro_rules! shown_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $shown:literal) => {
        $shown
    };
}

macro_rules! stat_set {
    (
        $(#[$doc:meta])* $name:ident {
            $($kind:ident $field:ident $(as $shown:literal)?: $help:literal,)*
        }
        $(statuses { $($statuses:ident: $names:expr,)* })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        #[repr(align(64))]
        pub struct $name {
            $(#[doc = $help] pub $field: Counter,)*
            $($(pub $statuses: StatusCounts,)*)?
        }

        impl $name {
            /// Calls `visit` for each figure.
            pub fn visit(&self, visit: &mut VisitStat<'_>) {
                $(
                    let name = shown_name!($field $($shown)?);
                    visit(name, StatKind::$kind, $help, self.$field.get());
                )*
            }

            $(
                /// Calls `visit` for each status that was met, and for classes of them.
                pub fn visit_statuses(&self, visit: &mut VisitStatus<'_>) {
                    $(self.$statuses.visit(&$names, visit);)*
                }
            )?
        }
    };
}

stat_set! {
    /// One worker's figures of one listener.
    ListenerStats {
        Counter downstream_cx_total: "Connections accepted",
        Gauge downstream_cx_active: "Connections open",
        Counter downstream_cx_http2_total: "Connections that speak HTTP/2",
        Counter downstream_rq_http2_total: "Requests received over HTTP/2",
        Counter downstream_cx_overflow: "Connections closed at once: limits.maxDownstreamConnections",
        Counter downstream_cx_discard_overflow: "Connections closed with more behind an answer than limits.maxDiscardedBodyBytes (ours)",
        Counter downstream_cx_idle_timeout: "Connections closed by limits.downstreamIdleTimeout",
        Counter downstream_cx_destroy_remote_active_rq: "Connections the client closed within a request",
        Counter downstream_cx_proxy_protocol_error: "Connections whose PROXY protocol header is missing or wrong (ours)",
        Counter downstream_cx_protocol_error: "Connections closed for a protocol error",
        Counter downstream_cx_rx_bytes_total: "Bytes received",
        Counter downstream_cx_tx_bytes_total: "Bytes sent",
        Counter downstream_cx_handed_over: "Connections accepted here and handed to another worker (ours)",
        Counter downstream_rq_total: "Requests received",
        Gauge downstream_rq_active: "Requests in flight",
        Counter downstream_rq_completed: "Responses begun, interim ones among them",
        Counter downstream_rq_1xx: "Responses 1xx, interim ones among them",
        Counter downstream_rq_2xx: "Responses 2xx",
        Counter downstream_rq_3xx: "Responses 3xx",
        Counter downstream_rq_4xx: "Responses 4xx",
        Counter downstream_rq_5xx: "Responses 5xx",
        Counter downstream_rq_rx_reset: "Requests over HTTP/2 that the client reset",
        Counter downstream_rq_header_timeout: "Requests whose head took longer than limits.requestHeadTimeout",
        Counter downstream_rq_idle_timeout: "Requests whose body paused for longer than limits.requestBodyIdleTimeout",
        Counter downstream_rq_too_large: "Heads over limits.maxHeadBytes or limits.maxHeaders",
        Counter tx_flush_timeout: "Connections of HTTP/1.1 closed: limits.sendStallTimeout (ours)",
        Counter downstream_rq_body_error: "Request bodies with broken framing",
        Counter downstream_rq_body_limit: "Request bodies over the chunk extension or trailer limits",
        Counter downstream_cx_upgrades_total: "Requests that became another protocol",
        Gauge downstream_cx_upgrades_active: "Requests that are another protocol now",
        Counter downstream_rq_upgrade_refused: "Requests for an upgrade that is not carried",
        Counter fault_delays_injected as "fault.delays_injected": "Requests delayed by an injected fault",
        Counter fault_aborts_injected as "fault.aborts_injected": "Requests aborted by an injected fault",
        Gauge faults_active as "fault.active_faults": "Requests that an injected delay holds",
        Counter faults_overflow as "fault.faults_overflow": "Delays not injected: limits.maxActiveFaults",
        Counter cors_origin_valid as "cors.origin_valid": "Requests of an origin that the CORS policy allows",
        Counter cors_origin_invalid as "cors.origin_invalid": "Requests of an origin that the CORS policy does not allow",
        Counter rbac_allowed: "Requests that AuthorizationPolicy in force allows",
        Counter rbac_denied: "Requests that AuthorizationPolicy denies",
        Counter rbac_shadow_allowed: "Requests that policies with dry-run would allow",
        Counter rbac_shadow_denied: "Requests that policies with dry-run would deny",
        Counter rbac_logged: "Requests that a policy with the action AUDIT matches",
        Counter jwt_authn_allowed: "Requests without a token, or with a valid one",
        Counter jwt_authn_denied: "Requests whose token is not valid",
        Counter ext_authz_ok: "Requests that a provider of the action CUSTOM allowed",
        Counter ext_authz_denied: "Requests that a provider of the action CUSTOM answered itself",
        Counter ext_authz_error: "Requests about which a provider of the action CUSTOM could not be asked",
        Counter ext_authz_failure_mode_allowed: "Those of them that passed by failOpen",
        Counter no_filter_chain_match: "Connections that suit no filter chain",
        Counter ssl_handshake: "TLS handshakes done",
        Counter downstream_cx_transport_socket_connect_timeout: "TLS handshakes that took longer than limits.requestHeadTimeout",
        Counter ssl_connection_error: "TLS handshakes that failed",
        Counter ssl_fail_verify_no_cert: "TLS handshakes without a certificate of the client",
        Counter ssl_fail_verify_error: "TLS handshakes whose client certificate was refused",
        Counter ssl_no_certificate: "Connections closed because their certificate could not be read",
        Counter rq_total: "Requests that came as far as to be routed: neither refused nor answered before",
        Counter rq_direct_response: "Requests that a route answered by itself, with a redirect too",
        Counter rq_reset_after_downstream_response_started: "Responses of gRPC that broke off after their head had gone downstream",
        Counter no_route: "Requests with no virtual host or no route",
        Counter no_cluster: "Requests routed to a cluster that does not exist",
    }
}

impl ListenerStats {
    /// An interim response counts as one that a request got, and so does the final one: as in Envoy.
    pub fn count_interim(&self) {
        self.downstream_rq_1xx.add(1);
        self.downstream_rq_completed.add(1);
    }
}

stat_set! {
    /// One worker's figures of one cluster.
    ClusterStats {
        Counter upstream_cx_total: "Connections opened",
        Gauge upstream_cx_active: "Connections open",
        Counter upstream_cx_http2_total: "Connections opened that speak HTTP/2",
        Counter http2_keepalive_timeout: "Connections closed because http2KeepAlive got no answer",
        Counter upstream_cx_connect_fail: "Connects that failed",
        Counter upstream_cx_connect_timeout: "Connects that took longer than the connect timeout",
        Counter upstream_cx_idle_timeout: "Pooled connections closed for idleness",
        Counter upstream_cx_destroy_local: "Connections closed from this side",
        Counter upstream_cx_destroy_remote: "Connections closed by the upstream",
        Counter upstream_cx_destroy_remote_with_active_rq: "Connections the upstream closed within a request",
        Counter upstream_cx_protocol_error: "Connections closed for a broken response",
        Counter upstream_cx_overflow: "Connections not opened, or opened above it, because of maxConnections or the limit of open files",
        Counter upstream_cx_max_requests: "Connections closed for maxRequestsPerConnection",
        Counter upstream_cx_max_duration_reached: "Connections closed for maxConnectionDuration",
        Counter upstream_cx_none_healthy: "Requests with no endpoint to go to",
        Counter upstream_cx_rx_bytes_total: "Bytes received",
        Counter upstream_cx_tx_bytes_total: "Bytes sent",
        Counter upstream_rq_total: "Requests sent",
        Gauge upstream_rq_active: "Requests in flight",
        Counter upstream_rq_pending_total: "Requests that waited for a connection",
        Gauge upstream_rq_pending_active: "Requests waiting for a connection",
        Counter upstream_rq_pending_overflow: "Requests refused because of http1MaxPendingRequests",
        Counter upstream_rq_active_overflow: "Requests refused because of http2MaxRequests",
        Counter upstream_rq_pending_failure_eject: "Waiting requests ended by a connect that failed",
        Counter upstream_rq_timeout: "Requests cut by the route timeout",
        Counter upstream_rq_per_try_timeout: "Tries cut by perTryTimeout",
        Counter upstream_rq_retry: "Tries after the first",
        Counter upstream_rq_retry_success: "Requests that a retry saved",
        Counter upstream_rq_retry_limit_exceeded: "Requests not tried again: retries.attempts",
        Counter upstream_rq_retry_overflow: "Requests not tried again: maxRetries or the retry budget",
        Counter upstream_rq_retry_backoff_exponential: "Retries after a back-off",
        Counter retry_or_shadow_abandoned: "Bodies over limits.maxReplayBodyBytes, sent on without retry and mirror",
        Counter shadow_rq_total: "Copies of requests sent to this cluster (ours)",
        Counter shadow_rq_failed: "Copies that got no response (ours)",
        Counter upstream_rq_replayed: "Requests sent again because a reused connection was dead (ours)",
        Counter upstream_rq_rx_reset: "Requests the upstream reset",
        Counter upstream_rq_tx_reset: "Streams of HTTP/2 reset towards the upstream",
        Counter lb_healthy_panic: "Picks among all endpoints, ejected or not, since too few are left",
    }
    statuses {
        responses: StatusNames { prefix: "", tells_all_classes: true },
        retried_responses: StatusNames { prefix: "retry.", tells_all_classes: false },
    }
}

stat_set! {
    /// One worker's figures of the requests that one route has forwarded. Istio: `statPrefix`.
    RouteStats {
        Counter upstream_rq_total: "Requests forwarded",
        Counter upstream_rq_completed: "Requests that got an answer",
        Counter upstream_rq_2xx: "Answers 2xx",
        Counter upstream_rq_3xx: "Answers 3xx",
        Counter upstream_rq_4xx: "Answers 4xx",
        Counter upstream_rq_5xx: "Answers 5xx",
        Counter upstream_rq_timeout: "Requests that took too long",
    }
}

impl RouteStats {
    /// Counts a request that is over; a status of 0 is none.
    pub fn count(&self, status: u16, flags: ResponseFlags) {
        self.upstream_rq_total.add(1);
        if status > 0 {
            self.upstream_rq_completed.add(1);
        }
        let by_class = match status / 100 {
            2 => &self.upstream_rq_2xx,
            3 => &self.upstream_rq_3xx,
            4 => &self.upstream_rq_4xx,
            5 => &self.upstream_rq_5xx,
            _ => return,
        };
        by_class.add(1);
        if flags.contains(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT) {
            self.upstream_rq_timeout.add(1);
        }
    }
}

stat_set! {
    /// One worker's figures of one endpoint. Names are those of Envoy's `/clusters`.
    EndpointStats {
        Gauge cx_active: "Connections open",
        Counter cx_connect_fail: "Connects that failed",
        Counter cx_total: "Connections opened",
        Gauge rq_active: "Requests in flight",
        Counter rq_error: "Tries that ended in 5xx or without a response",
        Counter rq_success: "Tries that ended otherwise",
        Counter rq_timeout: "Tries that took too long",
        Counter rq_total: "Requests sent",
    }
}

stat_set! {
    /// The ejections of one cluster; written under the cluster's lock, so by one thread at a time.
    OutlierStats {
        Gauge ejections_active: "Endpoints that are ejected",
        Counter ejections_consecutive_5xx: "Times consecutive5xxErrors was reached (Envoy's older name)",
        Counter ejections_detected_consecutive_5xx: "Times consecutive5xxErrors was reached",
        Counter ejections_detected_consecutive_gateway_failure: "Times consecutiveGatewayErrors was reached",
        Counter ejections_detected_consecutive_local_origin_failure: "Times consecutiveLocalOriginFailures was reached",
        Counter ejections_enforced_consecutive_5xx: "Ejections for consecutive5xxErrors",
        Counter ejections_enforced_consecutive_gateway_failure: "Ejections for consecutiveGatewayErrors",
        Counter ejections_enforced_consecutive_local_origin_failure: "Ejections for consecutiveLocalOriginFailures",
        Counter ejections_enforced_total: "Ejections",
        Counter ejections_overflow: "Ejections that maxEjectionPercent did not allow",
        Counter ejections_total: "Ejections for consecutive5xxErrors (Envoy's older name)",
    }
}

stat_set! {
    /// One worker's figures of HTTP/2 with clients.
    Http2Stats {
        Counter rx_reset: "RST_STREAM frames received",
        Counter tx_reset: "RST_STREAM frames sent",
        Counter tx_writes: "Writes of frames to clients, of as many as there were (ours)",
        Counter goaway_sent: "GOAWAY frames sent",
        Counter tx_flush_timeout: "Streams reset and connections closed: limits.sendStallTimeout",
        Counter header_overflow: "Connections ended because a head was far over limits.maxHeadBytes",
        Counter too_many_header_frames: "Connections ended: limits.maxContinuationFrames",
        Counter inbound_empty_frames_flood: "Connections ended: limits.maxEmptyFrames",
        Counter inbound_priority_frames_flood: "Connections ended: limits.maxPriorityFramesPerStream",
        Counter inbound_window_update_frames_flood: "Connections ended: limits.maxWindowUpdatesPerDataFrame",
        Counter inbound_control_frames_flood: "Connections ended: limits.maxControlFrames (ours)",
        Counter too_many_bad_streams: "Connections ended: limits.maxBadStreams or maxResetStreams (ours; Envoy: downstream_rq_too_many_premature_resets)",
        Counter too_many_data_frames: "Connections ended because many small DATA frames waited to be taken (ours)",
    }
}

stat_set! {
    /// One worker's figures of the connections whose bytes go to one cluster. Envoy's `tcp.`.
    TcpStats {
        Counter downstream_cx_total: "Connections carried",
        Counter downstream_cx_no_route: "Connections to a cluster that does not exist",
        Counter downstream_cx_rx_bytes_total: "Bytes received from clients",
        Counter downstream_cx_tx_bytes_total: "Bytes sent to clients",
        Counter idle_timeout: "Connections closed for idleness",
        Counter max_downstream_connection_duration: "Connections closed for their age",
        Counter max_connect_attempts: "Connections whose last endpoint could not be connected to",
    }
}

stat_set! {
    /// One worker's own figures.
    WorkerStats {
        Gauge connections: "Downstream connections this worker serves",
        Counter requests: "Requests this worker served",
        Gauge generation: "Generation of the snapshot in use",
        Counter accept_errors: "Accepts that failed, as for want of descriptors",
        Counter allocations: "Heap allocations made on this worker's thread",
        Counter loop_turns: "Turns of the event loop",
        Gauge receive_buffers: "Receive buffers allocated",
        Gauge receive_buffers_in_use: "Receive buffers that hold bytes",
        Counter receive_buffers_exhausted: "Times a receive waited for a buffer",
        Counter task_panics: "Connections ended by a bug in the proxy",
        Counter access_log_dropped: "Access log lines dropped because the queue was full",
    }
}
