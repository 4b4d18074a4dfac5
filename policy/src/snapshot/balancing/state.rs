//! What a worker keeps of a cluster between requests: which endpoints can be taken, and whose
//! turn it is. It is made anew when endpoints go out or come back, not with requests.

use super::levels::{Level, OVERPROVISIONING_PERCENT};
use super::locality::Group;
use super::turns::Turns;
use super::{EndpointView, PickRequest};
use crate::snapshot::{Balancer, Cluster, Random};

/// How many picks a worker draws before it looks for one that was not tried in order.
const DRAWS: usize = 6;

/// One worker's place in one cluster.
#[derive(Debug, Default, Clone)]
pub struct BalancerState {
    /// [`EndpointView::availability_version`] and the number of endpoints that this was made for.
    made_for: Option<(u64, usize)>,
    /// When weights have changed by themselves: the last endpoint is warm.
    valid_until_ms: Option<u64>,
    /// Whether all endpoints of the priority chosen last count as available.
    pub(super) is_panicking: bool,
    pub(super) levels: Vec<LevelState>,
}

/// A priority.
#[derive(Debug, Clone)]
pub(super) struct LevelState {
    /// The share of its endpoints that are available, with room to spare, from 0 to 100.
    health_percent: u32,
    /// Its part of the requests.
    load_percent: u32,
    /// So few are available that all count as available.
    pub is_panicking: bool,
    groups: Vec<GroupState>,
    /// Turns of the groups, where there are several.
    turns: Option<Turns>,
}

/// Endpoints that are alike.
#[derive(Debug, Clone)]
struct GroupState {
    /// Its weight while that many of its endpoints are available.
    weight: f64,
    /// Never empty.
    usable: Vec<u32>,
    /// The next turn, where the endpoints have the same weight.
    position: usize,
    /// Turns of the endpoints, where their weights differ.
    turns: Option<Turns>,
}

/// What the weight of an endpoint at its turn depends on.
pub(super) struct Weights<'a, V> {
    pub cluster: &'a Cluster,
    pub view: &'a V,
    pub now_ms: u64,
}

impl<V: EndpointView> Weights<'_, V> {
    /// Envoy: `EdfLoadBalancerBase::hostWeight`.
    fn of(&self, endpoint: u32) -> f64 {
        let at = endpoint as usize;
        let weight = f64::from(self.cluster.endpoints[at].weight.max(1));
        let weight = match self.cluster.balancer {
            Balancer::LeastRequest => weight / (f64::from(self.view.active_requests(at)) + 1.0),
            _ => weight,
        };
        weight * self.cluster.warmth(endpoint, self.now_ms)
    }
}

impl BalancerState {
    /// Whether the last pick was one of all endpoints, ejected or not, since too few are left.
    /// Envoy: panic mode, `lb_healthy_panic`.
    #[inline]
    pub fn picked_in_panic(&self) -> bool {
        self.is_panicking
    }

    /// Whether it has to be made anew.
    #[inline]
    pub(super) fn is_stale(&self, version: u64, endpoints: usize, now_ms: u64) -> bool {
        self.made_for != Some((version, endpoints))
            || self.valid_until_ms.is_some_and(|until| now_ms >= until)
    }

    #[cold]
    pub(super) fn make<V: EndpointView>(
        &mut self,
        version: u64,
        weights: &Weights<'_, V>,
        random: &mut Random,
    ) {
        let (cluster, view) = (weights.cluster, weights.view);
        let warm_from_ms = cluster.warm_from_ms();
        let is_warming = warm_from_ms > weights.now_ms && cluster.balancer.honours_weights();
        self.made_for = Some((version, cluster.endpoints.len()));
        self.valid_until_ms = is_warming.then_some(warm_from_ms);
        let threshold = u32::from(cluster.panic_threshold_percent.min(100));
        let levels = cluster.levels.iter();
        let counts: Vec<(u32, u32)> = levels.map(|level| level.count(view)).collect();
        let loads = Loads::of(&counts, threshold);
        self.levels.clear();
        for (at, level) in cluster.levels.iter().enumerate() {
            let mut state = LevelState {
                health_percent: loads.health[at],
                load_percent: loads.load[at],
                is_panicking: loads.panics[at],
                groups: Vec::new(),
                turns: None,
            };
            state.fill(level, cluster, view, at == 0);
            for group in &mut state.groups {
                group.order(weights, is_warming, random);
            }
            if state.groups.len() > 1 {
                let groups = 0..state.groups.len() as u32;
                let weight = |at: u32| state.groups[at as usize].weight;
                state.turns = Some(Turns::new(groups, weight, random));
            }
            self.levels.push(state);
        }
    }

    #[inline]
    pub(super) fn note_panic(&mut self, level: usize) {
        let level = self.levels.get(level);
        self.is_panicking = level.is_some_and(|level| level.is_panicking);
    }

