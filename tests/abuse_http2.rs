//! Clients of HTTP/2 that keep us busy for little: each is told to be calm and closed, a counter
//! says why, memory stays bounded, and others are answered all the while. On both drivers.

mod harness;

use harness::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Ending, FrameClient,
    GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PADDED, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame, get_frame, literal, string_length, window_update,
};
use harness::raw::ScriptedUpstream;
use harness::{
    DRIVERS, Proxy, folder, free_address, gateway, settings, splitting, until, until_equal,
};
use socket2::SockRef;
use std::net::SocketAddr;
use std::time::Duration;

/// Most that an attack may cost.
const MOST_GROWTH_BYTES: u64 = 16 << 20;

fn start(driver: &str, upstream: SocketAddr, limits: &str) -> (Proxy, SocketAddr) {
    let address = free_address();
    let spec = format!("{{role: gateway, limits: {{{limits}}}}}");
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("settings.yaml", &settings(&spec)),
        ("split.yaml", &splitting(&[(upstream, 1)])),
    ]);
    let args = ["--driver", driver, "--workers", "1"];
    (Proxy::start_with_workers(config, &args), address)
}

/// Answers `/` at once, and `/never` never.
fn upstream() -> ScriptedUpstream {
    ScriptedUpstream::start(|connection| {
        while let Some((path, _)) = connection.head() {
            if path != "/never" {
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        }
    })
}

/// Lets a client send what `attack` gives, one thing after the other, until the connection ends.
fn ends_an_attack(counter: &str, attack: impl Fn(u32) -> Vec<u8>) {
    for driver in DRIVERS {
        let upstream = upstream();
        let (proxy, address) = start(driver, upstream.address, "");
        let before = proxy.resident_bytes();
        let mut client = FrameClient::connect(address, &[]);
        client.settle();
        // In small parcels, so that the offender can be told what is wrong; none of these attacks
        // may go on for longer.
        let mut sent = 0;
        let mut is_open = true;
        while is_open && sent < 20_000 {
            let parcel: Vec<u8> = (sent..sent + 20).flat_map(&attack).collect();
            sent += 20;
            is_open = client.send(&parcel);
            if sent % 1000 == 0 {
                assert_eq!(harness::get(address, "shop.test", "/").status, 200);
            }
            is_open &= proxy.stat(&format!("http2.{counter}")) == 0;
        }
        assert_eq!(
            client.ending(),
            Ending::GoAway(ENHANCE_YOUR_CALM),
            "{counter}, {driver}, {sent} sent"
        );
        proxy.until_stat(&format!("http2.{counter}"), 1);
        assert_eq!(harness::get(address, "shop.test", "/").status, 200);
        let stat = |name: &str| proxy.stat(&format!("http.127.0.0.1_{}.{name}", address.port()));
        until_equal("connections that were ended", 1, || {
            stat("downstream_cx_protocol_error")
        });
        until("no request in flight", || stat("downstream_rq_active") == 0);
        let grown = proxy.resident_bytes().saturating_sub(before);
        assert!(
            grown < MOST_GROWTH_BYTES,
            "{counter}, {driver}: {grown} bytes"
        );
    }
}

#[test]
fn floods_of_frames_without_content() {
    ends_an_attack("inbound_control_frames_flood", |_| {
        frame(PING, 0, 0, b"01234567")
    });
    ends_an_attack("inbound_control_frames_flood", |_| {
        frame(SETTINGS, 0, 0, b"")
    });
    ends_an_attack("inbound_control_frames_flood", |_| {
        frame(0xbb, 0, 0, &[0; 50])
    });
}

/// A line of the log for each, none of which named the client.
#[test]
fn answers_to_pings_that_nobody_sent_fill_the_log() {
    for driver in DRIVERS {
        let upstream = upstream();
        let (proxy, address) = start(driver, upstream.address, "");
        let mut client = FrameClient::connect(address, &[]);
        client.settle();
        let mut answer_pings = |stream| {
            client.send(&frame(PING, ACK, 0, b"01234567").repeat(100));
            client.send(&get_frame(stream, "/"));
            client.until("the answer", |frame| {
                frame.stream == stream && frame.ends_stream()
            });
        };
        answer_pings(1);
        // Lines come in order.
        proxy.signal(libc::SIGHUP);
        proxy.until_logged("SIGHUP");
        assert!(!proxy.log().contains("PING"), "{}", proxy.log());
        // Whoever wants to know it is told.
        let level = harness::post(proxy.admin, "/logging?level=debug");
        assert_eq!(level.status, 200);
        answer_pings(3);
        proxy.until_logged("PING ack that we never sent");
    }
}

#[test]
fn a_flood_of_resets_of_a_stream_that_is_over() {
    ends_an_attack("inbound_control_frames_flood", |at| match at {
        0 => get_frame(1, "/never"),
        _ => frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
    });
}

#[test]
fn a_flood_of_priorities() {
    ends_an_attack("inbound_priority_frames_flood", |_| {
        frame(PRIORITY, 0, 5, &[0, 0, 0, 3, 7])
    });
}

#[test]
fn a_flood_of_window_updates() {
    ends_an_attack("inbound_window_update_frames_flood", |_| {
        window_update(0, 1)
    });
}

#[test]
fn floods_of_empty_frames() {
    let post = || frame(HEADERS, END_HEADERS, 1, &block("POST", "/never", &[]));
    ends_an_attack("inbound_empty_frames_flood", |at| match at {
        0 => post(),
        _ => frame(DATA, 0, 1, b""),
    });
    ends_an_attack("inbound_empty_frames_flood", |at| match at {
        0 => post(),
        _ => frame(DATA, PADDED, 1, b"\x03pad"),
    });
}

#[test]
fn a_flood_of_continuations() {
    ends_an_attack("too_many_header_frames", |at| match at {
        0 => frame(HEADERS, 0, 1, &block("GET", "/", &[])),
        _ => {
            let mut more = Vec::new();
            literal(&mut more, "x", "y");
            frame(CONTINUATION, 0, 1, &more)
        }
    });
}

/// Its requests reach the upstream, which has to be left each time.
#[test]
fn requests_that_are_given_up_at_once() {
    ends_an_attack("too_many_bad_streams", |at| {
        let reset = frame(RST_STREAM, 0, at * 2 + 1, &[0, 0, 0, 8]);
        [get_frame(at * 2 + 1, "/never"), reset].concat()
    });
}

/// The client makes us reset its streams, which it need not do itself.
#[test]
fn requests_that_have_to_be_reset_by_us() {
    for broken in [
        // More than the announced length (RFC 9113 section 8.1.1).
        |stream| frame(DATA, 0, stream, b"12345"),
        // More than a window can be (section 6.9.1).
        |stream| window_update(stream, 0x7fff_ffff),
        // A stream that depends on itself (section 5.3.1).
        |stream: u32| {
            let itself = [&stream.to_be_bytes()[..], &[7]].concat();
            frame(PRIORITY, 0, stream, &itself)
        },
    ] {
        ends_an_attack("too_many_bad_streams", |at| {
            let head = block("POST", "/never", &[("content-length", "4")]);
            let post = frame(HEADERS, END_HEADERS, at * 2 + 1, &head);
            [post, broken(at * 2 + 1)].concat()
        });
    }
    // More streams than the connection may have.
    ends_an_attack("too_many_bad_streams", |at| get_frame(at * 2 + 1, "/never"));
}

/// One field that fills the table, asked for again and again: an octet for four thousand.
#[test]
fn heads_that_unfold_to_more_than_may_be() {
    ends_an_attack("header_overflow", |at| {
        let mut head = block("GET", "/", &[]);
        head.push(0x40);
        string_length(&mut head, 1);
        head.push(b'x');
        string_length(&mut head, 4000);
        head.extend([b'y'; 4000]);
        // The newest of the table (RFC 7541 section 2.3.3).
        head.extend([0x80 | 62; 8000]);
        frame(HEADERS, END_HEADERS | END_STREAM, at * 2 + 1, &head)
    });
}

/// A head somewhat over the limit is refused and nothing else happens.
#[test]
fn a_head_over_the_limit_is_answered_431() {
    for driver in DRIVERS {
        let upstream = upstream();
        let (proxy, address) = start(driver, upstream.address, "maxHeadBytes: 8192");
        let mut client = FrameClient::connect(address, &[]);
        client.settle();
        let long = "y".repeat(9000);
        let head = block("GET", "/", &[("x", &long)]);
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head));
        let answer = client.until("an answer", |frame| frame.kind == HEADERS);
        assert_eq!(answer.stream, 1);
        client.send(&get_frame(3, "/"));
        client.until("the next answer", |frame| {
            frame.stream == 3 && frame.ends_stream()
        });
        assert_eq!(upstream.heads().len(), 1);
        assert_eq!(proxy.stat("http2.header_overflow"), 0);
    }
}

