//! A client of HTTP/1.1.

use super::PATIENCE;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// `GET target` on a connection of its own.
pub fn get(address: SocketAddr, host: &str, target: &str) -> Answer {
    try_send(address, "GET", host, target).expect("an answer")
}

pub fn post(address: SocketAddr, target: &str) -> Answer {
    try_send(address, "POST", "localhost", target).expect("an answer")
}

pub fn try_send(
    address: SocketAddr,
    method: &str,
    host: &str,
    target: &str,
) -> std::io::Result<Answer> {
    Client::connect(address)?.send(method, host, target)
}

/// A connection that is kept.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// A connection that somebody else has opened.
    pub fn over(stream: TcpStream) -> Self {
        let set = stream.set_read_timeout(Some(PATIENCE));
        set.expect("can be set");
        Self(BufReader::new(stream))
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("sent");
    }

    /// Sends a request without waiting for its answer.
    pub fn start(&mut self, method: &str, host: &str, target: &str) -> std::io::Result<()> {
        let length = if method == "POST" {
            "content-length: 0\r\n"
        } else {
            ""
        };
        let head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n{length}\r\n");
        self.0.get_mut().write_all(head.as_bytes())
    }

    pub fn send(&mut self, method: &str, host: &str, target: &str) -> std::io::Result<Answer> {
        self.start(method, host, target)?;
        self.answer()
    }

    /// Reads the next answer.
    pub fn answer(&mut self) -> std::io::Result<Answer> {
        let broken = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
        let line = self.line()?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| broken(&format!("no status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
        let answer = Answer {
            status,
            headers,
            body: String::new(),
        };
        let mut body = Vec::new();
        if let Some(length) = answer.header("content-length") {
            body.resize(length.parse().map_err(|_| broken("content-length"))?, 0);
            self.0.read_exact(&mut body)?;
        } else if answer.header("transfer-encoding").is_some() {
            loop {
                let size = usize::from_str_radix(self.line()?.trim(), 16);
                let size = size.map_err(|_| broken("chunk size"))?;
                let start = body.len();
                body.resize(start + size, 0);
                self.0.read_exact(&mut body[start..])?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.0.read_to_end(&mut body)?;
        }
        let body = String::from_utf8(body).map_err(|_| broken("no UTF-8"))?;
        Ok(Answer { body, ..answer })
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_string())
    }
}
