//! What the pages of the project promise to a newcomer, done as written.

mod harness;

use harness::{Client, Proxy, Upstream, folder, free_address, get, ringroad};
use std::fs;
use std::path::{Path, PathBuf};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page(name: &str) -> String {
    fs::read_to_string(project().join(name)).expect("the page is there")
}

/// The fenced blocks of a page in `language`.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let behind = text.split(&fence).skip(1);
    let inner = |rest: &str| rest.split("```").next().map(str::to_string);
    behind.filter_map(inner).collect()
}

#[test]
fn the_configuration_of_the_readme_works_as_it_stands() {
    let (v1, v2) = (Upstream::start("v1"), Upstream::start("v2"));
    let gateway = free_address();
    let yaml = blocks(&page("README.md"), "yaml");
    let mut whole = yaml.iter().filter(|block| block.contains("kind: Gateway"));
    let mut text = whole.next().expect("a whole configuration").clone();
    for (told, free) in [
        ("number: 8080", format!("number: {}", gateway.port())),
        ("http: 9001", format!("http: {}", v1.address.port())),
        ("http: 9002", format!("http: {}", v2.address.port())),
    ] {
        assert_eq!(text.matches(told).count(), 1, "{told}");
        text = text.replace(told, &free);
    }
    let config = folder(&[("shop.yaml", &text)]);
    let output = ringroad(&["check".as_ref(), config.path().as_os_str()]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(told, "accepted: 1 file\n", "without a warning");

    let proxy = Proxy::start(config, &[]);
    let mut client = Client::connect(gateway).expect("connects");
    let answers: Vec<_> = (0..100)
        .map(|_| {
            client
                .send("GET", "shop.example.com", "/cart")
                .expect("an answer")
        })
        .collect();
    assert!(answers.iter().all(|answer| answer.status == 200));
    let canaries = answers.iter().filter(|answer| answer.body == "v2").count();
    assert_eq!(canaries, 10, "90/10 means 90/10");
    assert_eq!(get(proxy.admin, "localhost", "/").status, 200);
}

/// Every command line that a page or a help text shows is one that the program understands.
#[test]
fn every_command_that_is_shown_is_understood() {
    let mut lines: Vec<String> = Vec::new();
    for name in ["README.md", "docs/configuration.md", "docs/operations.md"] {
        for block in blocks(&page(name), "sh") {
            lines.extend(block.lines().map(|line| format!("{name}: {line}")));
        }
    }
    for command in [
        "", "run", "check", "explain", "test", "diff", "certs", "demo",
    ] {
        let args: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let help = String::from_utf8_lossy(&ringroad(&args).stdout).into_owned();
        let joined = help.replace("\\\n", " ");
        lines.extend(
            joined
                .lines()
                .map(|line| format!("{command} --help: {line}")),
        );
    }
    let config = folder(&[]);
    let config = config.path().to_str().expect("UTF-8");
    let mut shown = 0;
    for line in &lines {
        let Some((_, command)) = line.split_once(": ") else {
            continue;
        };
        let command = command.trim_start();
        let Some(rest) = command.strip_prefix("ringroad ") else {
            continue;
        };
        let words = rest.split('#').next().unwrap_or_default();
        // What follows two spaces is an explanation, and a pipe is another program's.
        let words = words.split("   ").next().unwrap_or_default();
        let words = words.split('|').next().unwrap_or_default();
        let subcommand = words.split_whitespace().next().unwrap_or_default();
        if ["run", "demo"].contains(&subcommand) || words.contains("COMMAND") {
            // They would go on for ever; their flags are tried by the tests that run them.
            continue;
        }
        shown += 1;
        let run = format!(
            "cd {config} && mkdir -p config && {} {words}",
            env!("CARGO_BIN_EXE_ringroad")
        );
        let output = std::process::Command::new("sh").args(["-c", &run]).output();
        let output = output.expect("runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !told.contains("For more information, try '--help'"),
            "{line}\n{told}"
        );
    }
    assert!(shown >= 4, "only {shown} commands found");
}

/// YAML on the pages is accepted as it stands, apart from what it refers to.
#[test]
fn every_yaml_of_the_pages_is_accepted() {
    let mut names = vec!["README.md".to_string()];
    for entry in fs::read_dir(project().join("docs")).expect("is there") {
        let name = entry.expect("an entry").file_name();
        names.push(format!("docs/{}", name.to_str().expect("UTF-8")));
    }
    let mut seen = 0;
    for name in names {
        for block in blocks(&page(&name), "yaml") {
            // Routing tests are for `ringroad test`.
            if block.starts_with("testCases:") {
                continue;
            }
            seen += 1;
            let config = folder(&[("block.yaml", &block)]);
            let output = ringroad(&["check".as_ref(), config.path().as_os_str()]);
            let told = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(0), "{name}:\n{block}\n{told}");
        }
    }
    assert!(seen >= 2);
}

/// The example folders run as they are: not one diagnostic.
#[test]
fn every_example_folder_is_accepted_without_a_warning() {
    let folders = |path: &Path| {
        let entries = fs::read_dir(path).expect("is there");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let mut examples = Vec::new();
    for path in folders(&project().join("configs")) {
        // One with several proxies has a folder for each.
        let inner = folders(&path);
        examples.extend(if inner.is_empty() { vec![path] } else { inner });
    }
    // Rules for the kernel, without a document.
    examples.retain(|path| !path.ends_with("interception"));
    assert!(examples.len() >= 6);
    for path in examples {
        let output = ringroad(&["check".as_ref(), path.as_os_str()]);
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{}: {told}", path.display());
        assert_eq!(told.lines().count(), 1, "{}: {told}", path.display());
    }
}
