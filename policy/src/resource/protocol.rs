//! What a port speaks.

/// Protocols that a port can declare. Istio: `protocol.Instance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    Http,
    Http2,
    HttpProxy,
    Grpc,
    GrpcWeb,
    Https,
    Tls,
    Tcp,
    Udp,
    Mongo,
    Redis,
    Mysql,
    /// Not declared: found out connection by connection.
    Sniffed,
}

impl Protocol {
    /// Every name that declares one.
    pub const NAMES: [(&str, Self); 12] = [
        ("HTTP", Self::Http),
        ("HTTP2", Self::Http2),
        ("HTTP_PROXY", Self::HttpProxy),
        ("GRPC", Self::Grpc),
        ("GRPC-WEB", Self::GrpcWeb),
        ("HTTPS", Self::Https),
        ("TLS", Self::Tls),
        ("TCP", Self::Tcp),
        ("MONGO", Self::Mongo),
        ("REDIS", Self::Redis),
        ("MYSQL", Self::Mysql),
        ("UDP", Self::Udp),
    ];

    /// The protocol of this name, in any case of letters.
    pub fn named(name: &str) -> Option<Self> {
        let known = |(known, _): &&(&str, Self)| known.eq_ignore_ascii_case(name);
        Self::NAMES
            .iter()
            .find(known)
            .map(|(_, protocol)| *protocol)
    }

    /// What `name` declares; anything unknown is sniffed.
    pub fn parse(name: &str) -> Self {
        Self::named(name).unwrap_or(Self::Sniffed)
    }

    pub fn is_http(self) -> bool {
        matches!(
            self,
            Self::Http | Self::Http2 | Self::HttpProxy | Self::Grpc | Self::GrpcWeb
        )
    }

    /// Whether requests for such a port are sent in HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Whether connections on such a port are carried as bytes.
    pub fn is_tcp(self) -> bool {
        matches!(
            self,
            Self::Https | Self::Tls | Self::Tcp | Self::Mongo | Self::Redis | Self::Mysql
        )
    }

    /// Whether such a connection begins with TLS, so that it can be told by its server name.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// Whether requests on such a port are routed.
    pub fn is_http_or_sniffed(self) -> bool {
        self.is_http() || self == Self::Sniffed
    }

    /// The protocol of a port of a Kubernetes Service: `appProtocol`, else what stands before the
    /// first dash of the port's name, else what such a port is known for.
    pub fn of_service_port(
        number: u32,
        name: &str,
        transport: &str,
        app_protocol: Option<&str>,
    ) -> Self {
        if transport.eq_ignore_ascii_case("UDP") {
            return Self::Udp;
        }
        if let Some(declared) = app_protocol {
            return match declared {
                "kubernetes.io/h2c" => Self::Http2,
                "kubernetes.io/ws" => Self::Http,
                "kubernetes.io/wss" => Self::Https,
                _ => Self::parse(declared),
            };
        }
        // Of all names only this one has a dash in it.
        let lower = name.to_ascii_lowercase();
        if lower == "grpc-web" || lower.starts_with("grpc-web-") {
            return Self::GrpcWeb;
        }
        let prefix = lower
            .split_once('-')
            .map_or(lower.as_str(), |(prefix, _)| prefix);
        match (Self::parse(prefix), number) {
            (Self::Sniffed | Self::Udp, 25 | 53 | 3306 | 27017) => Self::Tcp,
            (found, _) => found,
        }
    }
}