    /// The priority of a request. `draw` is its hash or drawn for it.
    pub(super) fn choose_level(
        &self,
        cluster: &Cluster,
        draw: impl FnOnce() -> u64,
        request: &PickRequest<'_>,
    ) -> usize {
        if self.levels.len() == 1 {
            return 0;
        }
        let drawn = (draw() % 100) as u32 + 1;
        if request.prefers_other_priorities
            && let Some(level) = self.choose_other_level(cluster, drawn, request.tried)
        {
            return level;
        }
        let mut sum = 0;
        let mut loads = self.levels.iter().map(|level| {
            sum += level.load_percent;
            sum
        });
        loads.position(|sum| drawn <= sum).unwrap_or(0)
    }

    /// A priority that every second try had not met yet; `None` when nothing tells them apart. When
    /// all have been met, they are met anew. Envoy: `previous_priorities`, with the update frequency
    /// that Istio sets.
    fn choose_other_level(&self, cluster: &Cluster, drawn: u32, tried: &[usize]) -> Option<usize> {
        const TRIES_A_STEP: usize = 2;
        let met = |tried: &[usize], level: usize| {
            let mut priorities = tried.iter().filter_map(|at| cluster.priority_of(*at));
            priorities.any(|priority| priority == level)
        };
        let levels = || self.levels.iter().enumerate();
        let mut counted: &[usize] = &[];
        let mut begun = 0;
        for end in (TRIES_A_STEP..=tried.len()).step_by(TRIES_A_STEP) {
            counted = &tried[begun..end];
            let is_left =
                |(at, level): (usize, &LevelState)| level.health_percent > 0 && !met(counted, at);
            if !levels().any(is_left) {
                (begun, counted) = (end, &[]);
            }
        }
        if counted.is_empty() {
            return None;
        }
        let others = || levels().filter(|(at, _)| !met(counted, *at));
        let total: u32 = others().map(|(_, level)| level.health_percent).sum();
        let total = total.clamp(1, 100);
        let mut sum = 0;
        for (at, level) in others() {
            sum += (level.health_percent * 100 / total).min(100 - sum);
            if drawn <= sum {
                return Some(at);
            }
        }
        // What rounding leaves over goes to the first.
        others()
            .find(|(_, level)| level.health_percent > 0)
            .map(|(at, _)| at)
    }
}

impl LevelState {
    fn fill(&mut self, level: &Level, cluster: &Cluster, view: &impl EndpointView, is_first: bool) {
        if self.is_panicking {
            let usable: Vec<u32> = level.members().collect();
            self.groups = GroupState::of(usable, 1.0).into_iter().collect();
            return;
        }
        let available = |at: &u32| view.is_available(*at as usize);
        if is_first && let Some(zones) = &cluster.locality.zones {
            let groups = level.groups.iter();
            let usable = |group: &Group| group.members.iter().copied().filter(available).collect();
            let usable: Vec<Vec<u32>> = groups.clone().map(usable).collect();
            let places = groups.map(|group| group.locality.as_str());
            let counts = usable.iter().map(|members| members.len() as u32);
            let places: Vec<(&str, u32)> = places.zip(counts).collect();
            if let Some(weights) = zones.weights(&places) {
                for (usable, weight) in usable.into_iter().zip(weights) {
                    if weight > 0.0 {
                        self.groups.extend(GroupState::of(usable, weight));
                    }
                }
                return;
            }
        }
        if !cluster.locality.is_weighted {
            let usable = level.members().filter(available).collect();
            self.groups = GroupState::of(usable, 1.0).into_iter().collect();
            return;
        }
        for group in &level.groups {
            let usable: Vec<u32> = group.members.iter().copied().filter(available).collect();
            let part = usable.len() as f64 / group.members.len().max(1) as f64;
            let spared = (part * f64::from(OVERPROVISIONING_PERCENT) / 100.0).min(1.0);
            let weight = f64::from(group.weight) * spared;
            if weight > 0.0 {
                self.groups.extend(GroupState::of(usable, weight));
            }
        }
    }

    /// Whether nothing can be taken.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether a request that was tried on `tried` can go somewhere else.
    pub(super) fn has_others(&self, tried: &[usize]) -> bool {
        self.groups.iter().any(|group| group.has_others(tried))
    }

    /// An endpoint; one that is not in `tried` if there is one.
    pub(super) fn choose<V: EndpointView>(
        &mut self,
        weights: &Weights<'_, V>,
        random: &mut Random,
        tried: &[usize],
    ) -> Option<u32> {
        let tried = match self.has_others(tried) {
            true => tried,
            false => &[],
        };
        let group = match &mut self.turns {
            None => 0,
            Some(turns) => {
                let groups = &self.groups;
                let mut next = || turns.next(|at| groups[at as usize].weight);
                let first = next()? as usize;
                match groups[first].has_others(tried) {
                    true => first,
                    false => groups.iter().position(|group| group.has_others(tried))?,
                }
            }
        };
        self.groups.get_mut(group)?.choose(weights, random, tried)
    }
}

