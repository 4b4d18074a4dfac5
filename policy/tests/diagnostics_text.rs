//! What a person and a program get to see of a finding.

use ringroad_policy::diagnostic::{
    Diagnostic, Place, TextOptions, render_json, render_text, render_text_with,
};
use ringroad_policy::source::{DocumentId, FieldPath, FileId, Position, SourceFile};
use ringroad_policy::yaml;

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile {
        path: path.to_string(),
        text: text.to_string(),
    }
}

/// The rendering of what the YAML front finds in one text.
fn rendered(text: &str) -> String {
    let files = [file("conf/a.yaml", text)];
    render_text(&files, &yaml::parse(&files).1)
}

fn path(steps: &str) -> FieldPath {
    steps.split('.').filter(|step| !step.is_empty()).fold(
        FieldPath::root(),
        |path, step| match step.parse() {
            Ok(index) => path.index(index),
            Err(_) => path.field(step),
        },
    )
}

fn document(file: u32, index: u32) -> DocumentId {
    DocumentId {
        file: FileId(file),
        index,
    }
}

const GATEWAY: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: edge
spec:
  servers:
  - port: {number: 80x, name: http}
    hostz:
    - \"*\"
    lua: |
      a
";

#[test]
fn findings_of_the_yaml_front_read_like_this() {
    assert_eq!(
        rendered("apiVersion: v1\nkind: Service\nmetadata:\n\tname: a\n"),
        "\
error[yaml-tab]: a tab stands in the indentation
 --> conf/a.yaml:4:1
  |
4 |  name: a
  | ^
  = help: indent with spaces: YAML takes no tabs there

1 error, 0 warnings
"
    );
    assert_eq!(
        rendered("spec: {}\n"),
        "\
error[missing-kind]: the document has neither `apiVersion` nor `kind`
 --> conf/a.yaml:1:1
  |
1 | spec: {}
  | ^
  = help: begin the document with `apiVersion: networking.istio.io/v1`, `kind: VirtualService` and
          `metadata:` with a `name:`

1 error, 0 warnings
"
    );
    assert_eq!(
        rendered("apiVersion: v1\nkind: Service\nmetadata: {name: 1.5, namespace: b}\n"),
        "\
error[bad-metadata]: `metadata.name` is a number, not a string
 --> conf/a.yaml:3:18
  |
3 | metadata: {name: 1.5, namespace: b}
  |                  ^^^
  = help: write it in quotes: \"1.5\"

1 error, 0 warnings
"
    );
    assert_eq!(
        rendered("apiVersion: v1\nkind: Service\nmetadata: {labels: {}}\n"),
        "\
error[missing-name]: this Service has no name
 --> conf/a.yaml:3:1
  |
3 | metadata: {labels: {}}
  | ^^^^^^^^
  = help: write `name:` under `metadata:`

1 error, 0 warnings
"
    );
    assert_eq!(
        rendered("hosts:\n- *.example.com\n"),
        "\
error[yaml-syntax]: text may not begin with `*`, which begins an alias
 --> conf/a.yaml:2:3
  |
2 | - *.example.com
  |   ^
  = help: write it in quotes: \"*.example.com\"

1 error, 0 warnings
"
    );
}

#[test]
fn a_finding_points_to_the_value_or_the_key_or_what_is_around() {
    let files = [file("a.yaml", GATEWAY)];
    let place = |field: &str| Place::field(document(0, 0), path(field));
    let diagnostics = [
        Diagnostic::error(
            "bad-number",
            place("spec.servers.0.port.number"),
            "no number",
        ),
        Diagnostic::error(
            "unknown",
            Place::key(document(0, 0), path("spec.servers.0.hostz")),
            "k",
        ),
        Diagnostic::warning(
            "below",
            place("spec.servers.0.hostz"),
            "a list below its key",
        ),
        Diagnostic::warning("block", place("spec.servers.0.lua"), "a block"),
        Diagnostic::warning(
            "missing",
            place("spec.servers.0.port.protocol"),
            "missing field",
        ),
        Diagnostic::warning("item", place("spec.servers.0"), "a list item"),
        Diagnostic::warning("past", place("spec.servers.7"), "no such item"),
        Diagnostic::warning("none", place("spec.selector"), "no such field"),
        Diagnostic::warning(
            "gone",
            Place::field(document(0, 9), path("")),
            "no such document",
        ),
    ];
    let out = render_text(&files, &diagnostics);
    let shown: Vec<&str> = out
        .lines()
        .filter(|line| {
            line.contains('[') && line.contains("]: ") || line.contains('^') || line.contains("-->")
        })
        .collect();
    assert_eq!(
        shown,
        [
            "warning[gone]: no such document",
            " --> a.yaml:1:1",
            "  | ^",
            "warning[none]: no such field",
            " --> a.yaml:5:1",
            "  | ^^^^",
            "warning[past]: no such item",
            " --> a.yaml:6:3",
            "  |   ^^^^^^^",
            "warning[item]: a list item",
            " --> a.yaml:7:5",
            "  |     ^",
            "warning[missing]: missing field",
            " --> a.yaml:7:5",
            "  |     ^^^^",
            "error[bad-number]: no number",
            " --> a.yaml:7:20",
            "  |                    ^^^",
            "error[unknown]: k",
            " --> a.yaml:8:5",
            "  |     ^^^^^",
            "warning[below]: a list below its key",
            " --> a.yaml:8:5",
            "  |     ^^^^^",
            "warning[block]: a block",
            "  --> a.yaml:10:5",
            "   |     ^^^",
        ]
    );
    assert!(out.ends_with("2 errors, 7 warnings\n"));
}

