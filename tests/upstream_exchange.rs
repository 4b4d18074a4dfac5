//! One request and its answer on a connection to an upstream, on both drivers: what is sent at once,
//! what goes on beside it, and how long it took.

mod harness;

use harness::raw::ScriptedUpstream;
use harness::{
    Client, DRIVERS, PATIENCE, Proxy, folder, free_address, gateway, get, settings, splitting,
    until,
};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

fn start(driver: &str, upstream: SocketAddr, spec: &str) -> (Proxy, SocketAddr) {
    let address = free_address();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("settings.yaml", &settings(spec)),
        ("split.yaml", &splitting(&[(upstream, 1)])),
    ]);
    (Proxy::start(config, &["--driver", driver]), address)
}

/// An upstream would wait for another packet, and be woken twice for each request.
#[test]
fn a_short_body_came_behind_its_head_instead_of_with_it() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            let mut piece = [0; 65_536];
            while let Ok(len @ 1..) = connection.stream.read(&mut piece) {
                let status = match piece[..len].ends_with(b"the end") {
                    true => 200,
                    false => 500,
                };
                connection.send(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"));
            }
        });
        let (_proxy, address) = start(driver, upstream.address, "{role: gateway}");
        let mut client = Client::connect(address).expect("connects");
        for number in 0..200 {
            let body = "x".repeat(number * 20) + "the end";
            let length = body.len();
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
            client.write((head + &body).as_bytes());
            let answer = client.answer().expect("an answer");
            assert_eq!(answer.status, 200, "{driver}: request {number}");
        }
    }
}

/// A listener whose connections take next to nothing unless they are read from: a small window here,
/// and small segments, by which the other side measures its own buffer.
fn narrow() -> TcpListener {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(2048).expect("is set");
    socket.set_tcp_mss(536).expect("is set");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a free port");
    socket.listen(16).expect("listens");
    socket.into()
}

/// Sends as much of an upload as fits on the way, for the proxy to receive at once.
fn begin_upload(proxy: &Proxy, client: &mut TcpStream) {
    proxy.stop();
    client.set_nonblocking(true).expect("is set");
    let mut request = b"POST /pay HTTP/1.1\r\nhost: a\r\ncontent-length: 8000000\r\n\r\n".to_vec();
    request.resize(request.len() + 1_000_000, b'x');
    let mut rest = &request[..];
    while !rest.is_empty() {
        match client.write(rest) {
            Ok(len) => rest = &rest[len..],
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    proxy.signal(libc::SIGCONT);
    client.set_nonblocking(false).expect("is set");
    client.set_read_timeout(Some(PATIENCE)).expect("is set");
}

const LARGE_PIECES: &str =
    "{role: gateway, limits: {receiveBufferBytes: 1048576, maxReceiveBuffers: 16}}";

/// As an upstream does that refuses an upload by its head.
#[test]
fn an_answer_waited_for_the_first_of_a_body_that_nobody_read() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::listen(narrow(), |connection| {
            connection.head();
            connection.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
            connection.freeze();
        });
        let (proxy, address) = start(driver, upstream.address, LARGE_PIECES);
        let mut client = TcpStream::connect(address).expect("connects");
        begin_upload(&proxy, &mut client);
        let mut answer = [0; 12];
        client.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 403", "{driver}");
    }
}

/// An upstream that has read the head of a POST may have begun to act by it.
#[test]
fn a_post_of_which_part_was_read_was_sent_again() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::listen(narrow(), |connection| {
            connection.head();
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            // Closes with most of what has come unread: a reset.
            let _ = connection.stream.read(&mut [0; 400]);
        });
        let (proxy, address) = start(driver, upstream.address, LARGE_PIECES);
        let mut client = TcpStream::connect(address).expect("connects");
        let first = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        client.write_all(first).expect("is sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok") {
            let mut piece = [0; 1000];
            let len = client.read(&mut piece).expect("an answer");
            answer.extend_from_slice(&piece[..len]);
        }
        begin_upload(&proxy, &mut client);
        let mut answer = [0; 12];
        client.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 503", "{driver}");
        assert_eq!(
            upstream.heads().len(),
            1,
            "{driver}: {:?}",
            upstream.heads()
        );
    }
}

/// Time is what is tested.
#[test]
fn the_time_that_an_upstream_takes_is_told() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                std::thread::sleep(Duration::from_millis(50));
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        });
        let (_proxy, address) = start(driver, upstream.address, "{role: gateway}");
        let began = Instant::now();
        let answer = get(address, "a", "/");
        let most = began.elapsed().as_millis();
        let told = answer.header("x-envoy-upstream-service-time");
        let told: u128 = told.and_then(|told| told.parse().ok()).expect("a number");
        assert!(50 <= told && told <= most, "{driver}: {told} of {most}");
    }
}

/// Each upload has a piece on its way that the upstream does not take, and a buffer with it.
#[test]
fn uploads_that_wait_for_a_receive_buffer_are_in_no_figure() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::listen(narrow(), |connection| connection.freeze());
        let limits = "{role: gateway, limits: {maxReceiveBuffers: 16}}";
        let (proxy, address) = start(driver, upstream.address, limits);
        let mut request = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n".to_vec();
        request.resize(request.len() + 200_000, b'x');
        let mut clients = [(); 64].map(|()| Client::connect(address).expect("connects"));
        for client in &mut clients {
            client.write(&request);
        }
        until("the figure", || {
            let of = |worker| proxy.stat(&format!("worker_{worker}.receive_buffers_exhausted"));
            of(0) + of(1) > 0
        });
    }
}
