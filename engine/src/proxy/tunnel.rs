//! Carrying bytes as they are, both ways: TCP, and what a connection was upgraded to.

use super::admission::{may_connect, whom_to_ask_of_connection};
use super::answer::Answer;
use super::attempt::RoutedRequest;
use super::check::ask_of_connection;
use super::connection::{Connection, deadline_after};
use super::deadline::{alongside, unless_ending, until};
use super::record::Record;
use super::tunnel_record::{IDLE, TOO_LONG, TunnelRecord};
use super::tunnel_request::open_tunnel;
use super::upstream::{ClusterView, ConnectError, UpstreamConnection};
use crate::rt::{self, Buffer, Chunk, Deadline, Idle};
use crate::stats::ResponseFlags;
use crate::transport::Transport;
use crate::worker::Rules;
use ringroad_policy::snapshot::{ConnectionFacts, PickRequest, TcpRoute};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

/// Carries a connection to the upstream that its route says, to its end.
pub async fn carry(
    connection: &mut Connection,
    rules: &Rules,
    route: &TcpRoute,
    facts: &ConnectionFacts,
) {
    let mut record = TunnelRecord::begin(connection, rules, facts);
    let worker = connection.worker.clone();
    let ended = {
        let tunnel = pin!(tunnel(connection, rules, route, facts, &mut record));
        unless_ending(&worker, tunnel).await
    };
    // Not carried, or cut off by the end of the process.
    if !matches!(ended, Some(Ok(()))) {
        connection.stream.reset_on_close();
    }
    record.finish(connection);
}

/// There was nobody to carry the bytes to: the client sees a reset.
struct NotCarried;

async fn tunnel<'r>(
    connection: &mut Connection,
    rules: &'r Rules,
    route: &'r TcpRoute,
    facts: &'r ConnectionFacts,
    record: &mut TunnelRecord<'r>,
) -> Result<(), NotCarried> {
    let worker = connection.worker.clone();
    let stats = connection.listener.stats.clone();
    if let Some(access) = rules.access() {
        let refusal = match whom_to_ask_of_connection(access, facts, &stats) {
            Ok(None) => None,
            Ok(Some(provider)) => {
                // Boxed: connections that nobody is asked about keep no room for it.
                let asked = Box::pin(ask_of_connection(provider, &worker, rules, facts, &stats));
                asked.await.inspect(|_| {
                    record.fail(ResponseFlags::UNAUTHORIZED_EXTERNAL_SERVICE, None);
                })
            }
            Err(denial) => Some(denial),
        };
        let refusal = refusal.or_else(|| may_connect(access, facts, &stats).err());
        if let Some(denial) = refusal {
            record.end_by(denial);
            return Ok(());
        }
    }
    let destination = route.pick_destination(&mut worker.random.borrow_mut());
    let cluster = destination.cluster;
    let cluster = cluster.map(|id| rules.view.cluster(&worker, id).clone());
    record.leads_to(&destination.cluster_name, cluster.clone());
    let Some(cluster) = cluster else {
        stats.no_cluster.add(1);
        return Err(NotCarried);
    };
    let upstream = open(connection, &cluster, facts, record).await?;
    let mut first = Chunk::default();
    if let Some(target) = &cluster.cluster.tunnel_target {
        let patience_ms = cluster.cluster.connect_timeout_ms;
        // Boxed: connections without a tunnel keep no room for it.
        let opened = Box::pin(open_tunnel(&worker, &upstream.stream, target, patience_ms));
        let Some(unread) = opened.await else {
            upstream.close();
            record.fail(ResponseFlags::UPSTREAM_CONNECTION_FAILURE, None);
            return Err(NotCarried);
        };
        first = unread;
    }
    record.connected(upstream.stream.local_addr().ok());
    let unread = std::mem::take(&mut connection.unread);
    let carried = Tunnel {
        client: &connection.stream,
        upstream: &upstream.stream,
        idle_timeout_ms: route.idle_timeout_ms.unwrap_or(0),
        count_up: &|bytes| record.count_up(connection, bytes),
        count_down: &|bytes| record.count_down(connection, bytes),
    };
    let lifetime = Deadline::new();
    let longest_ms = route.max_connection_duration_ms.unwrap_or(0);
    lifetime.set(deadline_after(rt::now(), longest_ms));
    let ended = until(&lifetime, carried.run(unread, first)).await;
    upstream.close();
    match ended {
        Ok(TunnelEnd::Closed) => {}
        Ok(TunnelEnd::Idle) => {
            stats.downstream_cx_idle_timeout.add(1);
            record.end_by(IDLE);
        }
        Err(_) => record.end_by(TOO_LONG),
    }
    Ok(())
}

