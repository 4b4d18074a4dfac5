//! Cross-origin resource sharing, as a route allows it. Istio: `http[].corsPolicy`.

use super::answer::Answer;
use crate::stats::ListenerStats;
use ringroad_codec::http1::{Headers, write_header};
use ringroad_policy::snapshot::CorsPolicy;

/// What a request of another origin is granted: the headers of its response.
#[derive(Clone, Copy)]
pub struct CorsGrant<'a> {
    origin: &'a [u8],
    policy: &'a CorsPolicy,
}

/// What a policy says to a request.
pub enum CorsVerdict<'a> {
    /// It names no origin, or one that is not allowed: it passes as it is.
    Nothing,
    /// Its response gets these headers.
    Granted(CorsGrant<'a>),
    /// It asks whether another request would be granted, and is answered here.
    Preflight(Answer),
}

impl<'a> CorsVerdict<'a> {
    /// Judges a request by its method and headers.
    pub fn of(
        policy: &'a CorsPolicy,
        method: &[u8],
        headers: &Headers<'a>,
        stats: &ListenerStats,
    ) -> Self {
        let Some(origin) = headers.first("origin").filter(|origin| !origin.is_empty()) else {
            return Self::Nothing;
        };
        let is_preflight = method == b"OPTIONS"
            && headers
                .first("access-control-request-method")
                .is_some_and(|method| !method.is_empty());
        if !policy.allows(origin) {
            stats.cors_origin_invalid.add(1);
            return match is_preflight && !policy.forward_unmatched_preflights {
                true => Self::Preflight(Answer::preflight(Vec::new())),
                false => Self::Nothing,
            };
        }
        stats.cors_origin_valid.add(1);
        let grant = CorsGrant { origin, policy };
        match is_preflight {
            true => Self::Preflight(Answer::preflight(grant.preflight_headers())),
            false => Self::Granted(grant),
        }
    }
}

impl CorsGrant<'_> {
    fn preflight_headers(&self) -> Vec<(&'static str, String)> {
        let origin = String::from_utf8_lossy(self.origin).into_owned();
        let policy = self.policy;
        let mut headers = vec![("access-control-allow-origin", origin)];
        let mut list = |name, value: &str| {
            if !value.is_empty() {
                headers.push((name, value.to_string()));
            }
        };
        if policy.allow_credentials == Some(true) {
            list("access-control-allow-credentials", "true");
        }
        list("access-control-allow-methods", &policy.allow_methods);
        list("access-control-allow-headers", &policy.allow_headers);
        if let Some(seconds) = policy.max_age_s {
            list("access-control-max-age", &seconds.to_string());
        }
        list("access-control-expose-headers", &policy.expose_headers);
        headers
    }

    /// Whether the grant replaces a response header of this name.
    pub fn replaces(&self, name: &[u8]) -> bool {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        is(b"access-control-allow-origin")
            || self.policy.allow_credentials == Some(true)
                && is(b"access-control-allow-credentials")
            || !self.policy.expose_headers.is_empty() && is(b"access-control-expose-headers")
    }

    /// Appends the response headers.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_header(out, b"access-control-allow-origin", self.origin);
        if self.policy.allow_credentials == Some(true) {
            write_header(out, b"access-control-allow-credentials", b"true");
        }
        if !self.policy.expose_headers.is_empty() {
            let exposed = self.policy.expose_headers.as_bytes();
            write_header(out, b"access-control-expose-headers", exposed);
        }
    }
}