#[test]
fn a_head_that_does_not_end_is_not_waited_for() {
    for driver in DRIVERS {
        let upstream = upstream();
        let limits = "requestHeadTimeout: 1s";
        let (proxy, address) = start(driver, upstream.address, limits);
        let head = block("GET", "/", &[]);
        let unfinished: [&[u8]; 4] = [
            // No SETTINGS, no end of the field block, half a frame, half a frame behind a stream
            // that is being served.
            b"",
            &[frame(SETTINGS, 0, 0, b""), frame(HEADERS, 0, 1, &head)].concat(),
            &[&frame(SETTINGS, 0, 0, b"")[..], &get_frame(1, "/")[..20]].concat(),
            &[
                &frame(SETTINGS, 0, 0, b"")[..],
                &get_frame(1, "/never"),
                &get_frame(3, "/")[..20],
            ]
            .concat(),
        ];
        for (at, bytes) in unfinished.into_iter().enumerate() {
            let socket = std::net::TcpStream::connect(address).expect("connects");
            socket
                .set_read_timeout(Some(harness::PATIENCE))
                .expect("set");
            let mut client = FrameClient::bare(socket);
            client.send(harness::frames::PREFACE);
            client.send(bytes);
            client.ending();
            let stat = format!(
                "http.127.0.0.1_{}.downstream_rq_header_timeout",
                address.port()
            );
            proxy.until_stat(&stat, at as u64 + 1);
        }
        // Octet by octet is no better. All of them would take half a minute.
        let mut client = FrameClient::connect(address, &[]);
        client.settle();
        let head = block("GET", "/", &[("x", &"y".repeat(1500))]);
        let slow = frame(HEADERS, END_HEADERS | END_STREAM, 1, &head);
        let is_cut_off = slow.iter().any(|octet| {
            std::thread::sleep(Duration::from_millis(20));
            !client.send(&[*octet])
        });
        assert!(is_cut_off, "{driver}");
        let stat = format!(
            "http.127.0.0.1_{}.downstream_rq_header_timeout",
            address.port()
        );
        proxy.until_stat(&stat, 5);
    }
}

