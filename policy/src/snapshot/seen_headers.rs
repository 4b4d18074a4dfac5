//! The headers of a request as everybody behind the door sees them: routes, policies, services that
//! are asked, and the upstream. What callers must not say is gone from them, and what the proxy
//! knows itself stands in its place. Envoy does this in `ConnectionManagerUtility::mutateRequestHeaders`.

use std::net::IpAddr;

use super::listener::Direction;
use super::request::HeaderLookup;
use crate::settings::ForwardedClientCert;

/// Headers by which a client could steer the router, or say of which workload it is. They are for
/// trusted callers only, and no caller is trusted by default (Envoy's internal address list is
/// empty). Istio's proxies tell each other the workload by theirs, and take everybody else's out.
const STEERING: &[&str] = &[
    "x-envoy-attempt-count",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-url",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
];

/// Headers that a gateway, in addition, takes from nobody outside.
const EDGE: &[&str] = &[
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-external-address",
    "x-envoy-original-host",
    "x-envoy-original-path",
];

/// Whether a header `x-envoy-…` of a caller goes no further. The name may have any case.
pub fn is_taken_from_callers(name: &[u8], direction: Direction) -> bool {
    let listed = |list: &[&str]| list.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()));
    listed(STEERING) || direction == Direction::Gateway && listed(EDGE)
}

/// What becomes of `x-forwarded-client-cert` in one request; by default it is taken out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForwardedCert<'a> {
    /// Whether what came goes on.
    pub keeps: bool,
    /// The element that tells of the client's certificate.
    pub adds: Option<&'a str>,
}

impl<'a> ForwardedCert<'a> {
    /// By what is configured, and the element of the client if it has shown a certificate.
    pub fn new(mode: ForwardedClientCert, element: Option<&'a str>) -> Self {
        let (keeps, adds) = match (mode, element) {
            (ForwardedClientCert::AlwaysForwardOnly, _) => (true, None),
            (ForwardedClientCert::Sanitize, _) | (_, None) => (false, None),
            (ForwardedClientCert::ForwardOnly, Some(_)) => (true, None),
            (ForwardedClientCert::AppendForward, Some(_)) => (true, element),
            (ForwardedClientCert::SanitizeSet, Some(_)) => (false, element),
        };
        Self { keeps, adds }
    }
}

/// Headers that came, seen through what the proxy makes of them.
pub struct SeenHeaders<'a> {
    /// As they came, but for what `Connection` names.
    pub came: &'a dyn HeaderLookup,
    pub direction: Direction,
    /// What the client speaks: `http` or `https`.
    pub scheme: &'a str,
    /// Where the connection comes from; `None` where that is not known.
    pub peer: Option<IpAddr>,
    pub client_cert: ForwardedCert<'a>,
    /// The id that the proxy gives the request, if it does.
    pub request_id: Option<&'a [u8]>,
    /// Whether the request asks for another protocol: then the headers that do so are seen.
    pub is_upgrade: bool,
}

impl HeaderLookup for SeenHeaders<'_> {
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let is_edge = self.direction == Direction::Gateway;
        match name {
            "x-forwarded-for" => self.visit_joined(name, self.peer.filter(|_| is_edge), each),
            "x-forwarded-proto" => self.visit_scheme(name, is_edge, each),
            "x-forwarded-client-cert" => self.visit_client_cert(name, each),
            "x-request-id" => match self.request_id {
                Some(id) => each(id),
                None => self.came.visit(name, each),
            },
            "x-envoy-external-address" if is_edge => {
                if let Some(peer) = self.peer {
                    each(peer.to_string().as_bytes());
                }
            }
            "connection" | "upgrade" => {
                if self.is_upgrade {
                    self.came.visit(name, each);
                }
            }
            "te" => {
                let mut has_trailers = false;
                self.came
                    .visit(name, &mut |value| has_trailers |= names_trailers(value));
                if has_trailers {
                    each(b"trailers");
                }
            }
            "keep-alive" | "proxy-connection" | "transfer-encoding" | "http2-settings"
            | "expect" => {}
            _ if name.starts_with("x-envoy-")
                && is_taken_from_callers(name.as_bytes(), self.direction) => {}
            _ => self.came.visit(name, each),
        }
    }
}

