//! Senders that are faster than receivers, and buffers that run short.

use super::*;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Writes as much as the socket takes until it is closed.
fn blast(mut plain: TcpStream) -> (std::thread::JoinHandle<()>, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let thread = std::thread::spawn(move || {
        let block = [1; 16 * 1024];
        while plain.write_all(&block).is_ok() {
            counted.fetch_add(block.len(), Ordering::SeqCst);
        }
    });
    (thread, sent)
}

#[test]
fn a_stream_that_nobody_reads_holds_its_sender_back() {
    // So many that running out of them does not hold the sender back instead.
    let options = RuntimeOptions {
        initial_receive_buffers: 1024,
        ..RuntimeOptions::default()
    };
    on_both_with(options, || async {
        let (stream, plain) = pair();
        assert!(poll_and_drop(stream.receive()).await.is_none());
        let (thread, sent) = blast(plain);
        // Until the sender has been stuck for a while.
        let mut before = usize::MAX;
        let mut calm = 0;
        while calm < 20 {
            sleep_ms(5).await;
            let now = sent.load(Ordering::SeqCst);
            calm = if now == before { calm + 1 } else { 0 };
            before = now;
        }
        // One turn takes what the socket's own buffer held, which the kernel lets grow to 6 MiB;
        // after that nothing more is taken.
        let held = counters().receive_buffers_in_use;
        assert!(held <= 256, "{held} buffers wait on one stream");
        // And it goes on when it is read.
        let mut got = 0;
        while got <= before {
            got += stream.receive().await.unwrap().len();
        }
        drop(stream);
        until(|| thread.is_finished()).await;
        until(|| counters().open_streams == 0).await;
        assert_eq!(counters().receive_buffers_in_use, 0);
    });
}

#[test]
fn stalled_holders_do_not_starve_others() {
    let options = RuntimeOptions {
        initial_receive_buffers: 4,
        max_receive_buffers: 32,
        ..RuntimeOptions::default()
    };
    on_both_with(options, || async {
        // Twice as many held chunks as there may be buffers.
        let mut holders = Vec::new();
        for number in 0..64u8 {
            let (stream, mut plain) = pair();
            plain.write_all(&[number; 100]).unwrap();
            let chunk = stream.receive().await.unwrap();
            assert!(counters().receive_buffers_in_use <= 32);
            holders.push((number, stream, plain, chunk));
        }
        let (stream, mut plain) = pair();
        for round in 0..20u8 {
            plain.write_all(&[round; 50]).unwrap();
            assert_eq!(&*stream.receive().await.unwrap(), [round; 50]);
        }
        for (number, _, _, chunk) in &holders {
            assert_eq!(&**chunk, [*number; 100]);
        }
    });
}

#[test]
fn at_the_limit_streams_wait_for_a_buffer() {
    let options = RuntimeOptions {
        initial_receive_buffers: 2,
        max_receive_buffers: 4,
        receive_buffer_bytes: 8192,
        max_bulk_buffers: 1,
        ..RuntimeOptions::default()
    };
    on_both_with(options, || async {
        let block = pattern(8192);
        let mut held = Vec::new();
        let mut streams = Vec::new();
        while held.len() < 4 {
            let (stream, mut plain) = pair();
            plain.write_all(&block).unwrap();
            held.push(stream.receive().await.unwrap());
            streams.push((stream, plain));
        }
        let got = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let (stream, mut plain) = pair();
            plain.write_all(&block).unwrap();
            let got = got.clone();
            spawn(async move {
                let mut length = 0;
                while length < 8192 {
                    length += stream.receive_bulk().await.unwrap().len();
                }
                got.set(got.get() + 1);
                drop(plain);
            });
        }
        sleep_ms(20).await;
        held.clear();
        until(|| got.get() == 3).await;
        assert!(counters().receive_buffers_allocated <= 4);
    });
}

#[test]
fn many_fast_senders_get_all_their_bytes_through_few_buffers() {
    let options = RuntimeOptions {
        initial_receive_buffers: 2,
        max_receive_buffers: 16,
        ..RuntimeOptions::default()
    };
    on_both_with(options, || async {
        const LENGTH: usize = 1 << 20;
        let text = Arc::new(pattern(LENGTH));
        let got = Rc::new(Cell::new(0));
        let mut threads = Vec::new();
        for number in 0..24 {
            let (stream, mut plain) = pair();
            let sent = text.clone();
            threads.push(std::thread::spawn(move || plain.write_all(&sent)));
            let (got, text) = (got.clone(), text.clone());
            spawn(async move {
                let mut length = 0;
                while length < LENGTH {
                    let chunk = stream.receive().await.unwrap();
                    assert!(*chunk == text[length..length + chunk.len()]);
                    length += chunk.len();
                    if number % 2 == 0 {
                        // A slow one, which holds its chunk meanwhile.
                        next_turn().await;
                    }
                }
                got.set(got.get() + 1);
            });
        }
        until(|| got.get() == 24).await;
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
        assert!(counters().receive_buffers_allocated <= 16);
        assert_eq!(counters().receive_buffers_in_use, 0);
    });
}

#[test]
fn the_buffers_of_a_rush_are_given_back() {
    let options = RuntimeOptions {
        initial_receive_buffers: 4,
        max_receive_buffers: 1024,
        receive_buffer_bytes: 4096,
        ..RuntimeOptions::default()
    };
    on_both_with(options, || async {
        let (stream, plain) = pair();
        let (thread, _) = blast(plain);
        let mut held = Vec::new();
        while held.len() < 500 {
            held.push(stream.receive().await.unwrap());
        }
        assert!(counters().receive_buffers_allocated >= 500);
        trim();
        assert!(
            counters().receive_buffers_allocated >= 500,
            "all are in use"
        );
        held.clear();
        // Until the rush is forgotten; without deferred completions nothing is given back.
        let mut trims = 0;
        while counters().receive_buffers_allocated >= 500 && trims < 100 {
            trim();
            trims += 1;
            sleep_ms(1).await;
        }
        let left = counters().receive_buffers_allocated;
        assert!(left < 500, "{left} buffers");
        // What comes afterwards is whole, and there are enough buffers again.
        while held.len() < 500 {
            let chunk = stream.receive().await.unwrap();
            assert!(chunk.iter().all(|byte| *byte == 1));
            held.push(chunk);
        }
        drop(stream);
        until(|| thread.is_finished()).await;
    });
}
