//! Receiving and sending.

use super::*;
use std::future::poll_fn;
use std::io::{self, Read, Write};

#[test]
fn echoes_on_many_connections() {
    on_both(|| async {
        let (listener, address) = bind();
        spawn(async move {
            loop {
                let (fd, _) = listener.accept().await.unwrap();
                spawn(async move {
                    let stream = Stream::from_fd(fd).unwrap();
                    loop {
                        let chunk = stream.receive().await.unwrap();
                        if chunk.is_empty() {
                            break;
                        }
                        stream.send(Buffer::lease(), chunk).await.unwrap();
                    }
                });
            }
        });
        let mut clients = Vec::new();
        for number in 0..200u32 {
            let client = Stream::connect(&address.into()).await.unwrap();
            clients.push((number, client));
        }
        for round in 0..20u32 {
            for (number, client) in &clients {
                let text = format!("round {round} client {number}");
                client
                    .send(buffer(text.as_bytes()), Chunk::default())
                    .await
                    .unwrap();
            }
            for (number, client) in &clients {
                let text = format!("round {round} client {number}");
                let mut got = Vec::new();
                while got.len() < text.len() {
                    got.extend_from_slice(&client.receive().await.unwrap());
                }
                assert_eq!(got, text.as_bytes());
            }
        }
        drop(clients);
        until(|| counters().open_streams == 0).await;
        assert_eq!(counters().receive_buffers_in_use, 0);
    });
}

#[test]
fn dropped_receives_lose_no_byte() {
    on_both(|| async {
        let (stream, mut plain) = pair();
        let mut got = Vec::new();
        for round in 0..200u8 {
            let dropped = if round % 2 == 0 {
                poll_and_drop(stream.receive()).await
            } else {
                poll_and_drop(stream.receive_bulk()).await
            };
            got.extend(
                dropped
                    .iter()
                    .flat_map(|chunk| chunk.as_ref().unwrap().to_vec()),
            );
            plain.write_all(&[round]).unwrap();
            if round % 3 == 0 {
                next_turn().await;
            }
        }
        while got.len() < 200 {
            got.extend_from_slice(&stream.receive().await.unwrap());
        }
        assert_eq!(got, (0..200).collect::<Vec<u8>>());
    });
}

#[test]
fn long_bodies_arrive_whole_while_the_mode_changes() {
    on_both(|| async {
        const LENGTH: usize = 10 << 20;
        let (stream, mut plain) = pair();
        let sender = std::thread::spawn(move || plain.write_all(&pattern(LENGTH)));
        let mut got = Vec::with_capacity(LENGTH);
        let mut largest = 0;
        let mut step = 0;
        while got.len() < LENGTH {
            // Five of one kind, three of the other, so that changes hit all states.
            let chunk = if step % 8 < 5 {
                stream.receive_bulk().await.unwrap()
            } else {
                stream.receive().await.unwrap()
            };
            assert!(!chunk.is_empty(), "ended after {} bytes", got.len());
            largest = largest.max(chunk.len());
            got.extend_from_slice(&chunk);
            step += 1;
        }
        assert!(
            got == pattern(LENGTH),
            "bytes were changed, lost or reordered"
        );
        assert!(
            largest > 32 * 1024,
            "bulk receives have large buffers, largest {largest}"
        );
        assert!(stream.receive_bulk().await.unwrap().is_empty(), "the end");
        assert!(stream.receive().await.unwrap().is_empty(), "still the end");
        sender.join().unwrap().unwrap();
        assert_eq!(counters().bulk_buffers_in_use, 0);
    });
}

#[test]
fn long_sends_arrive_whole_and_in_order() {
    on_both(|| async {
        let (stream, mut plain) = pair();
        let text = pattern(6 << 20);
        let (first, second) = text.split_at(2 << 20);
        let receiver = std::thread::spawn(move || {
            let mut got = Vec::new();
            plain.read_to_end(&mut got).map(|_| got)
        });
        // Head and body in one, then one that has to wait for it, then a short one.
        let sends = [
            stream.send(buffer(&first[..1000]), Chunk::copy_of(&first[1000..])),
            stream.send(Buffer::default(), Chunk::copy_of(second)),
            stream.send(buffer(b"the end"), Chunk::copy_of(b", really")),
        ];
        for send in sends {
            send.await.unwrap();
        }
        stream.shutdown_write().unwrap();
        until(|| receiver.is_finished()).await;
        let got = receiver.join().unwrap().unwrap();
        assert!(
            got[..text.len()] == text,
            "bytes were changed, lost or reordered"
        );
        assert_eq!(&got[text.len()..], b"the end, really");
    });
}

#[test]
fn small_sends_into_a_full_socket_arrive_whole_and_in_order() {
    on_both(|| async {
        const SENDS: usize = 8_000;
        let (stream, mut plain) = pair();
        let sent = pattern(SENDS * 1_000);
        let expected = sent.clone();
        for piece in sent.chunks(1_000) {
            stream.send_detached(buffer(piece), Chunk::default());
            // Each goes out alone until the socket is full.
            next_turn().await;
        }
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; SENDS * 1_000];
            plain.read_exact(&mut got).unwrap();
            got
        });
        poll_fn(|cx| stream.poll_flushed(cx)).await.unwrap();
        assert!(reader.join().unwrap() == expected);
    });
}

