//! A stream whose request comes from a client.

use super::downstream::Streams;
use super::failure::StreamFailure;
use super::heads::response_of;
use super::inflow::Inflow;
use super::outflow::Outflow;
use super::stall::StallWatch;
use super::stream::{our_bodies, our_heads};
use bytes::Bytes;
use h2::server::SendResponse;
use ringroad_codec::http1::{BodyFraming, Progress, ResponseHead, parse_response};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub(super) struct ServerSide {
    pub connection: Rc<Streams>,
    pub inflow: Inflow,
    pub respond: SendResponse<Bytes>,
    /// Of a response, as far as it was pushed.
    pub head: Vec<u8>,
    pub to_head_request: bool,
    pub is_upgrade: bool,
    pub outflow: Option<Outflow>,
    pub stall: StallWatch,
}

impl ServerSide {
    /// Ready when all that was pushed has been handed over, or the client has taken nothing of it
    /// for too long.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamFailure>> {
        let Some(outflow) = &mut self.outflow else {
            return Poll::Ready(Ok(()));
        };
        let flushed = outflow.poll_flush(context);
        if flushed.is_ready() {
            self.stall.calm();
            return flushed;
        }
        let stalled = self.stall.poll(outflow.taken_bytes(), context);
        stalled.map(|()| Err(StreamFailure::Reset))
    }

    /// Whether the client has reset the stream, and neither of us the connection.
    pub fn was_reset(&mut self) -> bool {
        match self.inflow.failure() {
            Some(StreamFailure::Reset | StreamFailure::Refused) => return true,
            Some(_) => return false,
            None => {}
        }
        // `h2` does not say which side has reset it. We do so on our own with what is broken, which
        // shows above, and when the whole connection ends.
        let context = &mut Context::from_waker(Waker::noop());
        let reset = match &mut self.outflow {
            Some(outflow) => outflow.poll_reset(context),
            None => self.respond.poll_reset(context),
        };
        matches!(reset, Poll::Ready(Ok(_))) && !self.connection.is_over()
    }

    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), StreamFailure> {
        while self.outflow.is_none() {
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            let mut parsed = ResponseHead::default();
            let progress = parse_response(
                &self.head,
                &our_heads(),
                self.to_head_request,
                false,
                &mut parsed,
            );
            match progress {
                Ok(Progress::Complete) => {}
                Ok(Progress::Incomplete) => return Ok(()),
                Err(_) => return Err(StreamFailure::Protocol),
            }
            bytes = &bytes[parsed.head_len - before..];
            let is_switch = self.is_upgrade && parsed.status == 101;
            let is_final = is_switch || !parsed.is_interim();
            let response = response_of(&parsed, &self.head, self.is_upgrade && is_final)?;
            self.head.clear();
            if !is_final {
                let sent = self.respond.send_informational(response);
                sent.map_err(|error| StreamFailure::of(&error))?;
                if bytes.is_empty() {
                    return Ok(());
                }
                continue;
            }
            let framing = match is_switch {
                true => BodyFraming::UntilClose,
                false => parsed.framing,
            };
            let is_empty = matches!(framing, BodyFraming::None | BodyFraming::Length(0));
            let sent = self.respond.send_response(response, is_empty);
            let stream = sent.map_err(|error| StreamFailure::of(&error))?;
            self.outflow = Some(Outflow::new(stream, framing, &our_bodies()));
        }
        match &mut self.outflow {
            Some(outflow) if !bytes.is_empty() => outflow.push(bytes),
            _ => Ok(()),
        }
    }
}
