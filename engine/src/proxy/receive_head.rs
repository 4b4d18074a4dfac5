//! Receiving a head: in place when it came in one piece, joined when it did not.
//!
//! What is returned is a word at most: what a task waits for is handed from future to future, and
//! what is larger would go through memory with each.

use super::connection::{Connection, deadline_after};
use super::deadline::{poll_once, until};
use crate::rt::{self, Buffer, Chunk};
use crate::transport::Transport;
use crate::worker::WorkerLimits;
use ringroad_codec::http1::{
    HeadError, HeadErrorKind, HeadLimits, Progress, RequestHead, ResponseHead,
};
use ringroad_codec::http1::{parse_request, parse_response};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::time::Instant;

/// Why there is no request head.
pub enum RequestHeadFailure {
    /// The client closed or broke its connection; `after_bytes` tells whether that was within a
    /// head or between requests.
    Gone {
        after_bytes: bool,
    },
    /// The head took longer than the limit. It has lasted since `began`.
    TimedOut {
        began: Instant,
    },
    Malformed(HeadError),
    /// Nothing has come since the last request but an empty line, as some clients send behind a
    /// body (RFC 9112 section 2.2): the connection is idle still. It is left in `unread`.
    EmptyLine,
}

/// Why there is no response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseHeadFailure {
    /// Closed or broken before any byte.
    Closed,
    /// Closed or broken within the head.
    Cut,
    Malformed,
}

/// The peer has closed or broken its connection, within a head or before any byte of one.
struct Ended {
    after_bytes: bool,
}

impl From<Ended> for Box<RequestHeadFailure> {
    fn from(Ended { after_bytes }: Ended) -> Self {
        Box::new(RequestHeadFailure::Gone { after_bytes })
    }
}

impl From<Ended> for ResponseHeadFailure {
    fn from(ended: Ended) -> Self {
        match ended.after_bytes {
            true => Self::Cut,
            false => Self::Closed,
        }
    }
}

impl ResponseHeadFailure {
    /// Whether some bytes of a response had come.
    pub fn after_bytes(self) -> bool {
        self != Self::Closed
    }
}

/// Receives the next request head. Its bytes, `head.head_len` of them, are at the start of
/// `connection.unread`, and what follows it behind them.
pub async fn receive_request_head(
    connection: &mut Connection,
    limits: &WorkerLimits,
    head: &mut RequestHead,
) -> Result<(), Box<RequestHeadFailure>> {
    head.reset();
    let is_first = connection.requests == 0;
    let lines_before = usize::from(connection.empty_lines);
    let parse = |bytes: &[u8]| match parse_request(bytes, &limits.head, head) {
        // Those that came apart count like those that came with it.
        Ok(Progress::Complete) => match lines_before + head.blank_lines() {
            0..=HeadLimits::MAX_LEADING_BLANK_LINES => Ok(true),
            _ => Err(too_many_empty_lines()),
        },
        Ok(_) if bytes == b"\r\n" && lines_before == HeadLimits::MAX_LEADING_BLANK_LINES => {
            Err(too_many_empty_lines())
        }
        Ok(_) if bytes == b"\r\n" && !is_first => Err(Box::new(RequestHeadFailure::EmptyLine)),
        Ok(_) => Ok(false),
        Err(error) => Err(Box::new(RequestHeadFailure::Malformed(error))),
    };
    let unread = &mut connection.unread;
    let mut received = pin!(receive(&connection.stream, unread, false, parse));
    // Most heads are there, whole: only one that is waited for needs a limit.
    if let Some(received) = poll_once(&mut received).await {
        return received;
    }
    let began = match connection.requests {
        0 => connection.accepted_at,
        _ => rt::now(),
    };
    let patience_ms = limits.settings.request_head_timeout_ms;
    connection.deadline.set(deadline_after(began, patience_ms));
    let received = until(&connection.deadline, received).await;
    received.unwrap_or_else(|_| Err(Box::new(RequestHeadFailure::TimedOut { began })))
}

#[cold]
fn too_many_empty_lines() -> Box<RequestHeadFailure> {
    Box::new(RequestHeadFailure::Malformed(HeadError {
        kind: HeadErrorKind::LeadingBlankLines,
        in_response: false,
    }))
}

/// Receives a response head. Its bytes, `head.head_len` of them, are at the start of `unread`, and
/// what follows it behind them. With `expects_bulk` the head is received in a large buffer, together
/// with the first part of the long body behind it.
pub fn receive_response_head(
    stream: &Transport,
    unread: &mut Chunk,
    expects_bulk: bool,
    limits: &HeadLimits,
    to_head_request: bool,
    head: &mut ResponseHead,
) -> impl Future<Output = Result<(), ResponseHeadFailure>> {
    head.reset();
    let parse = move |bytes: &[u8]| {
        let progress = parse_response(bytes, limits, to_head_request, false, head)
            .map_err(|_| ResponseHeadFailure::Malformed)?;
        Ok(progress == Progress::Complete)
    };
    receive(stream, unread, expects_bulk, parse)
}

/// Takes a head of `len` bytes out of what was received. It is kept as long as its request lasts, and
/// with it the buffer that it came in: where buffers are short, it is copied.
pub fn take_head(unread: &mut Chunk, len: usize) -> Chunk {
    let head = unread.split_to(len);
    match rt::buffers_are_short() {
        true => Chunk::copy_of(&head),
        false => head,
    }
}

/// Receives until `parse` finds a whole head at the start of `unread`. A block, whose captures stay
/// where they are: the arguments of an `async fn` are moved once more when it begins.
fn receive<F: From<Ended>>(
    stream: &Transport,
    unread: &mut Chunk,
    bulk: bool,
    mut parse: impl FnMut(&[u8]) -> Result<bool, F>,
) -> impl Future<Output = Result<(), F>> {
    let next = move || {
        poll_fn(move |cx| match bulk {
            true => stream.poll_receive_bulk(cx),
            false => stream.poll_receive(cx),
        })
    };
    async move {
        if unread.is_empty() {
            *unread = some_bytes(next().await).ok_or(Ended { after_bytes: false })?;
        }
        if parse(unread)? {
            return Ok(());
        }
        // The head came in pieces: collect them, and hold no receive buffer while waiting.
        let mut joined = Buffer::lease();
        joined.extend_from_slice(unread);
        *unread = Chunk::default();
        loop {
            let chunk = some_bytes(next().await).ok_or(Ended { after_bytes: true })?;
            joined.extend_from_slice(&chunk);
            if parse(&joined)? {
                *unread = Chunk::from_vec(std::mem::take(&mut *joined));
                return Ok(());
            }
        }
    }
}

fn some_bytes(received: io::Result<Chunk>) -> Option<Chunk> {
    received.ok().filter(|chunk| !chunk.is_empty())
}