impl SeenHeaders<'_> {
    /// All lines as one, and the peer behind them: they are one list (RFC 9110 section 5.3).
    fn visit_joined(&self, name: &str, peer: Option<IpAddr>, each: &mut dyn FnMut(&[u8])) {
        let mut list = Vec::new();
        self.came.visit(name, &mut |value| {
            if !list.is_empty() {
                list.push(b',');
            }
            list.extend_from_slice(value);
        });
        if let Some(peer) = peer {
            if !list.is_empty() {
                list.push(b',');
            }
            list.extend_from_slice(peer.to_string().as_bytes());
        }
        if !list.is_empty() {
            each(&list);
        }
    }

    /// A sidecar believes its caller, which is a gateway or another sidecar.
    fn visit_scheme(&self, name: &str, is_edge: bool, each: &mut dyn FnMut(&[u8])) {
        let mut is_told = false;
        if !is_edge {
            self.came.visit(name, &mut |value| {
                is_told = true;
                each(value);
            });
        }
        if !is_told {
            each(self.scheme.as_bytes());
        }
    }

    fn visit_client_cert(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let ForwardedCert { keeps, adds } = self.client_cert;
        let Some(element) = adds else {
            if keeps {
                self.came.visit(name, each);
            }
            return;
        };
        let mut list = Vec::new();
        if keeps {
            self.came.visit(name, &mut |value| {
                list.extend_from_slice(value);
                list.push(b',');
            });
        }
        list.extend_from_slice(element.as_bytes());
        each(&list);
    }
}

/// Whether a `TE` value takes trailers, the one thing in it that holds beyond this connection (RFC
/// 9110 section 10.1.4).
pub fn names_trailers(value: &[u8]) -> bool {
    value
        .split(|byte| *byte == b',')
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(direction: Direction, cert: ForwardedCert<'_>, came: &[(&str, &str)]) -> Vec<String> {
        let headers = SeenHeaders {
            came: &came.to_vec(),
            direction,
            scheme: "http",
            peer: "192.0.2.1".parse().ok(),
            client_cert: cert,
            request_id: None,
            is_upgrade: false,
        };
        let mut names: Vec<&str> = came.iter().map(|(name, _)| *name).collect();
        names.extend(["x-forwarded-proto", "x-envoy-external-address"]);
        names.sort_unstable();
        names.dedup();
        let mut seen = Vec::new();
        for name in names {
            headers.visit(name, &mut |value| {
                seen.push(format!("{name}: {}", String::from_utf8_lossy(value)));
            });
        }
        seen
    }

    #[test]
    fn a_gateway_believes_nobody() {
        let came = [
            ("a", "1"),
            ("te", "gzip, trailers"),
            ("upgrade", "x"),
            ("x-envoy-external-address", "10.0.0.9"),
            ("x-envoy-internal", "true"),
            ("x-envoy-original-path", "/public"),
            ("x-envoy-other", "stays"),
            ("x-forwarded-client-cert", "URI=spiffe://forged"),
            ("x-forwarded-for", "10.0.0.8"),
            ("x-forwarded-for", "10.0.0.9"),
            ("x-forwarded-proto", "https"),
        ];
        let told = [
            "a: 1",
            "te: trailers",
            "x-envoy-external-address: 192.0.2.1",
            "x-envoy-other: stays",
            "x-forwarded-for: 10.0.0.8,10.0.0.9,192.0.2.1",
            "x-forwarded-proto: http",
        ];
        assert_eq!(
            seen(Direction::Gateway, ForwardedCert::default(), &came),
            told
        );
    }

    #[test]
    fn a_sidecar_believes_its_peers_about_the_client_and_not_about_itself() {
        let came = [
            ("x-envoy-external-address", "10.0.0.9"),
            ("x-envoy-internal", "true"),
            ("x-forwarded-client-cert", "URI=a"),
            ("x-forwarded-for", "10.0.0.8"),
            ("x-forwarded-proto", "https"),
        ];
        let own = ForwardedCert {
            keeps: true,
            adds: Some("URI=b"),
        };
        let told = [
            "x-envoy-external-address: 10.0.0.9",
            "x-forwarded-client-cert: URI=a,URI=b",
            "x-forwarded-for: 10.0.0.8",
            "x-forwarded-proto: https",
        ];
        assert_eq!(seen(Direction::Inbound, own, &came), told);
    }

    #[test]
    fn what_came_goes_on_only_where_that_is_configured_and_a_certificate_was_shown() {
        use ForwardedClientCert::*;
        let told = |mode, element| {
            let ForwardedCert { keeps, adds } = ForwardedCert::new(mode, element);
            (keeps, adds)
        };
        for mode in [Sanitize, ForwardOnly, AppendForward, SanitizeSet] {
            assert_eq!(told(mode, None), (false, None), "{mode:?}");
        }
        assert_eq!(told(AlwaysForwardOnly, None), (true, None));
        assert_eq!(told(AlwaysForwardOnly, Some("x")), (true, None));
        assert_eq!(told(Sanitize, Some("x")), (false, None));
        assert_eq!(told(ForwardOnly, Some("x")), (true, None));
        assert_eq!(told(AppendForward, Some("x")), (true, Some("x")));
        assert_eq!(told(SanitizeSet, Some("x")), (false, Some("x")));
    }
}
