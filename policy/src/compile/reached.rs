//! Which clusters the listeners lead to.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::snapshot::{
    ChainHandler, ClusterId, Doors, FilterChains, Listener, ListenerKind, RouteTable,
};

/// Clusters by what comes to them.
#[derive(Default)]
pub struct Reached {
    pub by_requests: BTreeSet<ClusterId>,
    pub by_bytes: BTreeSet<ClusterId>,
}

impl Reached {
    pub fn new(listeners: &[Arc<Listener>], doors: Option<&Doors>) -> Self {
        let mut reached = Self::default();
        for listener in listeners {
            reached.by_listener(listener);
        }
        if let Some(doors) = doors {
            reached.by_listener(&doors.outbound);
            reached.by_listener(&doors.inbound);
        }
        reached
    }

    /// Whether anything comes to the cluster.
    pub fn has(&self, id: ClusterId) -> bool {
        self.by_requests.contains(&id) || self.by_bytes.contains(&id)
    }

    fn by_listener(&mut self, listener: &Listener) {
        match &listener.kind {
            ListenerKind::Http(table) => self.by_table(table),
            ListenerKind::Chains(chains) => self.by_chains(chains),
            ListenerKind::Intercepted(interception) => {
                for listener in interception.listeners() {
                    self.by_listener(listener);
                }
                self.by_chains(&interception.fallback);
            }
        }
    }

    fn by_chains(&mut self, chains: &FilterChains) {
        for chain in chains.all() {
            match &chain.handler {
                ChainHandler::Http(table) => self.by_table(table),
                ChainHandler::Tcp(route) => {
                    let reached = route.destinations.iter().filter_map(|to| to.cluster);
                    self.by_bytes.extend(reached);
                }
            }
        }
    }

    fn by_table(&mut self, table: &RouteTable) {
        for route in table.virtual_hosts().iter().flat_map(|host| host.routes()) {
            let reached = route.destinations().iter().filter_map(|to| to.cluster);
            let mirrored = route.mirrors.iter().filter_map(|mirror| mirror.cluster);
            self.by_requests.extend(reached.chain(mirrored));
        }
    }
}
