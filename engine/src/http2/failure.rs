//! How a stream can fail.

use h2::Reason;
use std::io;

/// Why nothing more comes or goes on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFailure {
    /// The peer has refused the stream before it did anything (RFC 9113 section 8.7).
    Refused,
    /// The peer has said goodbye, and has not begun with the stream (RFC 9113 section 6.8).
    LeftBehind,
    /// The peer has reset the stream.
    Reset,
    /// The peer has broken the protocol, or what was to be sent is not for HTTP/2.
    Protocol,
    /// The peer does not know the extended CONNECT (RFC 8441).
    NoUpgrades,
    /// The connection has ended.
    Connection,
}

impl StreamFailure {
    /// What an error of `h2` means for its stream.
    pub fn of(error: &h2::Error) -> Self {
        match error.reason() {
            Some(Reason::REFUSED_STREAM) if error.is_remote() => Self::Refused,
            Some(_) if error.is_go_away() && error.is_remote() => Self::LeftBehind,
            Some(_) if error.is_remote() => Self::Reset,
            Some(_) => Self::Protocol,
            None => Self::Connection,
        }
    }
}

impl From<StreamFailure> for io::Error {
    fn from(failure: StreamFailure) -> Self {
        match failure {
            StreamFailure::Refused | StreamFailure::LeftBehind => io::ErrorKind::ConnectionRefused,
            StreamFailure::Reset => io::ErrorKind::ConnectionReset,
            StreamFailure::Protocol => io::ErrorKind::InvalidData,
            StreamFailure::NoUpgrades => io::ErrorKind::Unsupported,
            StreamFailure::Connection => io::ErrorKind::ConnectionAborted,
        }
        .into()
    }
}
