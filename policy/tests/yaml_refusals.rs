//! Text that no configuration may hold: each case is refused by its name, at its place, in time.

use ringroad_policy::diagnostic::{Diagnostic, Place};
use ringroad_policy::source::SourceFile;
use ringroad_policy::yaml::{self, YamlLimits};

const HEAD: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n";

fn refusals(text: &str) -> Vec<Diagnostic> {
    yaml::parse(&[SourceFile {
        path: "a.yaml".to_string(),
        text: text.to_string(),
    }])
    .1
}

/// Code, line and column of the one finding.
fn refusal(text: &str) -> (&'static str, u32, u32) {
    let found = refusals(text);
    let [one] = &found[..] else {
        panic!("{found:?}")
    };
    let Place::Position { position, .. } = one.place else {
        panic!("{one:?}")
    };
    assert!(one.help.is_some(), "no help: {one:?}");
    (one.code, position.line, position.column)
}

fn with_head(spec: &str) -> String {
    format!("{HEAD}spec:\n{spec}")
}

#[test]
fn syntax_errors_are_told_where_they_are() {
    for (text, line, column) in [
        ("a: \"b\nc: d\n", 1, 4),
        ("a:\n  b: c\n d: e\n", 3, 2),
        ("hosts:\n- *.example.com\n", 2, 3),
        ("a: 'it's'\n", 1, 8),
        ("a: [b, c\nd: e\n", 1, 4),
        ("é: b\nkey\n", 2, 1),
        ("\u{feff}a: @b\n", 1, 4),
        ("a: b\r\nc: @d\r\n", 2, 4),
        ("a: b # \u{7}\n", 1, 8),
        ("a: *none\n", 1, 4),
    ] {
        assert_eq!(refusal(text), ("yaml-syntax", line, column), "{text:?}");
    }
}

/// Each sign here takes more bytes than characters.
#[test]
fn places_behind_text_that_is_not_ascii_are_those_of_the_line() {
    let broken = [
        with_head("  hosts: [b]\n   gateways: [c]\n"),
        with_head("\tports: []\n"),
        with_head("  hosts: [b]\n\u{a0} gateways: [c]\n  http: []\n"),
        "a: b # \u{7}\n".to_string(),
        "a: *none\n".to_string(),
        "a: b\r\nc: @d\r\n".to_string(),
    ];
    for text in &broken {
        let (code, line, column) = refusal(text);
        for comment in ["é".repeat(100), "😀".repeat(5), "ß".repeat(5_000)] {
            let behind = format!("# {comment}\n{text}");
            assert_eq!(refusal(&behind), (code, line + 1, column), "{text:?}");
            let below = format!("{HEAD}# {comment}\n---\n{text}");
            assert_eq!(refusal(&below), (code, line + 5, column), "{text:?}");
        }
    }
    assert_eq!(refusal(&broken[0]), ("yaml-syntax", 6, 4));
    assert_eq!(refusal("é: 'ß' ü: @b\n").2, 8);
}

/// The parser takes these signs for ends of lines, and told a line that the file does not have.
#[test]
fn signs_that_once_ended_lines_do_not_shift_places() {
    for sign in ['\u{85}', '\u{2028}', '\u{2029}'] {
        assert_eq!(refusal(&format!("{sign}'")), ("yaml-syntax", 1, 2));
        let text = format!("a: b{sign}\nc: d\r\ne: 'f\n");
        assert_eq!(refusal(&text), ("yaml-syntax", 3, 4), "{text:?}");
    }
}

#[test]
fn a_half_written_file_is_no_configuration() {
    let whole = with_head("  ports:\n  - {name: \"http\", port: 80}\n");
    let inside_quotes = whole.find("ttp").unwrap();
    assert_eq!(refusal(&whole[..inside_quotes]).0, "yaml-syntax");
    let after_kind = whole.find("metadata").unwrap();
    assert_eq!(refusals(&whole[..after_kind])[0].code, "missing-name");
    assert_eq!(refusals(&whole), []);
}

#[test]
fn documents_before_a_syntax_error_are_still_read() {
    let text = format!("{HEAD}---\na: [\n");
    let (documents, diagnostics) = yaml::parse(&[SourceFile {
        path: "a.yaml".to_string(),
        text,
    }]);
    assert_eq!(documents.len(), 1);
    assert_eq!(diagnostics.len(), 1);
}

#[test]
fn tabs_in_the_indentation_are_refused() {
    assert_eq!(refusal(&with_head("\tports: []\n")), ("yaml-tab", 5, 1));
    assert_eq!(
        refusal(&with_head("  ports:\n \t- a\n")),
        ("yaml-tab", 6, 2)
    );
    assert_eq!(refusals(&with_head("  a: b\t# a tab elsewhere\n")), []);
}

#[test]
fn an_empty_key_is_told_in_its_own_line_and_not_behind_the_text() {
    for end in [" ", "\n"] {
        let text = with_head(&format!("  a: 1\n?\n?{end}"));
        let found = refusals(&text);
        let line = found.iter().find_map(|one| match one.place {
            Place::Position { position, .. } if one.code == "duplicate-key" => Some(position.line),
            _ => None,
        });
        assert_eq!(line, Some(7), "{text:?}: {found:?}");
    }
}

