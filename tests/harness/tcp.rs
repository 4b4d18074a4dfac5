//! Connections that are no HTTP, and a proxy that carries them.

use super::PATIENCE;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

/// Sends back what it gets and `bye` when the other side has ended.
pub fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut piece = [0; 65536];
                loop {
                    match stream.read(&mut piece) {
                        Ok(0) => {
                            let _ = stream.write_all(b"bye");
                            return;
                        }
                        Ok(len) => {
                            if stream.write_all(&piece[..len]).is_err() {
                                return;
                            }
                        }
                        Err(_) => return,
                    }
                }
            });
        }
    });
    address
}

/// A gateway port of another protocol than HTTP.
pub fn raw_gateway(address: SocketAddr, protocol: &str, tls: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gate}}\nspec:\n  \
         servers:\n  - port: {{number: {}, name: raw, protocol: {protocol}}}\n    bind: {}\n    \
         hosts: [\"*\"]\n{tls}",
        address.port(),
        address.ip()
    )
}

/// The way from that gateway to [`service`].
pub fn route(gateway: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: db}}\n\
         spec:\n  hosts: [\"*\"]\n  gateways: [gate]\n  tcp:\n  - match: [{{port: {}}}]\n    \
         route: [{{destination: {{host: db.test, port: {{number: 9000}}}}}}]\n",
        gateway.port()
    )
}

/// A service of TCP with one endpoint.
pub fn service(endpoint: SocketAddr) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: db}}\n\
         spec:\n  hosts: [db.test]\n  resolution: STATIC\n  \
         ports: [{{number: 9000, name: tcp, protocol: TCP}}]\n  endpoints:\n  \
         - address: {}\n    ports: {{tcp: {}}}\n",
        endpoint.ip(),
        endpoint.port()
    )
}
