//! Accepting and connecting.

use super::*;
use socket2::{Domain, Socket, Type};
use std::os::fd::AsRawFd;

#[test]
fn a_dropped_accept_loses_and_leaks_nothing() {
    on_both(|| async {
        let (listener, address) = bind();
        let mut clients = Vec::new();
        let mut accepted = Vec::new();
        for _ in 0..100 {
            // Pending or not, it is dropped at once; what it would have returned comes later.
            accepted.extend(poll_and_drop(listener.accept()).await);
            clients.push(TcpStream::connect(address).unwrap());
            next_turn().await;
        }
        while accepted.len() < clients.len() {
            accepted.push(listener.accept().await);
        }
        let mut peers: Vec<_> = accepted.into_iter().map(|one| one.unwrap().1).collect();
        let mut locals: Vec<_> = clients
            .iter()
            .map(|one| one.local_addr().unwrap())
            .collect();
        peers.sort();
        locals.sort();
        assert_eq!(peers, locals);
        // These are accepted ahead and never taken.
        for _ in 0..20 {
            clients.push(TcpStream::connect(address).unwrap());
        }
        assert!(
            poll_and_drop(listener.accept())
                .await
                .is_none_or(|one| one.is_ok())
        );
        sleep_ms(2).await;
    });
}

#[test]
fn stop_returns_the_whole_backlog() {
    on_both(|| async {
        for waits_before_stop in [false, true] {
            let (listener, address) = bind();
            let first = TcpStream::connect(address).unwrap();
            let (_kept, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, first.local_addr().unwrap());
            let clients: Vec<_> = (0..100)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            if waits_before_stop {
                sleep_ms(2).await;
            }
            let rest = listener.stop().await;
            assert_eq!(rest.len(), clients.len());
            assert!(
                TcpStream::connect(address).is_err(),
                "nobody listens any more"
            );
        }
    });
}

#[test]
fn running_out_of_descriptors_is_an_error_that_passes() {
    on_both(|| async {
        let (listener, address) = bind();
        let clients: Vec<_> = (0..3)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut used_up = Vec::new();
        while let Ok(another) = null.try_clone() {
            used_up.push(another);
        }
        let refused = listener.accept().await.expect_err("no descriptor is free");
        assert_eq!(refused.raw_os_error(), Some(libc::EMFILE));
        drop(used_up);
        for _ in &clients {
            // The error may have been noted more than once before.
            while listener.accept().await.is_err() {}
        }
    });
}

#[test]
fn connects_to_each_kind_of_address() {
    on_both(|| async {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let endpoint = EndpointAddr::from(listener.local_addr().unwrap());
            let stream = Stream::connect(&endpoint).await.unwrap();
            assert_eq!(EndpointAddr::from(stream.peer_addr().unwrap()), endpoint);
        }
        let path = std::env::temp_dir().join(format!("rt-connect-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let stream = Stream::connect(&EndpointAddr::Unix(path.clone()))
            .await
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        let (mut plain, _) = listener.accept().unwrap();
        stream
            .send(buffer(b"over unix"), Chunk::default())
            .await
            .unwrap();
        let mut got = [0; 9];
        std::io::Read::read_exact(&mut plain, &mut got).unwrap();
        assert_eq!(&got, b"over unix");
        for unusable in [String::new(), "x".repeat(200)] {
            let error = Stream::connect(&EndpointAddr::Unix(unusable.into()))
                .await
                .err()
                .unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn a_refused_connection_is_an_error() {
    on_both(|| async {
        // Bound, so that nobody else gets the port, and without a listener.
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        silent.bind(&any.into()).unwrap();
        let address = silent.local_addr().unwrap().as_socket().unwrap();
        let error = Stream::connect(&address.into()).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let nowhere = EndpointAddr::Unix("/nonexistent/socket".into());
        let error = Stream::connect(&nowhere).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn dropped_connects_leak_nothing() {
    on_both(|| async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = EndpointAddr::from(listener.local_addr().unwrap());
        let before = descriptors();
        for round in 0..100 {
            let _ = poll_and_drop(Stream::connect(&address)).await;
            if round % 2 == 0 {
                next_turn().await;
            }
            // The other end must not fill the backlog.
            if round % 10 == 9 {
                sleep_ms(1).await;
                listener.set_nonblocking(true).unwrap();
                while listener.accept().is_ok() {}
            }
        }
        // With a full backlog attempts stay under way until they are dropped.
        // SAFETY: a plain system call without pointers.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let mut pending = Vec::new();
        for _ in 0..4 {
            let mut attempt = Box::pin(Stream::connect(&address));
            if poll_and_drop(&mut attempt).await.is_none() {
                pending.push(attempt);
            }
        }
        sleep_ms(5).await;
        let under_way = descriptors() - before;
        assert!(under_way > 0);
        drop(pending);
        until(|| descriptors() == before).await;
    });
}
