//! Copies of requests that nobody waits for. Istio: `http[].mirror`, `mirrors`.

use super::body::{Body, ByteCount};
use super::deadline::until;
use super::receive_head::receive_response_head;
use super::replay::Replay;
use super::upstream::{ClusterView, UpstreamConnection};
use crate::rt::{self, Buffer, Chunk, Deadline};
use crate::worker::{Rules, Worker};
use ringroad_codec::http1::ResponseHead;
use ringroad_policy::health::TryOutcome;
use ringroad_policy::snapshot::{PickRequest, Route};
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// The copies of one request that are still to be sent: they wait for its body.
#[derive(Default)]
pub struct Mirrors {
    clusters: Vec<Rc<ClusterView>>,
    head: Buffer,
    to_head_request: bool,
    client_speaks_http2: bool,
    timeout_ms: u64,
}

impl Mirrors {
    /// Draws which mirrors of `route` get a copy of this request; `None`: none does.
    pub fn draw(worker: &Worker, rules: &Rules, route: &Route) -> Option<Box<Self>> {
        if route.mirrors.is_empty() {
            return None;
        }
        let mut mirrors = Box::<Self>::default();
        for mirror in &route.mirrors {
            let is_drawn = mirror.share.hits(&mut worker.random.borrow_mut());
            // Nobody would hear that a mirror's cluster does not exist.
            if let (true, Some(cluster)) = (is_drawn, mirror.cluster) {
                let cluster = rules.view.cluster(worker, cluster).clone();
                mirrors.clusters.push(cluster);
            }
        }
        (!mirrors.clusters.is_empty()).then_some(mirrors)
    }

    /// Takes the head that the copies begin with.
    pub fn set_head(
        &mut self,
        head: Buffer,
        to_head_request: bool,
        client_speaks_http2: bool,
        timeout_ms: u64,
    ) {
        self.head = head;
        self.to_head_request = to_head_request;
        self.client_speaks_http2 = client_speaks_http2;
        self.timeout_ms = timeout_ms;
    }

    /// Sends the copies: the request is complete. Without all of its body there are none.
    pub fn launch(self, worker: &Rc<Worker>, body: &Replay) {
        if !body.is_whole() {
            return;
        }
        for cluster in self.clusters {
            let most = worker.limits().settings.max_mirrors_in_flight;
            let in_flight = &worker.fleet.mirrors_in_flight;
            cluster.stats.shadow_rq_total.add(1);
            if in_flight.fetch_add(1, Ordering::Relaxed) >= most {
                in_flight.fetch_sub(1, Ordering::Relaxed);
                cluster.stats.shadow_rq_failed.add(1);
                continue;
            }
            let mut head = Buffer::lease();
            head.extend_from_slice(&self.head);
            let copy = RequestCopy {
                worker: worker.clone(),
                cluster,
                pieces: (0..body.len()).map(|at| body.piece(at)).collect(),
                to_head_request: self.to_head_request,
                client_speaks_http2: self.client_speaks_http2,
                timeout_ms: self.timeout_ms,
            };
            rt::spawn(copy.run(head));
        }
    }
}

struct RequestCopy {
    worker: Rc<Worker>,
    cluster: Rc<ClusterView>,
    pieces: Vec<Chunk>,
    to_head_request: bool,
    client_speaks_http2: bool,
    timeout_ms: u64,
}

impl Drop for RequestCopy {
    fn drop(&mut self) {
        let in_flight = &self.worker.fleet.mirrors_in_flight;
        in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RequestCopy {
    async fn run(mut self, head: Buffer) {
        let deadline = Deadline::new();
        deadline.set(super::connection::deadline_after(
            rt::now(),
            self.timeout_ms,
        ));
        let cluster = self.cluster.clone();
        match until(&deadline, self.send(head)).await {
            Ok(Some(upstream)) => upstream.release(),
            Ok(None) => {}
            Err(_) => cluster.stats.upstream_rq_timeout.add(1),
        }
    }

    /// The connection, if it can be used again.
    async fn send(&mut self, head: Buffer) -> Option<UpstreamConnection> {
        let cluster = self.cluster.clone();
        let stats = &cluster.stats;
        let failed = || stats.shadow_rq_failed.add(1);
        let Some((_, endpoint)) = cluster.pick(&self.worker, &PickRequest::default(), || None)
        else {
            stats.upstream_cx_none_healthy.add(1);
            failed();
            return None;
        };
        let _active = endpoint.count_request();
        let carrier = cluster.carrier(self.client_speaks_http2, false);
        let upstream = match cluster.checkout(&self.worker, &endpoint, carrier) {
            Some(pooled) => pooled,
            None => {
                cluster
                    .connect_for(&self.worker, &endpoint, carrier, None)
                    .await
            }
        };
        let upstream = upstream.inspect_err(|_| failed()).ok()?;
        match self.exchange(&upstream, head).await {
            Some(true) => return Some(upstream),
            Some(false) => {}
            None => {
                cluster.report(&endpoint, TryOutcome::Reset);
                failed();
            }
        }
        upstream.close();
        None
    }

    /// Sends the request and reads the response away. Whether the connection goes on; `None` when
    /// there was no whole response.
    async fn exchange(&mut self, upstream: &UpstreamConnection, head: Buffer) -> Option<bool> {
        let stats = &self.cluster.stats;
        stats.upstream_rq_total.add(1);
        let mut pieces = std::mem::take(&mut self.pieces).into_iter();
        let stream = &upstream.stream;
        stream
            .send(head, pieces.next().unwrap_or_default())
            .await
            .ok()?;
        for piece in pieces {
            stream.send(Buffer::default(), piece).await.ok()?;
        }
        let limits = self.worker.limits();
        let mut unread = Chunk::default();
        let mut response = ResponseHead::default();
        loop {
            let received = receive_response_head(
                stream,
                &mut unread,
                false,
                &limits.head,
                self.to_head_request,
                &mut response,
            );
            received.await.ok()?;
            unread.advance(response.head_len);
            if !response.is_interim() {
                break;
            }
        }
        stats.responses.add(response.status);
        let outcome = TryOutcome::Response {
            status: response.status,
            grpc_status: None,
        };
        self.cluster.report(&upstream.endpoint, outcome);
        let received = ByteCount::default();
        let mut body = Body::of_response(response.framing, &limits.body, &received);
        body.take(&mut unread).ok()?;
        while !body.complete {
            body.receive(stream, &mut unread).await.ok()?;
        }
        Some(response.keep_alive && unread.is_empty())
    }
}
