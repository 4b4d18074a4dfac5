//! Answers that the proxy gives by itself. Status, flag, detail and text are Envoy's.

use super::upstream::ConnectError;
use crate::stats::ResponseFlags;
use ringroad_codec::http1::{BodyError, HeadError, HeadErrorKind, reason_phrase};
use ringroad_policy::snapshot::TimeoutStatus;
use std::borrow::Cow;

/// The detail of [`Answer::upstream_timeout`].
const RESPONSE_TIMEOUT: &str = "response_timeout";

/// A response of our own.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub flags: ResponseFlags,
    /// Envoy's `RESPONSE_CODE_DETAILS`.
    pub details: Cow<'static, str>,
    pub body: Cow<'static, [u8]>,
    /// Further header lines, such as `location`.
    pub headers: Vec<(&'static str, String)>,
    /// For gRPC callers; `None` is what the status stands for.
    pub grpc_status: Option<u16>,
    /// Whether the connection ends with this answer, as after what should not have been sent.
    pub ends_connection: bool,
    /// Why there was no connection upstream, for the access log.
    pub transport_failure: Option<String>,
}

impl Answer {
    /// The detail of [`Answer::upgrade_refused`].
    pub const UPGRADE_REFUSED: &'static str = "upgrade_failed";

    /// The detail of what a route answers: [`Answer::direct`], [`Answer::redirect`].
    pub const DIRECT_RESPONSE: &'static str = "direct_response";

    /// The detail of [`Answer::per_try_timeout`].
    pub const PER_TRY_TIMEOUT: &'static str = "upstream_per_try_timeout";

    fn new(status: u16, flags: ResponseFlags, details: &'static str, body: &'static str) -> Self {
        let body = Cow::Borrowed(body.as_bytes());
        Self {
            status,
            flags,
            details: Cow::Borrowed(details),
            body,
            headers: Vec::new(),
            grpc_status: None,
            ends_connection: false,
            transport_failure: None,
        }
    }

    /// What a gRPC caller is told (Envoy's mapping of HTTP status codes).
    pub fn grpc_status(&self) -> u16 {
        self.grpc_status.unwrap_or(match self.status {
            200 => 0,
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502..=504 => 14,
            _ => 2,
        })
    }

    /// Policies do not let the request pass; `details` say which.
    pub fn access_denied(details: String) -> Self {
        Self {
            details: Cow::Owned(details),
            ..Self::new(403, ResponseFlags::NONE, "", "RBAC: access denied")
        }
    }

    /// The token of the request is not valid; `challenge` goes into `www-authenticate`.
    pub fn unauthorized(
        status: u16,
        text: &'static str,
        details: &'static str,
        challenge: String,
    ) -> Self {
        Self {
            headers: vec![("www-authenticate", challenge)],
            ..Self::new(status, ResponseFlags::NONE, details, text)
        }
    }

    /// Nobody could be asked whether the request may pass.
    pub fn authorization_failed(status: u16) -> Self {
        let flags = ResponseFlags::UNAUTHORIZED_EXTERNAL_SERVICE;
        Self::new(status, flags, "ext_authz_error", "")
    }

    /// Somebody was asked, and this is what they answer in place of the upstream.
    pub fn authorization_denied(status: u16, body: Vec<u8>) -> Self {
        let flags = ResponseFlags::UNAUTHORIZED_EXTERNAL_SERVICE;
        Self {
            body: Cow::Owned(body),
            ..Self::new(status, flags, "ext_authz_denied", "")
        }
    }

    /// The body is longer than whoever decides about the request may be shown.
    pub fn body_too_long() -> Self {
        let details = "request_payload_too_large";
        Self::new(413, ResponseFlags::NONE, details, "Payload Too Large")
    }

    /// No virtual host or no route matches.
    pub fn no_route() -> Self {
        Self::new(404, ResponseFlags::NO_ROUTE_FOUND, "route_not_found", "")
    }

    /// The route leads to a cluster or subset that does not exist.
    pub fn no_cluster() -> Self {
        Self::new(
            503,
            ResponseFlags::NO_CLUSTER_FOUND,
            "cluster_not_found",
            "",
        )
    }

