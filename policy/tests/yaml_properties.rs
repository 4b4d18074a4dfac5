//! Whatever the text: no panic; and places agree with where things were written.

use proptest::prelude::*;
use ringroad_policy::diagnostic::{render_json, render_text};
use ringroad_policy::source::{FieldPath, Position, SourceFile};
use ringroad_policy::yaml;

const SEED: &str = "apiVersion: v1
kind: List
items:
- apiVersion: networking.istio.io/v1
  kind: VirtualService
  metadata: {name: a, labels: {b: \"c\"}, annotations: {d: 'e'}}
  spec:
    hosts: [\"*\", x.example.com]
    http:
    - &route
      match: [{uri: {prefix: /}}]
      script: |
        text
        more
    - *route
---
{\"kind\": \"Gateway\", \"apiVersion\": \"v1\", \"metadata\": {\"name\": \"é\\u0041\"}}
---
? key
: !tag >-
  folded
...
";

fn reads_and_renders(text: &str) {
    let files = [SourceFile {
        path: "a.yaml".to_string(),
        text: text.to_string(),
    }];
    let (documents, diagnostics) = yaml::parse(&files);
    render_text(&files, &diagnostics);
    render_json(&files, &diagnostics);
    for document in documents {
        let path = FieldPath::root().field("metadata").field("name");
        yaml::locate(text, document.id.index, &path);
    }
}

/// A value to write, and the ways to write it.
#[derive(Debug, Clone)]
enum Shape {
    Text(String),
    Quoted(String),
    List(Vec<Shape>),
    Mapping(Vec<Shape>),
}

fn shape() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        "[a-zé][a-z0-9./é-]{0,8}".prop_map(Shape::Text),
        "[a-z :#é\\[{]{1,9}".prop_map(Shape::Quoted),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Shape::List),
            prop::collection::vec(inner, 1..4).prop_map(Shape::Mapping),
        ]
    })
}

/// Writes YAML and keeps where each text value went.
#[derive(Default)]
struct Page {
    text: String,
    places: Vec<(FieldPath, Position)>,
}

impl Page {
    fn here(&self) -> Position {
        let line = self.text.matches('\n').count() + 1;
        let column = self.text.rsplit('\n').next().unwrap().chars().count() + 1;
        Position {
            line: line as u32,
            column: column as u32,
        }
    }

    fn leaf(&mut self, written: &str, path: &FieldPath) {
        self.places.push((path.clone(), self.here()));
        self.text += written;
    }

    fn flow(&mut self, shape: &Shape, path: &FieldPath) {
        match shape {
            Shape::Text(text) => self.leaf(text, path),
            Shape::Quoted(text) => self.leaf(&format!("\"{text}\""), path),
            Shape::List(items) => {
                self.text += "[";
                for (at, item) in items.iter().enumerate() {
                    self.flow(item, &path.index(at));
                    self.text += ", ";
                }
                self.text += "]";
            }
            Shape::Mapping(values) => {
                self.text += "{";
                for (at, value) in values.iter().enumerate() {
                    self.text += &format!("k{at}: ");
                    self.flow(value, &path.field(&format!("k{at}")));
                    self.text += ", ";
                }
                self.text += "}";
            }
        }
    }

    /// After `key:` or `-`: the value on the same line or below.
    fn block(&mut self, shape: &Shape, indent: usize, path: &FieldPath) {
        match shape {
            Shape::List(items) if indent < 6 => {
                for (at, item) in items.iter().enumerate() {
                    self.text += &format!("\n{}-", " ".repeat(indent));
                    self.block(item, indent + 2, &path.index(at));
                }
            }
            Shape::Mapping(values) if indent < 6 => {
                for (at, value) in values.iter().enumerate() {
                    self.text += &format!("\n{}# é\n{0}k{at}:", " ".repeat(indent));
                    self.block(value, indent + 2, &path.field(&format!("k{at}")));
                }
            }
            other => {
                self.text += " ";
                self.flow(other, path);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: proptest::test_runner::RngSeed::Fixed(20),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}|[-?:,\\[\\]{}#&*!|>'\"%@`a \n\t\r]{0,60}") {
        reads_and_renders(&text);
    }

    #[test]
    fn mutated_configuration_is_read_or_refused(
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..6usize, "[-?:,\\[\\]{}#&*!|>'\"%<a \n\t\r\u{85}é]{0,3}"),
            1..8,
        )
    ) {
        let mut text: Vec<char> = SEED.chars().collect();
        for (at, removed, written) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, written.chars());
        }
        reads_and_renders(&text.into_iter().collect::<String>());
    }

    #[test]
    fn a_cut_configuration_is_read_or_refused(length in 0..SEED.len()) {
        let length = (0..=length).rev().find(|&at| SEED.is_char_boundary(at)).unwrap();
        reads_and_renders(&SEED[..length]);
    }

    #[test]
    fn places_are_where_values_were_written(
        shapes in prop::collection::vec(shape(), 1..4),
        is_windows in any::<bool>(),
    ) {
        let mut page = Page::default();
        let mut starts = Vec::new();
        for shape in &shapes {
            page.text += "---\n# comment\n--- # an empty document stands before this\nroot:";
            starts.push(page.places.len());
            page.block(shape, 2, &FieldPath::root().field("root"));
            page.text += "\n";
        }
        let text = if is_windows { page.text.replace('\n', "\r\n") } else { page.text };
        for (at, (path, position)) in page.places.iter().enumerate() {
            let document = starts.iter().filter(|&&start| start <= at).count() - 1;
            prop_assert_eq!(
                yaml::locate(&text, document as u32, path),
                *position,
                "{} in document {} of\n{}", path, document, text
            );
        }
    }
}
