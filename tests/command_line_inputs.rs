//! What the commands say of inputs that are none, to people and to programs.

mod harness;

use harness::{answering, folder, free_address, gateway, ringroad};
use std::process::Output;

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// In one line: where lines are broken is no matter here.
fn err(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn path_of(folder: &tempfile::TempDir) -> String {
    folder.path().display().to_string()
}

/// A proxy would answer each of them with an error, or no client can send it.
#[test]
fn explain_decides_about_requests_that_the_proxy_refuses() {
    let address = free_address();
    let config = folder(&[("a.yaml", &gateway(address)), ("b.yaml", &answering("hi"))]);
    let path = path_of(&config);
    let good = format!("http://{address}/");
    let with_space = format!("http://{address}/a b");
    let fragment = format!("http://{address}/a#b");
    let user = format!("http://me:secret@{address}/");
    for (args, why) in [
        (
            vec!["--url", &good, "--method", "G T"],
            "`G T` is no method",
        ),
        (vec!["--url", &good, "--method", ""], "`` is no method"),
        (
            vec!["--url", &good, "--method", "CONNECT"],
            "refuses with 403",
        ),
        (vec!["--url", "ftp://shop.example/"], "the scheme `ftp`"),
        (vec!["--url", &with_space], "has a space: write it escaped"),
        (
            vec!["--url", "http://shop.example/a\r\nx: y"],
            "has the character `\\r`",
        ),
        (vec!["--url", &fragment], "the fragment"),
        (vec!["--url", &user], "the user of"),
        (vec!["--url", "http://sh_o p/"], "has a space"),
        (vec!["--url", "http://a\"b/"], "invalid Host header"),
        (
            vec!["--url", &good, "--header", "x: a\r\ny: b"],
            "has a line break",
        ),
        (
            vec!["--url", &good, "--header", "x: a\u{1}"],
            "the control character",
        ),
        (
            vec!["--url", &good, "--header", "x y: a"],
            "`x y` is no name of a header",
        ),
        (
            vec!["--url", &good, "--header", "connection: cookie"],
            "with 400",
        ),
        (
            vec!["--url", &good, "--header", "host: a", "--header", "host: b"],
            "more than one",
        ),
        (
            vec![
                "--url",
                &good,
                "--header",
                "upgrade: websocket, foo",
                "--header",
                "connection: upgrade",
            ],
            "with 403",
        ),
        (
            vec!["--url", &good, "--header", "content-length: -1"],
            "invalid Content-Length",
        ),
    ] {
        let command = [vec!["explain", &path], args.clone()].concat();
        let output = ringroad(&command);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", out(&output));
        assert!(err(&output).contains(why), "{args:?}: {}", err(&output));
        assert_eq!(out(&output), "", "{args:?}");
        let output = ringroad(&[command, vec!["--format", "json"]].concat());
        let told: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
        let told = told["error"].as_str().expect("a text");
        assert!(told.contains(why), "{args:?}: {told}");
    }
    for args in [
        ["--method", "PURGE"],
        ["--header", "x: \t a b \u{e9}"],
        ["--header", "Host: other.example:81"],
    ] {
        let output = ringroad(&[vec!["explain", &path, "--url", &good], args.to_vec()].concat());
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", err(&output));
    }
}

#[test]
fn programs_are_told_nothing_of_a_refused_input() {
    let config = folder(&[("a.yaml", &gateway(free_address()))]);
    let broken = folder(&[("a.yaml", "kind: [\n")]);
    let (good, bad) = (path_of(&config), path_of(&broken));
    let url = ["--url", "http://a/", "--format", "json"];
    let json = ["--format", "json"];
    for (command, code) in [
        ([vec!["explain", "/nonexistent"], url.to_vec()].concat(), 2),
        ([vec!["explain", &bad], url.to_vec()].concat(), 1),
        ([vec!["check", "/nonexistent"], json.to_vec()].concat(), 2),
        (
            [vec!["diff", &good, "/nonexistent"], json.to_vec()].concat(),
            2,
        ),
        ([vec!["diff", &good, &bad], json.to_vec()].concat(), 2),
        (
            [
                vec!["test", "/nonexistent", "--config", &good],
                json.to_vec(),
            ]
            .concat(),
            2,
        ),
    ] {
        let output = ringroad(&command);
        assert_eq!(output.status.code(), Some(code), "{command:?}");
        let told: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
        assert!(told["error"].is_string(), "{command:?}: {told}");
    }
    for command in [
        [vec!["explain", &bad], url.to_vec()].concat(),
        [vec!["diff", &good, &bad], json.to_vec()].concat(),
        [vec!["diff", &bad, &good], json.to_vec()].concat(),
    ] {
        let output = ringroad(&command);
        let told: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
        assert_eq!(told["diagnostics"][0]["code"], "yaml-syntax", "{told}");
    }
}

#[test]
fn a_directory_without_its_flag_is_an_unexpected_argument() {
    let output = ringroad(&["run", "h"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        err(&output).contains("ringroad run --config h"),
        "{}",
        err(&output)
    );
    let output = ringroad(&["run"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("--config <DIR>"), "{}", err(&output));
}

#[test]
fn an_admin_address_that_is_none_is_told_how_to_be_written() {
    for wrong in ["localhost:15000", "127.0.0.1", "15000"] {
        let output = ringroad(&["run", "--config", "h", "--admin", wrong]);
        assert_eq!(output.status.code(), Some(2));
        let told = err(&output);
        assert!(told.contains("such as 127.0.0.1:15010"), "{told}");
    }
}

#[test]
fn an_empty_directory_is_accepted_without_a_word() {
    let empty = folder(&[]);
    let path = path_of(&empty);
    let output = ringroad(&["check", &path]);
    assert_eq!(output.status.code(), Some(0));
    let text = out(&output);
    assert!(
        text.contains("warning[no-files]") && text.contains(&path),
        "{text}"
    );
    assert!(text.contains("not be ready until a file comes"), "{}", text);
    assert!(text.ends_with("accepted: 0 files\n"), "{text}");
    let output = ringroad(&["check", &path, "--format", "json"]);
    let told: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(told[0]["code"], "no-files");
    assert!(told[0]["file"].is_null());
}

#[test]
fn lines_are_wider_than_the_page() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let bookinfo = format!("{root}/configs/bookinfo");
    let canary = format!("{root}/configs/canary");
    let test = format!("{root}/configs/canary-test.yaml");
    let url = "http://127.0.0.1:8080/productpage";
    for command in [
        vec!["explain", &bookinfo, "--url", url],
        vec!["explain", &bookinfo, "--url", "http://127.0.0.1:8080/none"],
        vec!["test", &test, "--config", &canary, "--verbose"],
        vec!["test", &test, "--config", &bookinfo],
        vec!["diff", &bookinfo, &canary],
        vec!["check", &bookinfo, &canary],
        vec![
            "explain",
            &bookinfo,
            "--url",
            "ftp://127.0.0.1:8080/productpage",
        ],
    ] {
        let output = ringroad(&command);
        let text = out(&output);
        let text = text + &String::from_utf8_lossy(&output.stderr);
        assert!(text.lines().count() > 0, "{command:?}");
        for line in text.lines().filter(|line| line.chars().count() > 100) {
            // What is longer is one path or name.
            let longest = line.split(' ').map(str::len).max().unwrap_or_default();
            assert!(longest > 60, "{command:?}: {line}");
        }
    }
}

/// A connection that indicated a name was taken for one without TLS, and found no route by it.
#[test]
fn a_server_name_makes_an_explained_connection_one_of_tls() {
    let text = |host: &str, address: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {address}}}\n\
             spec:\n  hosts: [{host}]\n  addresses: [10.9.0.0/16]\n  resolution: STATIC\n  \
             ports: [{{number: 9443, name: tls, protocol: TLS}}]\n  \
             endpoints: [{{address: {address}}}]\n---\n"
        )
    };
    let settings = "apiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {name: p}\n\
                    spec: {role: sidecar, namespace: default}\n";
    let services = text("a.test", "10.0.0.1") + &text("b.test", "10.0.0.2");
    let config = folder(&[("a.yaml", &services), ("s.yaml", settings)]);
    let path = path_of(&config);
    for host in ["a.test", "b.test"] {
        let connection = [
            "--outbound",
            "--protocol",
            "tcp",
            "--destination",
            "10.9.1.1:9443",
        ];
        let asked = ["explain", &path, "--format", "json", "--sni", host];
        let output = ringroad(&[&asked[..], &connection[..]].concat());
        let told: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
        assert_eq!(told["cluster"], format!("outbound|9443||{host}"), "{told}");
    }
}
