//! Calls of gRPC, by hand: what a proxy must carry, answer and count. On both drivers.

mod harness;

use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use harness::http2::{
    Call, Http2Upstream, client, eventually, exchange, fields, ok_with, read_all, request, send_all,
};
use harness::pool::{ANY, cluster_stat, start_edited_http2_pool, start_http2_pool};
use harness::{DRIVERS, free_address, until, until_equal};
use http::{HeaderMap, Method, Request, Response, StatusCode};

/// A message with its prefix.
fn message(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    [&[0][..], &length, content].concat()
}

fn call_of(method: &str, more: &[(&'static str, &str)]) -> Request<()> {
    let mut call = request(Method::POST, &format!("/shop.Orders/{method}"));
    let always = [("content-type", "application/grpc"), ("te", "trailers")];
    call.headers_mut().extend(fields(&always));
    call.headers_mut().extend(fields(more));
    call
}

type Answered = (Response<()>, Vec<u8>, Option<HeaderMap>);

async fn call(send: &mut SendRequest<Bytes>, request: Request<()>, body: &[u8]) -> Answered {
    let answer = exchange(send, request, Some(body), None).await;
    answer.expect("an answer")
}

/// The status, from wherever it stands.
fn status((response, _, trailers): &Answered) -> &str {
    let trailers = trailers.as_ref().unwrap_or(response.headers());
    let status = trailers.get("grpc-status").expect("a status");
    status.to_str().expect("text")
}

const OK: [(&str, &str); 1] = [("content-type", "application/grpc")];

/// Sends each message back, and the status that the path asks for in the end.
async fn serve(mut call: Call) {
    let path = call.path();
    let status = path.rsplit('/').next().unwrap_or_default().to_string();
    match status.as_str() {
        "hang" => return call.wait_for_reset().await,
        "busy" => {
            let only = [("content-type", "application/grpc"), ("grpc-status", "14")];
            call.start(ok_with(&only), true);
            return;
        }
        "chat" => {
            let mut out = call.start(ok_with(&OK), false);
            while let Some(Ok(data)) = call.body.data().await {
                let _ = call.body.flow_control().release_capacity(data.len());
                let _ = send_all(&mut out, &data, false).await;
            }
            let _ = out.send_trailers(fields(&[("grpc-status", "0")]));
            return;
        }
        _ => {}
    }
    let body = read_all(&mut call.body).await.unwrap_or_default();
    let length = body.len().to_string();
    let mut fields_of_head: Vec<(&'static str, &str)> = OK.to_vec();
    if status == "0" {
        // Some servers tell the length too.
        fields_of_head.push(("content-length", &length));
    }
    let mut out = call.start(ok_with(&fields_of_head), false);
    let _ = send_all(&mut out, &body, false).await;
    let message = [
        ("grpc-status", status.as_str()),
        ("grpc-message", "so%20it%20is"),
    ];
    let _ = out.send_trailers(fields(&message));
}

/// What its head is refused for is told as the callers of gRPC are told of failures.
#[test]
fn a_call_with_too_many_fields_gets_a_status_of_grpc() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(serve);
        let (_proxy, address) = start_http2_pool(driver, &[upstream.address], ANY);
        client(address, |mut send| async move {
            let mut crowded = call_of("0", &[]);
            for at in 0..110 {
                let name = format!("x-{at}")
                    .parse::<http::HeaderName>()
                    .expect("a name");
                let value = http::HeaderValue::from_static("1");
                crowded.headers_mut().insert(name, value);
            }
            let refused = call(&mut send, crowded, &message(b"one")).await;
            assert_eq!(refused.0.status(), StatusCode::OK);
            assert_eq!(refused.0.headers()["content-type"], "application/grpc");
            assert_eq!(status(&refused), "2", "{:?}", refused.0);
            // The connection lives on.
            let passed = call(&mut send, call_of("0", &[]), &message(b"two")).await;
            assert_eq!(status(&passed), "0");
        });
    }
}

#[test]
fn statuses_and_messages_pass_and_are_counted() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(serve);
        let (proxy, address) = start_http2_pool(driver, &[upstream.address], ANY);
        client(address, |mut send| async move {
            let body = [message(b"one"), message(&[b'x'; 100_000]), message(b"")].concat();
            let length = body.len().to_string();
            let sized = call_of("0", &[("content-length", &length)]);
            let answer = call(&mut send, sized, &body).await;
            assert!(answer.1 == body);
            assert_eq!(answer.0.headers()["content-type"], "application/grpc");
            assert!(!answer.0.headers().contains_key("grpc-status"));
            let trailers = answer.2.expect("trailers");
            assert_eq!(trailers["grpc-status"], "0");
            assert_eq!(trailers["grpc-message"], "so%20it%20is");
            let answer = call(&mut send, call_of("5", &[]), &message(b"two")).await;
            assert_eq!(status(&answer), "5");
        });
        for (family, grpc_status, value) in [
            ("istio_requests_total", "0", "1"),
            ("istio_requests_total", "5", "1"),
            ("istio_request_messages_total", "0", "3"),
            ("istio_response_messages_total", "0", "3"),
            ("istio_request_messages_total", "5", "1"),
        ] {
            let label = format!("grpc_response_status=\"{grpc_status}\"");
            let is_it = |line: &&str| {
                line.starts_with(&format!("{family}{{"))
                    && line.contains(&label)
                    && line.contains("request_protocol=\"grpc\"")
            };
            until_equal(
                &format!("{family} {label}"),
                Some(value.to_string()),
                || {
                    let metrics = proxy.admin("/stats/prometheus").body;
                    let line = metrics.lines().find(is_it)?;
                    line.rsplit(' ').next().map(str::to_string)
                },
            );
        }
    }
}