    /// The cluster has no endpoint to go to.
    pub fn no_healthy_upstream() -> Self {
        let flags = ResponseFlags::NO_HEALTHY_UPSTREAM;
        Self::new(503, flags, "no_healthy_upstream", "no healthy upstream")
    }

    /// The route's timeout has passed, which it has answered so.
    pub fn upstream_timeout(status: TimeoutStatus) -> Self {
        let flags = ResponseFlags::UPSTREAM_REQUEST_TIMEOUT;
        let body = match status {
            TimeoutStatus::GatewayTimeout => "upstream request timeout",
            TimeoutStatus::NoContent => "",
        };
        Self::new(status.code(), flags, RESPONSE_TIMEOUT, body)
    }

    /// Where the timeout was the caller's own deadline, it is told so (gRPC, DEADLINE_EXCEEDED).
    pub fn of_callers_deadline(mut self) -> Self {
        if self.details == RESPONSE_TIMEOUT {
            self.grpc_status = Some(4);
        }
        self
    }

    /// A limit of the cluster is reached.
    pub fn overflow() -> Self {
        let mut answer = Self::reset(
            503,
            ResponseFlags::UPSTREAM_OVERFLOW,
            "upstream_reset_before_response_started{overflow}",
            "upstream connect error or disconnect/reset before headers. reset reason: overflow",
        );
        // For clients that would try again.
        answer
            .headers
            .push(("x-envoy-overloaded", "true".to_string()));
        answer
    }

    /// The endpoint could not be connected to.
    pub fn connect_failed(error: ConnectError) -> Self {
        let cause = match error {
            ConnectError::Failed(cause) => cause,
            ConnectError::TimedOut => return Self::connect_timed_out(),
            ConnectError::Tls(why) => {
                return Self {
                    transport_failure: Some(format!("TLS_error:|{why}:TLS_error_end")),
                    ..Self::remote_connection_failure()
                };
            }
            ConnectError::Overflow => return Self::overflow(),
        };
        Self {
            transport_failure: Some(delayed_connect_error(&cause)),
            ..Self::remote_connection_failure()
        }
    }

    fn remote_connection_failure() -> Self {
        Self::reset(
            503,
            ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
            "upstream_reset_before_response_started{remote_connection_failure}",
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
        )
    }

    /// Connecting took longer than the connect timeout.
    fn connect_timed_out() -> Self {
        Self::reset(
            503,
            ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
            "upstream_reset_before_response_started{connection_timeout}",
            "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
        )
    }

    /// One try took longer than `perTryTimeout`.
    pub fn per_try_timeout(status: TimeoutStatus) -> Self {
        Self {
            details: Cow::Borrowed(Self::PER_TRY_TIMEOUT),
            ..Self::upstream_timeout(status)
        }
    }

    /// The upstream closed or reset before a whole response head.
    pub fn upstream_closed() -> Self {
        Self::reset(
            503,
            ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
            "upstream_reset_before_response_started{connection_termination}",
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
        )
    }

    /// The upstream has reset the stream before a response.
    pub fn upstream_reset() -> Self {
        Self::reset(
            503,
            ResponseFlags::UPSTREAM_REMOTE_RESET,
            "upstream_reset_before_response_started{remote_reset}",
            "upstream connect error or disconnect/reset before headers. reset reason: remote reset",
        )
    }

    /// The upstream has refused the stream.
    pub fn upstream_refused() -> Self {
        Self::reset(
            503,
            ResponseFlags::UPSTREAM_REMOTE_RESET,
            "upstream_reset_before_response_started{remote_refused_stream_reset}",
            "upstream connect error or disconnect/reset before headers. reset reason: remote refused stream reset",
        )
    }

    /// The upstream's response is no HTTP.
    pub fn upstream_protocol_error() -> Self {
        Self::reset(
            502,
            ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
            "upstream_reset_before_response_started{protocol_error}",
            "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
        )
    }

    fn reset(status: u16, flags: ResponseFlags, details: &'static str, body: &'static str) -> Self {
        Self::new(status, flags, details, body)
    }

