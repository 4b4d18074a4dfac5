//! Reads responses byte by byte exactly, as the load generator needs it: the status, the declared
//! length and the body are compared with what the upstream sent.

use crate::upstream::header;

/// What is wrong with a response or its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The connection could not be opened.
    Connect,
    /// The connection ended or failed before the response was whole.
    Broken,
    /// The head is not one of HTTP/1.1.
    Malformed,
    /// A status other than 200.
    Status(u16),
    /// No content-length, or another one than expected.
    Length,
    /// A body byte that is not the expected one.
    Body,
    /// Bytes after the end of the response.
    Surplus,
    /// No whole response until the end of the run.
    Hung,
}

impl Fault {
    /// The name under which it is counted.
    pub fn label(self) -> String {
        match self {
            Self::Connect => "connect".into(),
            Self::Broken => "broken connection".into(),
            Self::Malformed => "malformed head".into(),
            Self::Status(status) => format!("status {status}"),
            Self::Length => "wrong length".into(),
            Self::Body => "wrong body".into(),
            Self::Surplus => "surplus bytes".into(),
            Self::Hung => "hung".into(),
        }
    }
}

/// How far a response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing of it has arrived, or not all.
    Partial,
    /// It is whole; `close` tells whether the connection ends with it.
    Whole { close: bool },
}

/// Longest head that is still waited for.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// So many bytes at the end of each piece of a body are compared; small bodies are compared whole.
const COMPARED_BYTES: usize = 256;

/// The state of one connection's response.
#[derive(Default)]
pub struct ResponseReader {
    partial: Vec<u8>,
    /// Body bytes still to come; `None` while the head is read.
    remaining: Option<usize>,
    close: bool,
}

impl ResponseReader {
    /// Takes the next bytes of the connection.
    pub fn feed(&mut self, input: &[u8], expected: &[u8]) -> Result<Progress, Fault> {
        if self.remaining.is_some() {
            return self.feed_body(input, expected);
        }
        if self.partial.is_empty() {
            return match memchr::memmem::find(input, b"\r\n\r\n") {
                Some(end) => {
                    self.read_head(&input[..end + 2], expected.len())?;
                    self.feed_body(&input[end + 4..], expected)
                }
                None => self.keep(input),
            };
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(input);
        match memchr::memmem::find(&whole, b"\r\n\r\n") {
            Some(end) => {
                self.read_head(&whole[..end + 2], expected.len())?;
                self.feed_body(&whole[end + 4..], expected)
            }
            None => self.keep(&whole),
        }
    }

    fn keep(&mut self, input: &[u8]) -> Result<Progress, Fault> {
        if input.len() > MAX_HEAD_BYTES {
            return Err(Fault::Malformed);
        }
        self.partial.extend_from_slice(input);
        Ok(Progress::Partial)
    }

    /// `head` ends with the `\r\n` of its last line.
    fn read_head(&mut self, head: &[u8], expected_bytes: usize) -> Result<(), Fault> {
        let status = head
            .strip_prefix(b"HTTP/1.1 ")
            .and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok())
            .ok_or(Fault::Malformed)?;
        if status != 200 {
            return Err(Fault::Status(status));
        }
        let length: usize = header(head, b"content-length")
            .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok())
            .ok_or(Fault::Length)?;
        if length != expected_bytes {
            return Err(Fault::Length);
        }
        self.close =
            header(head, b"connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
        self.remaining = Some(length);
        Ok(())
    }

    fn feed_body(&mut self, input: &[u8], expected: &[u8]) -> Result<Progress, Fault> {
        let remaining = self.remaining.unwrap_or(0);
        if input.len() > remaining {
            return Err(Fault::Surplus);
        }
        let end = expected.len() - (remaining - input.len());
        let compared = input.len().min(COMPARED_BYTES);
        if input[input.len() - compared..] != expected[end - compared..end] {
            return Err(Fault::Body);
        }
        if input.len() < remaining {
            self.remaining = Some(remaining - input.len());
            return Ok(Progress::Partial);
        }
        self.remaining = None;
        Ok(Progress::Whole { close: self.close })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"abcdefghij";

    fn fed(response: &[u8], piece: usize) -> Result<Progress, Fault> {
        let mut reader = ResponseReader::default();
        let mut last = Ok(Progress::Partial);
        for chunk in response.chunks(piece) {
            last = Ok(reader.feed(chunk, BODY)?);
        }
        last
    }

    #[test]
    fn a_response_is_whole_however_it_is_cut() {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcdefghij";
        for piece in 1..=response.len() {
            assert_eq!(
                fed(response, piece),
                Ok(Progress::Whole { close: false }),
                "{piece}"
            );
        }
    }

    #[test]
    fn every_departure_from_the_expected_answer_is_named() {
        let cases: [(&[u8], Fault); 6] = [
            (
                b"HTTP/1.1 503 No\r\ncontent-length: 10\r\n\r\nabcdefghij",
                Fault::Status(503),
            ),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabcdefghi",
                Fault::Length,
            ),
            (
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                Fault::Length,
            ),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabcdefghiX",
                Fault::Body,
            ),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabcdefghijk",
                Fault::Surplus,
            ),
            (b"ICY 200 OK\r\n\r\n", Fault::Malformed),
        ];
        for (response, fault) in cases {
            assert_eq!(fed(response, response.len()), Err(fault));
        }
    }

    #[test]
    fn a_short_body_stays_partial_and_close_is_seen() {
        let response =
            b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 10\r\n\r\nabcdefghij";
        assert_eq!(fed(response, 7), Ok(Progress::Whole { close: true }));
        assert_eq!(
            fed(&response[..response.len() - 1], 7),
            Ok(Progress::Partial)
        );
    }
}
