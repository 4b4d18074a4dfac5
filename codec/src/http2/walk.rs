//! Finding frame after frame in bytes that come in pieces.

/// The octets before each frame's payload.
const HEAD_BYTES: usize = 9;
/// The client's first octets (RFC 9113 section 3.4).
const PREFACE_BYTES: usize = 24;

/// What a frame is (RFC 9113 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FrameKind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    Unknown,
}

impl FrameKind {
    fn of(octet: u8) -> Self {
        match octet {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::RstStream,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Unknown,
        }
    }
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// What it is.
    pub kind: FrameKind,
    /// Whether it ends its stream: DATA and HEADERS.
    pub ends_stream: bool,
    /// Whether it ends a field block: HEADERS, PUSH_PROMISE and CONTINUATION.
    pub ends_headers: bool,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// Octets of its payload without padding.
    pub content_bytes: u32,
    /// The error code of RST_STREAM (RFC 9113 section 7).
    pub error_code: u32,
}

/// One direction of a connection.
#[derive(Debug)]
pub struct FrameWalk {
    preface_left: usize,
    /// The start of a frame that has not come whole: its head, and the octets behind it that say
    /// what is padding and which error is told.
    start: [u8; HEAD_BYTES + 4],
    started: usize,
    payload_left: usize,
    kind: FrameKind,
}

impl FrameWalk {
    /// What a client sends: its preface comes before the first frame.
    pub fn of_client() -> Self {
        Self {
            preface_left: PREFACE_BYTES,
            ..Self::of_server()
        }
    }

    /// What a server sends.
    pub fn of_server() -> Self {
        Self {
            preface_left: 0,
            start: [0; HEAD_BYTES + 4],
            started: 0,
            payload_left: 0,
            kind: FrameKind::Unknown,
        }
    }

    /// Calls `each` with the head of every frame that begins in `bytes`, the pieces of a direction
    /// one after the other.
    ///
    /// # Errors
    /// That of `each`, which is not called again for this piece.
    pub fn walk<E>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(FrameHead) -> Result<(), E>,
    ) -> Result<(), E> {
        let preface = self.preface_left.min(bytes.len());
        self.preface_left -= preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let passed = self.payload_left.min(bytes.len());
                self.payload_left -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let wanted = self.wanted();
            let taken = (wanted - self.started).min(bytes.len());
            self.start[self.started..self.started + taken].copy_from_slice(&bytes[..taken]);
            self.started += taken;
            bytes = &bytes[taken..];
            if self.started == self.wanted() {
                let head = self.begin();
                each(head)?;
            }
        }
        Ok(())
    }

    /// Whether a frame of this kind has come in part.
    pub fn is_within(&self, kind: FrameKind) -> bool {
        match self.payload_left {
            0 => self.started > 3 && FrameKind::of(self.start[3]) == kind,
            _ => self.kind == kind,
        }
    }

    fn len(&self) -> usize {
        usize::from(self.start[0]) << 16
            | usize::from(self.start[1]) << 8
            | usize::from(self.start[2])
    }

    fn is_padded(&self) -> bool {
        let can_be = matches!(
            FrameKind::of(self.start[3]),
            FrameKind::Data | FrameKind::Headers
        );
        can_be && self.start[4] & 0x8 != 0
    }

    /// How many octets of the frame say all that is told of it.
    fn wanted(&self) -> usize {
        if self.started < HEAD_BYTES {
            return HEAD_BYTES;
        }
        let more = match FrameKind::of(self.start[3]) {
            FrameKind::RstStream => 4,
            _ if self.is_padded() => 1,
            _ => 0,
        };
        HEAD_BYTES + more.min(self.len())
    }

    fn begin(&mut self) -> FrameHead {
        let (kind, flags) = (FrameKind::of(self.start[3]), self.start[4]);
        let word = |at: usize| {
            let octets = &self.start[at..at + 4];
            octets
                .iter()
                .fold(0, |word, octet| word << 8 | u32::from(*octet))
        };
        let padding = match self.is_padded() {
            true => 1 + usize::from(self.start[HEAD_BYTES]),
            false => 0,
        };
        let can_end = matches!(kind, FrameKind::Data | FrameKind::Headers);
        let head = FrameHead {
            kind,
            ends_stream: can_end && flags & 0x1 != 0,
            ends_headers: flags & 0x4 != 0,
            stream: word(5) & 0x7fff_ffff,
            content_bytes: u32::try_from(self.len().saturating_sub(padding)).unwrap_or(u32::MAX),
            error_code: match kind {
                FrameKind::RstStream if self.len() >= 4 => word(HEAD_BYTES),
                _ => 0,
            },
        };
        self.payload_left = HEAD_BYTES + self.len() - self.started;
        self.kind = kind;
        self.started = 0;
        head
    }
}
