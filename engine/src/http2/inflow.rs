//! The receiving side of a stream, as HTTP/1.1 bytes.

use super::failure::StreamFailure;
use super::incoming::Body;
use crate::rt::Chunk;
use http::HeaderMap;
use ringroad_codec::http1::{write_chunk_header, write_last_chunk};
use std::rc::Rc;
use std::task::{Context, Poll};

/// How a body is framed in HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    /// By the `content-length` that came; `h2` holds the sender to it.
    Length,
    Chunked,
    /// By its end: the stream carries another protocol.
    Tunnel,
}

/// Head and body of one message, to be received.
pub struct Inflow {
    /// What is ready to be taken.
    ready: Chunk,
    body: Option<Rc<Body>>,
    framing: Framing,
    data_ended: bool,
    failure: Option<StreamFailure>,
}

impl Inflow {
    /// A message that begins with `head`.
    pub fn new(head: &[u8], body: Option<Rc<Body>>, framing: Framing) -> Self {
        Self {
            ready: Chunk::copy_of(head),
            body: body.filter(|_| framing != Framing::None),
            framing,
            data_ended: false,
            failure: None,
        }
    }

    /// Whether bytes can be taken at once.
    pub fn has_bytes(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Why nothing more comes, where that is a failure.
    pub fn failure(&self) -> Option<StreamFailure> {
        self.failure
    }

    /// The next bytes. Behind the last it is pending for good, or, in a tunnel, an empty chunk.
    pub fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Chunk, StreamFailure>> {
        match self.poll_fill(context) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(std::mem::take(&mut self.ready))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Receives until something is ready.
    pub fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamFailure>> {
        loop {
            if self.has_bytes() {
                return Poll::Ready(Ok(()));
            }
            if let Some(failure) = self.failure {
                return Poll::Ready(Err(failure));
            }
            let Some(body) = &self.body else {
                return match self.framing {
                    Framing::Tunnel => Poll::Ready(Ok(())),
                    _ => Poll::Pending,
                };
            };
            if self.data_ended {
                let trailers = match body.poll_trailers(context) {
                    Poll::Ready(trailers) => trailers,
                    Poll::Pending => return Poll::Pending,
                };
                self.body = None;
                match trailers {
                    Ok(trailers) => self.end(trailers.as_ref()),
                    Err(error) => self.failure = Some(StreamFailure::of(&error)),
                }
                continue;
            }
            match body.poll_data(context) {
                Poll::Ready(Some(Ok(data))) => {
                    // The next piece is asked for when the other side has taken this one.
                    self.take_data(&data);
                }
                // Also a reset without an error (RFC 9113 section 8.1): behind the end of the
                // stream `h2` keeps it from us, before it something is missing.
                Poll::Ready(Some(Err(error))) => {
                    self.failure = Some(StreamFailure::of(&error));
                    self.body = None;
                }
                Poll::Ready(None) => self.data_ended = true,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn take_data(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.ready = match self.framing {
            Framing::Chunked => {
                let mut framed = Vec::with_capacity(data.len() + 16);
                write_chunk_header(&mut framed, data.len() as u64);
                framed.extend_from_slice(data);
                framed.extend_from_slice(b"\r\n");
                Chunk::copy_of(&framed)
            }
            Framing::None | Framing::Length | Framing::Tunnel => Chunk::copy_of(data),
        };
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) {
        if self.framing != Framing::Chunked {
            return;
        }
        let mut framed = Vec::new();
        match trailers {
            None => write_last_chunk(&mut framed),
            Some(trailers) => {
                framed.extend_from_slice(b"0\r\n");
                super::heads::write_trailers(trailers, &mut framed);
                framed.extend_from_slice(b"\r\n");
            }
        }
        self.ready = Chunk::copy_of(&framed);
    }
}
