//! Listeners, and how one finds out what a connection is for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::filter_chain::{ChainHandler, FilterChains};
use super::routes::RouteTable;
use crate::source::Origin;

/// A place where connections arrive, and what they get.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Istio's name: `0.0.0.0_8080`, `virtualInbound`.
    pub name: String,
    pub address: SocketAddr,
    pub direction: Direction,
    pub kind: ListenerKind,
    /// `namespace/name` of the gateways whose servers are merged here; empty in a sidecar.
    pub gateways: Vec<String>,
    /// Where the port was written; `None` for listeners that the mesh adds by itself.
    pub origin: Option<Origin>,
}

impl Listener {
    /// The route table, if every connection carries plain HTTP that is routed by it.
    pub fn route_table(&self) -> Option<&Arc<RouteTable>> {
        match &self.kind {
            ListenerKind::Http(table) => Some(table),
            ListenerKind::Chains(_) | ListenerKind::Intercepted(_) => None,
        }
    }

    /// All route tables that requests may be routed by here, each once for each way to it.
    pub fn route_tables(&self) -> Vec<&Arc<RouteTable>> {
        match &self.kind {
            ListenerKind::Http(table) => vec![table],
            ListenerKind::Chains(chains) => of_chains(chains).collect(),
            ListenerKind::Intercepted(outbound) => {
                let listeners = outbound.listeners().iter();
                let inner = listeners.flat_map(|listener| listener.route_tables());
                inner.chain(of_chains(&outbound.fallback)).collect()
            }
        }
    }

    /// Whether some connections are carried as bytes, whatever they hold.
    pub fn carries_bytes(&self) -> bool {
        let is_tcp = |chains: &FilterChains| {
            let mut all = chains.all();
            all.any(|chain| matches!(chain.handler, ChainHandler::Tcp(_)))
        };
        match &self.kind {
            ListenerKind::Http(_) => false,
            ListenerKind::Chains(chains) => is_tcp(chains),
            ListenerKind::Intercepted(outbound) => {
                let inner = outbound.listeners();
                is_tcp(&outbound.fallback) || inner.iter().any(|inner| inner.carries_bytes())
            }
        }
    }
}

fn of_chains(chains: &FilterChains) -> impl Iterator<Item = &Arc<RouteTable>> {
    chains.all().filter_map(|chain| match &chain.handler {
        ChainHandler::Http(table) => Some(table),
        ChainHandler::Tcp(_) => None,
    })
}

/// Which side of a workload a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// From outside the mesh.
    #[default]
    Gateway,
    /// From the workload at hand to services.
    Outbound,
    /// From others to the workload at hand.
    Inbound,
}

/// What the connections of a listener carry.
#[derive(Debug, Clone)]
pub enum ListenerKind {
    /// Plain HTTP, each connection.
    Http(Arc<RouteTable>),
    /// Whatever the chain says that suits a connection.
    Chains(Arc<FilterChains>),
    /// Connections that were redirected here: where the client had addressed them decides which
    /// listener they are for.
    Intercepted(Arc<Interception>),
}

/// The listeners behind the port that outbound connections are redirected to. None of them is
/// bound to a socket.
#[derive(Debug, Clone)]
pub struct Interception {
    listeners: Vec<Arc<Listener>>,
    by_address: HashMap<SocketAddr, u32>,
    /// What becomes of connections to where no listener is.
    pub fallback: FilterChains,
}

impl Interception {
    /// Of two listeners for one address the first counts. An unspecified IP is any address.
    pub fn new(listeners: Vec<Arc<Listener>>, fallback: FilterChains) -> Self {
        let mut by_address = HashMap::new();
        for (at, listener) in listeners.iter().enumerate() {
            by_address.entry(listener.address).or_insert(at as u32);
        }
        Self {
            listeners,
            by_address,
            fallback,
        }
    }

    /// The listener for a destination: of its very address, else of its port.
    pub fn listener(&self, destination: SocketAddr) -> Option<&Arc<Listener>> {
        let port = destination.port();
        let any = |ip: IpAddr| self.by_address.get(&SocketAddr::new(ip, port));
        let found = self
            .by_address
            .get(&destination)
            .or_else(|| any(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
            .or_else(|| any(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))?;
        self.listeners.get(*found as usize)
    }

    /// In the order of their ports.
    pub fn listeners(&self) -> &[Arc<Listener>] {
        &self.listeners
    }
}

/// The doors of a sidecar: what connections get that are redirected to it.
#[derive(Debug, Clone)]
pub struct Doors {
    /// From the workload. Kind [`ListenerKind::Intercepted`].
    pub outbound: Arc<Listener>,
    /// To the workload. Kind [`ListenerKind::Chains`], matched by the port addressed.
    pub inbound: Arc<Listener>,
}
