//! An upstream of HTTP/1.1 whose answers can be held back.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// An upstream that answers every request with its name, unless its gate is closed.
pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<UpstreamShared>,
}

struct UpstreamShared {
    name: String,
    requests: AtomicUsize,
    gate_is_open: Mutex<bool>,
    opened: Condvar,
}

impl Upstream {
    pub fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(UpstreamShared {
            name: name.to_string(),
            requests: AtomicUsize::new(0),
            gate_is_open: Mutex::new(true),
            opened: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// Requests whose heads have arrived.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// From now on answers wait until the gate is open again.
    pub fn close_gate(&self) {
        *self.shared.gate_is_open.lock().expect("not poisoned") = false;
    }

    pub fn open_gate(&self) {
        *self.shared.gate_is_open.lock().expect("not poisoned") = true;
        self.shared.opened.notify_all();
    }
}

impl UpstreamShared {
    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut reader = BufReader::new(stream);
        loop {
            let mut head_lines = 0;
            loop {
                let mut line = String::new();
                match reader.read_line(&mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) if line == "\r\n" => break,
                    Ok(_) => head_lines += 1,
                }
            }
            assert!(head_lines > 0);
            self.requests.fetch_add(1, Ordering::SeqCst);
            let mut open = self.gate_is_open.lock().expect("not poisoned");
            while !*open {
                open = self.opened.wait(open).expect("not poisoned");
            }
            drop(open);
            let (name, length) = (&self.name, self.name.len());
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}");
            if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}