/// Upstream bodies of 20 MB that nobody takes: windows wide open and a socket that is not read, or
/// no window at all.
#[test]
fn answers_that_nobody_reads_cost_little() {
    const LEN: usize = 20 << 20;
    for driver in DRIVERS {
        for (window, streams) in [(0x7fff_ffff, 200), (0, 200)] {
            let upstream = ScriptedUpstream::start(|connection| {
                while connection.head().is_some() {
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LEN}\r\n\r\n");
                    connection.send(head);
                    let piece = vec![b'x'; 1 << 20];
                    for _ in 0..LEN / piece.len() {
                        connection.send(&piece);
                    }
                }
            });
            let limits = "maxConcurrentStreams: 200";
            let (proxy, address) = start(driver, upstream.address, limits);
            // What the program reads of itself with its first request is not the client's doing.
            assert_eq!(harness::get(address, "shop.test", "/").status, 200);
            let before = proxy.resident_bytes();
            let initial = [(INITIAL_WINDOW_SIZE, window)];
            let mut client = FrameClient::connect(address, &initial);
            client.settle();
            client.send(&window_update(0, 0x7fff_0000));
            let requests = (0..streams).flat_map(|at| get_frame(at * 2 + 1, "/"));
            client.send(&requests.collect::<Vec<_>>());
            until("all requests", || {
                upstream.heads().len() == streams as usize + 1
            });
            // The receive buffers that the first rush has filled go back within seconds.
            let resident = proxy.resident_bytes_at_rest(Duration::from_secs(5));
            let grown = resident.saturating_sub(before);
            assert!(grown < 32 << 20, "{driver}, {window}: {} KiB", grown >> 10);
            println!("{driver}, a window of {window}: {} KiB", grown >> 10);
            let stat = format!("http.127.0.0.1_{}.downstream_rq_active", address.port());
            proxy.until_stat(&stat, u64::from(streams));
        }
    }
}

