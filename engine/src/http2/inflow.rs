//! The receiving side of a stream, as HTTP/1.1 bytes.

use crate::rt::Chunk;
use h2::RecvStream;
use http::HeaderMap;
use ringroad_codec::http1::{write_chunk_header, write_last_chunk};
use std::io;
use std::task::{Context, Poll};

/// How a body is framed in HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    /// By the `content-length` that came; `h2` holds the sender to it.
    Length,
    Chunked,
}

/// Head and body of one message, to be received.
pub struct Inflow {
    /// What is ready to be taken.
    ready: Chunk,
    body: Option<RecvStream>,
    framing: Framing,
    data_ended: bool,
    failure: Option<io::ErrorKind>,
}

impl Inflow {
    /// A message that begins with `head`.
    pub fn new(head: &[u8], body: Option<RecvStream>, framing: Framing) -> Self {
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

    /// The next bytes; pending for good behind the last.
    pub fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        match self.poll_fill(context) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(std::mem::take(&mut self.ready))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Receives until something is ready.
    pub fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.has_bytes() {
                return Poll::Ready(Ok(()));
            }
            if let Some(kind) = self.failure {
                return Poll::Ready(Err(kind.into()));
            }
            let Some(body) = &mut self.body else {
                return Poll::Pending;
            };
            if self.data_ended {
                let trailers = match body.poll_trailers(context) {
                    Poll::Ready(trailers) => trailers,
                    Poll::Pending => return Poll::Pending,
                };
                self.body = None;
                match trailers {
                    Ok(trailers) => self.end(trailers.as_ref()),
                    Err(error) => self.failure = Some(kind_of(&error)),
                }
                continue;
            }
            match body.poll_data(context) {
                Poll::Ready(Some(Ok(data))) => {
                    // What was handed on counts as taken: the next piece is asked for when the
                    // other side has taken this one.
                    let released = body.flow_control().release_capacity(data.len());
                    if let Err(error) = released {
                        self.failure = Some(kind_of(&error));
                    }
                    self.take_data(&data);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.failure = Some(kind_of(&error));
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
            Framing::None | Framing::Length => Chunk::copy_of(data),
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
                super::heads::write_fields(trailers, &mut framed);
                framed.extend_from_slice(b"\r\n");
            }
        }
        self.ready = Chunk::copy_of(&framed);
    }
}

/// What a failure of `h2` looks like on a socket.
pub fn kind_of(error: &h2::Error) -> io::ErrorKind {
    match error.reason() {
        // The peer has not begun with the request.
        Some(h2::Reason::REFUSED_STREAM) => io::ErrorKind::ConnectionRefused,
        _ => match error.get_io() {
            Some(error) => error.kind(),
            None => io::ErrorKind::ConnectionReset,
        },
    }
}
