//! Clients and upstreams that decide about every byte.

use super::PATIENCE;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// An upstream whose every connection runs a script; it keeps the heads it has received.
pub struct ScriptedUpstream {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

/// One connection of a scripted upstream.
pub struct ScriptedConnection {
    pub stream: TcpStream,
    /// Connections accepted before this one.
    pub number: usize,
    heads: Arc<Mutex<Vec<String>>>,
    unread: Vec<u8>,
}

impl ScriptedUpstream {
    pub fn start(script: impl Fn(&mut ScriptedConnection) + Send + Sync + 'static) -> Self {
        Self::listen(
            TcpListener::bind("127.0.0.1:0").expect("a free port"),
            script,
        )
    }

    pub fn listen(
        listener: TcpListener,
        script: impl Fn(&mut ScriptedConnection) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let script = Arc::new(script);
        let kept = Arc::clone(&heads);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let _ = stream.set_nodelay(true);
                let heads = Arc::clone(&kept);
                let script = Arc::clone(&script);
                let unread = Vec::new();
                let mut connection = ScriptedConnection {
                    stream,
                    number,
                    heads,
                    unread,
                };
                std::thread::spawn(move || script(&mut connection));
            }
        });
        Self { address, heads }
    }

    /// The heads received so far, all connections together.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("not poisoned").clone()
    }
}

impl ScriptedConnection {
    /// The next request head, its path first; `None` at the end of the connection.
    pub fn head(&mut self) -> Option<(String, String)> {
        let end = loop {
            if let Some(at) = self
                .unread
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                break at + 4;
            }
            let mut piece = [0; 65536];
            match self.stream.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(len) => self.unread.extend_from_slice(&piece[..len]),
            }
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        self.unread.drain(..end);
        self.heads.lock().expect("not poisoned").push(head.clone());
        let path = head.split(' ').nth(1).unwrap_or_default().to_string();
        Some((path, head))
    }

    /// The next `len` bytes of a body.
    pub fn body(&mut self, len: usize) -> Vec<u8> {
        while self.unread.len() < len {
            let mut piece = [0; 65536];
            match self.stream.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(count) => self.unread.extend_from_slice(&piece[..count]),
            }
        }
        let len = len.min(self.unread.len());
        self.unread.drain(..len).collect()
    }

    /// A body in chunks, without them.
    pub fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let Ok(len) = usize::from_str_radix(line.trim(), 16) else {
                return body;
            };
            body.extend(self.body(len));
            while !self.line().trim().is_empty() {}
            if len == 0 {
                return body;
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            match self.body(1).first() {
                Some(byte) => line.push(*byte),
                None => break,
            }
        }
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Neither reads nor writes any more, for as long as the test runs.
    pub fn freeze(&mut self) -> ! {
        loop {
            std::thread::park();
        }
    }

    /// Sends; a peer that is gone is nothing to the script.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }
}

/// How a raw conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Closed,
    Reset,
}

/// Sends the pieces, each after the last has arrived, and reads until the end of the connection.
/// The request has to make the proxy close.
pub fn converse(address: SocketAddr, pieces: &[&[u8]]) -> (String, End) {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_nodelay(true).expect("set");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    for piece in pieces {
        // The proxy may have answered and closed already.
        let _ = stream.write_all(piece);
        std::thread::yield_now();
    }
    let mut got = Vec::new();
    let mut piece = [0; 65536];
    let end = loop {
        match stream.read(&mut piece) {
            Ok(0) => break End::Closed,
            Ok(len) => got.extend_from_slice(&piece[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break End::Reset,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&got)),
        }
    };
    (String::from_utf8_lossy(&got).into_owned(), end)
}

/// The status of an answer as it came.
pub fn status(answer: &str) -> u16 {
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.unwrap_or_default()
}