/// Each status that the metrics tell of is a handful of series, which stay.
#[test]
fn an_upstream_cannot_make_series_without_end_by_its_statuses() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(serve);
        let (proxy, address) = start_http2_pool(driver, &[upstream.address], ANY);
        client(address, |mut send| async move {
            for code in ["16", "17", "200", "65535"] {
                let answer = call(&mut send, call_of(code, &[]), &message(b"one")).await;
                assert_eq!(status(&answer), code, "is passed on");
            }
        });
        let name = "istio_requests_total";
        until("all are counted", || {
            proxy.has_series(name, &[r#"grpc_response_status="16""#])
                && proxy.has_series(name, &[r#"request_protocol="grpc""#, r#"status="""#])
        });
        for code in ["17", "200", "65535"] {
            let label = format!("grpc_response_status=\"{code}\"");
            assert!(!proxy.has_series(name, &[&label]), "{code}");
        }
    }
}

#[test]
fn both_sides_talk_at_once() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(serve);
        let (_proxy, address) = start_http2_pool(driver, &[upstream.address], ANY);
        client(address, |send| async move {
            let mut ready = send.ready().await.unwrap();
            let (response, mut out) = ready.send_request(call_of("chat", &[]), false).unwrap();
            let (parts, mut body) = response.await.unwrap().into_parts();
            assert_eq!(parts.status, StatusCode::OK);
            for number in 0..50u8 {
                let sent = message(&[number; 10]);
                send_all(&mut out, &sent, false).await.unwrap();
                let mut got = Vec::new();
                while got.len() < sent.len() {
                    let data = body.data().await.expect("a message").unwrap();
                    let _ = body.flow_control().release_capacity(data.len());
                    got.extend_from_slice(&data);
                }
                assert_eq!(got, sent);
            }
            out.send_data(Bytes::new(), true).unwrap();
            assert!(body.data().await.is_none());
            let trailers = body.trailers().await.unwrap().expect("trailers");
            assert_eq!(trailers["grpc-status"], "0");
        });
    }
}

#[test]
fn a_status_alone_stays_one_and_is_tried_again_by_its_name() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(serve);
        let with_default = |text: String| text.replace("    retries: {attempts: 0}\n", "");
        let to = [upstream.address];
        let (proxy, address) = start_edited_http2_pool(driver, &to, ANY, with_default);
        client(address, |send| async move {
            let mut ready = send.ready().await.unwrap();
            let (response, mut out) = ready.send_request(call_of("busy", &[]), false).unwrap();
            out.send_data(message(b"one").into(), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.headers()["grpc-status"], "14");
            assert!(!response.headers().contains_key("content-length"));
            assert!(response.body().is_end_stream());
        });
        // The default policy names `unavailable`, and two more tries.
        assert_eq!(upstream.requests(), 3);
        assert_eq!(cluster_stat(&proxy, "upstream_rq_retry"), 2);
    }
}

#[test]
fn failures_of_the_proxy_reach_the_caller_as_a_status() {
    for driver in DRIVERS {
        let (_proxy, address) = start_http2_pool(driver, &[free_address()], ANY);
        client(address, |mut send| async move {
            let answer = call(&mut send, call_of("0", &[]), &message(b"one")).await;
            assert_eq!(answer.0.status(), StatusCode::OK);
            assert_eq!(answer.0.headers()["content-type"], "application/grpc");
            assert_eq!(status(&answer), "14");
            assert!(answer.1.is_empty());
            let text = answer.0.headers()["grpc-message"].to_str().expect("text");
            assert!(text.contains("connection failure"), "{text}");
        });
    }
}

#[test]
fn a_deadline_ends_the_call_on_both_sides() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(serve);
        let (_proxy, address) = start_http2_pool(driver, &[upstream.address], ANY);
        client(address, |mut send| async move {
            let late = call_of("hang", &[("grpc-timeout", "1500m")]);
            let answer = call(&mut send, late, &message(b"one")).await;
            assert_eq!(status(&answer), "4");
        });
        until("the cancellation", || upstream.resets() == [Reason::CANCEL]);
        let asked = upstream.heads().remove(0);
        let left = asked.headers()["grpc-timeout"]
            .to_str()
            .expect("text")
            .to_string();
        assert_eq!(left, "1500m");
    }
}

#[test]
fn a_cancelled_call_is_cancelled_upstream() {
    for driver in DRIVERS {
        let upstream = Http2Upstream::start(serve);
        let (_proxy, address) = start_http2_pool(driver, &[upstream.address], ANY);
        let asked = &upstream;
        client(address, |send| async move {
            let mut ready = send.ready().await.unwrap();
            let (_response, mut out) = ready.send_request(call_of("hang", &[]), false).unwrap();
            eventually("the call", || asked.requests() == 1).await;
            out.send_reset(Reason::CANCEL);
            // The connection stays while the news travels.
            eventually("the cancellation", || !asked.resets().is_empty()).await;
        });
        assert_eq!(upstream.resets(), [Reason::CANCEL]);
    }
}
