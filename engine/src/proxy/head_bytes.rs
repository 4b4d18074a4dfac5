//! Receiving a head: in place when it came in one piece, joined when it did not.

use super::connection::{Connection, deadline_after};
use super::deadline::{poll_once, until};
use crate::rt::{self, Buffer, Chunk};
use crate::transport::Transport;
use crate::worker::WorkerLimits;
use ringroad_codec::http1::{HeadError, HeadLimits, Progress, RequestHead, ResponseHead};
use ringroad_codec::http1::{parse_request, parse_response};
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::pin;
use std::time::Instant;

/// The bytes a head was parsed from. Whatever follows the head has been split off.
pub enum HeadBytes {
    /// As received.
    InPlace(Chunk),
    /// Collected from several receives.
    Joined(Buffer),
}

impl Deref for HeadBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::InPlace(chunk) => chunk,
            Self::Joined(buffer) => buffer,
        }
    }
}

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
#[derive(Debug)]
pub enum ResponseHeadFailure {
    /// Closed or broken before a whole head; `after_bytes` tells whether anything had come.
    Closed {
        after_bytes: bool,
    },
    Malformed,
}

impl ResponseHeadFailure {
    /// Whether some bytes of a response had come.
    pub fn after_bytes(&self) -> bool {
        match self {
            Self::Closed { after_bytes } => *after_bytes,
            Self::Malformed => true,
        }
    }
}

/// Receives the next request head. What follows it stays in `connection.unread`.
pub async fn receive_request_head(
    connection: &mut Connection,
    limits: &WorkerLimits,
    head: &mut RequestHead,
) -> Result<HeadBytes, RequestHeadFailure> {
    head.reset();
    let is_first = connection.requests == 0;
    let parse = |bytes: &[u8]| match parse_request(bytes, &limits.head, head) {
        Ok(Progress::Complete) => Ok(Some(head.head_len)),
        Ok(_) if bytes == b"\r\n" && !is_first => Err(HeadFailure::EmptyLine),
        Ok(_) => Ok(None),
        Err(error) => Err(HeadFailure::Malformed(error)),
    };
    let unread = &mut connection.unread;
    let mut received = pin!(receive(&connection.stream, unread, false, parse));
    // Most heads are there, whole: only one that is waited for needs a limit.
    let received = match poll_once(&mut received).await {
        Some(received) => received,
        None => {
            let began = match connection.requests {
                0 => connection.accepted_at,
                _ => rt::now(),
            };
            let patience_ms = limits.settings.request_head_timeout_ms;
            connection.deadline.set(deadline_after(began, patience_ms));
            match until(&connection.deadline, received).await {
                Ok(received) => received,
                Err(_) => return Err(RequestHeadFailure::TimedOut { began }),
            }
        }
    };
    received.map_err(|failure| match failure {
        HeadFailure::Malformed(error) => RequestHeadFailure::Malformed(error),
        HeadFailure::EmptyLine => RequestHeadFailure::EmptyLine,
        HeadFailure::Closed { after_bytes } => RequestHeadFailure::Gone { after_bytes },
    })
}

/// Receives a response head. What follows it is left in `unread`. With `expects_bulk` the head is
/// received in a large buffer, together with the first part of the long body behind it.
pub async fn receive_response_head(
    stream: &Transport,
    unread: &mut Chunk,
    expects_bulk: bool,
    limits: &HeadLimits,
    to_head_request: bool,
    head: &mut ResponseHead,
) -> Result<HeadBytes, ResponseHeadFailure> {
    head.reset();
    let parse = |bytes: &[u8]| {
        let progress = parse_response(bytes, limits, to_head_request, false, head)
            .map_err(HeadFailure::Malformed)?;
        Ok((progress == Progress::Complete).then_some(head.head_len))
    };
    receive(stream, unread, expects_bulk, parse)
        .await
        .map_err(|failure| match failure {
            HeadFailure::Malformed(_) | HeadFailure::EmptyLine => ResponseHeadFailure::Malformed,
            HeadFailure::Closed { after_bytes } => ResponseHeadFailure::Closed { after_bytes },
        })
}

enum HeadFailure {
    /// Closed or broken.
    Closed {
        after_bytes: bool,
    },
    Malformed(HeadError),
    EmptyLine,
}

/// Receives until `parse` finds a whole head, and says where it ends.
async fn receive(
    stream: &Transport,
    unread: &mut Chunk,
    bulk: bool,
    mut parse: impl FnMut(&[u8]) -> Result<Option<usize>, HeadFailure>,
) -> Result<HeadBytes, HeadFailure> {
    if unread.is_empty() {
        *unread = receive_chunk(stream, bulk, false).await?;
    }
    if let Some(len) = parse(unread)? {
        return Ok(HeadBytes::InPlace(unread.split_to(len)));
    }
    // The head came in pieces: collect them, and hold no receive buffer while waiting.
    let mut joined = Buffer::lease();
    joined.extend_from_slice(unread);
    *unread = Chunk::default();
    loop {
        let chunk = receive_chunk(stream, bulk, true).await?;
        let before = joined.len();
        joined.extend_from_slice(&chunk);
        if let Some(len) = parse(&joined)? {
            *unread = chunk;
            unread.advance(len - before);
            joined.truncate(len);
            return Ok(HeadBytes::Joined(joined));
        }
    }
}

async fn receive_chunk(
    stream: &Transport,
    bulk: bool,
    after_bytes: bool,
) -> Result<Chunk, HeadFailure> {
    let received = poll_fn(|cx| match bulk {
        true => stream.poll_receive_bulk(cx),
        false => stream.poll_receive(cx),
    });
    match received.await {
        Ok(chunk) if !chunk.is_empty() => Ok(chunk),
        _ => Err(HeadFailure::Closed { after_bytes }),
    }
}
