//! Parsing a head in place, and writing it anew with its edits.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringroad_codec::http1::{
    HeadLimits, HeaderKind, Progress, RequestHead, ResponseHead, end_head, parse_request,
    parse_response, write_header, write_request_line,
};

const SMALL: &str = "GET /128 HTTP/1.1\r\nHost: bench.local\r\n\r\n";

const BROWSER: &str = "GET /productpage?u=normal HTTP/1.1\r\n\
    Host: bookinfo.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Referer: http://bookinfo.example.com/\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=eyJ1c2VyIjoiamFzb24ifQ.Zv0Aaa.gC1bJ0Vb5Lr4v0; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    X-Request-Id: 7b7a3f8e-4b0a-4f0c-9a4e-0f2f6f0f3c11\r\n\
    X-Forwarded-For: 10.1.2.3\r\n\
    X-B3-TraceId: 80f198ee56343ba864fe8b2a57d3eff7\r\n\
    X-B3-SpanId: e457b5a2e4d86bd1\r\n\r\n";

const RESPONSE: &str = "HTTP/1.1 200 OK\r\n\
    content-type: text/html; charset=utf-8\r\n\
    content-length: 4183\r\n\
    date: Sat, 21 Nov 2026 04:00:00 GMT\r\n\
    cache-control: no-store\r\n\
    etag: \"5f3-61a\"\r\n\
    server: bench\r\n\r\n";

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse head");
    let limits = HeadLimits::default();
    for (name, text) in [
        ("request, 1 header", SMALL),
        ("request, 13 headers", BROWSER),
    ] {
        let mut head = RequestHead::default();
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let parsed = parse_request(black_box(text.as_bytes()), &limits, &mut head);
                assert_eq!(parsed, Ok(Progress::Complete));
            });
        });
    }
    let mut head = ResponseHead::default();
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("response, 6 headers", |bencher| {
        bencher.iter(|| {
            let text = black_box(RESPONSE.as_bytes());
            let parsed = parse_response(text, &limits, false, false, &mut head);
            assert_eq!(parsed, Ok(Progress::Complete));
        });
    });
    group.finish();
}

/// One pass over the parsed head: what belongs to the hop goes, the proxy's own fields come.
fn rewrite(text: &[u8], head: &RequestHead, out: &mut Vec<u8>) {
    write_request_line(out, head.method.of(text), head.target.of(text));
    for span in &head.headers {
        let kept = !span.kind.is_hop_by_hop()
            && !matches!(
                span.kind,
                HeaderKind::XForwardedFor | HeaderKind::XForwardedProto
            );
        if kept {
            write_header(out, span.name.of(text), span.value.of(text));
        }
    }
    write_header(out, b"x-forwarded-for", b"10.1.2.3,127.0.0.1");
    write_header(out, b"x-forwarded-proto", b"http");
    write_header(out, b"x-envoy-attempt-count", b"1");
    end_head(out);
}

fn rewriting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rewrite head");
    let limits = HeadLimits::default();
    for (name, text) in [
        ("request, 1 header", SMALL),
        ("request, 13 headers", BROWSER),
    ] {
        let mut head = RequestHead::default();
        let parsed = parse_request(text.as_bytes(), &limits, &mut head);
        assert_eq!(parsed, Ok(Progress::Complete));
        let mut out = Vec::with_capacity(4096);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                rewrite(black_box(text.as_bytes()), &head, &mut out);
                black_box(out.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parsing, rewriting);
criterion_main!(benches);
