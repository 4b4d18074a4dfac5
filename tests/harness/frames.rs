//! A client of HTTP/2 that makes each frame by hand (RFC 9113), so that it can send what no library
//! would.

use super::PATIENCE;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;

pub const ENHANCE_YOUR_CALM: u32 = 0xb;

/// Settings (RFC 9113 section 6.5.2).
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of a GOAWAY or RST_STREAM.
    pub fn error_code(&self) -> u32 {
        let at = match self.kind {
            GOAWAY => 4,
            _ => 0,
        };
        let octets = self.payload[at..at + 4].try_into().expect("four octets");
        u32::from_be_bytes(octets)
    }

    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a length");
    let mut frame = len.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The bytes of a SETTINGS frame.
pub fn settings_frame(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = values
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// The bytes of a WINDOW_UPDATE frame.
pub fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

/// The field block of a request of HPACK (RFC 7541): `method` and `path` to `shop.test`, and more.
pub fn block(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x86];
    literal(&mut block, ":method", method);
    literal(&mut block, ":path", path);
    literal(&mut block, ":authority", "shop.test");
    for (name, value) in fields {
        literal(&mut block, name, value);
    }
    block
}

/// A field that is not put into the table.
pub fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        string_length(block, text.len());
        block.extend(text.as_bytes());
    }
}

/// The length of a string without Huffman coding (RFC 7541 section 5.1).
pub fn string_length(block: &mut Vec<u8>, len: usize) {
    if len < 127 {
        block.push(u8::try_from(len).expect("is small"));
        return;
    }
    block.push(127);
    let mut rest = len - 127;
    while rest >= 128 {
        block.push(0x80 | u8::try_from(rest % 128).expect("is small"));
        rest /= 128;
    }
    block.push(u8::try_from(rest).expect("is small"));
}

/// A `GET` of `path` on `stream`.
pub fn get_frame(stream: u32, path: &str) -> Vec<u8> {
    let block = block("GET", path, &[]);
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With this error code.
    GoAway(u32),
    Closed,
}

/// One end of a connection.
pub struct FrameClient<S = TcpStream> {
    stream: S,
    unread: Vec<u8>,
}

impl FrameClient {
    /// Connects, and sends the preface with these settings.
    pub fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_nodelay(true).expect("set");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_write_timeout(Some(PATIENCE)).expect("set");
        Self::over(stream, settings)
    }

    /// Waits no longer than this for what it reads.
    pub fn set_patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("set");
    }
}

impl<S: Read + Write> FrameClient<S> {
    /// Sends the preface with these settings.
    pub fn over(stream: S, settings: &[(u16, u32)]) -> Self {
        let mut client = Self::bare(stream);
        client.send(PREFACE);
        client.send(&settings_frame(settings));
        client
    }

    /// Sends nothing yet.
    pub fn bare(stream: S) -> Self {
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// Sends; that a peer which is gone takes nothing shows in what is read.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok() && self.stream.flush().is_ok()
    }

    /// The next frame; `None` at the end of the connection, or when none comes in time.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            let mut piece = [0; 65536];
            match self.stream.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(len) => self.unread.extend_from_slice(&piece[..len]),
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head = self.unread.get(..9)?;
        let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes(head[5..9].try_into().expect("four octets"));
        let payload = self.unread.get(9..9 + len)?.to_vec();
        self.unread.drain(..9 + len);
        Some(Frame {
            kind,
            flags,
            stream,
            payload,
        })
    }

    /// Reads until a frame is as wanted.
    pub fn until(&mut self, what: &str, mut is_wanted: impl FnMut(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.next();
            let frame = frame.unwrap_or_else(|| panic!("the connection ended before: {what}"));
            if is_wanted(&frame) {
                return frame;
            }
        }
    }

    /// Answers the server's SETTINGS, and waits for the answer to ours.
    pub fn settle(&mut self) {
        self.until("SETTINGS", |frame| {
            frame.kind == SETTINGS && frame.flags & ACK == 0
        });
        self.send(&frame(SETTINGS, ACK, 0, b""));
        self.until("the acknowledgement", |frame| {
            frame.kind == SETTINGS && frame.flags & ACK != 0
        });
    }

    /// Reads to the end of the connection.
    pub fn ending(&mut self) -> Ending {
        let mut ending = Ending::Closed;
        loop {
            match self.next() {
                // A graceful end announces itself first.
                Some(frame) if frame.kind == GOAWAY => ending = Ending::GoAway(frame.error_code()),
                Some(_) => {}
                None => break,
            }
        }
        let mut rest = [0; 1];
        match self.stream.read(&mut rest) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the connection is still open")
            }
            _ => ending,
        }
    }
}
