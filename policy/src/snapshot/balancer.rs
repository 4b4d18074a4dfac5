//! Choosing an endpoint.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::cluster::{Balancer, Cluster, Endpoint};
use super::random::Random;

/// Longest schedule of weighted endpoints. Larger sums of weights are scaled down to about this.
const SCHEDULE_LEN: u64 = 8192;

/// How many draws are made before the available endpoints are counted out.
const DRAWS: usize = 4;

/// One worker's place in one cluster.
#[derive(Debug, Default, Clone)]
pub struct BalancerState {
    position: Option<usize>,
}

/// What the worker knows about the endpoints of a cluster.
pub trait EndpointView {
    /// Neither ejected nor otherwise out.
    fn is_available(&self, index: usize) -> bool;
    /// Requests that wait for their answer.
    fn active_requests(&self, index: usize) -> u32;
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
}

impl Cluster {
    /// Replaces the endpoints and what is derived from them.
    pub fn set_endpoints(&mut self, endpoints: Vec<Endpoint>) {
        self.schedule = schedule(&endpoints);
        self.endpoints = endpoints;
    }

    /// The index of the endpoint for the next request, or `None` when none is available (503,
    /// flag UH). Endpoints in `tried` are taken only when nothing else is left.
    pub fn pick_endpoint(
        &self,
        state: &mut BalancerState,
        view: &impl EndpointView,
        random: &mut Random,
        tried: &[usize],
    ) -> Option<usize> {
        let count = self.endpoints.len();
        if count == 0 {
            return None;
        }
        if self.panic_threshold_percent > 0 {
            let available = (0..count).filter(|at| view.is_available(*at)).count();
            if available * 100 < count * usize::from(self.panic_threshold_percent) {
                return self.pick_where(state, view, random, tried, &|_| true);
            }
        }
        self.pick_where(state, view, random, tried, &|at| view.is_available(at))
    }

    fn pick_where(
        &self,
        state: &mut BalancerState,
        view: &impl EndpointView,
        random: &mut Random,
        tried: &[usize],
        available: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let fresh = |at: usize| available(at) && (tried.is_empty() || !tried.contains(&at));
        let picked = self.pick_among(state, view, random, &fresh);
        if picked.is_some() || tried.is_empty() {
            return picked;
        }
        self.pick_among(state, view, random, available)
    }

    fn pick_among(
        &self,
        state: &mut BalancerState,
        view: &impl EndpointView,
        random: &mut Random,
        eligible: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        match self.balancer {
            Balancer::RoundRobin => self.next_in_turn(state, random, eligible),
            Balancer::Random | Balancer::Passthrough => self.draw(random, eligible),
            Balancer::LeastRequest => {
                let first = self.draw(random, eligible)?;
                let second = self.draw(random, eligible)?;
                let load = |at: usize| u64::from(view.active_requests(at));
                let weight = |at: usize| u64::from(self.endpoints[at].weight.max(1));
                let lighter = load(second) * weight(first) < load(first) * weight(second);
                Some(if lighter { second } else { first })
            }
        }
    }

    /// The endpoint at a place of the schedule, or of the plain list when the weights are equal.
    #[inline]
    fn scheduled(&self, place: usize) -> usize {
        self.schedule.get(place).map_or(place, |at| *at as usize)
    }

    fn turns(&self) -> usize {
        if self.schedule.is_empty() {
            self.endpoints.len()
        } else {
            self.schedule.len()
        }
    }

    fn next_in_turn(
        &self,
        state: &mut BalancerState,
        random: &mut Random,
        eligible: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let turns = self.turns();
        let position = state.position.unwrap_or_else(|| random.below(turns));
        state.position = Some(position.wrapping_add(1));
        let picked = self.scheduled(position % turns);
        if eligible(picked) {
            return Some(picked);
        }
        // Whose turn it is among those that are left, so that no neighbour of a missing endpoint
        // takes its whole share.
        let left = (0..turns)
            .filter(|place| eligible(self.scheduled(*place)))
            .count();
        let place = position.checked_rem(left)?;
        (0..turns)
            .map(|place| self.scheduled(place))
            .filter(|at| eligible(*at))
            .nth(place)
    }

    fn draw(&self, random: &mut Random, eligible: &impl Fn(usize) -> bool) -> Option<usize> {
        let turns = self.turns();
        for _ in 0..DRAWS {
            let picked = self.scheduled(random.below(turns));
            if eligible(picked) {
                return Some(picked);
            }
        }
        let left = (0..turns)
            .filter(|place| eligible(self.scheduled(*place)))
            .count();
        if left == 0 {
            return None;
        }
        let place = random.below(left);
        (0..turns)
            .map(|place| self.scheduled(place))
            .filter(|at| eligible(*at))
            .nth(place)
    }
}

/// Endpoints in an even mix, each as often as its weight says; empty when all weigh the same.
///
/// The k-th turn of an endpoint of weight w is due at `(k + 1/2) / w`; turns are taken in the
/// order in which they are due.
fn schedule(endpoints: &[Endpoint]) -> Vec<u32> {
    let Some(first) = endpoints.first() else {
        return Vec::new();
    };
    if endpoints
        .iter()
        .all(|endpoint| endpoint.weight == first.weight)
    {
        return Vec::new();
    }
    let mut weights: Vec<u64> = endpoints
        .iter()
        .map(|endpoint| u64::from(endpoint.weight.max(1)))
        .collect();
    let divisor = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
    weights.iter_mut().for_each(|weight| *weight /= divisor);
    let total: u64 = weights.iter().sum();
    let longest = SCHEDULE_LEN.max(4 * endpoints.len() as u64);
    if total > longest {
        for weight in &mut weights {
            *weight = (*weight * longest).div_ceil(total);
        }
    }
    let total: u64 = weights.iter().sum();
    let mut due: BinaryHeap<Reverse<(u64, u32, u64)>> = BinaryHeap::with_capacity(weights.len());
    let at = |turn: u64, weight: u64| ((2 * turn + 1) << 32) / weight;
    for (index, weight) in weights.iter().enumerate() {
        due.push(Reverse((at(0, *weight), index as u32, 0)));
    }
    let mut schedule = Vec::with_capacity(total as usize);
    while schedule.len() < total as usize {
        let Some(Reverse((_, index, turn))) = due.pop() else {
            break;
        };
        schedule.push(index);
        due.push(Reverse((
            at(turn + 1, weights[index as usize]),
            index,
            turn + 1,
        )));
    }
    schedule
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
