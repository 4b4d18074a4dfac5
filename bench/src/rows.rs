//! What is measured: one row is one kind of load, run against every proxy in turn.

use serde::Serialize;

use crate::payload::Payload;
use crate::peers::Peer;

/// The rate of the rows that do not saturate the proxy, in requests a second.
pub const FIXED_RATE: f64 = 16_000.0;
/// Connections of the rows.
pub const CONNECTIONS: [usize; 3] = [8, 64, 512];

/// Requests at a time on each connection of HTTP/2.
pub const STREAMS: usize = 32;

/// What a proxy speaks on its listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Front {
    Plain,
    Tls,
    /// By prior knowledge.
    Http2,
}

/// How requests are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offer {
    /// Every connection is kept busy.
    Saturated,
    /// [`FIXED_RATE`] requests a second by schedule: each connection has one at every beat, as with
    /// `h2load --rps`.
    FixedRate,
    /// The same, spread as evenly as can be over time.
    EvenRate,
    /// As `Saturated`, with a new connection for each request.
    ConnectionPerRequest,
    /// As `Saturated`, long enough to tell user space from the kernel.
    Split,
    /// As `Saturated`, with a rich policy beside a plain one.
    Policy,
    /// As `Saturated`, over TLS 1.3.
    Tls,
    /// A new connection of TLS 1.3 for each request, with a full handshake (ECDSA, P-256).
    TlsFull,
    /// The same with a session that is taken up again.
    TlsResumed,
    /// As `Saturated`, over HTTP/2 with [`STREAMS`] requests at a time on each connection.
    Http2,
    /// As `Saturated`, through two proxies that speak mutual TLS to each other, beside two that
    /// speak plain text.
    TwoHops,
}

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub payload: Payload,
    pub connections: usize,
    pub offer: Offer,
}

impl Row {
    /// All rows, the most telling first.
    pub fn all() -> Vec<Self> {
        let mut rows = Vec::new();
        for payload in Payload::ALL {
            for connections in CONNECTIONS {
                rows.push(Self {
                    payload,
                    connections,
                    offer: Offer::Saturated,
                });
            }
        }
        // 1 MiB at this rate is more than a loopback carries.
        for payload in [Payload::Small, Payload::Medium] {
            for connections in CONNECTIONS {
                for offer in [Offer::FixedRate, Offer::EvenRate] {
                    rows.push(Self {
                        payload,
                        connections,
                        offer,
                    });
                }
            }
        }
        for payload in Payload::ALL {
            for connections in CONNECTIONS {
                rows.push(Self {
                    payload,
                    connections,
                    offer: Offer::ConnectionPerRequest,
                });
            }
        }
        let more = [
            (64, Offer::Split),
            (64, Offer::Policy),
            (64, Offer::Tls),
            (64, Offer::TlsFull),
            (64, Offer::TlsResumed),
            (8, Offer::Http2),
            (64, Offer::TwoHops),
        ];
        rows.extend(more.map(|(connections, offer)| Self {
            payload: Payload::Small,
            connections,
            offer,
        }));
        rows
    }

    /// The rows that the figures to reach are about.
    pub fn quick() -> Vec<Self> {
        let row = |payload, connections, offer| Self {
            payload,
            connections,
            offer,
        };
        vec![
            row(Payload::Small, 64, Offer::Saturated),
            row(Payload::Small, 8, Offer::Saturated),
            row(Payload::Small, 64, Offer::FixedRate),
            row(Payload::Small, 64, Offer::EvenRate),
            row(Payload::Medium, 64, Offer::Saturated),
            row(Payload::Large, 64, Offer::Saturated),
            row(Payload::Large, 8, Offer::Saturated),
            row(Payload::Small, 64, Offer::ConnectionPerRequest),
            row(Payload::Small, 64, Offer::Split),
            row(Payload::Small, 64, Offer::Policy),
            row(Payload::Small, 64, Offer::Tls),
            row(Payload::Small, 64, Offer::TlsFull),
            row(Payload::Small, 64, Offer::TlsResumed),
            row(Payload::Small, 8, Offer::Http2),
            row(Payload::Small, 64, Offer::TwoHops),
        ]
    }

    /// Short name for the command line: `SIZE-CONNECTIONS-OFFER`.
    pub fn name(&self) -> String {
        let offer = match self.offer {
            Offer::Saturated => "saturated",
            Offer::FixedRate => "fixed",
            Offer::EvenRate => "even",
            Offer::ConnectionPerRequest => "close",
            Offer::Split => "split",
            Offer::Policy => "policy",
            Offer::Tls => "tls",
            Offer::TlsFull => "tls-full",
            Offer::TlsResumed => "tls-resumed",
            Offer::Http2 => "http2",
            Offer::TwoHops => "two-hops",
        };
        format!(
            "{}-{}-{offer}",
            self.payload.path().trim_start_matches('/'),
            self.connections
        )
    }

