//! What the client still sends, and whether it is still there, while its request is under way.

use super::attempt::{ClientFailure, RequestBody, RoutedRequest};
use super::body::{BodyFailure, SourceFailure};
use super::deadline::{Elapsed, until};
use super::retries::{LOOK_INTERVAL, client_gone};
use crate::rt::{self, Buffer, Chunk, Deadline};
use crate::stats::ListenerStats;
use crate::transport::Transport;
use ringroad_codec::http1::CONTINUE;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;

/// The client's side of a request that is on its way: the rest of its body goes upstream, then the
/// client is watched, so that one that leaves does not keep an upstream busy.
pub struct ClientSide<'a, 'b> {
    pub stream: &'a Transport,
    pub unread: &'a mut Chunk,
    pub body: &'a mut RequestBody<'b>,
    pub upstream: &'a Transport,
    pub must_continue: bool,
    pub uploaded: &'a Cell<bool>,
    pub can_repeat: &'a Cell<bool>,
    pub deadline: &'a Deadline,
    pub listener_stats: &'a ListenerStats,
    pub request: &'a RoutedRequest<'a>,
}

impl ClientSide<'_, '_> {
    /// Ends only when the client does so.
    pub async fn serve(&mut self) -> ClientFailure {
        if !self.uploaded.get() {
            match self.upload().await {
                Ok(()) => {}
                Err(BodyFailure::Source(SourceFailure::Framing(error))) => {
                    return ClientFailure::Framing(error);
                }
                Err(BodyFailure::Source(_)) => return ClientFailure::Gone,
                // The upstream takes no more: its answer, or its end, is on the way.
                Err(BodyFailure::Sink) => {}
            }
        }
        client_gone(self.stream).await;
        ClientFailure::Gone
    }

    async fn upload(&mut self) -> Result<(), BodyFailure> {
        if self.must_continue {
            self.body.is_asked_for = true;
            let mut out = Buffer::lease();
            out.extend_from_slice(CONTINUE);
            // If it cannot be sent, nothing comes.
            self.stream.send_detached(out, Chunk::default());
            self.listener_stats.count_interim();
        }
        let look_at = Deadline::new();
        // What earlier tries have sent already.
        for at in 1..self.body.replay.len() {
            self.send(self.body.replay.piece(at), &look_at).await?;
        }
        while !self.body.body.complete {
            let piece = self.receive().await.map_err(BodyFailure::Source)?;
            if !self.body.replay.keep(&piece) {
                let stats = &self.request.plan.cluster.stats;
                stats.retry_or_shadow_abandoned.add(1);
            }
            self.can_repeat.set(self.body.can_repeat());
            self.send(piece, &look_at).await?;
            if self.body.body.complete {
                self.request.timeouts.request_complete(self.deadline);
                if let Some(mirrors) = self.body.mirrors.take() {
                    mirrors.launch(self.request.worker, self.body.replay);
                }
            }
        }
        self.uploaded.set(true);
        Ok(())
    }

    async fn receive(&mut self) -> Result<Chunk, SourceFailure> {
        let timeouts = &self.request.timeouts;
        let mut receive = pin!(self.body.body.receive(self.stream, self.unread));
        let mut pauses = false;
        let received = poll_fn(|cx| {
            let received = receive.as_mut().poll(cx);
            if received.is_pending() && !pauses {
                pauses = true;
                timeouts.body_pauses(self.deadline);
            }
            received
        })
        .await;
        if pauses {
            timeouts.body_goes_on(self.deadline);
        }
        received
    }

    /// Nothing is received from the client meanwhile, so it is looked at whether it still is there.
    async fn send(&self, piece: Chunk, look_at: &Deadline) -> Result<(), BodyFailure> {
        let mut sent = pin!(self.upstream.send(Buffer::default(), piece));
        loop {
            look_at.set(Some(rt::now() + LOOK_INTERVAL));
            match until(look_at, sent.as_mut()).await {
                Ok(sent) => return sent.map_err(|_| BodyFailure::Sink),
                Err(Elapsed) if self.stream.is_over() => {
                    return Err(BodyFailure::Source(SourceFailure::Broken));
                }
                Err(Elapsed) => {}
            }
        }
    }
}
