//! Passing bodies on: bytes go out in the buffers they came in.
//!
//! Each side is read only when the other has taken what it was given, so a slow reader slows its
//! sender and nothing piles up in between.

use super::grpc::MessageCount;
use super::response_head::Delivery;
use super::timeouts::Timeouts;
use crate::rt::{self, Buffer, Chunk, Deadline};
use crate::stats::ResponseFlags;
use crate::transport::Transport;
use ringroad_codec::http1::{
    BodyError, BodyFraming, BodyLimits, BodyScanner, Headers, end_head, write_chunk_header,
    write_header, write_last_chunk,
};
use ringroad_policy::authenticate::Authentication;
use std::cell::Cell;
use std::future::{Future, poll_fn};

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

impl SourceFailure {
    /// What is told of a response whose body ended so: Envoy's flag and detail. An end before what
    /// the length or the chunks announced breaks the protocol.
    pub fn of_an_upstream(&self) -> (ResponseFlags, &'static str) {
        match self {
            Self::Closed | Self::Framing(_) => (
                ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
                "upstream_reset_after_response_started{protocol_error}",
            ),
            Self::Broken => (
                ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
                "upstream_reset_after_response_started{connection_termination}",
            ),
        }
    }
}

/// How much of a message has passed.
#[derive(Debug, Default)]
pub struct ByteCount {
    /// On the wire: chunk lines and trailers are part of it.
    pub wire: Cell<u64>,
    /// The content alone, as Envoy counts bodies in its access log.
    pub payload: Cell<u64>,
    /// Messages of gRPC, where they are counted.
    pub messages: Cell<u64>,
}

impl ByteCount {
    pub fn add(&self, wire: usize, payload: usize) {
        self.wire.set(self.wire.get() + wire as u64);
        self.payload.set(self.payload.get() + payload as u64);
    }
}

/// A body on its way through: the scanner knows where it ends.
pub struct Body<'a> {
    scanner: BodyScanner,
    framing: BodyFraming,
    pub complete: bool,
    /// What has been received of it.
    received: &'a ByteCount,
    /// Whether it may be received in large buffers.
    may_be_bulk: bool,
    messages: Option<Box<MessageCount>>,
    /// Whose headers may not come as trailers.
    authentication: Option<&'a Authentication>,
}

impl<'a> Body<'a> {
    /// The body of a request.
    pub fn of_request(framing: BodyFraming, limits: &BodyLimits, received: &'a ByteCount) -> Self {
        Self::new(BodyScanner::new(framing, limits), framing, received)
    }

    /// The body of a response: a trailer that may be none is left out.
    pub fn of_response(framing: BodyFraming, limits: &BodyLimits, received: &'a ByteCount) -> Self {
        Self::new(BodyScanner::of_response(framing, limits), framing, received)
    }

    fn new(scanner: BodyScanner, framing: BodyFraming, received: &'a ByteCount) -> Self {
        let complete = matches!(framing, BodyFraming::None | BodyFraming::Length(0));
        Self {
            scanner,
            framing,
            complete,
            received,
            may_be_bulk: true,
            messages: None,
            authentication: None,
        }
    }

    /// Refuses the headers that only `authentication` may write where they come as trailers.
    pub fn guard_trailers(&mut self, authentication: Option<&'a Authentication>) {
        self.authentication = authentication;
    }

    /// Counts the messages of gRPC in it, from its first byte.
    pub fn count_messages(&mut self) {
        self.messages = Some(Box::default());
    }

    /// Messages of gRPC that have begun so far, where they are counted.
    pub fn message_count(&self) -> u64 {
        self.received.messages.get()
    }

