//! A name server on loopback that answers A and AAAA queries from a table.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

pub struct NameServer {
    pub address: SocketAddr,
    shared: Arc<Mutex<Names>>,
}

#[derive(Default)]
struct Names {
    records: BTreeMap<String, Record>,
    fails: bool,
}

#[derive(Default)]
struct Record {
    addresses: Vec<IpAddr>,
    ttl_s: u32,
    /// Queries of either type.
    queries: usize,
}

impl NameServer {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address");
        let shared = Arc::<Mutex<Names>>::default();
        let names = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut query = [0_u8; 1_500];
            while let Ok((len, from)) = socket.recv_from(&mut query) {
                let reply = names.lock().expect("not poisoned").reply(&query[..len]);
                let _ = socket.send_to(&reply, from);
            }
        });
        Self { address, shared }
    }

    /// `name` has these addresses from now on, for `ttl_s` seconds each time it is asked for.
    pub fn set(&self, name: &str, addresses: &[IpAddr], ttl_s: u32) {
        let mut names = self.shared.lock().expect("not poisoned");
        let record = names.records.entry(name.to_string()).or_default();
        record.addresses = addresses.to_vec();
        record.ttl_s = ttl_s;
    }

    /// There is no such name from now on.
    pub fn remove(&self, name: &str) {
        self.shared
            .lock()
            .expect("not poisoned")
            .records
            .remove(name);
    }

    /// Whether every query is answered with SERVFAIL from now on.
    pub fn set_failing(&self, fails: bool) {
        self.shared.lock().expect("not poisoned").fails = fails;
    }

    /// How often `name` was asked for.
    pub fn queries(&self, name: &str) -> usize {
        let names = self.shared.lock().expect("not poisoned");
        names.records.get(name).map_or(0, |record| record.queries)
    }
}

impl Names {
    /// RFC 1035 section 4, for one question.
    fn reply(&mut self, query: &[u8]) -> Vec<u8> {
        let mut at = 12;
        let mut labels = Vec::new();
        while query[at] != 0 {
            let len = usize::from(query[at]);
            labels.push(String::from_utf8_lossy(&query[at + 1..at + 1 + len]).to_lowercase());
            at += len + 1;
        }
        let question_end = at + 5;
        let wanted = u16::from_be_bytes([query[at + 1], query[at + 2]]);
        let known = self.records.get_mut(&labels.join("."));
        let code = match (self.fails, &known) {
            (true, _) => 2,
            (_, None) => 3,
            _ => 0,
        };
        let (mut matching, mut ttl_s) = (Vec::new(), 0);
        if let Some(record) = known {
            record.queries += 1;
            ttl_s = record.ttl_s;
            if !self.fails {
                let is_wanted = |ip: &&IpAddr| wanted == if ip.is_ipv4() { 1 } else { 28 };
                matching.extend(record.addresses.iter().filter(is_wanted));
            }
        }
        let mut out = query[..2].to_vec();
        out.extend([0x81, 0x80 | code, 0, 1, 0, matching.len() as u8, 0, 0, 0, 0]);
        out.extend(&query[12..question_end]);
        for ip in matching {
            out.extend([0xc0, 12]);
            out.extend(wanted.to_be_bytes());
            out.extend([0, 1]);
            out.extend(ttl_s.to_be_bytes());
            match ip {
                IpAddr::V4(ip) => out.extend([&[0, 4][..], &ip.octets()].concat()),
                IpAddr::V6(ip) => out.extend([&[0, 16][..], &ip.octets()].concat()),
            }
        }
        out
    }
}