impl GroupState {
    fn of(usable: Vec<u32>, weight: f64) -> Option<Self> {
        (!usable.is_empty()).then_some(Self {
            weight,
            usable,
            position: 0,
            turns: None,
        })
    }

    fn order<V: EndpointView>(
        &mut self,
        weights: &Weights<'_, V>,
        is_warming: bool,
        random: &mut Random,
    ) {
        self.position = random.below(self.usable.len());
        if !weights.cluster.balancer.honours_weights() || self.usable.len() < 2 {
            return;
        }
        let weight_of = |at: &u32| weights.cluster.endpoints[*at as usize].weight;
        let first = weight_of(&self.usable[0]);
        if is_warming || self.usable.iter().any(|at| weight_of(at) != first) {
            let members = self.usable.iter().copied();
            self.turns = Some(Turns::new(members, |at| weights.of(at), random));
        }
    }

    fn has_others(&self, tried: &[usize]) -> bool {
        tried.is_empty()
            || self
                .usable
                .iter()
                .any(|at| !tried.contains(&(*at as usize)))
    }

    fn choose<V: EndpointView>(
        &mut self,
        weights: &Weights<'_, V>,
        random: &mut Random,
        tried: &[usize],
    ) -> Option<u32> {
        let is_fresh = |at: u32| tried.is_empty() || !tried.contains(&(at as usize));
        let usable = &self.usable;
        let draw = |random: &mut Random| {
            let drawn = |random: &mut Random| usable[random.below(usable.len())];
            let mut draws = (0..DRAWS).map(|_| drawn(random));
            let fresh = draws.find(|at| is_fresh(*at));
            fresh.or_else(|| {
                let start = random.below(usable.len());
                let mut all = usable[start..].iter().chain(&usable[..start]).copied();
                all.find(|at| is_fresh(*at))
            })
        };
        if let Some(turns) = &mut self.turns {
            // Heavy ones may come many times before another has its turn.
            for _ in 0..turns.len() + DRAWS {
                let next = turns.next(|at| weights.of(at))?;
                if is_fresh(next) {
                    return Some(next);
                }
            }
            return draw(random);
        }
        match weights.cluster.balancer {
            Balancer::RoundRobin => {
                for _ in 0..usable.len() {
                    let next = usable[self.position % usable.len()];
                    self.position = (self.position + 1) % usable.len();
                    if is_fresh(next) {
                        return Some(next);
                    }
                }
                None
            }
            Balancer::LeastRequest => {
                let (first, second) = (draw(random)?, draw(random)?);
                let load = |at: u32| weights.view.active_requests(at as usize);
                match first != second && load(second) < load(first) {
                    true => Some(second),
                    false => Some(first),
                }
            }
            _ => draw(random),
        }
    }
}

/// How requests are split between priorities. Envoy: `LoadBalancerBase`.
struct Loads {
    health: Vec<u32>,
    load: Vec<u32>,
    panics: Vec<bool>,
}

impl Loads {
    /// From the number of available endpoints and of all, for each priority. Below `threshold`
    /// percent of available ones all count as available, unless other priorities have room.
    fn of(counts: &[(u32, u32)], threshold: u32) -> Self {
        let health = counts.iter().map(|(available, all)| {
            let percent = u64::from(OVERPROVISIONING_PERCENT) * u64::from(*available);
            percent.checked_div(u64::from(*all)).unwrap_or(0).min(100) as u32
        });
        let health: Vec<u32> = health.collect();
        let total = health.iter().sum::<u32>().min(100);
        let is_short = |(available, all): &(u32, u32)| {
            total < 100 && u64::from(*available) * 100 < u64::from(threshold) * u64::from(*all)
        };
        let panics: Vec<bool> = counts.iter().map(is_short).collect();
        let mut load = vec![0; counts.len()];
        let all: u64 = counts.iter().map(|(_, all)| u64::from(*all)).sum();
        let first = |counts: bool, of: &dyn Fn(usize) -> bool| match counts {
            true => (0..load.len()).find(|at| of(*at)).unwrap_or(0),
            false => 0,
        };
        if panics.iter().all(|panics| *panics) && all > 0 {
            let rest_to = first(true, &|at| counts[at].1 > 0);
            let shares = counts.iter().map(|(_, of)| u64::from(*of) * 100 / all);
            load = shares.map(|share| share as u32).collect();
            load[rest_to] += 100 - load.iter().sum::<u32>();
        } else if let Some(total) = std::num::NonZeroU32::new(total) {
            let rest_to = first(true, &|at| health[at] > 0);
            let mut rest = 100;
            for (load, health) in load.iter_mut().zip(&health) {
                *load = (health * 100 / total).min(rest);
                rest -= *load;
            }
            load[rest_to] += rest;
        } else if let Some(first) = load.first_mut() {
            *first = 100;
        }
        Self {
            health,
            load,
            panics,
        }
    }
}
