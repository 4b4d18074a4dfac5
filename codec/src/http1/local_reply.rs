//! Responses of our own making.

use super::{
    Version, end_head, reason_phrase, write_content_length, write_header, write_status_line_as,
};

/// A response that does not come from an upstream: head and body in one write.
#[derive(Clone, Copy, Debug)]
pub struct LocalReply<'a> {
    /// The version of the request, which decides how persistence is spelled.
    pub version: Version,
    /// The status, 200 to 599.
    pub status: u16,
    /// The body, sent as `text/plain`; may be empty. Left out for 204 and 304.
    pub body: &'a [u8],
    /// Whether the request was a HEAD: the body is announced and not sent.
    pub to_head: bool,
    /// Headers besides content-length, content-type and connection, written in order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Whether the connection stays open after this.
    pub keep_alive: bool,
}

impl LocalReply<'_> {
    /// Appends the response to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_status_line_as(
            out,
            self.version,
            self.status,
            reason_phrase(self.status).as_bytes(),
        );
        let bodiless = matches!(self.status, 100..=199 | 204 | 304);
        if !bodiless {
            write_content_length(out, self.body.len() as u64);
            if !self.body.is_empty() {
                write_header(out, b"content-type", b"text/plain");
            }
        }
        for (name, value) in self.headers {
            write_header(out, name.as_bytes(), value);
        }
        match (self.version, self.keep_alive) {
            (Version::Http11, true) => {}
            (Version::Http10, true) => write_header(out, b"connection", b"keep-alive"),
            (_, false) => write_header(out, b"connection", b"close"),
        }
        end_head(out);
        if !bodiless && !self.to_head {
            out.extend_from_slice(self.body);
        }
    }
}
