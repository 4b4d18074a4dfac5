//! The protocols that a port can name.

use crate::schema::{Node, Report};

/// A protocol by its name, in any case of letters. Istio: `protocol.Instance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Http2,
    HttpProxy,
    Grpc,
    GrpcWeb,
    Https,
    Tls,
    /// TCP and the protocols that are carried as TCP.
    Tcp,
    Udp,
}

const NAMES: [(&str, Protocol); 12] = [
    ("HTTP", Protocol::Http),
    ("HTTP2", Protocol::Http2),
    ("HTTP_PROXY", Protocol::HttpProxy),
    ("GRPC", Protocol::Grpc),
    ("GRPC-WEB", Protocol::GrpcWeb),
    ("HTTPS", Protocol::Https),
    ("TLS", Protocol::Tls),
    ("TCP", Protocol::Tcp),
    ("MONGO", Protocol::Tcp),
    ("REDIS", Protocol::Tcp),
    ("MYSQL", Protocol::Tcp),
    ("UDP", Protocol::Udp),
];

impl Protocol {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let known = |(known, _): &&(&str, Self)| known.eq_ignore_ascii_case(name);
        NAMES.iter().find(known).map(|(_, protocol)| *protocol)
    }

    pub(super) fn is_http(self) -> bool {
        matches!(
            self,
            Self::Http | Self::Http2 | Self::HttpProxy | Self::Grpc | Self::GrpcWeb
        )
    }

    pub(super) fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }
}

/// A protocol that has to be known if one is written; without one it is detected.
pub(super) fn check_optional(protocol: &Node<'_>, report: &mut Report<'_>) {
    if !protocol.text().is_empty() {
        check(protocol, report);
    }
}

/// A protocol that has to be known.
pub(super) fn check(protocol: &Node<'_>, report: &mut Report<'_>) {
    if Protocol::parse(protocol.text()).is_none() {
        let message = format!("`{}` is no protocol", protocol.text());
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        let help = format!("write one of {}", names.join(", "));
        report.error("unknown-value", protocol, message, help);
    }
}