#[test]
fn a_send_that_fails_tells_whether_part_of_it_has_gone_out() {
    on_both(|| async {
        let (stream, mut plain) = pair();
        let body = vec![7; 64 << 20];
        let partial = stream.send(Buffer::default(), Chunk::copy_of(&body));
        let reader = std::thread::spawn(move || plain.read(&mut [0; 400]).unwrap());
        assert_eq!(partial.await.unwrap_err().kind(), io::ErrorKind::WriteZero);
        assert!(reader.join().unwrap() > 0);
        let (stream, plain) = pair();
        let reading = stream.receive();
        drop(plain);
        assert!(reading.await.unwrap().is_empty());
        // The peer answers the first with a reset.
        while stream.send(buffer(b"x"), Chunk::default()).await.is_ok() {
            sleep_ms(1).await;
        }
        let whole = stream.send(Buffer::default(), Chunk::copy_of(&body));
        assert_ne!(whole.await.unwrap_err().kind(), io::ErrorKind::WriteZero);
    });
}

#[test]
fn dropped_sends_break_the_stream_and_leak_nothing() {
    on_both(|| async {
        let (stream, plain) = pair();
        let body = vec![7; 64 << 20];
        let first = stream.send(Buffer::default(), Chunk::copy_of(&body));
        let mut queued = stream.send(buffer(b"never"), Chunk::default());
        assert!(poll_and_drop(&mut queued).await.is_none());
        sleep_ms(2).await;
        drop(first);
        // Part of the first is gone out, so nothing can follow.
        let error = queued.await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        let error = stream
            .send(buffer(b"x"), Chunk::default())
            .await
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        // A stream may be dropped before its sends.
        let (other, _plain) = pair();
        let unfinished = other.send(Buffer::default(), Chunk::copy_of(&body));
        let unstarted = other.send(buffer(b"never"), Chunk::default());
        drop(other);
        assert!(unfinished.await.is_err());
        assert!(unstarted.await.is_err());
        drop((stream, plain));
        until(|| counters().open_streams == 0).await;
    });
}

#[test]
fn queued_sends_can_be_dropped() {
    on_both(|| async {
        let (stream, mut plain) = pair();
        let body = vec![7; 32 << 20];
        let first = stream.send(Buffer::default(), Chunk::copy_of(&body));
        let second = stream.send(buffer(b"second"), Chunk::default());
        let third = stream.send(buffer(b"third"), Chunk::default());
        let fourth = stream.send(buffer(b"fourth"), Chunk::default());
        drop(third);
        drop(second);
        let receiver = std::thread::spawn(move || {
            let mut got = Vec::new();
            plain.read_to_end(&mut got).map(|_| got)
        });
        first.await.unwrap();
        fourth.await.unwrap();
        let fifth = stream.send(buffer(b"fifth"), Chunk::default());
        fifth.await.unwrap();
        drop(stream);
        let got = receiver.join().unwrap().unwrap();
        assert_eq!(&got[body.len()..], b"fourthfifth");
    });
}

#[test]
fn end_and_reset_are_seen() {
    on_both(|| async {
        let (stream, mut plain) = pair();
        plain.write_all(b"last words").unwrap();
        drop(plain);
        assert_eq!(&*stream.receive().await.unwrap(), b"last words");
        assert!(stream.receive().await.unwrap().is_empty());
        stream.ready().await;

        let (stream, plain) = pair();
        let (reset, from) = pair();
        assert!(poll_and_drop(stream.receive()).await.is_none());
        reset.reset_on_close();
        drop(reset);
        let mut from = from;
        let error = from.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        // And towards us.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Stream::connect(&listener.local_addr().unwrap().into())
            .await
            .unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(poll_and_drop(peer.receive()).await.is_none());
        Stream::from_fd(accepted.into()).unwrap().reset_on_close();
        let error = peer.receive().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(
            peer.receive().await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
        assert!(peer.send(buffer(b"x"), Chunk::default()).await.is_err());
        drop(plain);
    });
}

#[test]
fn idle_streams_show_whether_they_live() {
    on_both(|| async {
        let (stream, mut plain) = pair();
        assert!(poll_and_drop(stream.ready()).await.is_none());
        next_turn().await;
        assert_eq!(stream.peek_state(), Idle::Quiet);
        plain.write_all(b"unasked").unwrap();
        stream.ready().await;
        assert_eq!(stream.peek_state(), Idle::Bytes);
        assert_eq!(&*stream.receive().await.unwrap(), b"unasked");
        assert_eq!(stream.peek_state(), Idle::Quiet);
        drop(plain);
        until(|| stream.peek_state() == Idle::Closed).await;
        // One that nobody has polled yet.
        let (stream, plain) = pair();
        assert_eq!(stream.peek_state(), Idle::Quiet);
        drop(plain);
        until(|| stream.peek_state() == Idle::Closed).await;
        assert_eq!(counters().receive_buffers_in_use, 0);
    });
}

#[test]
fn chunks_share_their_buffer() {
    on_both(|| async {
        let (stream, mut plain) = pair();
        plain.write_all(b"head|body|rest").unwrap();
        let mut rest = stream.receive().await.unwrap();
        while rest.len() < 14 {
            let more = stream.receive().await.unwrap();
            rest = Chunk::copy_of(&[&*rest, &*more].concat());
        }
        let head = rest.split_to(4);
        rest.advance(1);
        let mut body = rest.split_to(5);
        body.truncate(4);
        assert_eq!(
            (&*head, &*body, &*rest),
            (&b"head"[..], &b"body"[..], &b"rest"[..])
        );
        let whole = rest.split_to(4);
        assert!(rest.is_empty());
        drop((head, body, rest));
        let expected = counters().receive_buffers_in_use;
        assert_eq!(&*whole, b"rest");
        drop(whole);
        assert!(counters().receive_buffers_in_use <= expected);
        assert_eq!(counters().receive_buffers_in_use, 0);
    });
}
