//! `ringroad diff`, from outside, on a log that the proxy wrote itself.

mod harness;

use harness::{
    Client, Proxy, Upstream, folder, free_address, gateway, get, ringroad, settings, splitting,
};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Output, Stdio};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Puts a route for `/api` to the second upstream before the split.
fn with_api(split: &str) -> String {
    let api = "  http:\n  - name: api\n    match: [{uri: {prefix: /api}}]\n    \
               route: [{destination: {host: up1.test, port: {number: 80}}}]\n";
    assert!(split.contains("  http:\n"), "{split}");
    split.replacen("  http:\n", api, 1)
}

#[test]
fn requests_that_were_served_are_followed_into_another_configuration() {
    for format in ["TEXT", "JSON"] {
        let (one, two) = (Upstream::start("one"), Upstream::start("two"));
        let address = free_address();
        let spec = format!("{{role: gateway, accessLog: {{format: {format}}}}}");
        let split = splitting(&[(one.address, 1), (two.address, 0)]);
        let files = |split: &str| {
            folder(&[
                ("gate.yaml", &gateway(address)),
                ("settings.yaml", &settings(&spec)),
                ("split.yaml", split),
            ])
        };
        let old = files(&split);
        let next = files(&with_api(&split));
        let served = files(&split);
        let mut proxy = Proxy::start_with_stdout(served, &[], Stdio::piped());
        for path in ["/", "/cart", "/api/1"] {
            get(address, "shop.example", path);
        }
        for unrouted in [
            "nonsense\r\n\r\n",
            "CONNECT shop.example:443 HTTP/1.1\r\nhost: shop.example:443\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nhost: shop.example\r\n\r\n",
        ] {
            let mut client = Client::connect(address).expect("connects");
            client.write(unrouted.as_bytes());
            client.answer().expect("an answer");
        }
        let mut log = String::new();
        let mut reader = BufReader::new(proxy.stdout());
        for _ in 0..6 {
            reader.read_line(&mut log).expect("a line");
        }
        let log_path = old.path().join("access.log");
        fs::write(&log_path, &log).expect("written");
        let path = |folder: &tempfile::TempDir| folder.path().display().to_string();
        let log_path = log_path.display().to_string();
        let args = ["diff", &path(&old), &path(&next), "--requests", &log_path];
        let output = ringroad(&args);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{}{}",
            out(&output),
            err(&output)
        );
        for part in [
            "3 requests\n",
            "3  lines are left out",
            "2  go where they went",
            "1  are routed elsewhere",
            "from    outbound|80||up0.test",
            "to      outbound|80||up1.test",
            "now route `api`",
            "like    GET shop.example/api/1",
        ] {
            assert!(
                out(&output).contains(part),
                "{part} not in\n{}",
                out(&output)
            );
        }
        let output = ringroad(&[&args[..], &["--format", "json"]].concat());
        let told: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
        assert_eq!(told["requests"], 3);
        assert_eq!(told["unroutedLines"], 3);
        assert!(told["unreadableLines"] == 0, "{told}\n{log}");
        assert_eq!(told["contradicted"], 0, "{told}");
        assert_eq!(told["groups"][0]["examples"][0], "GET shop.example/api/1");
        let same = ringroad(&["diff", &path(&old), &path(&old), "--requests", &log_path]);
        assert_eq!(same.status.code(), Some(0), "{}", out(&same));
    }
}

#[test]
fn changes_are_told_without_a_log() {
    let address = free_address();
    let up = "127.0.0.1:9".parse().expect("an address");
    let split = splitting(&[(up, 9), (up, 1)]);
    let files = |split: &str| folder(&[("gate.yaml", &gateway(address)), ("split.yaml", split)]);
    let (old, next) = (files(&split), files(&with_api(&split)));
    let path = |folder: &tempfile::TempDir| folder.path().display().to_string();
    let output = ringroad(&["diff", &path(&old), &path(&next)]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let text = out(&output);
    assert!(
        text.contains("+ route `api` of default/split for path `/api...`"),
        "{text}"
    );
    assert!(
        text.ends_with("1 added, 0 removed, 0 changed, 0 moved\n"),
        "{text}"
    );
    let output = ringroad(&["diff", &path(&old), &path(&old)]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(out(&output), "no difference\n");
    let output = ringroad(&["diff", &path(&old), &path(&next), "--format", "json"]);
    let told: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(told["changes"][0]["kind"], "added");
    assert!(told["changes"][0]["new"]["line"].is_u64(), "{told}");
}

#[test]
fn what_cannot_be_compared_is_trouble() {
    let address = free_address();
    let good = folder(&[("gate.yaml", &gateway(address))]);
    let bad = folder(&[("bad.yaml", "kind: [\n")]);
    let path = |folder: &tempfile::TempDir| folder.path().display().to_string();
    let (good, bad) = (path(&good), path(&bad));
    let output = ringroad(&["diff", &good, &bad]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("bad.yaml:"), "{}", err(&output));
    let code = |args: &[&str]| ringroad(args).status.code();
    assert_eq!(code(&["diff", &good]), Some(2));
    assert_eq!(code(&["diff", &good, "/nonexistent"]), Some(2));
    assert_eq!(
        code(&["diff", &good, &good, "--requests", "/nonexistent"]),
        Some(2)
    );
    let output = ringroad(&[
        "diff",
        &good,
        &good,
        "--requests",
        &format!("{good}/gate.yaml"),
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("no request"), "{}", err(&output));
}

#[test]
fn the_log_may_come_from_a_pipe() {
    let config = folder(&[("gate.yaml", &gateway(free_address()))]);
    let path = config.path().display().to_string();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringroad"))
        .args(["diff", &path, &path, "--requests", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = child.stdin.take().expect("a pipe");
    writeln!(
        input,
        "{{\"method\":\"GET\",\"path\":\"/\",\"authority\":\"a.com\"}}"
    )
    .expect("sent");
    drop(input);
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(0), "{}", out(&output));
    assert!(out(&output).starts_with("1 request\n"), "{}", out(&output));
}
