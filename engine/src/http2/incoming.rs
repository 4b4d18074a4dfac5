//! The DATA of streams while nobody takes it.
//!
//! `h2` keeps a record for each frame, however small, and bounds the records of a connection
//! together: a body of many small frames that waits for a slow reader would end the connection with
//! all its streams. So frames are joined here when many small ones have come. What is joined still
//! counts against the sender's window, and so is never more than that.

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use ringroad_codec::http2::{FrameKind, FrameWalk};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// DATA frames below this are small; `h2` reckons with the same.
const SMALL_BYTES: u32 = 256;
/// Small frames of one connection after which they are joined.
const MOST_SMALL_FRAMES: u32 = 256;
/// What `h2` may keep of small frames: [`SMALL_BYTES`] for each one. So many that they are joined
/// long before, whatever comes with one receive.
pub const SMALL_FRAME_BUDGET_BYTES: usize = 4096 * SMALL_BYTES as usize;
/// Bytes that `h2` is given at a time, so that what it makes of them is bounded.
pub const GIVEN_AT_A_TIME_BYTES: usize = 8 * 1024;

/// The bodies that come on one connection.
pub struct Bodies {
    bodies: RefCell<Vec<Weak<Body>>>,
    walk: RefCell<FrameWalk>,
    small_frames: Cell<u32>,
}

/// The body of one stream. Bytes that were taken count as received: the peer may send as many more.
pub struct Body(RefCell<BodyState>);

struct BodyState {
    stream: RecvStream,
    joined: Vec<u8>,
    /// What comes behind the joined bytes: the end, or why there is none.
    end: Option<Result<(), h2::Error>>,
    reader: Option<Waker>,
}

impl Bodies {
    /// Of a connection whose frames are found by `walk`.
    pub fn new(walk: FrameWalk) -> Rc<Self> {
        Rc::new(Self {
            bodies: RefCell::default(),
            walk: RefCell::new(walk),
            small_frames: Cell::new(0),
        })
    }

    /// The body of a stream of this connection.
    pub fn of(&self, stream: RecvStream) -> Rc<Body> {
        let body = Rc::new(Body(RefCell::new(BodyState {
            stream,
            joined: Vec::new(),
            end: None,
            reader: None,
        })));
        let mut bodies = self.bodies.borrow_mut();
        if bodies.len() == bodies.capacity() {
            bodies.retain(|body| body.strong_count() > 0);
        }
        bodies.push(Rc::downgrade(&body));
        body
    }

    /// `h2` is given these bytes.
    pub fn note(&self, bytes: &[u8]) {
        let small_frames = &self.small_frames;
        let walked: Result<(), std::convert::Infallible> =
            self.walk.borrow_mut().walk(bytes, |frame| {
                if frame.kind == FrameKind::Data && frame.content_bytes < SMALL_BYTES {
                    small_frames.set(small_frames.get() + 1);
                }
                Ok(())
            });
        let Ok(()) = walked;
    }

    /// Whether `h2` has to get rid of small frames before it is given more.
    pub fn are_due(&self) -> bool {
        self.small_frames.get() >= MOST_SMALL_FRAMES
    }

    /// Joins the frames of all bodies, if that is due. True: `h2` is to be given more.
    pub fn join(&self) -> bool {
        if !self.are_due() {
            return false;
        }
        self.small_frames.set(0);
        let mut bodies = self.bodies.borrow_mut();
        bodies.retain(|body| {
            body.upgrade().is_some_and(|body| {
                body.join();
                true
            })
        });
        true
    }
}

impl Body {
    /// The next bytes; `None` at their end.
    pub fn poll_data(&self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let state = &mut *self.0.borrow_mut();
        if !state.joined.is_empty() {
            let data = Bytes::from(std::mem::take(&mut state.joined));
            return Poll::Ready(Some(state.release(data)));
        }
        match state.end.take() {
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            Some(Ok(())) => {
                state.end = Some(Ok(()));
                return Poll::Ready(None);
            }
            None => {}
        }
        match state.stream.poll_data(context) {
            Poll::Ready(Some(Ok(data))) => Poll::Ready(Some(state.release(data))),
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => {
                let is_known = |known: &Waker| known.will_wake(context.waker());
                if !state.reader.as_ref().is_some_and(is_known) {
                    state.reader = Some(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// What comes behind the last bytes.
    pub fn poll_trailers(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        self.0.borrow_mut().stream.poll_trailers(context)
    }

    fn join(&self) {
        let state = &mut *self.0.borrow_mut();
        let before = state.joined.len();
        let reader = state.reader.clone();
        let waker = reader.as_ref().unwrap_or(Waker::noop());
        let context = &mut Context::from_waker(waker);
        while state.end.is_none() {
            match state.stream.poll_data(context) {
                Poll::Ready(Some(Ok(data))) => state.joined.extend_from_slice(&data),
                Poll::Ready(Some(Err(error))) => state.end = Some(Err(error)),
                Poll::Ready(None) => state.end = Some(Ok(())),
                Poll::Pending => break,
            }
        }
        if state.joined.len() > before || state.end.is_some() {
            waker.wake_by_ref();
        }
    }
}

impl BodyState {
    fn release(&mut self, data: Bytes) -> Result<Bytes, h2::Error> {
        self.stream.flow_control().release_capacity(data.len())?;
        Ok(data)
    }
}