/// A connection to one of the cluster's endpoints, each of which is tried once.
async fn open(
    connection: &mut Connection,
    cluster: &Rc<ClusterView>,
    facts: &ConnectionFacts,
    record: &mut TunnelRecord<'_>,
) -> Result<UpstreamConnection, NotCarried> {
    let worker = connection.worker.clone();
    let policy = cluster.cluster.hash_policy.as_ref();
    let key = policy.map(|policy| policy.key_of_connection(Some(connection.peer)));
    let mut tried = Vec::new();
    loop {
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
            record.fail(ResponseFlags::NO_HEALTHY_UPSTREAM, None);
            return Err(NotCarried);
        };
        record.tries(&endpoint);
        let connecting = pin!(cluster.connect_at_once(&worker, &endpoint, connection));
        let broken = pin!(client_broke(&connection.stream));
        let connected = match alongside(&Deadline::new(), broken, connecting).await {
            Ok(connected) => connected,
            Err(_) => {
                let stats = &connection.listener.stats;
                stats.downstream_cx_destroy_remote_active_rq.add(1);
                record.fail(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION, None);
                return Err(NotCarried);
            }
        };
        match connected {
            Ok(upstream) => return Ok(upstream),
            Err(ConnectError::Overflow) => {
                record.fail(ResponseFlags::UPSTREAM_OVERFLOW, None);
                return Err(NotCarried);
            }
            // Another endpoint is tried, once each.
            Err(_) if !tried.contains(&index) && tried.len() + 1 < cluster.endpoints.len() => {
                tried.push(index);
            }
            Err(error) => {
                record.no_connection(Answer::connect_failed(error).transport_failure);
                return Err(NotCarried);
            }
        }
    }
}

/// Ends when the client has broken its connection. One that has only ended its side may still wait
/// for what the server has to say.
async fn client_broke(stream: &Transport) {
    poll_fn(|cx| match stream.poll_ready(cx) {
        Poll::Ready(()) if stream.peek_state() == Idle::Closed => Poll::Ready(()),
        // What it has to say first waits for the server.
        _ => Poll::Pending,
    })
    .await;
    if stream.receive().await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// Carries what a request was upgraded to, to its end; `head` tells the client of it.
pub async fn carry_upgraded(
    request: &RoutedRequest<'_>,
    connection: &mut Connection,
    upstream: &UpstreamConnection,
    head: Buffer,
    first: Chunk,
    record: &mut Record<'_>,
) {
    let stats = connection.listener.stats.clone();
    let cluster = &request.plan.cluster.stats;
    connection.deadline.set(None);
    record.sent.add(head.len(), 0);
    connection.stream.send_detached(head, Chunk::default());
    let from_client = std::mem::take(&mut connection.unread);
    let tunnel = Tunnel {
        client: &connection.stream,
        upstream: &upstream.stream,
        idle_timeout_ms: request.limits.settings.downstream_idle_timeout_ms,
        count_up: &|bytes| {
            cluster.upstream_cx_tx_bytes_total.add(bytes);
            record.count_received(bytes);
        },
        count_down: &|bytes| record.sent.add(bytes as usize, bytes as usize),
    };
    stats.downstream_cx_upgrades_total.add(1);
    stats.downstream_cx_upgrades_active.add(1);
    let ended = tunnel.run(from_client, first).await;
    stats.downstream_cx_upgrades_active.sub(1);
    if ended == TunnelEnd::Idle {
        let flags = ResponseFlags::STREAM_IDLE_TIMEOUT;
        record.fail(flags, "stream_idle_timeout");
    }
}

/// Two connections whose bytes go to each other.
pub struct Tunnel<'a> {
    pub client: &'a Transport,
    pub upstream: &'a Transport,
    /// Without a byte either way for so long, both end; 0 is never.
    pub idle_timeout_ms: u64,
    /// Told of bytes on their way.
    pub count_up: &'a dyn Fn(u64),
    pub count_down: &'a dyn Fn(u64),
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
            self.count_up,
            &touch,
        );
        let down = one_way(
            self.upstream,
            self.client,
            from_upstream,
            self.count_down,
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
    count: &dyn Fn(u64),
    touch: &impl Fn(),
) -> std::io::Result<()> {
    let mut piece = first;
    loop {
        if !piece.is_empty() {
            touch();
            count(piece.len() as u64);
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