    /// The row in words.
    pub fn title(&self) -> String {
        let offer = match self.offer {
            Offer::Saturated => "keep-alive, saturated",
            Offer::FixedRate => "keep-alive, 16,000 requests a second",
            Offer::EvenRate => "keep-alive, 16,000 requests a second spread evenly",
            Offer::ConnectionPerRequest => "a connection per request, saturated",
            Offer::Split => "keep-alive, saturated, user and system apart",
            Offer::Policy => "keep-alive, saturated, a rich policy beside a plain one",
            Offer::Tls => "TLS 1.3, keep-alive, saturated",
            Offer::TlsFull => "TLS 1.3, a full handshake (ECDSA) per request, saturated",
            Offer::TlsResumed => "TLS 1.3, a resumed handshake per request, saturated",
            Offer::Http2 => "HTTP/2 with 32 streams each to HTTP/1.1, saturated",
            Offer::TwoHops => "keep-alive, saturated, two proxies, mutual TLS between",
        };
        format!(
            "{}, {} connections, {offer}",
            self.payload.label(),
            self.connections
        )
    }

    /// Whether `peer` is measured in this row.
    pub fn measures(&self, peer: Peer) -> bool {
        match self.offer {
            // Its runs are long, and the figure to reach is about these.
            Offer::Split => matches!(peer, Peer::Ringroad | Peer::Nginx | Peer::Haproxy),
            Offer::Policy => matches!(peer, Peer::Ringroad | Peer::RingroadRich),
            Offer::TwoHops => matches!(peer, Peer::RingroadPair | Peer::RingroadPairTls),
            _ if self.front() != Front::Plain => matches!(
                peer,
                Peer::Ringroad | Peer::Nginx | Peer::Haproxy | Peer::Envoy
            ),
            _ => !matches!(
                peer,
                Peer::RingroadRich | Peer::RingroadPair | Peer::RingroadPairTls
            ),
        }
    }

    /// Whether the memory of `peer` is measured with such connections.
    pub fn memory_is_of(front: Front, peer: Peer) -> bool {
        let offer = match front {
            Front::Tls => Offer::Tls,
            _ => Offer::Saturated,
        };
        let row = Self {
            payload: Payload::Small,
            connections: 64,
            offer,
        };
        row.measures(peer)
    }

    /// What the proxies speak on their listeners.
    pub fn front(&self) -> Front {
        match self.offer {
            Offer::Tls | Offer::TlsFull | Offer::TlsResumed => Front::Tls,
            Offer::Http2 => Front::Http2,
            _ => Front::Plain,
        }
    }

    /// Whether each request has a connection of its own.
    pub fn has_connection_per_request(&self) -> bool {
        matches!(
            self.offer,
            Offer::ConnectionPerRequest | Offer::TlsFull | Offer::TlsResumed
        )
    }

    pub fn rate(&self) -> Option<f64> {
        matches!(self.offer, Offer::FixedRate | Offer::EvenRate).then_some(FIXED_RATE)
    }

    /// How many requests of a fixed rate are due at the same moment.
    pub fn requests_at_once(&self) -> usize {
        match self.offer {
            Offer::FixedRate => self.connections,
            _ => 1,
        }
    }
}

/// Keeps the rows that one of the patterns names, where `*` stands for any text; no pattern keeps
/// all.
pub fn select(rows: Vec<Row>, patterns: &[String]) -> Vec<Row> {
    let wanted = |row: &Row| patterns.iter().any(|pattern| matches(pattern, &row.name()));
    rows.into_iter()
        .filter(|row| patterns.is_empty() || wanted(row))
        .collect()
}

/// Whether `text` has the form of `pattern`, in which `*` stands for any text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(start) else {
        return false;
    };
    (0..=text.len()).any(|at| text.is_char_boundary(at) && matches(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_quick_rows_are_among_all() {
        let all = Row::all();
        let names: std::collections::BTreeSet<String> = all.iter().map(Row::name).collect();
        assert_eq!(names.len(), all.len());
        assert!(Row::quick().iter().all(|row| all.contains(row)));
    }

    #[test]
    fn patterns_select_rows() {
        let named = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
            select(Row::all(), &patterns)
                .iter()
                .map(Row::name)
                .collect::<Vec<_>>()
        };
        assert_eq!(named(&["128-64-fixed"]), ["128-64-fixed"]);
        assert_eq!(
            named(&["1m-*-saturated"]),
            ["1m-8-saturated", "1m-64-saturated", "1m-512-saturated"]
        );
        assert_eq!(named(&["nothing"]), [""; 0]);
        assert_eq!(named(&[]).len(), Row::all().len());
    }
}
