//! Choosing an endpoint.

mod hash_key;
mod hash_table;
mod levels;
mod locality;
mod state;
mod turns;
mod warm_up;
mod zones;

use super::cluster::{Balancer, Cluster, Endpoint, first_of_each_address};
use super::random::Random;

pub use hash_key::{HashCookie, HashKey, HashPolicy};
pub use hash_table::{DEFAULT_RING_SIZE, DEFAULT_TABLE_SIZE, LARGEST_RING_SIZE};
pub use levels::OVERPROVISIONING_PERCENT;
pub use locality::{
    Group, Locality, LocalityOrder, LocalityPolicy, LocalityPriorities, label_of, locality_of,
};
pub use state::BalancerState;
pub use warm_up::WarmUp;
pub use zones::{DEFAULT_MIN_CLUSTER_SIZE, ZoneAware};

pub(crate) use levels::Level;

use state::Weights;

/// What the worker knows about the endpoints of a cluster.
pub trait EndpointView {
    /// Neither ejected nor otherwise out.
    fn is_available(&self, index: usize) -> bool;
    /// Requests that wait for their answer.
    fn active_requests(&self, index: usize) -> u32;
    /// Another number whenever some [`is_available`](Self::is_available) has changed: it is asked
    /// again only then.
    fn availability_version(&self) -> u64;
}

/// All endpoints are there and idle.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllAvailable;

impl EndpointView for AllAvailable {
    fn is_available(&self, _index: usize) -> bool {
        true
    }

    fn active_requests(&self, _index: usize) -> u32 {
        0
    }

    fn availability_version(&self) -> u64 {
        0
    }
}

/// What a request brings. The default is the first try of one without a hash.
#[derive(Debug, Clone, Copy, Default)]
pub struct PickRequest<'a> {
    /// The endpoints of its earlier tries, in order.
    pub tried: &'a [usize],
    /// Endpoints in `tried` are taken only when nothing else is left. Istio:
    /// `retryIgnorePreviousHosts`.
    pub avoids_tried: bool,
    /// After two tries priorities in `tried` are left out. Istio: `retryRemoteLocalities`.
    pub prefers_other_priorities: bool,
    /// For balancers that hash; without one the endpoint is drawn.
    pub hash: Option<u64>,
    /// The caller's clock; it matters to clusters that warm up.
    pub now_ms: u64,
}

impl Cluster {
    /// Replaces the endpoints and what is derived from them: call it when [`Cluster::balancer`]
    /// and [`Cluster::locality`] are as they are to be.
    pub fn set_endpoints(&mut self, endpoints: Vec<Endpoint>) {
        let endpoints = first_of_each_address(endpoints);
        self.levels = levels::levels_of(&endpoints, &self.locality, self.balancer);
        self.arrived_ms = Vec::new();
        self.endpoints = endpoints;
    }

    /// The index of the endpoint for the next try of a request, or `None` when none is available
    /// (503, flag UH). Allocates only when endpoints have gone out or come back.
    pub fn pick_endpoint(
        &self,
        state: &mut BalancerState,
        view: &impl EndpointView,
        random: &mut Random,
        request: &PickRequest<'_>,
    ) -> Option<usize> {
        if self.endpoints.is_empty() {
            return None;
        }
        let weights = Weights {
            cluster: self,
            view,
            now_ms: request.now_ms,
        };
        let version = view.availability_version();
        if state.is_stale(version, self.endpoints.len(), request.now_ms) {
            state.make(version, &weights, random);
        }
        let tried = match request.avoids_tried {
            true => request.tried,
            false => &[],
        };
        if self.balancer.is_hashing() {
            let hash = request.hash.unwrap_or_else(|| random.next_u64());
            let level = state.choose_level(self, || hash, request);
            state.note_panic(level);
            return self.pick_hashed(state, level, view, hash, tried);
        }
        let level = state.choose_level(self, || random.next_u64(), request);
        state.note_panic(level);
        let chosen = state.levels.get_mut(level)?.choose(&weights, random, tried);
        chosen.map(|at| at as usize)
    }

    fn pick_hashed(
        &self,
        state: &BalancerState,
        level: usize,
        view: &impl EndpointView,
        hash: u64,
        tried: &[usize],
    ) -> Option<usize> {
        let usable = state.levels.get(level)?;
        if usable.is_empty() {
            return None;
        }
        let tried = match usable.has_others(tried) {
            true => tried,
            false => &[],
        };
        let takes =
            |at: &usize| (usable.is_panicking || view.is_available(*at)) && !tried.contains(at);
        let table = self.levels.get(level)?.table.as_ref()?;
        let mut candidates = table.candidates(hash).map(|at| at as usize);
        candidates.find(takes)
    }

    /// The endpoint that a hash leads to while all are available; `None` when the balancer does
    /// not hash or there is no endpoint.
    pub fn endpoint_of_hash(&self, hash: u64) -> Option<usize> {
        let table = self.levels.first()?.table.as_ref()?;
        table.candidates(hash).next().map(|at| at as usize)
    }

    /// The priority of an endpoint, from 0; `None` for one that never gets a request.
    pub fn priority_of(&self, endpoint: usize) -> Option<usize> {
        let has = |level: &Level| level.members().any(|at| at as usize == endpoint);
        self.levels.iter().position(has)
    }

    /// [`priority_of`](Self::priority_of) each endpoint.
    pub fn priority_of_each(&self) -> Vec<Option<usize>> {
        let mut each = vec![None; self.endpoints.len()];
        for (priority, level) in self.levels.iter().enumerate() {
            for at in level.members() {
                each[at as usize] = Some(priority);
            }
        }
        each
    }

    /// The endpoints by priority and place.
    pub fn priorities(&self) -> impl Iterator<Item = &[Group]> {
        self.levels.iter().map(|level| level.groups.as_slice())
    }
}

impl Balancer {
    /// Whether the same hash leads to the same endpoint.
    pub fn is_hashing(self) -> bool {
        matches!(self, Self::RingHash { .. } | Self::Maglev { .. })
    }

    /// Whether endpoints are chosen in turns by their weights. Tables of hashes have them built
    /// in; draws by RANDOM leave them out, as Envoy's do.
    fn honours_weights(self) -> bool {
        matches!(self, Self::RoundRobin | Self::LeastRequest)
    }
}
