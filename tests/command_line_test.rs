//! `ringroad test`, from outside.

mod harness;

use harness::{folder, ringroad};
use std::path::Path;
use std::process::Output;

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The example that stands beside the example configurations.
fn example() -> (String, String) {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let path = |name: &str| configs.join(name).display().to_string();
    (path("canary-test.yaml"), path("canary"))
}

#[test]
fn the_example_passes_on_its_configuration() {
    let (tests, config) = example();
    let output = ringroad(&["test", &tests, "--config", &config]);
    assert_eq!(output.status.code(), Some(0), "{}", out(&output));
    assert!(
        out(&output).ends_with("4 cases passed, 0 failed (11 requests)\n"),
        "{}",
        out(&output)
    );
    assert_eq!(err(&output), "");
}

#[test]
fn a_shifted_canary_fails_its_tests_with_the_line_that_did_it() {
    let (tests, config) = example();
    let text = std::fs::read_to_string(Path::new(&config).join("canary.yaml")).expect("read");
    assert!(text.contains("weight: 90"));
    let shifted = folder(&[("canary.yaml", &text.replace("weight: 90", "weight: 50"))]);
    let config = shifted.path().display().to_string();
    let output = ringroad(&["test", &tests, "--config", &config]);
    assert_eq!(output.status.code(), Some(1));
    let line = text
        .lines()
        .position(|line| line.contains("name: everybody"))
        .expect("a line")
        + 1;
    for part in [
        "FAIL  everybody else is split",
        "expected  cart.example.com subset stable weight 90",
        "came      cart.example.com subset stable weight 50",
        &format!("canary.yaml:{line}:"),
        "3 cases passed, 1 failed (11 requests)",
    ] {
        assert!(
            out(&output).contains(part),
            "{part} not in\n{}",
            out(&output)
        );
    }
    let output = ringroad(&["test", &tests, "--config", &config, "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(told["failed"], 1);
    let case = &told["cases"][1];
    assert_eq!(case["passed"], false);
    assert_eq!(case["requests"][0]["taken"]["written"]["line"], line);
    assert_eq!(case["requests"][0]["comparisons"][0]["same"], false);
}

#[test]
fn passed_requests_are_listed_on_request() {
    let (tests, config) = example();
    let output = ringroad(&["test", &tests, "--config", &config, "--verbose"]);
    let text = out(&output);
    assert!(
        text.contains("ok GET shop.example.com/cart?item=7 x-canary: true: route `testers`"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_tested_is_no_pass() {
    let (tests, config) = example();
    let code = |args: &[&str]| ringroad(args).status.code();
    assert_eq!(
        code(&["test", &tests]),
        Some(2),
        "no configuration is named"
    );
    assert_eq!(
        code(&["test", "/nonexistent", "--config", &config]),
        Some(2)
    );
    assert_eq!(code(&["test", &config, "--config", &config]), Some(2));
    let odd = folder(&[
        ("broken.yaml", "testCases:\n- wantMatch: true\n"),
        ("empty.yaml", "testCases: []\n"),
        ("refused.yaml", "kind: [\n"),
    ]);
    let odd = |name: &str| odd.path().join(name).display().to_string();
    let output = ringroad(&["test", &odd("broken.yaml"), "--config", &config]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("broken.yaml:2:3"), "{}", err(&output));
    assert_eq!(
        code(&["test", &odd("empty.yaml"), "--config", &config]),
        Some(2)
    );
    let output = ringroad(&["test", &tests, "--config", &odd("refused.yaml")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("refused.yaml:1:7"),
        "{}",
        err(&output)
    );
    let refused = odd("refused.yaml");
    let output = ringroad(&["test", &tests, "--config", &refused, "--format", "json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(
        told["error"].is_string() && told["diagnostics"].is_array(),
        "{told}"
    );
}

/// A missing route whose reason is in the configuration: the warning about it follows the report.
#[test]
fn rules_that_a_delegate_loses_are_told_with_the_failure() {
    let config = folder(&[(
        "shop.yaml",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: shop}\nspec:\n  \
         hosts: [shop.example.com]\n  http:\n  - match: [{uri: {regex: '/cart(/.*)?'}}]\n    \
         delegate: {name: cart}\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {name: cart}\nspec:\n  http:\n  - match: [{uri: {prefix: /cart}}]\n    \
         route: [{destination: {host: cart.example.com}}]\n",
    )]);
    let tests = folder(&[(
        "tests.yaml",
        "testCases:\n- description: carts\n  wantMatch: true\n  request: {authority: \
         [shop.example.com], method: [GET], uri: [/cart]}\n  route: [{destination: {host: \
         cart.example.com}}]\n",
    )]);
    let path =
        |folder: &tempfile::TempDir, name: &str| folder.path().join(name).display().to_string();
    let (tests, config) = (path(&tests, "tests.yaml"), path(&config, ""));
    let output = ringroad(&["test", &tests, "--config", &config]);
    assert_eq!(output.status.code(), Some(1));
    let told = err(&output);
    assert!(told.contains("warning[delegate-conflict]"), "{told}");
    assert!(told.contains("shop.yaml:15:"), "{told}");
}

/// The mistake that is easiest to make: tests beside the files that they test.
#[test]
fn test_cases_among_the_configuration_are_recognised() {
    let (tests, config) = example();
    let config = std::fs::read_to_string(Path::new(&config).join("canary.yaml")).expect("read");
    let tests = std::fs::read_to_string(tests).expect("read");
    let mixed = folder(&[("canary.yaml", &config), ("tests.yaml", &tests)]);
    let path = mixed.path().display().to_string();
    let output = ringroad(&["check", &path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        out(&output).contains("these are test cases"),
        "{}",
        out(&output)
    );
}

/// People lay both side by side, and call the tool that has this format with `-t`.
#[test]
fn tests_and_configuration_may_lie_in_one_folder_behind_the_flag_of_the_format() {
    let (tests, config) = example();
    let text = |path: &Path| std::fs::read_to_string(path).expect("read");
    let both = folder(&[
        (
            "canary.yaml",
            &text(&Path::new(&config).join("canary.yaml")),
        ),
        ("canary_test.yaml", &text(Path::new(&tests))),
    ]);
    let both = both.path().display().to_string();
    for args in [
        ["test", "-t", &tests, &config],
        ["test", "-t", &both, &both],
        ["test", &both, "--config", &both],
    ] {
        let output = ringroad(&args);
        let all_passed = "4 cases passed, 0 failed (11 requests)\n";
        assert!(
            out(&output).ends_with(all_passed),
            "{args:?}: {}",
            err(&output)
        );
        assert_eq!(output.status.code(), Some(0), "{args:?}");
    }
    // A file that is named is meant.
    let output = ringroad(&["test", "-t", &tests, &tests]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("these are test cases"),
        "{}",
        err(&output)
    );
}
