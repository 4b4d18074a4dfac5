//! Configurations that are wrong, hostile or huge: a clear diagnostic, and what runs stays.

mod harness;

use harness::{
    DRIVERS, PATIENCE, Proxy, answering, folder, free_address, gateway, get, on_each_driver,
    ringroad, until,
};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::time::Instant;

const SERVICE: &str =
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bad}\nspec:\n";

/// Name, text, and what the diagnostic has to say.
fn bad_files() -> Vec<(&'static str, String, &'static str)> {
    let rule = |spec: &str| format!("{SERVICE}{spec}");
    vec![
        ("no YAML", "kind: [unclosed\n".into(), "bad.yaml:"),
        ("tabs", "kind:\n\t- x\n".into(), "bad.yaml:2:"),
        (
            "weights of nothing",
            rule(
                "  hosts: [a.test]\n  http:\n  - route:\n    - {destination: {host: b}, weight: 0}\n    - {destination: {host: c}, weight: 0}\n",
            ),
            "weight",
        ),
        (
            "a weight below zero",
            rule("  hosts: [a.test]\n  http:\n  - route:\n    - {destination: {host: b}, weight: -1}\n"),
            "weight",
        ),
        (
            "a circle of delegates",
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: one}\nspec:\n  http:\n  - delegate: {name: two}\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: two}\nspec:\n  http:\n  - delegate: {name: one}\n".into(),
            "delegate",
        ),
        (
            "a duplicate key",
            rule("  hosts: [a.test]\n  hosts: [b.test]\n  http: []\n"),
            "hosts",
        ),
        (
            "an unknown field",
            rule("  hosts: [a.test]\n  htttp: []\n"),
            "did you mean",
        ),
        (
            "an unknown kind of the group",
            "apiVersion: networking.istio.io/v1\nkind: VirtualServise\nmetadata: {name: x}\nspec: {}\n".into(),
            "VirtualService",
        ),
        (
            "a regular expression that is none",
            rule("  hosts: [a.test]\n  http:\n  - match: [{uri: {regex: '('}}]\n    route: [{destination: {host: b}}]\n"),
            "regex",
        ),
        ("a bomb", bomb(), "bad.yaml:"),
        ("deep nesting", format!("a: {}{}\n", "[".repeat(100_000), "]".repeat(100_000)), "bad.yaml"),
        (
            "an alias of itself",
            "a: &a [*a]\n".into(),
            "bad.yaml:1:",
        ),
        (
            "a merge key",
            rule("  <<: {hosts: [a.test]}\n  http: []\n"),
            "merge keys (`<<`)",
        ),
    ]
}

/// Ten levels of ten aliases each: ten thousand million values if it were unfolded.
fn bomb() -> String {
    let mut text = "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for level in 1..10 {
        let aliases = vec![format!("*l{}", level - 1); 10].join(", ");
        let _ = writeln!(text, "l{level}: &l{level} [{aliases}]");
    }
    text
}

fn running(driver: &str) -> (Proxy, SocketAddr) {
    let address = free_address();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("answer.yaml", &answering("good")),
    ]);
    (Proxy::start(config, &["--driver", driver]), address)
}

#[test]
fn what_runs_stays_whatever_is_dropped_beside_it() {
    for driver in DRIVERS {
        let (proxy, address) = running(driver);
        for (at, (name, text, said)) in bad_files().into_iter().enumerate() {
            let rejected = at as u64 + 1;
            proxy.put("bad.yaml", &text);
            until(&format!("the refusal of {name}"), || {
                proxy.stat("config.reload_rejected") == rejected
            });
            let told = proxy.admin_json("/server_info")["last_rejection"].to_string();
            assert!(told.contains(said), "{name}: {told}");
            assert_eq!(proxy.stat("config.last_reload_successful"), 0, "{name}");
            assert_eq!(get(address, "a", "/").body, "good", "{name}");
            proxy.remove("bad.yaml");
            until("the good files", || {
                proxy.stat("config.last_reload_successful") == 1
            });
        }
        assert_eq!(proxy.stat("config.generation"), 1);
    }
}

