//! Filter chains: one listener, several ways to serve a connection.

use std::net::IpAddr;
use std::sync::Arc;

use super::ClusterId;
use super::connection::ConnectionFacts;
use super::random::Random;
use super::routes::RouteTable;
use super::tls::DownstreamTls;
use crate::source::Origin;

/// The chains of a listener and what has to be known of a connection to choose one.
#[derive(Debug, Clone, Default)]
pub struct FilterChains {
    pub chains: Vec<FilterChain>,
    /// For connections that suit none of the chains.
    pub default: Option<FilterChain>,
    /// For which destination ports the client's first TLS message is read before a chain is
    /// chosen. Where it is not, TLS counts as plain bytes.
    pub tls_inspection: Inspection,
    /// For which destination ports the first bytes are searched for HTTP.
    pub http_inspection: Inspection,
}

/// The destination ports at which something is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Inspection {
    #[default]
    Nowhere,
    Everywhere,
    /// Sorted.
    Only(Vec<u16>),
    /// Sorted.
    AllBut(Vec<u16>),
}

impl Inspection {
    pub fn includes(&self, port: u16) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Everywhere => true,
            Self::Only(ports) => ports.binary_search(&port).is_ok(),
            Self::AllBut(ports) => ports.binary_search(&port).is_err(),
        }
    }
}

/// One way to serve a connection.
#[derive(Debug, Clone)]
pub struct FilterChain {
    /// Istio's name, or the listener's where Istio gives none.
    pub name: String,
    pub matches: ChainMatch,
    /// How TLS is terminated. `None` takes bytes as they come: plain text, or TLS that is passed
    /// through unopened.
    pub tls: Option<Arc<DownstreamTls>>,
    pub handler: ChainHandler,
    pub origin: Option<Origin>,
}

/// Who takes the bytes of a connection.
#[derive(Debug, Clone)]
pub enum ChainHandler {
    /// They are HTTP requests.
    Http(Arc<RouteTable>),
    /// They go to an upstream as they are.
    Tcp(Arc<TcpRoute>),
}

/// What a connection must be for a chain; what is empty asks nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ChainMatch {
    pub destination_port: Option<u16>,
    pub destination_prefixes: Vec<IpPrefix>,
    /// Exact names or `*.suffix`, in lower case.
    pub server_names: Vec<String>,
    pub transport: Option<TransportProtocol>,
    /// Any of these.
    pub application_protocols: Vec<String>,
}

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportProtocol {
    /// Without TLS, or with TLS that nobody looks at. Envoy: `raw_buffer`.
    Raw,
    Tls,
}

/// Why no chain is chosen; the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainMismatch {
    /// None suits.
    None,
    /// Several ask for the very same.
    Several,
}

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpPrefix {
    address: IpAddr,
    bits: u8,
}

impl IpPrefix {
    /// `10.0.0.0/8`, or a single address. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(whole), |bits| bits.parse().ok())?;
        (bits <= whole).then(|| Self { address, bits }.masked())
    }

    /// The address, where it is only one.
    pub fn single(&self) -> Option<IpAddr> {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        (self.bits == whole).then_some(self.address)
    }

    /// Length of the prefix in bits.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = self.bits;
        address.is_ipv4() == self.address.is_ipv4()
            && Self { address, bits }.masked().address == self.address
    }

    fn masked(self) -> Self {
        let bits = u32::from(self.bits);
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                IpAddr::V4((u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                IpAddr::V6((u128::from(address) & mask).into())
            }
        };
        Self { address, ..self }
    }
}

impl std::fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl FilterChains {
    /// Whether the client's first TLS message is read before a chain is chosen.
    pub fn inspects_tls(&self, destination_port: u16) -> bool {
        self.tls_inspection.includes(destination_port)
    }

    /// Whether the first bytes are searched for HTTP before a chain is chosen.
    pub fn inspects_http(&self, destination_port: u16) -> bool {
        self.http_inspection.includes(destination_port)
    }

    /// The chains and the default.
    pub fn all(&self) -> impl Iterator<Item = &FilterChain> {
        self.chains.iter().chain(&self.default)
    }

