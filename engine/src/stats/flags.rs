//! Envoy's response flags: why a request did not simply succeed.

/// A set of flags. The short names are Envoy's, as they appear in access logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ResponseFlags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $short:literal;)*) => {
        impl ResponseFlags {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*
            /// Short, and as here.
            const NAMES: &'static [(Self, &'static str, &'static str)] =
                &[$((Self::$name, $short, stringify!($name)),)*];
        }
    };
}

// In the order in which several are named. Envoy names them as they come to light: faults, then
// that there will be no further try, then why the last one failed.
flags! {
    /// A delay was injected.
    DELAY_INJECTED = 7, "DI";
    /// An abort was injected.
    FAULT_INJECTED = 8, "FI";
    /// Retries were exhausted.
    UPSTREAM_RETRY_LIMIT_EXCEEDED = 10, "URX";
    /// A circuit breaker overflowed.
    UPSTREAM_OVERFLOW = 5, "UO";
    /// No healthy upstream endpoint.
    NO_HEALTHY_UPSTREAM = 0, "UH";
    /// The upstream took too long.
    UPSTREAM_REQUEST_TIMEOUT = 1, "UT";
    /// The upstream reset before a response.
    UPSTREAM_REMOTE_RESET = 2, "UR";
    /// Connecting to the upstream failed.
    UPSTREAM_CONNECTION_FAILURE = 3, "UF";
    /// The upstream closed the connection before or within its response.
    UPSTREAM_CONNECTION_TERMINATION = 4, "UC";
    /// No route.
    NO_ROUTE_FOUND = 6, "NR";
    /// The downstream went away.
    DOWNSTREAM_CONNECTION_TERMINATION = 9, "DC";
    /// The client reset the stream.
    DOWNSTREAM_REMOTE_RESET = 16, "DR";
    /// The stream was idle for too long.
    STREAM_IDLE_TIMEOUT = 11, "SI";
    /// The downstream broke the protocol.
    DOWNSTREAM_PROTOCOL_ERROR = 12, "DPE";
    /// The upstream broke the protocol.
    UPSTREAM_PROTOCOL_ERROR = 13, "UPE";
    /// The route's cluster does not exist.
    NO_CLUSTER_FOUND = 14, "NC";
    /// Somebody else was asked, and did not let the request pass.
    UNAUTHORIZED_EXTERNAL_SERVICE = 15, "UAEX";
    /// The connection lasted longer than it may.
    DURATION_TIMEOUT = 31, "DT";
}

impl ResponseFlags {
    pub const NONE: Self = Self(0);

    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The short names joined by commas, `-` when there are none.
    pub fn write(self, out: &mut Vec<u8>) {
        self.write_each(out, |short, _, out| out.extend_from_slice(short.as_bytes()));
    }

    /// The long names: `UpstreamOverflow`.
    pub fn write_long(self, out: &mut Vec<u8>) {
        self.write_each(out, |_, long, out| {
            for word in long.split('_') {
                let (first, rest) = word.split_at(1);
                out.extend_from_slice(first.as_bytes());
                out.extend(rest.bytes().map(|byte| byte.to_ascii_lowercase()));
            }
        });
    }

    fn write_each(self, out: &mut Vec<u8>, write: impl Fn(&str, &str, &mut Vec<u8>)) {
        let start = out.len();
        for (flag, short, long) in Self::NAMES {
            if self.contains(*flag) {
                if out.len() > start {
                    out.push(b',');
                }
                write(short, long, out);
            }
        }
        if out.len() == start {
            out.push(b'-');
        }
    }
}

impl std::fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::new();
        self.write(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_as_envoy_writes_them() {
        assert_eq!(ResponseFlags::NONE.to_string(), "-");
        let mut long = Vec::new();
        ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED.write_long(&mut long);
        assert_eq!(long, b"UpstreamRetryLimitExceeded");
        let mut flags = ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED;
        flags.insert(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
        assert_eq!(flags.to_string(), "URX,UF");
    }
}
