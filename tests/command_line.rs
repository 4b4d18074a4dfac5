//! `check`, `explain` and failing starts, from outside.

mod harness;

use harness::{answering, folder, free_address, gateway, ringroad, with_open_files};
use std::net::TcpListener;
use std::process::{Command, Output};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const BROKEN: &str = "apiVersion: networking.istio.io/v1\nkind: Gateway\nspec: [\n";

#[test]
fn check_accepts_what_is_right() {
    let config = folder(&[
        ("a.yaml", &gateway(free_address())),
        ("b.yaml", &answering("hi")),
    ]);
    let output = ringroad(&["check".as_ref(), config.path().as_os_str()]);
    assert_eq!(output.status.code(), Some(0), "{}", out(&output));
    assert_eq!(out(&output), "accepted: 2 files\n");
}

#[test]
fn check_refuses_with_file_line_and_column() {
    let config = folder(&[("a.yaml", BROKEN)]);
    let output = ringroad(&["check".as_ref(), config.path().as_os_str()]);
    assert_eq!(output.status.code(), Some(1));
    let text = out(&output);
    let file = config.path().join("a.yaml").display().to_string();
    let place = text
        .lines()
        .find_map(|line| line.split_once(&format!("{file}:")));
    let (_, position) = place.unwrap_or_else(|| panic!("no place in {text}"));
    let numbers: Vec<u32> = position
        .split(':')
        .map(|it| it.parse().expect("a number"))
        .collect();
    assert_eq!(numbers.len(), 2, "{text}");
    assert!(text.ends_with("refused: 1 file\n"), "{text}");
}

