//! Carrying bytes as they are, both ways: TCP, and what a connection was upgraded to.

use super::admission::may_connect;
use super::connection::{Connection, deadline_after};
use super::deadline::until;
use super::tunnel_request::open_tunnel;
use crate::rt::{self, Buffer, Chunk, Deadline};
use crate::transport::Transport;
use crate::worker::Rules;
use ringroad_policy::snapshot::{ConnectionFacts, PickRequest, TcpRoute};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Carries a connection to the upstream that its route says, to its end.
pub async fn carry(
    connection: &mut Connection,
    rules: &Rules,
    route: &TcpRoute,
    facts: &ConnectionFacts,
) {
    let worker = connection.worker.clone();
    let stats = connection.listener.stats.clone();
    if let Some(access) = rules.access()
        && !may_connect(access, facts, &stats)
    {
        return;
    }
    let destination = route.pick_destination(&mut worker.random.borrow_mut());
    let Some(cluster) = destination.cluster else {
        stats.no_cluster.add(1);
        return connection.stream.reset_on_close();
    };
    let cluster = rules.view.cluster(&worker, cluster).clone();
    let policy = cluster.cluster.hash_policy.as_ref();
    let key = policy.map(|policy| policy.key_of_connection(Some(connection.peer)));
    let mut tried = Vec::new();
    let upstream = loop {
        let request = PickRequest {
            tried: &tried,
            avoids_tried: true,
            hash: key.and_then(|key| key.hash),
            ..PickRequest::default()
        };
        let Some((index, endpoint)) =
            cluster.pick(&worker, &request, || facts.original_destination())
        else {
            cluster.stats.upstream_cx_none_healthy.add(1);
            return connection.stream.reset_on_close();
        };
        match cluster.connect(&worker, &endpoint).await {
            Ok(upstream) => break upstream,
            // Another endpoint is tried, once each.
            Err(_) if !tried.contains(&index) && tried.len() + 1 < cluster.endpoints.len() => {
                tried.push(index);
            }
            Err(_) => return connection.stream.reset_on_close(),
        }
    };
    let mut first = Chunk::default();
    if let Some(target) = &cluster.cluster.tunnel_target {
        let patience_ms = cluster.cluster.connect_timeout_ms;
        // Boxed: connections without a tunnel keep no room for it.
        let opened = Box::pin(open_tunnel(&worker, &upstream.stream, target, patience_ms));
        match opened.await {
            Some(unread) => first = unread,
            None => {
                upstream.close();
                return connection.stream.reset_on_close();
            }
        }
    }
    let unread = std::mem::take(&mut connection.unread);
    let carried = Tunnel {
        client: &connection.stream,
        upstream: &upstream.stream,
        idle_timeout_ms: route.idle_timeout_ms.unwrap_or(0),
        from_client: &Cell::new(0),
        from_upstream: &Cell::new(0),
    };
    let lifetime = Deadline::new();
    let longest_ms = route.max_connection_duration_ms.unwrap_or(0);
    lifetime.set(deadline_after(rt::now(), longest_ms));
    let ended = until(&lifetime, carried.run(unread, first)).await;
    if matches!(ended, Ok(TunnelEnd::Idle)) {
        stats.downstream_cx_idle_timeout.add(1);
    }
    let (from_client, from_upstream) = (carried.from_client.get(), carried.from_upstream.get());
    stats.downstream_cx_rx_bytes_total.add(from_client);
    stats.downstream_cx_tx_bytes_total.add(from_upstream);
    cluster.stats.upstream_cx_tx_bytes_total.add(from_client);
    cluster.stats.upstream_cx_rx_bytes_total.add(from_upstream);
    upstream.close();
}

/// Two connections whose bytes go to each other.
pub struct Tunnel<'a> {
    pub client: &'a Transport,
    pub upstream: &'a Transport,
    /// Without a byte either way for so long, both end; 0 is never.
    pub idle_timeout_ms: u64,
    /// Bytes carried.
    pub from_client: &'a Cell<u64>,
    pub from_upstream: &'a Cell<u64>,
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both sides have ended, or one has broken.
    Closed,
    Idle,
}

impl Tunnel<'_> {
    /// Carries until both sides have ended theirs. What was received already goes first.
    pub async fn run(&self, from_client: Chunk, from_upstream: Chunk) -> TunnelEnd {
        let deadline = Deadline::new();
        let touch = || deadline.set(deadline_after(rt::now(), self.idle_timeout_ms));
        touch();
        let up = one_way(
            self.client,
            self.upstream,
            from_client,
            self.from_client,
            &touch,
        );
        let down = one_way(
            self.upstream,
            self.client,
            from_upstream,
            self.from_upstream,
            &touch,
        );
        let (mut up, mut down) = (pin!(up), pin!(down));
        let (mut up_ended, mut down_ended) = (false, false);
        let both = poll_fn(|cx| {
            for (way, ended) in [
                (
                    &mut up as &mut (dyn Future<Output = _> + Unpin),
                    &mut up_ended,
                ),
                (&mut down, &mut down_ended),
            ] {
                if !*ended && let Poll::Ready(result) = std::pin::Pin::new(way).poll(cx) {
                    *ended = true;
                    if result.is_err() {
                        return Poll::Ready(());
                    }
                }
            }
            match up_ended && down_ended {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        match until(&deadline, both).await {
            Ok(()) => TunnelEnd::Closed,
            Err(_) => TunnelEnd::Idle,
        }
    }
}

/// Carries one direction to its end, which is passed on.
async fn one_way(
    from: &Transport,
    to: &Transport,
    first: Chunk,
    bytes: &Cell<u64>,
    touch: &impl Fn(),
) -> std::io::Result<()> {
    let mut piece = first;
    loop {
        if !piece.is_empty() {
            touch();
            bytes.set(bytes.get() + piece.len() as u64);
            to.send(Buffer::default(), piece).await?;
            touch();
        }
        piece = from.receive().await?;
        if piece.is_empty() {
            to.flushed().await?;
            return to.shutdown_write();
        }
    }
}