    /// Its trailers; all of them when it is complete.
    pub fn trailers(&self) -> Headers<'_> {
        self.scanner.trailers()
    }

    /// Splits off what belongs to this body from the bytes received so far. Trailers of a response that
    /// have to be [written anew](Self::rewritten_end) are taken and left out.
    pub fn take(&mut self, unread: &mut Chunk) -> Result<Chunk, BodyError> {
        if self.complete || unread.is_empty() {
            return Ok(Chunk::default());
        }
        let consumed = self.decode(unread, |_| {})?;
        let mut piece = unread.split_to(consumed);
        match self.scanner.held_back() {
            0 => Ok(piece),
            held_back => Ok(piece.split_to(consumed - held_back)),
        }
    }

    /// The end of a body that was held back for its trailers.
    fn rewritten_end(&self) -> Option<Buffer> {
        let trailers = self.scanner.rewritten_trailers()?;
        let mut out = Buffer::lease();
        for (name, value, _) in trailers.iter() {
            write_header(&mut out, name, value);
        }
        end_head(&mut out);
        Some(out)
    }

    /// Follows the body through `input` and calls `data` with its content; how many bytes are its.
    fn decode(&mut self, input: &[u8], mut data: impl FnMut(&[u8])) -> Result<usize, BodyError> {
        let mut payload = 0;
        let scan = self.scanner.decode(input, |run| {
            payload += run.len();
            if let Some(count) = &mut self.messages {
                count.take(run);
                self.received.messages.set(count.messages);
            }
            data(run);
        })?;
        if scan.complete
            && let Some(authentication) = self.authentication
        {
            let trailers = self.scanner.trailers();
            if trailers
                .iter()
                .any(|(name, ..)| authentication.owns_header(name))
            {
                return Err(BodyError::ForbiddenTrailer);
            }
        }
        self.complete = scan.complete;
        self.received.add(scan.consumed, payload);
        Ok(scan.consumed)
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
        let passed = self.received.payload.get();
        self.may_be_bulk
            && matches!(self.framing, BodyFraming::Length(n) if n.saturating_sub(passed) > BULK_BYTES)
    }

    /// Receives the next bytes of the body; `unread` keeps what follows its end.
    ///
    /// # Errors
    /// The source closed or broke, unless its close is what ends the body.
    pub async fn receive(
        &mut self,
        source: &Transport,
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
pub struct Download<'a, 'b> {
    pub body: &'a mut Body<'b>,
    pub source: &'a Transport,
    pub unread: &'a mut Chunk,
    pub sink: &'a Transport,
    pub delivery: Delivery,
    /// What has been sent, the head among it.
    pub sent: &'a ByteCount,
    pub timeouts: &'a Timeouts,
    pub deadline: &'a Deadline,
}

impl Download<'_, '_> {
    /// Sends `head` with the first piece of the body, in one send, and then the rest.
    pub fn run(
        &mut self,
        head: Buffer,
        first: Chunk,
    ) -> impl Future<Output = Result<(), BodyFailure>> {
        async move {
            match self.delivery {
                Delivery::AsReceived => {
                    self.send(head, first).await?;
                    self.pass_on().await
                }
                Delivery::Chunked => self.put_into_chunks(head, first).await,
                Delivery::Dechunked => self.take_out_of_chunks(head).await,
            }
        }
    }

    async fn pass_on(&mut self) -> Result<(), BodyFailure> {
        while !self.body.complete {
            let piece = self.receive().await?;
            if !piece.is_empty() {
                self.send(Buffer::default(), piece).await?;
            }
        }
        match self.body.rewritten_end() {
            Some(end) => self.send(end, Chunk::default()).await,
            None => Ok(()),
        }
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
            let consumed = self.body.decode(self.unread, append).map_err(framing)?;
            self.unread.advance(consumed);
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
        if self.sink.shares_a_connection() {
            // One client may have many streams that it does not read: each keeps one small piece.
            self.body.may_be_bulk = false;
            self.flushed().await?;
        } else if self.body.is_bulk() && rt::bulk_buffers_are_short() {
            // Those who have stopped reading keep one large piece, not two.
            self.flushed().await?;
        }
        self.body
            .receive(self.source, self.unread)
            .await
            .map_err(BodyFailure::Source)
    }

    /// Waits until the client has taken what was sent before, then begins this send.
    fn send(&self, head: Buffer, piece: Chunk) -> impl Future<Output = Result<(), BodyFailure>> {
        async move {
            self.flushed().await?;
            self.sent.add(head.len() + piece.len(), 0);
            self.sent.payload.set(self.body.received.payload.get());
            self.sink.send_detached(head, piece);
            Ok(())
        }
    }

    /// Waits until the client has taken what was sent before.
    fn flushed(&self) -> impl Future<Output = Result<(), BodyFailure>> {
        let mut waits = false;
        poll_fn(move |cx| {
            let polled = self.sink.poll_flushed(cx);
            if waits != polled.is_pending() {
                waits = !waits;
                match waits {
                    true => self.timeouts.client_takes(self.deadline),
                    false => self.timeouts.client_has_taken(self.deadline),
                }
            }
            polled.map_err(|_| BodyFailure::Sink)
        })
    }
}