    /// The chain for a connection, as Envoy chooses: by port, then address, server name,
    /// transport and application protocol. At each step the best of those that match remain;
    /// where none does, those that ask nothing. There is no way back to an earlier step.
    ///
    /// # Errors
    ///
    /// None suits, or several do.
    pub fn choose(&self, facts: &ConnectionFacts) -> Result<&FilterChain, ChainMismatch> {
        let port = facts.destination_port();
        let sees_tls = self.inspects_tls(port);
        let server_name = facts.server_name.as_deref().filter(|_| sees_tls);
        let transport = if facts.is_tls && sees_tls {
            TransportProtocol::Tls
        } else {
            TransportProtocol::Raw
        };
        let sees_protocols = match facts.is_tls {
            true => sees_tls,
            false => self.inspects_http(port),
        };
        let mut left: Vec<&FilterChain> = self.chains.iter().collect();
        sift(&mut left, |matches| {
            let wanted = matches.destination_port?;
            Some(u32::from(wanted == port))
        });
        sift(&mut left, |matches| {
            let prefixes = &matches.destination_prefixes;
            let address = facts.destination.map(|destination| destination.ip());
            let rank = |prefix: &IpPrefix| match address {
                Some(address) if prefix.contains(address) => u32::from(prefix.bits) + 1,
                _ => 0,
            };
            prefixes.iter().map(rank).max()
        });
        sift(&mut left, |matches| {
            let rank = |wanted: &String| rank_of_name(wanted, server_name);
            matches.server_names.iter().map(rank).max()
        });
        sift(&mut left, |matches| {
            Some(u32::from(matches.transport? == transport))
        });
        sift(&mut left, |matches| {
            let wanted = &matches.application_protocols;
            // Of chains for different protocols the client's first choice counts.
            let offered = facts
                .application_protocols
                .iter()
                .filter(|_| sees_protocols);
            let first = (1..=u32::MAX)
                .rev()
                .zip(offered)
                .find(|(_, offered)| wanted.iter().any(|wanted| **wanted == ***offered));
            (!wanted.is_empty()).then(|| first.map_or(0, |(rank, _)| rank))
        });
        match left.as_slice() {
            [one] => Ok(one),
            [] => self.default.as_ref().ok_or(ChainMismatch::None),
            _ => Err(ChainMismatch::Several),
        }
    }
}

/// Keeps the chains of the highest rank, else those that have none because they ask nothing.
fn sift(left: &mut Vec<&FilterChain>, rank: impl Fn(&ChainMatch) -> Option<u32>) {
    let best = left.iter().filter_map(|chain| rank(&chain.matches)).max();
    match best {
        None => {}
        Some(0) => left.retain(|chain| rank(&chain.matches).is_none()),
        best => left.retain(|chain| rank(&chain.matches) == best),
    }
}

/// Exact names before suffixes, longer suffixes before shorter ones; 0 is no match.
fn rank_of_name(wanted: &str, server_name: Option<&str>) -> u32 {
    let Some(name) = server_name else { return 0 };
    match wanted.strip_prefix('*') {
        Some(suffix) if name.len() > suffix.len() && name.ends_with(suffix) => wanted.len() as u32,
        None if wanted == name => u32::MAX,
        _ => 0,
    }
}

/// Where the bytes of a connection go.
#[derive(Debug, Clone)]
pub struct TcpRoute {
    /// The only cluster, or `name.namespace` of the VirtualService that splits.
    pub name: String,
    /// Never empty.
    pub destinations: Vec<TcpDestination>,
    /// After how long without a byte in either direction the connection is closed; `None` is
    /// never. Istio: `connectionPool.tcp.idleTimeout` of the first destination, 1 h.
    pub idle_timeout_ms: Option<u64>,
    /// Istio: `connectionPool.tcp.maxConnectionDuration` of the first destination.
    pub max_connection_duration_ms: Option<u64>,
    /// The rule; `None` for routes that the mesh adds by itself.
    pub origin: Option<Origin>,
}

/// A cluster and its share of connections.
#[derive(Debug, Clone)]
pub struct TcpDestination {
    /// `None` when there is no such cluster: the connection is closed, flag NC.
    pub cluster: Option<ClusterId>,
    pub cluster_name: String,
    /// At least 1. The share is the weight divided by the sum of the weights.
    pub weight: u32,
    pub origin: Option<Origin>,
}

impl TcpRoute {
    /// The destination of one connection, drawn by weight.
    pub fn pick_destination(&self, random: &mut Random) -> &TcpDestination {
        let [only] = self.destinations.as_slice() else {
            let weights = self.destinations.iter();
            let total: u64 = weights.map(|one| u64::from(one.weight)).sum();
            let mut drawn = random.below(usize::try_from(total).unwrap_or(usize::MAX)) as u64;
            for destination in &self.destinations {
                let weight = u64::from(destination.weight);
                if drawn < weight {
                    return destination;
                }
                drawn -= weight;
            }
            return &self.destinations[0];
        };
        only
    }
}
