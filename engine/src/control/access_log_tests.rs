use super::*;

fn line(write: impl Fn(&Record<'_>, &mut Vec<u8>), record: &Record<'_>) -> String {
    let mut out = Vec::new();
    write(record, &mut out);
    String::from_utf8(out).expect("UTF-8")
}

fn full() -> Record<'static> {
    let address = |text: &str| Some(text.parse().expect("an address"));
    Record {
        start_unix_ms: 1_795_233_906_789,
        method: Some(b"GET"),
        path: Some(b"/reviews/0?lang=\"de\""),
        protocol: Some("HTTP/1.1"),
        response_code: 503,
        response_flags: "UF,URX",
        response_code_details: Some("upstream_reset_before_response_started"),
        connection_termination_details: None,
        upstream_transport_failure_reason: Some("connection refused"),
        bytes_received: 0,
        bytes_sent: 91,
        duration_ms: 12,
        upstream_service_time_ms: Some(10),
        x_forwarded_for: Some(b"192.0.2.7"),
        user_agent: Some(b"curl/8"),
        request_id: Some(b"4f2c"),
        authority: Some(b"reviews:9080"),
        upstream_host: Some(Address::Socket("[::1]:9081".parse().expect("an address"))),
        upstream_cluster: Some("outbound|9080|v1|reviews.default.svc.cluster.local"),
        upstream_local_address: address("127.0.0.1:40000"),
        downstream_local_address: address("127.0.0.1:8080"),
        downstream_remote_address: address("127.0.0.1:50000"),
        requested_server_name: None,
        route_name: Some("default"),
    }
}

#[test]
fn text_is_istios_default_format() {
    assert_eq!(
        line(format_text, &full()),
        "[2026-11-21T04:05:06.789Z] \"GET /reviews/0?lang=\"de\" HTTP/1.1\" 503 UF,URX \
         upstream_reset_before_response_started - \"connection refused\" 0 91 12 10 \
         \"192.0.2.7\" \"curl/8\" \"4f2c\" \"reviews:9080\" \"[::1]:9081\" \
         outbound|9080|v1|reviews.default.svc.cluster.local 127.0.0.1:40000 127.0.0.1:8080 \
         127.0.0.1:50000 - default\n"
    );
}

#[test]
fn what_is_missing_is_a_dash() {
    assert_eq!(
        line(format_text, &Record::default()),
        "[1970-01-01T00:00:00.000Z] \"- - -\" 0 - - - \"-\" 0 0 0 - \"-\" \"-\" \"-\" \"-\" \
         \"-\" - - - - - -\n"
    );
}

#[test]
fn json_has_every_key_and_the_types_that_envoy_gives() {
    let value: serde_json::Value =
        serde_json::from_str(&line(format_json, &full())).expect("one JSON value");
    let object = value.as_object().expect("an object");
    assert_eq!(object.len(), 24);
    assert_eq!(value["start_time"], "2026-11-21T04:05:06.789Z");
    assert_eq!(value["path"], "/reviews/0?lang=\"de\"");
    let connect = Record {
        path: Some(b""),
        ..full()
    };
    let connect: serde_json::Value =
        serde_json::from_str(&line(format_json, &connect)).expect("one JSON value");
    assert!(connect["path"].is_null(), "as what is missing: {connect}");
    assert_eq!(value["response_code"], 503);
    assert_eq!(value["response_flags"], "UF,URX");
    assert_eq!(value["upstream_service_time"], "10");
    assert_eq!(value["upstream_host"], "[::1]:9081");
    assert_eq!(value["requested_server_name"], serde_json::Value::Null);
    let empty: serde_json::Value =
        serde_json::from_str(&line(format_json, &Record::default())).expect("one JSON value");
    assert_eq!(empty.as_object().map(serde_json::Map::len), Some(24));
    assert_eq!(empty["response_flags"], "-");
    assert_eq!(empty["upstream_host"], serde_json::Value::Null);
}

#[test]
fn json_stays_json_with_any_bytes_in_a_header() {
    let record = Record {
        user_agent: Some(b"a\"\\\n\x01\xff\xc3\xa9"),
        ..Record::default()
    };
    let value: serde_json::Value =
        serde_json::from_str(&line(format_json, &record)).expect("one JSON value");
    assert_eq!(value["user_agent"], "a\"\\\n\u{1}\u{fffd}é");
}

#[test]
fn dates_around_leap_days_are_right() {
    // Seconds by `date -u -d DATE +%s`.
    for (seconds, date) in [
        (0, "1970-01-01"),
        (951_782_400, "2000-02-29"),
        (951_868_800, "2000-03-01"),
        (1_704_067_199, "2023-12-31"),
        (1_709_164_800, "2024-02-29"),
        (4_107_542_400, "2100-03-01"),
    ] {
        let mut out = Vec::new();
        write_time(seconds * 1_000, &mut out);
        assert_eq!(&out[..10], date.as_bytes());
    }
}

#[test]
fn a_recycled_buffer_is_enough() {
    let mut out = Vec::with_capacity(4_096);
    let before = crate::alloc::thread_allocations();
    format_text(&full(), &mut out);
    format_json(&full(), &mut out);
    assert_eq!(crate::alloc::thread_allocations(), before);
}