    /// Says that there were tries before, where the answer is about the last one's failure.
    pub fn of_a_retry(mut self) -> Self {
        if let Some(reason) = self.body.strip_prefix(RESET_TEXT) {
            self.body = Cow::Owned([RESET_TEXT, b"retried and the latest ", reason].concat());
        }
        self
    }

    /// The request head was refused by the codec.
    pub fn malformed(error: &HeadError) -> Self {
        let flags = match error.kind {
            // To Envoy its head is well-formed.
            HeadErrorKind::MissingHost => ResponseFlags::NONE,
            _ => ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR,
        };
        let mut answer = Self::new(error.status(), flags, error.details(), "");
        answer.body = Cow::Borrowed(reason_phrase(answer.status).as_bytes());
        answer
    }

    /// The framing of the request body is broken, or larger than a limit allows.
    pub fn broken_body(error: &BodyError) -> Self {
        let flags = ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR;
        let (status, details) = (error.status(), error.details());
        Self::new(status, flags, details, reason_phrase(status))
    }

    /// The request head did not arrive in time.
    pub fn head_timeout() -> Self {
        Self::new(
            408,
            ResponseFlags::NONE,
            "request_header_timeout",
            "request header timeout",
        )
    }

    /// The client has not gone on with its request body.
    pub fn body_stalled() -> Self {
        let flags = ResponseFlags::STREAM_IDLE_TIMEOUT;
        Self::new(408, flags, "stream_idle_timeout", "stream timeout")
    }

    /// The request asks for a protocol that is not carried.
    pub fn upgrade_refused() -> Self {
        Self {
            ends_connection: true,
            ..Self::new(403, ResponseFlags::NONE, Self::UPGRADE_REFUSED, "")
        }
    }

    /// A URL of `https` on a connection without TLS: its sender believes in secrecy that is not
    /// there.
    pub fn https_in_plain_text() -> Self {
        let flags = ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR;
        let details = "http1.https_url_on_plaintext_connection";
        Self {
            ends_connection: true,
            ..Self::new(403, flags, details, "Forbidden")
        }
    }

    /// The path escapes its root or holds what no path may.
    pub fn bad_path() -> Self {
        let flags = ResponseFlags::NONE;
        Self {
            ends_connection: true,
            ..Self::new(400, flags, "path_normalization_failed", "")
        }
    }

    /// An HTTP/1.0 request that does not say which host it is for.
    pub fn no_host() -> Self {
        Self {
            ends_connection: true,
            ..Self::new(400, ResponseFlags::NONE, "missing_host_header", "")
        }
    }

    /// A response that a route or the catch-all virtual host gives directly.
    pub fn direct(status: u16, body: &[u8]) -> Self {
        let body = Cow::Owned(body.to_vec());
        Self {
            body,
            ..Self::new(status, ResponseFlags::NONE, Self::DIRECT_RESPONSE, "")
        }
    }

    /// The same with a `location`.
    pub fn with_location(mut self, location: String) -> Self {
        self.headers.push(("location", location));
        self
    }

    /// A preflight that is answered here.
    pub fn preflight(headers: Vec<(&'static str, String)>) -> Self {
        Self {
            headers,
            ..Self::new(200, ResponseFlags::NONE, "cors_response", "")
        }
    }

    /// An injected abort.
    pub fn injected(status: u16) -> Self {
        let flags = ResponseFlags::FAULT_INJECTED;
        Self::new(status, flags, "fault_filter_abort", "fault filter abort")
    }

    /// An injected abort with a gRPC status.
    pub fn injected_grpc(grpc_status: u16) -> Self {
        Self {
            grpc_status: Some(grpc_status),
            ..Self::injected(200)
        }
    }

    /// A redirect to `location`.
    pub fn redirect(status: u16, location: String) -> Self {
        let headers = vec![("location", location)];
        Self {
            headers,
            ..Self::new(status, ResponseFlags::NONE, Self::DIRECT_RESPONSE, "")
        }
    }
}

const RESET_TEXT: &[u8] = b"upstream connect error or disconnect/reset before headers. ";

/// The cause as access logs have it: without blanks, and without Rust's own addition of the number.
fn delayed_connect_error(cause: &std::io::Error) -> String {
    let text = cause.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    format!("delayed_connect_error:_{}", text.replace(' ', "_"))
}
