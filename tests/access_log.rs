//! The access log on standard output.

mod harness;

use harness::{
    Client, Proxy, Upstream, folder, free_address, gateway, get, settings, splitting, until,
};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

fn start(format: &str, upstream: &Upstream) -> (Proxy, std::net::SocketAddr) {
    let address = free_address();
    let spec = format!("{{role: gateway, accessLog: {{format: {format}}}}}");
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("settings.yaml", &settings(&spec)),
        ("split.yaml", &splitting(&[(upstream.address, 1)])),
    ]);
    (
        Proxy::start_with_stdout(config, &[], Stdio::piped()),
        address,
    )
}

#[test]
fn a_request_is_one_line_of_text_or_json() {
    let upstream = Upstream::start("one");
    let (mut proxy, address) = start("TEXT", &upstream);
    get(address, "shop.example", "/cart?id=7");
    let mut line = String::new();
    BufReader::new(proxy.stdout())
        .read_line(&mut line)
        .expect("a line");
    assert!(
        line.contains("\"GET /cart?id=7 HTTP/1.1\" 200 - via_upstream"),
        "{line}"
    );
    assert!(
        line.contains(&format!("\"{}\" outbound|80||up0.test", upstream.address)),
        "{line}"
    );

    let (mut proxy, address) = start("JSON", &upstream);
    get(address, "shop.example", "/cart?id=7");
    let mut line = String::new();
    BufReader::new(proxy.stdout())
        .read_line(&mut line)
        .expect("a line");
    let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(value["path"], "/cart?id=7");
    assert_eq!(value["response_code"], 200);
    assert_eq!(value["upstream_host"], upstream.address.to_string());
}

/// Nobody reads the pipe: requests and the admin interface go on, and lines are dropped.
#[test]
fn a_blocked_output_holds_nothing_up() {
    let upstream = Upstream::start("one");
    let (mut proxy, address) = start("TEXT", &upstream);
    let _unread = proxy.stdout();
    let mut client = Client::connect(address).expect("connects");
    // Long paths fill the pipe and the queue sooner.
    let target = format!("/{}", "x".repeat(8_000));
    until("dropped lines", || {
        for _ in 0..100 {
            assert_eq!(
                client
                    .send("GET", "shop.example", &target)
                    .expect("sent")
                    .status,
                200
            );
        }
        proxy.stat("access_log.lines_dropped") > 0
    });
    assert_eq!(
        client
            .send("GET", "shop.example", "/")
            .expect("an answer")
            .status,
        200
    );
    assert_eq!(proxy.admin("/ready").body, "LIVE\n");
}
