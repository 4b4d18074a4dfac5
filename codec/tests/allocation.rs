//! That nothing is allocated once the caller's buffers have grown.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ringroad_codec::http1::*;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed to the system allocator unchanged; counting touches only a
// thread-local cell that needs neither allocation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's contract for `alloc` is that of the system allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, so from the system allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const REQUEST: &[u8] = b"POST /a?b HTTP/1.1\r\nHost: example.com\r\nX-A: b\r\nConnection: x-a\r\n\
    Accept: */*\r\nTransfer-Encoding: chunked\r\n\r\n";
const BODY: &[u8] = b"5;x=y\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: x\r\n\r\nok";

#[test]
fn the_steady_state_allocates_nothing() {
    let head_limits = HeadLimits::default();
    let mut request = RequestHead::default();
    let mut response = ResponseHead::default();
    let mut scanner = BodyScanner::new(BodyFraming::None, &BodyLimits::default());
    let mut out = Vec::new();
    let mut round = || {
        out.clear();
        // In two pieces, so that the search for the head's end runs too.
        for bytes in [&REQUEST[..40], REQUEST] {
            parse_request(bytes, &head_limits, &mut request).unwrap();
        }
        scanner.reset(request.framing);
        for piece in BODY.chunks(4) {
            scanner.scan(piece).unwrap();
        }
        assert_eq!(scanner.trailers().first("x-sum"), Some(&b"1"[..]));
        write_request_line(
            &mut out,
            request.method.of(REQUEST),
            request.target.of(REQUEST),
        );
        for (name, value, _) in request.headers(REQUEST).iter() {
            write_header(&mut out, name, value);
        }
        end_head(&mut out);
        parse_response(RESPONSE, &head_limits, false, false, &mut response).unwrap();
        scanner.reset(response.framing);
        assert!(scanner.scan(b"ok").unwrap().complete);
        write_http_date(&mut out, 784_111_777);
        let reply = LocalReply {
            version: request.version,
            status: 503,
            body: b"no healthy upstream",
            to_head: false,
            headers: &[("server", b"envoy")],
            keep_alive: request.keep_alive,
        };
        reply.write(&mut out);
        ALLOCATIONS.with(Cell::get)
    };
    let warm = round();
    assert!(warm > 0, "the counter counts");
    for _ in 0..100 {
        assert_eq!(round(), warm);
    }
}
