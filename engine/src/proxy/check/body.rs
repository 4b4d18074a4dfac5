//! The part of a request's body that a service is shown before it decides.

use super::super::answer::Answer;
use super::super::connection::{Connection, deadline_after};
use super::super::deadline::until;
use super::super::local_reply::refuse_body;
use crate::rt::{self, Buffer, Chunk};
use crate::worker::WorkerLimits;
use ringroad_codec::http1::{BodyFraming, BodyScanner, CONTINUE, RequestHead};
use ringroad_policy::settings::BodyInCheck;

/// What framing may add to a body that is held for a check: chunk lines of very small chunks.
const MOST_FRAMING_BYTES: usize = 64 * 1024;

/// What there is to show.
pub enum ShownBody {
    Bytes {
        body: Vec<u8>,
        /// There is more of it.
        is_cut: bool,
    },
    /// The body is longer than may be, or broken.
    Refused(Answer),
    ClientGone,
}

impl ShownBody {
    /// Nothing to show.
    pub const NONE: Self = Self::Bytes {
        body: Vec::new(),
        is_cut: false,
    };
}

/// Receives the body as far as it is to be shown. All that was received stays in
/// `connection.unread`, for whoever sends the request on.
pub async fn body_to_show(
    connection: &mut Connection,
    head: &RequestHead,
    limits: &WorkerLimits,
    wanted: BodyInCheck,
) -> ShownBody {
    let most = wanted.max_bytes as usize;
    let too_long = || ShownBody::Refused(Answer::body_too_long());
    if matches!(head.framing, BodyFraming::None | BodyFraming::Length(0)) {
        return ShownBody::NONE;
    }
    if matches!(head.framing, BodyFraming::Length(length) if length > most as u64)
        && !wanted.allow_partial
    {
        return too_long();
    }
    if head.expect_continue && connection.unread.is_empty() {
        let mut out = Buffer::lease();
        out.extend_from_slice(CONTINUE);
        if connection.stream.send(out, Chunk::default()).await.is_err() {
            return ShownBody::ClientGone;
        }
    }
    let mut scanner = BodyScanner::new(head.framing, &limits.body);
    let mut held = connection.unread.to_vec();
    let (mut scanned, mut content) = (0, Vec::new());
    let shown = loop {
        let scan = scanner.decode(&held[scanned..], |run| content.extend_from_slice(run));
        let scan = match scan {
            Ok(scan) => scan,
            Err(error) => {
                break ShownBody::Refused(refuse_body(&connection.listener.stats, &error));
            }
        };
        scanned += scan.consumed;
        let is_over = content.len() > most;
        if wanted.allow_partial && content.len() >= most || scan.complete && !is_over {
            let is_cut = is_over || !scan.complete;
            content.truncate(most);
            break ShownBody::Bytes {
                body: content,
                is_cut,
            };
        }
        if is_over || held.len() > most + MOST_FRAMING_BYTES {
            break too_long();
        }
        let patience_ms = limits.settings.request_body_idle_timeout_ms;
        connection
            .deadline
            .set(deadline_after(rt::now(), patience_ms));
        match until(&connection.deadline, connection.stream.receive()).await {
            Ok(Ok(more)) if !more.is_empty() => held.extend_from_slice(&more),
            Ok(_) => break ShownBody::ClientGone,
            Err(_) => {
                connection.listener.stats.downstream_rq_idle_timeout.add(1);
                break ShownBody::Refused(Answer::body_stalled());
            }
        }
    };
    connection.deadline.set(None);
    connection.unread = Chunk::from_vec(held);
    shown
}
