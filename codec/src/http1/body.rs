//! Bodies: where they end, and that nothing in their framing can be read in two ways
//! (RFC 9112 sections 6 and 7).

use super::chunk_extension::ChunkExtension;
use super::trailers::Trailers;
use super::{BodyError, BodyLimits, Headers};

/// How a body is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyFraming {
    /// No body, or one of length 0.
    #[default]
    None,
    /// This many bytes, never 0 from a parsed head.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
    /// Everything until the connection ends; responses only.
    UntilClose,
}

/// What one piece of input held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Bytes of the input that belong to the body, its framing included. Less than the input only
    /// when the body ended: the rest is the next message, or an answer that is too long.
    pub consumed: usize,
    /// Whether the body ended at `consumed`.
    pub complete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Done,
    UntilClose,
    Length {
        left: u64,
    },
    ChunkSize {
        size: u64,
        digits: u32,
    },
    /// Behind a size, before an extension or the line end.
    ChunkBlank {
        size: u64,
        bytes: usize,
    },
    ChunkExtension {
        size: u64,
        bytes: usize,
        part: ChunkExtension,
    },
    ChunkLineFeed {
        size: u64,
    },
    ChunkData {
        left: u64,
    },
    ChunkDataReturn,
    ChunkDataLineFeed,
    Trailers,
    Failed(BodyError),
}

const EMPTY_LINE: &[u8] = b"\r\n";
const CHUNK_START: State = State::ChunkSize { size: 0, digits: 0 };

/// Follows a body through the pieces in which it arrives and checks its framing, without copying
/// or holding payload. Only trailers are kept, within their limits.
#[derive(Clone, Debug)]
pub struct BodyScanner {
    state: State,
    /// Bytes of extensions beyond the data of their chunks.
    excess_bytes: usize,
    limits: BodyLimits,
    /// Whether fields that may not be trailers are left out, where they are an error otherwise.
    drops_forbidden: bool,
    /// Boxed, and made when the first field comes, so that bodies without trailers carry nothing.
    trailers: Option<Box<Trailers>>,
}

impl BodyScanner {
    /// A scanner at the start of a body.
    pub fn new(framing: BodyFraming, limits: &BodyLimits) -> Self {
        let mut scanner = BodyScanner {
            state: State::Done,
            excess_bytes: 0,
            limits: limits.clone(),
            drops_forbidden: false,
            trailers: None,
        };
        scanner.begin(framing);
        scanner
    }

    /// A scanner at the start of the body of a response. A field that may not be a trailer is left out
    /// of its trailers, where in a request it is an error (RFC 9110 section 6.5.1 leaves the choice):
    /// see [`held_back`](Self::held_back).
    pub fn of_response(framing: BodyFraming, limits: &BodyLimits) -> Self {
        let mut scanner = BodyScanner::new(framing, limits);
        scanner.drops_forbidden = true;
        scanner
    }

    /// Starts over with another body, under the same limits and with the same capacity.
    pub fn reset(&mut self, framing: BodyFraming) {
        self.begin(framing);
        self.excess_bytes = 0;
        if let Some(trailers) = &mut self.trailers {
            trailers.clear();
        }
    }

    /// Written in place: a state that is returned would be copied.
    #[inline]
    fn begin(&mut self, framing: BodyFraming) {
        match framing {
            BodyFraming::None | BodyFraming::Length(0) => self.state = State::Done,
            BodyFraming::Length(left) => self.state = State::Length { left },
            BodyFraming::Chunked => self.state = CHUNK_START,
            BodyFraming::UntilClose => self.state = State::UntilClose,
        }
    }

    /// Whether the body has ended. True from the start when there is none.
    pub fn is_complete(&self) -> bool {
        self.state == State::Done
    }

    /// Payload bytes that are known to follow without any framing between them: what is left of
    /// the length, or of the present chunk. `None` when that is unknown. For choosing how to read.
    pub fn contiguous_bytes(&self) -> Option<u64> {
        match self.state {
            State::Length { left } | State::ChunkData { left } => Some(left),
            _ => None,
        }
    }

    /// How many bytes at the start of `input`, the next bytes of the connection, belong to the
    /// body.
    ///
    /// # Errors
    /// [`BodyError`] when the framing is wrong anywhere in `input`; none of it should be passed on
    /// and the connection must be closed. Every later call returns the same error.
    #[inline]
    pub fn scan(&mut self, input: &[u8]) -> Result<Scan, BodyError> {
        self.decode(input, |_| {})
    }

