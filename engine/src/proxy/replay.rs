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

    /// The piece that goes out together with the head.
    pub fn first(&mut self) -> Chunk {
        match self.pieces.first() {
            Some(first) if self.most_bytes > 0 && !self.is_lost && !rt::buffers_are_short() => {
                first.share()
            }
            Some(_) => {
                self.is_lost = true;
                self.pieces.pop().unwrap_or_default()
            }
            None => Chunk::default(),
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
