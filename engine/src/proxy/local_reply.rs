//! Sending answers of our own.

use super::answer::Answer;
use super::connection::{Connection, deadline_after};
use super::deadline::until;
use super::edits::EditLevels;
use super::exchange::After;
use super::grpc;
use super::receive_head::RequestHeadFailure;
use super::record::Record;
use super::request_head::write_number_line;
use super::response_head::{server_name, write_connection};
use crate::rt::{self, Buffer, Chunk};
use crate::stats::{ListenerStats, ResponseFlags};
use crate::worker::Worker;
use ringroad_codec::http1::{
    BodyError, HeadErrorKind, RequestHead, end_head, write_header, write_status_line,
};
use std::rc::Rc;

/// How long a closing connection reads away what the client still sends.
const LINGER_MS: u64 = 1_000;

/// Answers a request whose head was refused, and closes.
pub async fn refuse(
    connection: &mut Connection,
    worker: &Rc<Worker>,
    failure: Box<RequestHeadFailure>,
) -> After {
    let stats = &connection.listener.stats;
    let mut began = None;
    let answer = match *failure {
        RequestHeadFailure::EmptyLine => {
            connection.unread = Chunk::default();
            connection.empty_lines += 1;
            return After::Next;
        }
        RequestHeadFailure::Gone { after_bytes: false } => return After::Close,
        RequestHeadFailure::Gone { after_bytes: true } => {
            let mut record = Record::of_refused_head(connection, worker);
            let flags = ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION;
            record.fail(flags, "downstream_remote_disconnect");
            record.finish(connection);
            return After::Close;
        }
        RequestHeadFailure::TimedOut { began: since } => {
            stats.downstream_rq_header_timeout.add(1);
            began = Some(since);
            Answer::head_timeout()
        }
        RequestHeadFailure::Malformed(error) => {
            stats.downstream_cx_protocol_error.add(1);
            if matches!(
                error.kind,
                HeadErrorKind::HeadTooLarge | HeadErrorKind::TooManyHeaders
            ) {
                stats.downstream_rq_too_large.add(1);
            }
            Answer::malformed(&error)
        }
    };
    let mut record = Record::of_refused_head(connection, worker);
    if let Some(began) = began {
        record.count_from(began);
    }
    let head = RequestHead::default();
    answer_request(
        connection,
        &head,
        false,
        &answer,
        EditLevels::default(),
        record,
    )
    .await
}

/// Counts a request body with wrong framing, or with framing beyond a limit, and says the answer.
pub fn refuse_body(stats: &ListenerStats, error: &BodyError) -> Answer {
    let counter = match error.is_limit() {
        true => &stats.downstream_rq_body_limit,
        false => &stats.downstream_rq_body_error,
    };
    counter.add(1);
    Answer::broken_body(error)
}

/// Answers a request by ourselves. `body_read` says whether nothing of its body is still to come;
/// then the connection goes on.
/// `levels` are the response header operations of the route taken, if any.
pub async fn answer_request(
    connection: &mut Connection,
    head: &RequestHead,
    body_read: bool,
    answer: &Answer,
    levels: EditLevels<'_>,
    mut record: Record<'_>,
) -> After {
    let worker = connection.worker.clone();
    connection.deadline.set(None);
    let keep_alive = head.keep_alive
        && body_read
        && !answer.ends_connection
        && !worker.is_leaving(&connection.listener);
    record.answered(answer);
    let mut out = Buffer::lease();
    let is_grpc = record.is_grpc_request();
    let status = if is_grpc { 200 } else { answer.status };
    write_status_line(&mut out, status);
    let body: &[u8] = if is_grpc { b"" } else { &answer.body };
    if may_have_body(status) {
        write_number_line(&mut out, "content-length: ", body.len() as u64);
    }
    if is_grpc {
        grpc::write_status(answer.grpc_status(), &answer.body, &mut out);
    } else if !body.is_empty() && !levels.writes("content-type") {
        write_header(&mut out, b"content-type", b"text/plain");
    }
    let path = record.path();
    let format = record.format(connection, &path);
    for (name, value) in &answer.headers {
        if levels.keeps(name.as_bytes(), &format) {
            write_header(&mut out, name.as_bytes(), value.as_bytes());
        }
    }
    if !levels.gives("date", &format) {
        out.extend_from_slice(b"date: ");
        worker.write_date(&mut out);
        out.extend_from_slice(b"\r\n");
    }
    let server = server_name(record.direction);
    write_header(&mut out, b"server", server.as_bytes());
    levels.write(&format, &mut out);
    write_connection(keep_alive, head.version, &mut out);
    end_head(&mut out);
    record.set_response_head_bytes(out.len());
    if may_have_body(status) && !record.is_head_request() {
        out.extend_from_slice(body);
        record.sent.payload.set(body.len() as u64);
    }
    record.sent.wire.set(out.len() as u64);
    let sent = connection.send_last(out, Chunk::default()).await;
    record.keep_alive = keep_alive;
    if sent.is_err() {
        record.fail(
            ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION,
            "downstream_remote_disconnect",
        );
    }
    record.finish(connection);
    match (sent, keep_alive) {
        (Err(_), _) => After::Reset,
        (Ok(()), true) => After::Next,
        (Ok(()), false) => After::Linger,
    }
}

/// RFC 9110 section 6.4.1.
fn may_have_body(status: u16) -> bool {
    status >= 200 && status != 204 && status != 304
}

/// Ends our side and reads away what is still on its way, for a while. Without this the kernel
/// answers late bytes with a reset, which can destroy the response before the client has read it.
pub async fn linger(connection: &mut Connection) {
    connection.finish_sending().await;
    if connection.stream.shutdown_write().is_err() {
        return;
    }
    let most = connection.worker.limits().settings.max_discarded_body_bytes as usize;
    connection.unread = Chunk::default();
    connection
        .deadline
        .set(deadline_after(rt::now(), LINGER_MS));
    let mut read = 0;
    while read < most {
        match until(&connection.deadline, connection.stream.receive()).await {
            Ok(Ok(chunk)) if !chunk.is_empty() => read += chunk.len(),
            _ => return,
        }
    }
    let stats = &connection.listener.stats;
    stats.downstream_cx_discard_overflow.add(1);
}