#[test]
fn check_tells_programs_in_json() {
    let config = folder(&[("a.yaml", BROKEN)]);
    let path = config.path().display().to_string();
    let output = ringroad(&["check", &path, "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(found[0]["severity"], "error");
    assert!(found[0]["line"].is_u64(), "{found}");
}

#[test]
fn nothing_to_check_is_a_mistake_of_the_caller() {
    assert_eq!(ringroad(&["check"]).status.code(), Some(2));
    let output = ringroad(&["check", "/nonexistent/config"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        err(&output).contains("/nonexistent/config does not exist"),
        "{}",
        err(&output)
    );
    assert_eq!(ringroad(&["run"]).status.code(), Some(2));
}

#[test]
fn explain_names_the_listener_and_the_answer() {
    let address = free_address();
    let config = folder(&[("a.yaml", &gateway(address)), ("b.yaml", &answering("hi"))]);
    let path = config.path().display().to_string();
    let url = format!("http://{address}/anything");
    let output = ringroad(&["explain", &path, "--url", &url]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(
        out(&output).contains(&address.to_string()),
        "{}",
        out(&output)
    );
    let output = ringroad(&["explain", &path, "--url", &url, "--format", "json"]);
    let told: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(told["answer"]["status"], 200, "{told}");
    let output = ringroad(&["explain", &path, "--url", &url, "--header", "no colon"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_answer_that_cannot_be_written_is_told_as_a_failure() {
    let address = free_address();
    let config = folder(&[("a.yaml", &gateway(address)), ("b.yaml", &answering("hi"))]);
    let path = config.path().display().to_string();
    for format in ["text", "json"] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let output = Command::new(env!("CARGO_BIN_EXE_ringroad"))
            .args(["explain", &path, "--url", &format!("http://{address}/")])
            .args(["--format", format])
            .stdout(full.expect("is there"))
            .output()
            .expect("runs");
        assert_eq!(output.status.code(), Some(1));
        assert!(
            err(&output).contains("cannot be written"),
            "{}",
            err(&output)
        );
    }
}

/// Scripts took it for a request that nobody listens for.
#[test]
fn explain_of_a_404_was_told_as_a_failure() {
    let address = free_address();
    let edge = gateway(address);
    let lost = free_address();
    let hosts = answering("hi").replace("[\"*\"]", "[shop.example]");
    let routes = answering("hi").replace(
        "- directResponse",
        "- match: [{uri: {exact: /a}}]\n    directResponse",
    );
    for (rules, url, code, told) in [
        (&hosts, format!("http://{address}/"), 0, "no virtual host"),
        (&routes, format!("http://{address}/b"), 0, "no route"),
        (&routes, format!("http://{lost}/b"), 1, "no listener"),
    ] {
        let config = folder(&[("a.yaml", &edge), ("b.yaml", rules)]);
        let path = config.path().display().to_string();
        let output = ringroad(&["explain", &path, "--url", &url]);
        let text = out(&output);
        assert!(text.contains(told), "{text}{}", err(&output));
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert_eq!(text.contains("\nerror "), code == 1, "{text}");
    }
}

#[test]
fn a_start_on_errors_prints_them_and_ends() {
    let config = folder(&[("a.yaml", BROKEN)]);
    let path = config.path().display().to_string();
    let output = ringroad(&["run", "--config", &path, "--admin", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    let text = err(&output);
    assert!(
        text.contains("a.yaml:") && text.contains("ringroad check"),
        "{text}"
    );
}

#[test]
fn a_taken_address_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    let config = folder(&[("a.yaml", &gateway(address))]);
    let path = config.path().display().to_string();
    let output = ringroad(&["run", "--config", &path, "--admin", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    let text = err(&output);
    assert!(
        text.contains(&address.to_string()) && text.contains("another port"),
        "{text}"
    );

    let empty = folder(&[]);
    let path = empty.path().display().to_string();
    let output = ringroad(&["run", "--config", &path, "--admin", &address.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("--admin"), "{}", err(&output));
}

/// Both are ours, so "another process has it" would send people the wrong way.
#[test]
fn an_admin_address_that_a_gateway_wants_is_told_as_such() {
    let address = free_address();
    let config = folder(&[("a.yaml", &gateway(address))]);
    let path = config.path().display().to_string();
    let output = ringroad(&["run", "--config", &path, "--admin", &address.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let text = err(&output);
    let listener = format!("listener {}_{}", address.ip(), address.port());
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["the admin interface", &listener, "--admin"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn help_and_version_are_there_for_every_command() {
    let output = ringroad(&["--version"]);
    assert!(out(&output).starts_with("ringroad "), "{}", out(&output));
    for command in ["run", "check", "explain", "test", "diff", "certs", "demo"] {
        let output = ringroad(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(out(&output).contains("Usage: ringroad"), "{command}");
    }
}

#[test]
fn too_few_descriptors_are_told_with_what_to_do() {
    let config = folder(&[
        ("a.yaml", &gateway(free_address())),
        ("b.yaml", &answering("hi")),
    ]);
    let path = config.path().display().to_string();
    let run = ["run", "--config", &path, "--admin", "127.0.0.1:0"];
    let mut child = with_open_files(256)
        .args(run)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let stderr = child.stderr.take().expect("is piped");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    let warning =
        lines.find_map(|line| line.ok().filter(|line| line.contains("files may be open")));
    child.kill().expect("is ended");
    child.wait().expect("is waited for");
    let warning = warning.expect("a warning");
    assert!(
        warning.contains("256") && warning.contains("ulimit -Hn"),
        "{warning}"
    );
}

/// However far the start comes: a proxy without workers is no proxy.
#[test]
fn a_start_that_runs_out_of_descriptors_ends_with_an_error() {
    let config = folder(&[("a.yaml", &gateway(free_address()))]);
    let path = config.path().display().to_string();
    for limit in [8, 10, 12, 14, 15, 16, 22, 32] {
        let run = [
            "run",
            "--config",
            &path,
            "--admin",
            "127.0.0.1:0",
            "--workers",
            "8",
        ];
        let output = with_open_files(limit).args(run).output().expect("runs");
        let text = err(&output);
        assert_eq!(output.status.code(), Some(1), "{limit}: {text}");
        assert!(
            text.contains("error: ") && text.contains("ulimit -Hn"),
            "{limit}: {text}"
        );
    }
}

#[test]
fn explain_names_the_policy_that_decides_and_where_it_stands() {
    let address = free_address();
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                  metadata: {name: no-admin}\nspec:\n  action: DENY\n  rules:\n  \
                  - from: [{source: {ipBlocks: [10.0.0.0/8]}}]\n    \
                  to: [{operation: {paths: [/admin]}}]\n";
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("answer.yaml", &answering("hi")),
        ("policy.yaml", policy),
    ]);
    let path = config.path().display().to_string();
    let told = |source: &str| {
        let url = format!("http://{address}/x/../admin");
        let output = ringroad(&["explain", &path, "--url", &url, "--source-ip", source]);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        out(&output)
    };
    let denied = told("10.1.2.3");
    let rule = "denied by ns[default]-policy[no-admin]-rule[0]";
    assert!(denied.contains(rule), "{denied}");
    assert!(denied.contains("policy.yaml:7:5)"), "{denied}");
    assert!(denied.contains("403: RBAC: access denied"), "{denied}");
    let allowed = told("192.0.2.1");
    assert!(!allowed.contains("denied by"), "{allowed}");
}