    /// Like [`scan`](Self::scan), and calls `data` with each run of payload on the way: the body
    /// without chunk lines and trailers. On an error `data` has been called with what came before.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    #[inline]
    pub fn decode(&mut self, input: &[u8], data: impl FnMut(&[u8])) -> Result<Scan, BodyError> {
        self.walk(input, data)
            .inspect_err(|error| self.state = State::Failed(*error))
    }

    /// The connection has ended: completes a body that runs until close.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] when the body should have gone on.
    pub fn end_of_input(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Failed(error) => Err(error),
            _ => {
                self.state = State::Failed(BodyError::Truncated);
                Err(BodyError::Truncated)
            }
        }
    }

    /// The trailers read so far (RFC 9110 section 6.5); all of them once the body is complete.
    pub fn trailers(&self) -> Headers<'_> {
        match &self.trailers {
            Some(trailers) => trailers.headers(),
            None => Headers::new(&[], &[]),
        }
    }

    /// How many bytes at the end of what the last call consumed must not be passed on: they belong to
    /// trailers of a response, of which some may have to be left out. Always 0 for a request, and for
    /// a response whose trailers came at once and may all stay.
    #[inline]
    pub fn held_back(&self) -> usize {
        match &self.trailers {
            Some(trailers) if self.drops_forbidden => trailers.held_back(self.is_complete()),
            _ => 0,
        }
    }

    /// What is to be passed on in place of all that was [held back](Self::held_back), before the empty
    /// line that ends the body: these trailers. `None` as long as the body goes on, and when nothing
    /// was held back.
    pub fn rewritten_trailers(&self) -> Option<Headers<'_>> {
        let trailers = self.trailers.as_ref().filter(|_| self.drops_forbidden)?;
        (self.is_complete() && trailers.is_rewritten()).then(|| trailers.headers())
    }

    fn walk(&mut self, input: &[u8], mut data: impl FnMut(&[u8])) -> Result<Scan, BodyError> {
        let mut at = 0;
        if self.state == State::Trailers
            && let Some(trailers) = &mut self.trailers
        {
            trailers.next_input();
        }
        while at < input.len() {
            let rest = &input[at..];
            match self.state {
                State::Done => break,
                State::Failed(error) => return Err(error),
                State::UntilClose => {
                    data(rest);
                    at = input.len();
                }
                State::Length { left } => {
                    let run = run_length(left, rest);
                    data(&rest[..run]);
                    at += run;
                    self.state = match left - run as u64 {
                        0 => State::Done,
                        left => State::Length { left },
                    };
                }
                State::ChunkData { left } => {
                    let run = run_length(left, rest);
                    data(&rest[..run]);
                    at += run;
                    self.state = match left - run as u64 {
                        0 => State::ChunkDataReturn,
                        left => State::ChunkData { left },
                    };
                }
                State::Trailers => {
                    let (taken, ended) = self.take_trailers(rest)?;
                    at += taken;
                    if ended {
                        self.state = State::Done;
                    }
                }
                // The usual lines at once: CRLF after data, then a bare size. All else by the byte.
                State::ChunkDataReturn if rest.starts_with(b"\r\n") => {
                    self.state = CHUNK_START;
                    at += 2;
                }
                state => match plain_size_line(state, rest) {
                    Some((size, line_len)) => {
                        at += line_len;
                        self.state = match size {
                            0 => State::Trailers,
                            left => State::ChunkData { left },
                        };
                    }
                    _ => {
                        self.state = self.step(rest[0])?;
                        at += 1;
                    }
                },
            }
        }
        match self.state {
            State::Failed(error) => Err(error),
            state => Ok(Scan {
                consumed: at,
                complete: state == State::Done,
            }),
        }
    }

    /// Trailers up to the next line end: how much, and whether the section ended. The usual section is
    /// the empty line alone, whole in the input.
    fn take_trailers(&mut self, input: &[u8]) -> Result<(usize, bool), BodyError> {
        if self.trailers.is_none()
            && input.starts_with(EMPTY_LINE)
            && self.limits.max_trailer_bytes >= EMPTY_LINE.len()
        {
            return Ok((EMPTY_LINE.len(), true));
        }
        let trailers = self.trailers.get_or_insert_default();
        trailers.take(input, &self.limits, self.drops_forbidden)
    }

    /// One byte of a chunk's line, or of the line end after its data.
    fn step(&mut self, byte: u8) -> Result<State, BodyError> {
        match (self.state, byte) {
            (State::ChunkSize { size, digits }, _) => match hex_value(byte) {
                Some(value) => {
                    // 16 digits fill 64 bits exactly, so the shift loses nothing.
                    let size = size << 4 | value;
                    let digits = digits + 1;
                    if digits > BodyLimits::MAX_CHUNK_SIZE_DIGITS || size > BodyLimits::MAX_LENGTH {
                        return Err(BodyError::InvalidChunkSize);
                    }
                    Ok(State::ChunkSize { size, digits })
                }
                None if digits == 0 => Err(BodyError::InvalidChunkSize),
                None => self.after_size(size, 0, byte),
            },
            (State::ChunkBlank { size, bytes }, _) => self.after_size(size, bytes, byte),
            (State::ChunkExtension { size, part, .. }, b'\r') if part.may_end() => {
                Ok(State::ChunkLineFeed { size })
            }
            (State::ChunkExtension { size, bytes, part }, _) => {
                let part = part.followed_by(byte);
                let part = part.ok_or(BodyError::InvalidChunkExtension)?;
                let bytes = self.count_extension(size, bytes)?;
                Ok(State::ChunkExtension { size, bytes, part })
            }
            (State::ChunkLineFeed { size: 0 }, b'\n') => Ok(State::Trailers),
            (State::ChunkLineFeed { size }, b'\n') => Ok(State::ChunkData { left: size }),
            (State::ChunkDataReturn, b'\r') => Ok(State::ChunkDataLineFeed),
            (State::ChunkDataLineFeed, b'\n') => Ok(CHUNK_START),
            _ => Err(BodyError::MissingLineEnd),
        }
    }

    /// Blanks may stand between a size and its extension (RFC 9112 section 7.1.1). Those without an
    /// extension are padding that some senders write; they leave the size what it is. They count as
    /// part of the extension.
    fn after_size(&mut self, size: u64, bytes: usize, byte: u8) -> Result<State, BodyError> {
        match byte {
            b'\r' => Ok(State::ChunkLineFeed { size }),
            b';' => {
                let bytes = self.count_extension(size, bytes)?;
                let part = ChunkExtension::Semicolon;
                Ok(State::ChunkExtension { size, bytes, part })
            }
            b' ' | b'\t' => {
                let bytes = self.count_extension(size, bytes)?;
                Ok(State::ChunkBlank { size, bytes })
            }
            _ => Err(BodyError::InvalidChunkSize),
        }
    }

    /// One more byte of an extension that had `bytes`, in a chunk of `size`; how many it has then.
    /// What the chunks' own data outweighs is no excess, so that plain chunks need no count.
    fn count_extension(&mut self, size: u64, bytes: usize) -> Result<usize, BodyError> {
        let bytes = bytes + 1;
        self.excess_bytes += usize::from(bytes as u64 > size);
        let most = self.limits.max_chunk_extension_bytes;
        if bytes > most || self.excess_bytes > most {
            return Err(BodyError::ChunkExtensionTooLarge);
        }
        Ok(bytes)
    }
}

/// At the start of a chunk, a line of at most 15 digits and CRLF, whole in the input: the chunk's
/// size and the line's length.
#[inline]
fn plain_size_line(state: State, input: &[u8]) -> Option<(u64, usize)> {
    if state != CHUNK_START {
        return None;
    }
    let mut size = 0;
    for (digits, byte) in input.iter().take(16).enumerate() {
        match hex_value(*byte) {
            Some(value) => size = size << 4 | value,
            None if digits > 0 && input[digits..].starts_with(b"\r\n") => {
                return Some((size, digits + 2));
            }
            None => return None,
        }
    }
    None
}

#[inline]
fn run_length(left: u64, rest: &[u8]) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(rest.len())
}

#[inline]
fn hex_value(byte: u8) -> Option<u64> {
    match byte {
        b'0'..=b'9' => Some(u64::from(byte - b'0')),
        b'a'..=b'f' => Some(u64::from(byte - b'a') + 10),
        b'A'..=b'F' => Some(u64::from(byte - b'A') + 10),
        _ => None,
    }
}
