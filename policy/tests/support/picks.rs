//! Clusters, and which endpoints their requests meet.
#![allow(dead_code)] // Each test binary uses its own part.

use ringroad_policy::snapshot::{
    Balancer, BalancerState, Cluster, Endpoint, EndpointAddress, EndpointView, PickRequest, Random,
};
use std::collections::HashSet;
use std::net::SocketAddr;

/// Endpoints that are out, and how busy the others are.
#[derive(Default)]
pub struct View {
    pub out: HashSet<usize>,
    pub active: Vec<u32>,
    pub version: u64,
}

impl EndpointView for View {
    fn is_available(&self, index: usize) -> bool {
        !self.out.contains(&index)
    }

    fn active_requests(&self, index: usize) -> u32 {
        self.active.get(index).copied().unwrap_or(0)
    }

    fn availability_version(&self) -> u64 {
        self.version
    }
}

pub fn without(out: impl IntoIterator<Item = usize>) -> View {
    View {
        out: out.into_iter().collect(),
        ..View::default()
    }
}

pub fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::at(EndpointAddress::Socket(address))
}

pub fn cluster(balancer: Balancer, endpoints: Vec<Endpoint>) -> Cluster {
    let mut cluster = Cluster::new("c".to_string());
    cluster.balancer = balancer;
    cluster.set_endpoints(endpoints);
    cluster
}

/// Picks with a fresh state; each hash is one of `hashes`.
pub fn picks(
    cluster: &Cluster,
    view: &impl EndpointView,
    request: PickRequest<'_>,
    hashes: impl Iterator<Item = Option<u64>>,
) -> Vec<Option<usize>> {
    let mut state = BalancerState::default();
    let mut random = Random::new(5);
    let pick = |hash| {
        let request = PickRequest { hash, ..request };
        cluster.pick_endpoint(&mut state, view, &mut random, &request)
    };
    hashes.map(pick).collect()
}

pub fn counts(cluster: &Cluster, view: &impl EndpointView, request: PickRequest<'_>) -> Vec<usize> {
    let mut counts = vec![0; cluster.endpoints.len()];
    let picked = picks(cluster, view, request, (0..10_000).map(|_| None));
    picked.into_iter().flatten().for_each(|at| counts[at] += 1);
    counts
}

pub fn keys(count: usize, seed: u64) -> Vec<Option<u64>> {
    let mut random = Random::new(seed);
    (0..count).map(|_| Some(random.next_u64())).collect()
}
