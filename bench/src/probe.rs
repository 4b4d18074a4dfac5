//! Single requests, each on a connection of its own: what a client and an operator see.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::upstream::header;

const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The response header by which a generated configuration tells its version.
pub const VERSION_HEADER: &str = "x-bench-version";

/// A whole answer.
pub struct Answer {
    pub status: u16,
    head: Vec<u8>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        std::str::from_utf8(header(&self.head, name.as_bytes())?)
            .ok()?
            .parse()
            .ok()
    }
}

/// Asks once and closes.
pub fn fetch(address: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

fn parse(mut head: Vec<u8>) -> Option<Answer> {
    let end = memchr::memmem::find(&head, b"\r\n\r\n")?;
    let body = head.split_off(end + 4);
    head.truncate(end + 2);
    let status = std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()?;
    Some(Answer { status, head, body })
}

/// The generation that every worker uses, as the admin interface tells: the least of them.
pub fn applied_generation(admin: SocketAddr) -> io::Result<u64> {
    let answer = fetch(admin, "localhost", "/server_info")?;
    least_generation(&serde_json::from_slice(&answer.body)?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no generation in /server_info"))
}

fn least_generation(info: &serde_json::Value) -> Option<u64> {
    info["workers"]
        .as_array()?
        .iter()
        .map(|worker| worker["generation"].as_u64())
        .min()?
}

/// What an upstream of the bench says it served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub struct Served {
    /// Requests, but for the probes.
    pub requests: u64,
    /// Different numbers that requests carried.
    pub ids: u64,
    /// Requests whose number had been seen before.
    pub doubled: u64,
}

/// Asks an upstream what it served.
pub fn served(upstream: SocketAddr) -> io::Result<Served> {
    Ok(serde_json::from_slice(
        &fetch(upstream, "localhost", "/served")?.body,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_split_into_status_headers_and_body() {
        let answer = parse(b"HTTP/1.1 200 OK\r\nX-Bench-Version: 7\r\n\r\nbody".to_vec());
        let answer = answer.expect("whole");
        assert_eq!(
            (answer.status, answer.number(VERSION_HEADER)),
            (200, Some(7))
        );
        assert_eq!(answer.body, b"body");
        assert!(parse(b"HTTP/1.1 200".to_vec()).is_none());
    }

    #[test]
    fn the_slowest_worker_counts() {
        let info = |text| least_generation(&serde_json::from_str(text).expect("JSON"));
        assert_eq!(
            info(r#"{"workers":[{"generation":3},{"generation":2}]}"#),
            Some(2)
        );
        assert_eq!(info(r#"{"workers":[{"generation":3},{}]}"#), None);
        assert_eq!(info(r#"{"workers":[]}"#), None);
    }
}
