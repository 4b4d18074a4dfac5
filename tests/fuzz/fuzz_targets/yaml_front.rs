//! Configuration text: documents come out, or findings with places inside the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringroad_policy::diagnostic::{Severity, place_all, render_json, render_text};
use ringroad_policy::source::{FieldPath, SourceFile, lines};
use ringroad_policy::yaml;

fuzz_target!(|text: &str| {
    let files = [SourceFile { path: "a.yaml".to_string(), text: text.to_string() }];
    let (documents, diagnostics) = yaml::parse(&files);
    let line_count = lines(text).count();
    for placed in place_all(&files, &diagnostics) {
        assert_eq!(placed.diagnostic.severity, Severity::Error);
        let line = placed.span.map_or(1, |span| span.start.line as usize);
        assert!((1..=line_count).contains(&line), "line {line} of {line_count}");
    }
    for document in &documents {
        assert!(document.value.is_mapping());
        let path = FieldPath::root().field("kind");
        let position = yaml::locate(text, document.id.index, &path);
        assert!(position.line as usize <= line_count);
    }
    for line in render_text(&files, &diagnostics).lines() {
        assert!(line.chars().count() <= 100);
    }
    render_json(&files, &diagnostics);
});
