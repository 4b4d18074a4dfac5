//! What has been received of a request body, kept so that another try or a mirror can send it.

use crate::rt::{self, Chunk};

/// The pieces of one request body, framing included, in the buffers they came in.
#[derive(Default)]
pub struct Replay {
    pieces: Vec<Chunk>,
    bytes: usize,
    most_bytes: usize,
    is_lost: bool,
}

impl Replay {
    /// Begins with what came together with the head. `most_bytes` is 0 when nobody will ask for
    /// the body again. False: it is too long to be kept already.
    pub fn begin(&mut self, first: Chunk, most_bytes: usize) -> bool {
        self.pieces.clear();
        self.bytes = first.len();
        self.most_bytes = most_bytes;
        self.is_lost = most_bytes > 0 && self.bytes > most_bytes;
        if !first.is_empty() {
            self.pieces.push(first);
        }
        !self.is_lost
    }

    /// Lets go of the pieces.
    pub fn end(&mut self) {
        self.pieces.clear();
    }

    /// The piece that goes out together with the head. It is let go of when nobody will ask for it
    /// again, and where buffers are short; not when more has come since, which another try sends
    /// behind it.
    pub fn first(&mut self) -> Chunk {
        let is_wanted = self.most_bytes > 0 && !self.is_lost;
        match self.pieces.as_slice() {
            [] => Chunk::default(),
            [_] if !is_wanted || rt::buffers_are_short() => {
                self.is_lost = true;
                self.pieces.pop().unwrap_or_default()
            }
            [first, ..] => first.share(),
        }
    }

    /// The number of pieces kept.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The piece `at`, once more.
    pub fn piece(&self, at: usize) -> Chunk {
        self.pieces.get(at).map(Chunk::share).unwrap_or_default()
    }

    /// Keeps a further piece. False: the body has just become too long to be kept, or buffers are
    /// so short that bodies kept for later would take what present ones need.
    pub fn keep(&mut self, piece: &Chunk) -> bool {
        self.bytes += piece.len();
        if self.is_lost || piece.is_empty() {
            return true;
        }
        self.is_lost = self.bytes > self.most_bytes || rt::buffers_are_short();
        if self.is_lost {
            self.pieces.clear();
        } else {
            self.pieces.push(piece.share());
        }
        !self.is_lost || self.most_bytes == 0
    }

    /// Whether all that was received can be sent again.
    pub fn is_whole(&self) -> bool {
        !self.is_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::{RuntimeOptions, Stream};
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    /// A received chunk that keeps its buffer, since it is too long to be copied.
    async fn held() -> (Stream, TcpStream, Chunk) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = Stream::from_fd(listener.accept().unwrap().0.into()).unwrap();
        peer.write_all(&[b'x'; 8192]).unwrap();
        let chunk = stream.receive().await.unwrap();
        (stream, peer, chunk)
    }

    #[test]
    fn a_retry_while_buffers_are_short_sends_the_body_from_its_first_byte() {
        let options = RuntimeOptions {
            initial_receive_buffers: 2,
            max_receive_buffers: 2,
            ..RuntimeOptions::default()
        };
        rt::run(&options, || async {
            let mut replay = Replay::default();
            assert!(replay.begin(Chunk::copy_of(b"first"), 100));
            assert_eq!(&*replay.first(), b"first");
            assert!(replay.keep(&Chunk::copy_of(b"second")));
            let _held = [held().await, held().await];
            assert!(rt::buffers_are_short());
            assert_eq!(&*replay.first(), b"first");
            assert_eq!(replay.len(), 2);
            assert_eq!(&*replay.piece(1), b"second");

            // A body of one piece goes out whole, for the last time.
            assert!(replay.begin(Chunk::copy_of(b"only"), 100));
            assert_eq!(&*replay.first(), b"only");
            assert!(!replay.is_whole());
        })
        .unwrap();
    }
}