#[test]
fn check_refuses_each_of_them_in_a_moment() {
    for (name, text, said) in bad_files() {
        let config = folder(&[("bad.yaml", &text)]);
        let started = Instant::now();
        let output = ringroad(&["check".as_ref(), config.path().as_os_str()]);
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{name}: {told}");
        assert!(told.contains(said), "{name}: {told}");
        assert!(
            told.len() < 20_000,
            "{name}: a diagnostic of {} bytes",
            told.len()
        );
        // What is not bounded takes minutes, or all memory.
        assert!(started.elapsed() < PATIENCE, "{name}");
    }
}

/// A merge key is refused by its name, once; it is not taken for a field.
#[test]
fn merge_keys_are_named() {
    let text = format!("{SERVICE}  <<: {{hosts: [a.test]}}\n  http: []\n");
    let config = folder(&[("bad.yaml", &text)]);
    let output = ringroad(&["check".as_ref(), config.path().as_os_str()]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told.matches("bad.yaml:5:3").count(), 1, "{told}");
    assert!(told.contains("merge keys (`<<`)"), "{told}");
}

/// A log file that somebody called `.yaml`: refused for its size, before it fills the memory.
#[test]
fn a_hundred_megabytes_are_refused_quickly() {
    for driver in DRIVERS {
        let (proxy, address) = running(driver);
        let line = "- some text that goes on and on, as in a file that is no configuration\n";
        let text = line.repeat((100 << 20) / line.len());
        let before = proxy.resident_bytes();
        proxy.put("bad.yaml", &text);
        until("the refusal", || proxy.stat("config.reload_rejected") == 1);
        let told = proxy.admin_json("/server_info")["last_rejection"].to_string();
        assert!(told.contains("larger than"), "{told}");
        assert_eq!(get(address, "a", "/").body, "good");
        let grown = proxy.resident_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "{grown} bytes more");

        // The same in files that are each within the limit. They come all at once: to parse the first of
        // them would take a while.
        proxy.remove("bad.yaml");
        let part = line.repeat((10 << 20) / line.len());
        let beside = tempfile::tempdir_in(proxy.config.parent().expect("is in one")).expect("made");
        for at in 0..10 {
            let path = beside.path().join(format!("part{at}.yaml"));
            std::fs::write(path, &part).expect("written");
        }
        std::fs::rename(beside.path(), proxy.config.join("parts")).expect("moved");
        until("the second refusal", || {
            let told = proxy.admin_json("/server_info")["last_rejection"].to_string();
            told.contains("the configuration is larger than")
        });
        assert_eq!(get(address, "a", "/").body, "good");
    }
}

/// As on a network file system whose server is gone: no change was taken any more, without a word.
/// Here the file waits for who has a lease on it, which the kernel ends after 45 s.
#[test]
fn a_file_without_an_answer_is_told_and_read_when_it_answers() {
    on_each_driver(|driver| {
        let (proxy, address) = running(driver);
        let leased = proxy.config.join("leased.yaml");
        let file = std::fs::File::create(proxy.config.join(".leased")).expect("created");
        std::fs::write(proxy.config.join(".leased"), "# no documents\n").expect("written");
        // SAFETY: the call takes no pointers.
        let before = unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
        assert_ne!(before, libc::SIG_ERR);
        // SAFETY: the descriptor is open, and the call takes no pointers.
        let lease = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
        assert_eq!(lease, 0, "{}", std::io::Error::last_os_error());
        std::fs::rename(proxy.config.join(".leased"), &leased).expect("moved");
        proxy.until_logged("no answer for 5s");
        let log = proxy.log();
        assert!(log.contains("leased.yaml"), "{log}");
        assert_eq!(get(address, "a", "/").body, "good");
        let told = proxy.admin_json("/server_info")["last_rejection"].to_string();
        assert!(told.contains("no answer for 5s"), "{told}");
        // What else is changed is looked at beside it, and refused with it at once.
        proxy.put("answer.yaml", &answering("new"));
        proxy.until_stat("config.reload_rejected", 2);
        assert_eq!(get(address, "a", "/").body, "good");
        drop(file);
        until("what was withheld", || get(address, "a", "/").body == "new");
    });
}