#[test]
fn every_duplicate_key_is_named() {
    let found = refusals(&with_head("  a: 1\n  b: {c: 1, c: 2}\n  a: 3\n"));
    let places: Vec<_> = found
        .iter()
        .map(|one| (one.code, one.place.clone()))
        .collect();
    assert_eq!(found.len(), 2);
    for ((code, place), (line, column)) in places.into_iter().zip([(6, 13), (7, 3)]) {
        assert_eq!(code, "duplicate-key");
        let Place::Position { position, .. } = place else {
            panic!("{place:?}")
        };
        assert_eq!((position.line, position.column), (line, column));
    }
    assert!(found[1].message.contains("`a`") && found[1].message.contains("line 5"));
    assert_eq!(
        refusal(&with_head("  8080: 1\n  \"8080\": 2\n")).0,
        "duplicate-key"
    );
}

#[test]
fn merge_keys_and_tags_and_keys_of_several_parts_are_refused() {
    let merge = "  a: &a {b: c}\n  d:\n    <<: *a\n    e: f\n";
    assert_eq!(refusal(&with_head(merge)), ("merge-key", 7, 5));
    assert_eq!(refusal(&with_head("  a: !secret b\n")), ("yaml-tag", 5, 6));
    assert_eq!(refusal(&with_head("  a: !x {b: c}\n")), ("yaml-tag", 5, 6));
    assert_eq!(refusals(&with_head("  a: !!str 1\n")), []);
    assert_eq!(
        refusal(&with_head("  ? [a]\n  : b\n")),
        ("key-not-a-string", 5, 5)
    );
    assert_eq!(
        refusal(&with_head("  a: {{ .Values.b }}\n")),
        ("key-not-a-string", 5, 7)
    );
}

#[test]
fn an_alias_bomb_is_refused_where_it_passes_the_bound() {
    let mut text = with_head("  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..40 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("  a{level}: &a{level} [{aliases}]\n");
    }
    let (code, line, _) = refusal(&text);
    assert_eq!(code, "yaml-alias-expansion");
    assert!((8..16).contains(&line), "line {line}");

    let long = format!(
        "  a: &a \"{}\"\n  b: [{}]\n",
        "x".repeat(1 << 20),
        "*a, ".repeat(64)
    );
    assert_eq!(refusal(&with_head(&long)).0, "yaml-alias-expansion");
    assert_eq!(
        refusal(&with_head("  a: &a [*a]\n")),
        ("yaml-alias-expansion", 5, 10)
    );
}

#[test]
fn an_alias_of_another_document_is_told_that_anchors_end_with_theirs() {
    let first = with_head("  a: &a [b]\n");
    for between in ["---\n", "...\n---\n"] {
        let text = format!("{first}{between}{}", with_head("  c: *a\n"));
        let line = 10 + between.lines().count() as u32;
        assert_eq!(refusal(&text), ("yaml-syntax", line, 6), "{text}");
        let found = refusals(&text);
        assert!(found[0].message.contains("earlier document"), "{found:?}");
    }
    let again = format!("{first}---\n{}", with_head("  c: &a [d]\n  e: *a\n"));
    assert_eq!(refusals(&again), []);
}

#[test]
fn nesting_is_bounded_whatever_it_is_made_of() {
    let max_depth = YamlLimits::default().max_depth;
    // The document and `spec` are two levels.
    let nested = |levels: usize| format!("  {}{}\n", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(
        refusals(&with_head(&format!("  a:\n  {}", nested(max_depth - 2)))),
        []
    );
    assert_eq!(
        refusal(&with_head(&format!("  a:\n  {}", nested(max_depth - 1)))).0,
        "yaml-too-deep"
    );
    let mut ladder = with_head("  a0: &a0 [x]\n");
    for level in 1..max_depth {
        ladder += &format!("  a{level}: &a{level} [*a{}]\n", level - 1);
    }
    assert_eq!(refusal(&ladder).0, "yaml-too-deep");
    for piece in ["[", "{", "{a: ", "- ", "? ", "[{a: "] {
        for text in [piece.repeat(100), piece.repeat(300_000)] {
            let codes: Vec<_> = refusals(&text).iter().map(|one| one.code).collect();
            let is_named = matches!(codes[..], ["yaml-too-deep" | "key-not-a-string"]);
            assert!(is_named, "{piece:?}: {codes:?}");
        }
    }
    let steps: String = (0..200)
        .map(|level| format!("{}a:\n", " ".repeat(level)))
        .collect();
    assert_eq!(refusal(&steps).0, "yaml-too-deep");
}

#[test]
fn many_values_and_much_text_are_refused_by_the_name_of_the_limit() {
    let files = |texts: &[&str]| -> Vec<SourceFile> {
        let file = |text: &&str| SourceFile {
            path: "a.yaml".to_string(),
            text: text.to_string(),
        };
        texts.iter().map(file).collect()
    };
    let limits = YamlLimits {
        max_file_bytes: 200,
        max_total_bytes: 300,
        max_nodes: 20,
        ..YamlLimits::default()
    };
    let codes = |texts: &[&str]| -> Vec<&'static str> {
        let (_, found) = yaml::parse_within(&files(texts), &limits);
        found.iter().map(|one| one.code).collect()
    };
    assert_eq!(codes(&[HEAD, HEAD]), [""; 0]);
    let many = with_head(&format!("  a: [{}]\n", "b, ".repeat(30)));
    assert_eq!(codes(&[&many, HEAD]), ["yaml-too-many-nodes"]);
    assert_eq!(codes(&[&" ".repeat(201), HEAD]), ["file-too-large"]);
    assert_eq!(
        codes(&[&" ".repeat(150), &" ".repeat(151), HEAD]),
        ["configuration-too-large"]
    );
}

#[test]
fn a_hundred_megabytes_are_refused_unread() {
    let found = refusals(&"a: b\n".repeat(20_000_000));
    let codes: Vec<_> = found.iter().map(|one| one.code).collect();
    assert_eq!(codes, ["file-too-large"]);
}
