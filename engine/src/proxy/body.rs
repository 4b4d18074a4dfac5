//! Passing bodies on: bytes go out in the buffers they came in.
//!
//! Each side is read only when the other has taken what it was given, so a slow reader slows its
//! sender and nothing piles up in between.

use super::response_head::Delivery;
use crate::rt::{Buffer, Chunk, Stream};
use ringroad_codec::http1::{
    BodyError, BodyFraming, BodyScanner, write_chunk_header, write_last_chunk,
};
use std::cell::Cell;
use std::future::poll_fn;

/// Bodies with more than this to come are received in large buffers.
const BULK_BYTES: u64 = 64 * 1024;

/// How a body ended badly.
#[derive(Debug)]
pub enum BodyFailure {
    /// The side that sends the body closed, broke or violated its framing.
    Source(SourceFailure),
    /// The side that takes the body is gone.
    Sink,
}

#[derive(Debug)]
pub enum SourceFailure {
    Closed,
    Broken,
    Framing(BodyError),
}

/// A body on its way through: the scanner knows where it ends.
pub struct Body {
    pub scanner: BodyScanner,
    pub framing: BodyFraming,
    pub complete: bool,
    /// Bytes passed on, framing included.
    pub bytes: u64,
}

impl Body {
    pub fn new(framing: BodyFraming, limits: &ringroad_codec::http1::BodyLimits) -> Self {
        let complete = matches!(framing, BodyFraming::None | BodyFraming::Length(0));
        Self {
            scanner: BodyScanner::new(framing, limits),
            framing,
            complete,
            bytes: 0,
        }
    }

    /// Splits off what belongs to this body from the bytes received so far.
    pub fn take(&mut self, unread: &mut Chunk) -> Result<Chunk, BodyError> {
        if self.complete || unread.is_empty() {
            return Ok(Chunk::default());
        }
        let scan = self.scanner.scan(unread)?;
        self.complete = scan.complete;
        self.bytes += scan.consumed as u64;
        Ok(unread.split_to(scan.consumed))
    }

    /// As [`take`](Body::take), for the bytes that came with the head; bodies that are to be taken
    /// out of their chunks stay in `unread`.
    pub fn take_first(
        &mut self,
        unread: &mut Chunk,
        delivery: Delivery,
    ) -> Result<Chunk, BodyError> {
        if delivery == Delivery::Dechunked {
            Ok(Chunk::default())
        } else {
            self.take(unread)
        }
    }

    /// Whether so much is still to come that large reads pay.
    pub fn is_bulk(&self) -> bool {
        matches!(self.framing, BodyFraming::Length(n) if n.saturating_sub(self.bytes) > BULK_BYTES)
    }

    /// Receives the next bytes of the body; `unread` keeps what follows its end.
    ///
    /// # Errors
    /// The source closed or broke, unless its close is what ends the body.
    pub async fn receive(
        &mut self,
        source: &Stream,
        unread: &mut Chunk,
    ) -> Result<Chunk, SourceFailure> {
        if unread.is_empty() {
            let bulk = self.is_bulk();
            let received = poll_fn(|cx| {
                if bulk {
                    source.poll_receive_bulk(cx)
                } else {
                    source.poll_receive(cx)
                }
            });
            *unread = received.await.map_err(|_| SourceFailure::Broken)?;
            if unread.is_empty() {
                if self.framing != BodyFraming::UntilClose {
                    return Err(SourceFailure::Closed);
                }
                self.complete = true;
                return Ok(Chunk::default());
            }
        }
        self.take(unread).map_err(SourceFailure::Framing)
    }
}

/// A response on its way downstream.
pub struct Download<'a> {
    pub body: &'a mut Body,
    pub source: &'a Stream,
    pub unread: &'a mut Chunk,
    pub sink: &'a Stream,
    pub delivery: Delivery,
    /// Body bytes sent, framing included.
    pub sent_bytes: &'a Cell<u64>,
}

impl Download<'_> {
    /// Sends `head` with the first piece of the body, in one send, and then the rest. The last
    /// send is left in `sending`.
    pub async fn run(mut self, head: Buffer, first: Chunk) -> Result<(), BodyFailure> {
        match self.delivery {
            Delivery::AsReceived => self.pass_on(head, first).await,
            Delivery::Chunked => self.put_into_chunks(head, first).await,
            Delivery::Dechunked => self.take_out_of_chunks(head).await,
        }
    }

    async fn pass_on(&mut self, head: Buffer, first: Chunk) -> Result<(), BodyFailure> {
        self.send(head, first).await?;
        while !self.body.complete {
            let piece = self.receive().await?;
            if !piece.is_empty() {
                self.send(Buffer::default(), piece).await?;
            }
        }
        Ok(())
    }

    /// The upstream ends its body by closing; a client of HTTP/1.1 gets chunks.
    async fn put_into_chunks(&mut self, head: Buffer, first: Chunk) -> Result<(), BodyFailure> {
        let (mut out, mut piece) = (head, first);
        loop {
            if piece.is_empty() && self.body.complete {
                write_last_chunk(&mut out);
                return self.send(out, piece).await;
            }
            if piece.is_empty() {
                self.send(out, piece).await?;
                out = Buffer::lease();
            } else {
                write_chunk_header(&mut out, piece.len() as u64);
                self.send(out, piece).await?;
                out = Buffer::lease();
                out.extend_from_slice(b"\r\n");
            }
            piece = self.receive().await?;
        }
    }

    /// The client speaks HTTP/1.0: the payload is copied out of its chunks.
    async fn take_out_of_chunks(&mut self, head: Buffer) -> Result<(), BodyFailure> {
        let framing = |error| BodyFailure::Source(SourceFailure::Framing(error));
        let mut out = head;
        loop {
            let append = |payload: &[u8]| out.extend_from_slice(payload);
            let scan = self
                .body
                .scanner
                .decode(self.unread, append)
                .map_err(framing)?;
            self.unread.advance(scan.consumed);
            self.body.complete = scan.complete;
            if !out.is_empty() {
                self.send(out, Chunk::default()).await?;
                out = Buffer::lease();
            }
            if self.body.complete {
                return Ok(());
            }
            let received = poll_fn(|cx| self.source.poll_receive(cx)).await;
            *self.unread = received.map_err(|_| BodyFailure::Source(SourceFailure::Broken))?;
            if self.unread.is_empty() {
                return Err(BodyFailure::Source(SourceFailure::Closed));
            }
        }
    }

    async fn receive(&mut self) -> Result<Chunk, BodyFailure> {
        self.body
            .receive(self.source, self.unread)
            .await
            .map_err(BodyFailure::Source)
    }

    /// Waits until the client has taken what was sent before, then begins this send.
    async fn send(&mut self, head: Buffer, piece: Chunk) -> Result<(), BodyFailure> {
        self.sink.flushed().await.map_err(|_| BodyFailure::Sink)?;
        self.sent_bytes
            .set(self.sent_bytes.get() + piece.len() as u64);
        self.sink.send_detached(head, piece);
        Ok(())
    }
}
