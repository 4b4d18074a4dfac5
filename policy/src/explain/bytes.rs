//! A connection whose bytes are not requests, retold.

use super::cluster_view::{DestinationView, EndpointView, destination};
use super::effects::{Setting, milliseconds, setting};
use super::hash_view::Carried;
use super::places::Places;
use super::{Explanation, Request};
use crate::snapshot::{
    Cluster, ConnectionFacts, Destination, HeaderEdits, Snapshot, TcpDestination, TcpRoute,
    TimeoutStatus,
};

impl Explanation {
    /// Where the bytes of a connection go.
    pub(super) fn tell_bytes(
        &mut self,
        snapshot: &Snapshot,
        route: &TcpRoute,
        connection: &ConnectionFacts,
        places: &Places,
    ) {
        self.route_written = places.of_optional(&route.origin);
        self.settings = settings_of(route);
        let weights = route.destinations.iter();
        let total: u64 = weights.map(|one| u64::from(one.weight)).sum();
        for written in &route.destinations {
            let cluster = written.cluster.map(|id| snapshot.cluster(id).as_ref());
            let share = f64::from(written.weight) * 100.0 / total.max(1) as f64;
            let mut view = destination_of(written, share, cluster, connection, places);
            show_address(&mut view, cluster, connection);
            self.destinations.push(view);
        }
        let largest = route.destinations.iter().rev().max_by_key(|one| one.weight);
        self.cluster = largest.map(|one| one.cluster_name.clone());
    }
}

/// What a route of bytes sets.
fn settings_of(route: &TcpRoute) -> Vec<Setting> {
    let mut list = Vec::new();
    let idle = route
        .idle_timeout_ms
        .map_or("none".to_string(), milliseconds);
    list.push(setting("idle timeout", idle, None));
    if let Some(ms) = route.max_connection_duration_ms {
        list.push(setting("longest connection", milliseconds(ms), None));
    }
    list
}

/// A destination of bytes and what stands behind it.
fn destination_of(
    written: &TcpDestination,
    share_percent: f64,
    cluster: Option<&Cluster>,
    connection: &ConnectionFacts,
    places: &Places,
) -> DestinationView {
    let plain = Destination {
        cluster: written.cluster,
        cluster_name: written.cluster_name.clone(),
        weight: written.weight,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        host_rewrite: None,
        retry: None,
        timeout_status: TimeoutStatus::default(),
        origin: written.origin.clone(),
    };
    let carried = Carried::Bytes(connection);
    let mut view = destination(&plain, share_percent, cluster, carried, places);
    // Bytes are not answered; the connection is closed.
    view.answer = None;
    view
}

/// Where a cluster goes to the address that the client had meant, that is the endpoint.
pub(super) fn show_address(
    view: &mut DestinationView,
    cluster: Option<&Cluster>,
    connection: &ConnectionFacts,
) {
    let goes_there = cluster.is_some_and(|cluster| cluster.follows_destination);
    let known = connection
        .original_destination()
        .filter(|to| !to.ip().is_unspecified());
    if let (true, Some(address)) = (goes_there, known) {
        view.answer = None;
        view.endpoints = vec![EndpointView {
            address: address.to_string(),
            weight: 1,
            ..EndpointView::default()
        }];
    }
}

/// The connection in words, where there is no request to tell.
pub(super) fn told(request: &Request, facts: &ConnectionFacts) -> String {
    let kind = match facts.is_tls {
        true => "TLS connection",
        false => "connection",
    };
    let to = match facts.destination.filter(|to| !to.ip().is_unspecified()) {
        Some(destination) => destination.to_string(),
        None => format!("{} port {}", request.authority, facts.destination_port()),
    };
    match &facts.server_name {
        Some(name) => format!("{kind} to {to} for {name}"),
        None => format!("{kind} to {to}"),
    }
}
