//! Help shows what to write, from what was written.

use ringroad_policy::diagnostic::{render_json, render_text};
use ringroad_policy::load;
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;
use ringroad_policy::source::SourceFile;

/// The help of each finding about the text as a person reads it; a program has to get the same.
fn helps(text: &str) -> Vec<String> {
    let files = [SourceFile {
        path: "a.yaml".to_string(),
        text: text.to_string(),
    }];
    let found = load(&files, &Overrides::default(), &DnsTable::default()).diagnostics;
    let json: serde_json::Value = serde_json::from_str(&render_json(&files, &found)).unwrap();
    let entries = json.as_array().unwrap();
    let of_programs: Vec<String> = entries
        .iter()
        .map(|entry| entry["help"].as_str().unwrap().to_string())
        .collect();
    let text = render_text(&files, &found);
    let of_people: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once("= help: ")?.1))
        .collect();
    assert_eq!(of_people, of_programs);
    of_programs
}

fn help(text: &str) -> String {
    let mut found = helps(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

/// A VirtualService with one route, to which these lines belong.
fn with_route(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\n\
         spec:\n  hosts: [a.example.com]\n  http:\n  - name: r\n{lines}"
    )
}

const TO_B: &str = "route: [{destination: {host: b.example.com}}]\n";

#[test]
fn a_value_that_needs_quotes_is_quoted_as_it_was_written() {
    for written in ["1.10", ".5", "0o17", "1e3", "0x10", "-0", "True", "7"] {
        let quoted = format!("write it in quotes: \"{written}\"");
        let label = format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
             metadata: {{name: a, labels: {{version: {written}}}}}\nspec: {{address: 10.0.0.1}}\n"
        );
        assert_eq!(help(&label), quoted);
        let name = label.replace("name: a", &format!("name: {written}"));
        assert_eq!(helps(&name), [quoted.as_str()]);
        let prefix = with_route(&format!("match: [{{uri: {{prefix: {written}}}}}]\n{TO_B}"));
        assert_eq!(help(&prefix), quoted);
    }
}

#[test]
fn a_repeated_value_that_needs_quotes_is_quoted_as_it_was_written() {
    let text = with_route(&format!(
        "match: [{{port: &p 0x50, uri: {{prefix: *p}}}}]\n{TO_B}"
    ));
    assert_eq!(help(&text), "write it in quotes: \"0x50\"");
}

#[test]
fn a_value_with_a_type_of_its_own_is_not_shown_in_quotes_twice() {
    let text = with_route(&format!(
        "match: [{{uri: {{prefix: !!int \"5\"}}}}]\n{TO_B}"
    ));
    assert_eq!(help(&text), "write it in quotes");
}