#[test]
fn the_order_does_not_depend_on_the_order_of_finding() {
    let files = [file("a.yaml", GATEWAY), file("b.yaml", GATEWAY)];
    let place = |file: u32, field: &str| Place::field(document(file, 0), path(field));
    let mut diagnostics = vec![
        Diagnostic::error("z", place(1, "kind"), "one"),
        Diagnostic::error("y", place(0, "spec"), "two"),
        Diagnostic::error("x", Place::Nowhere, "three"),
        Diagnostic::error("w", place(0, "kind"), "four"),
        Diagnostic::warning("v", place(0, "kind"), "five"),
        Diagnostic::error("u", Place::File(FileId(0)), "six"),
    ];
    let first = render_text(&files, &diagnostics);
    let codes: Vec<char> = first
        .lines()
        .filter_map(|line| line.split_once('[')?.1.split_once("]:")?.0.chars().next())
        .collect();
    assert_eq!(codes, ['u', 'w', 'v', 'y', 'z', 'x']);
    diagnostics.reverse();
    assert_eq!(render_text(&files, &diagnostics), first);
    diagnostics.push(diagnostics[0].clone());
    assert_eq!(
        render_text(&files, &diagnostics).matches("three").count(),
        1,
        "told once"
    );
}

#[test]
fn json_has_the_documented_shape() {
    let files = [file("a.yaml", GATEWAY)];
    let field = path("spec.servers.0.port.number");
    let diagnostics = [
        Diagnostic::error("bad", Place::field(document(0, 0), field), "a \"b\"").with_help("c"),
        Diagnostic::warning("all", Place::Nowhere, "everything"),
    ];
    assert_eq!(
        render_json(&files, &diagnostics),
        "[\n  {\"severity\":\"error\",\"code\":\"bad\",\"file\":\"a.yaml\",\"line\":7,\"column\":20,\
         \"field\":\"spec.servers[0].port.number\",\"message\":\"a \\\"b\\\"\",\"help\":\"c\",\"related\":null},\n  \
         {\"severity\":\"warning\",\"code\":\"all\",\"file\":null,\"line\":null,\"column\":null,\
         \"field\":null,\"message\":\"everything\",\"help\":null,\"related\":null}\n]\n"
    );
    assert_eq!(render_json(&files, &[]), "[]\n");
    assert_eq!(render_text(&files, &[]), "");
}

#[test]
fn no_line_leaves_the_page_and_the_caret_stays_under_its_character() {
    for length in [10, 90, 97, 100, 150, 5000] {
        for at in [0, length / 2, length - 1] {
            let line: String = (0..length)
                .map(|column| if column == at { 'X' } else { 'é' })
                .collect();
            let files = [file("a.yaml", &format!("# one\n{line}\n"))];
            let position = Position {
                line: 2,
                column: at as u32 + 1,
            };
            let place = Place::Position {
                file: FileId(0),
                position,
            };
            let message = "word ".repeat(60) + &"w".repeat(250);
            let out = render_text(
                &files,
                &[Diagnostic::error("code", place, &message).with_help(&message)],
            );
            for line in out.lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
            let lines: Vec<&str> = out.lines().collect();
            let caret = lines.iter().position(|line| line.ends_with('^')).unwrap();
            let column = lines[caret].chars().count() - 1;
            assert_eq!(lines[caret - 1].chars().nth(column), Some('X'), "{out}");
        }
    }
}

#[test]
fn what_a_terminal_would_act_upon_is_not_printed() {
    let files = [file("a\u{1b}[2J.yaml", "a: \u{1b}[31m\u{202e}b\tc\n")];
    let place = Place::Position {
        file: FileId(0),
        position: Position { line: 1, column: 1 },
    };
    let out = render_text(&files, &[Diagnostic::error("c", place, "m\u{1b}]0;\u{7}")]);
    assert!(
        !out.contains(['\u{1b}', '\u{7}', '\u{202e}', '\t']),
        "{out:?}"
    );
}

#[test]
fn colours_come_when_asked_and_change_nothing_else() {
    let files = [file("a.yaml", GATEWAY)];
    let place = Place::field(document(0, 0), path("kind"));
    let diagnostics = [Diagnostic::error("c", place, "m").with_help("h")];
    let plain = render_text(&files, &diagnostics);
    let options = TextOptions {
        color: true,
        ..TextOptions::default()
    };
    let mut colored = render_text_with(&files, &diagnostics, options);
    assert!(colored.starts_with("\u{1b}[1;31merror[c]"));
    while let Some(start) = colored.find('\u{1b}') {
        let end = start + colored[start..].find('m').unwrap();
        colored.replace_range(start..=end, "");
    }
    assert_eq!(colored, plain);
}