/// What waits for a window, or for a socket, is not kept for ever.
#[test]
fn a_reader_that_takes_nothing_is_given_up() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                let length = 32 << 20;
                connection.send(format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"
                ));
                connection.send(vec![b'x'; length]);
            }
        });
        let limits = "sendStallTimeout: 1500ms";
        let (proxy, address) = start(driver, upstream.address, limits);
        // A window that is closed for one stream, which is reset; the connection goes on.
        let mut client = FrameClient::connect(address, &[(INITIAL_WINDOW_SIZE, 0)]);
        client.settle();
        client.send(&get_frame(1, "/"));
        client.until("the reset", |frame| {
            frame.kind == RST_STREAM && frame.stream == 1
        });
        proxy.until_stat("http2.tx_flush_timeout", 1);
        // A window that opens now and then is no stall. Time is what is tested: each pause is far
        // below the limit, all together are above it.
        client.send(&get_frame(3, "/"));
        client.until("the head", |frame| {
            frame.kind == HEADERS && frame.stream == 3
        });
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(200));
            client.send(&window_update(3, 1));
            let data = client.until("an octet", |frame| frame.stream == 3);
            assert_eq!((data.kind, data.payload.len()), (DATA, 1), "{driver}");
        }
        client.until("the reset", |frame| {
            frame.kind == RST_STREAM && frame.stream == 3
        });
        proxy.until_stat("http2.tx_flush_timeout", 2);
        // Windows without end, and a socket that is not read.
        let mut client = FrameClient::connect(address, &[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]);
        client.settle();
        client.send(&window_update(0, 0x7fff_0000));
        client.send(&get_frame(1, "/"));
        until("the end", || proxy.stat("http2.tx_flush_timeout") >= 3);
        let stat = |name: &str| proxy.stat(&format!("http.127.0.0.1_{}.{name}", address.port()));
        until("no request in flight", || stat("downstream_rq_active") == 0);
    }
}

/// A body in frames of a few octets that its upstream does not take: it waits, and others do not.
#[test]
fn a_stalled_body_in_small_frames_stalls_its_stream_alone() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            // Little is taken by the kernel before it is read.
            let set = SockRef::from(&connection.stream).set_recv_buffer_size(4096);
            set.expect("set");
            while let Some((path, _)) = connection.head() {
                if path == "/stalled" {
                    connection.freeze();
                }
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        });
        let (proxy, address) = start(driver, upstream.address, "");
        let before = proxy.resident_bytes();
        let mut client = FrameClient::connect(address, &[]);
        client.settle();
        let post = frame(HEADERS, END_HEADERS, 1, &block("POST", "/stalled", &[]));
        client.send(&post);
        // As much as the windows allow, in frames of eight octets, until they stay shut.
        let mut window = 65_535;
        client.set_patience(Duration::from_millis(700));
        loop {
            while window >= 800 {
                assert!(client.send(&frame(DATA, 0, 1, b"8 octets").repeat(100)));
                window -= 800;
            }
            match client.next() {
                Some(frame) if frame.kind == WINDOW_UPDATE && frame.stream == 1 => {
                    let octets = frame.payload[..4].try_into().expect("four octets");
                    window += i32::from_be_bytes(octets);
                }
                Some(frame) => assert_ne!(frame.kind, GOAWAY, "{driver}: {frame:?}"),
                None => break,
            }
        }
        client.set_patience(harness::PATIENCE);
        client.send(&get_frame(3, "/"));
        client.until("an answer", |frame| {
            assert_ne!(frame.kind, GOAWAY, "{driver}: {frame:?}");
            frame.stream == 3 && frame.ends_stream()
        });
        assert_eq!(proxy.stat("http2.too_many_data_frames"), 0);
        let grown = proxy.resident_bytes().saturating_sub(before);
        assert!(grown < MOST_GROWTH_BYTES, "{driver}: {} KiB", grown >> 10);
    }
}
