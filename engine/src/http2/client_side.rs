//! A stream whose request we send.

use super::failure::StreamFailure;
use super::heads::{request_of, response_text, switching_text};
use super::incoming::Bodies;
use super::inflow::{Framing, Inflow};
use super::outflow::Outflow;
use super::stream::{our_bodies, our_heads};
use super::websocket;
use bytes::Bytes;
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use http::{Response, StatusCode};
use ringroad_codec::http1::{BodyFraming, Progress, RequestHead, Upgrade, parse_request};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

pub(super) struct ClientSide {
    connection: SendRequest<Bytes>,
    scheme: &'static str,
    bodies: Rc<Bodies>,
    /// Of the request, as far as it was pushed.
    head: Vec<u8>,
    to_head_request: bool,
    is_upgrade: bool,
    /// What a server of HTTP/1.1 would answer to the key of a WebSocket.
    accept: Option<String>,
    response: Option<ResponseFuture>,
    pub outflow: Option<Outflow>,
    pub inflow: Option<Inflow>,
    failure: Option<StreamFailure>,
}

impl ClientSide {
    pub fn new(connection: SendRequest<Bytes>, scheme: &'static str, bodies: Rc<Bodies>) -> Self {
        Self {
            connection,
            scheme,
            bodies,
            head: Vec::new(),
            to_head_request: false,
            is_upgrade: false,
            accept: None,
            response: None,
            outflow: None,
            inflow: None,
            failure: None,
        }
    }

    /// Why there is no answer, or none that is whole.
    pub fn failure(&self) -> Option<StreamFailure> {
        let of_body = || self.inflow.as_ref().and_then(Inflow::failure);
        self.failure.or_else(of_body)
    }

    pub fn push(&mut self, bytes: &[u8]) -> Result<(), StreamFailure> {
        let mut bytes = bytes;
        if self.outflow.is_none() {
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            let mut parsed = RequestHead::default();
            match parse_request(&self.head, &our_heads(), &mut parsed) {
                Ok(Progress::Complete) => {}
                Ok(Progress::Incomplete) => return Ok(()),
                Err(_) => return self.never_begins(StreamFailure::Protocol),
            }
            bytes = &bytes[parsed.head_len - before..];
            if let Err(failure) = self.begin(&parsed) {
                return self.never_begins(failure);
            }
        }
        match &mut self.outflow {
            Some(outflow) if !bytes.is_empty() => outflow.push(bytes),
            _ => Ok(()),
        }
    }

    /// No answer can come to a request that was not sent.
    fn never_begins(&mut self, failure: StreamFailure) -> Result<(), StreamFailure> {
        self.failure = Some(failure);
        Err(failure)
    }

    fn begin(&mut self, parsed: &RequestHead) -> Result<(), StreamFailure> {
        let head = std::mem::take(&mut self.head);
        let request = request_of(parsed, &head, self.scheme)?;
        self.to_head_request = parsed.method.of(&head) == b"HEAD";
        self.is_upgrade = parsed.upgrade == Upgrade::WebSocket;
        if self.is_upgrade {
            if !self.connection.is_extended_connect_protocol_enabled() {
                return Err(StreamFailure::NoUpgrades);
            }
            let key = parsed.headers(&head).first(websocket::KEY);
            self.accept = key.map(websocket::accept_of);
        }
        let framing = match self.is_upgrade {
            true => BodyFraming::UntilClose,
            false => parsed.framing,
        };
        let is_empty = matches!(framing, BodyFraming::None | BodyFraming::Length(0));
        let sent = self.connection.send_request(request, is_empty);
        let (response, stream) = sent.map_err(|error| StreamFailure::of(&error))?;
        self.response = Some(response);
        self.outflow = Some(Outflow::new(stream, framing, &our_bodies()));
        Ok(())
    }

    /// The message that comes, once its head is there.
    pub fn poll_message(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<&mut Inflow, StreamFailure>> {
        if let Some(failure) = self.failure {
            return Poll::Ready(Err(failure));
        }
        let has_bytes = self.inflow.as_ref().is_some_and(Inflow::has_bytes);
        if !has_bytes && let Some(response) = &mut self.response {
            match response.poll_informational(context) {
                Poll::Ready(Some(Ok(interim))) => {
                    let (text, _) = response_text(&interim, true, false);
                    self.inflow = Some(Inflow::new(&text, None, Framing::None));
                }
                Poll::Ready(Some(Err(error))) => return self.fail(&error),
                Poll::Ready(None) | Poll::Pending => match Pin::new(response).poll(context) {
                    Poll::Ready(Ok(response)) => {
                        self.response = None;
                        self.inflow = Some(self.begin_message(response));
                    }
                    Poll::Ready(Err(error)) => return self.fail(&error),
                    Poll::Pending => {}
                },
            }
        }
        match &mut self.inflow {
            Some(inflow) => Poll::Ready(Ok(inflow)),
            None => Poll::Pending,
        }
    }

    fn begin_message(&self, response: Response<RecvStream>) -> Inflow {
        let ends_here = response.body().is_end_stream();
        let (text, framing) = match self.is_upgrade && response.status() == StatusCode::OK {
            true => {
                let text = switching_text(&response, self.accept.as_deref());
                (text, Framing::Tunnel)
            }
            false => response_text(&response, ends_here, self.to_head_request),
        };
        Inflow::new(&text, Some(self.bodies.of(response.into_body())), framing)
    }

    fn fail<T>(&mut self, error: &h2::Error) -> Poll<Result<T, StreamFailure>> {
        let failure = StreamFailure::of(error);
        self.failure = Some(failure);
        Poll::Ready(Err(failure))
    }

    /// Whether the peer may still wait for something of ours, or we for something of the peer's.
    pub fn is_under_way(&self) -> bool {
        let is_sent = self.outflow.as_ref().is_none_or(Outflow::is_finished);
        !is_sent || self.response.is_some()
    }
}
