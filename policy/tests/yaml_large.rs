//! A text that is read in parts comes to what it would come to in one piece.

use proptest::prelude::*;
use ringroad_policy::diagnostic::render_text;
use ringroad_policy::source::SourceFile;
use ringroad_policy::yaml::{self, Document, YamlLimits};

/// Long enough to be cut several times.
const LARGE_BYTES: usize = 200 * 1024;

fn file(text: String) -> SourceFile {
    SourceFile {
        path: "large.yaml".to_string(),
        text,
    }
}

fn gateway(name: &str, more: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\n{more}")
}

/// Documents with what looks like the border of a document, or is one in another way.
fn odd_document() -> impl Strategy<Value = String> {
    let more = prop::sample::select(vec![
        "spec: {}\n",
        "spec:\n  text: |\n    a\n    ---\n    b\n",
        "spec:\n  text: \"a\n    --- b\"\n",
        "spec: {text: ---a}\n# ---\n",
        "spec: &a {one: 1}\nother: *a\n",
        "spec: {}\n...\n",
        "spec: {}\n---\n",
        "spec: {}\n--- # of nothing\n",
        "spec:\n---x: 1\n",
        "spec: {}\r\n",
    ]);
    let filler = 0..3_000usize;
    (more, filler).prop_map(|(more, filler)| {
        let comment = format!("# {}\n", "x".repeat(filler));
        gateway("one", more) + &comment
    })
}

fn values(documents: &[Document]) -> Vec<&yaml::Value> {
    documents.iter().map(|document| &document.value).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_large_text_comes_to_the_documents_of_its_parts(
        documents in prop::collection::vec(odd_document(), 100..250),
        marker in prop::sample::select(vec!["---\n", "--- \n", "---\t# next\n", "---\r\n"]),
    ) {
        let alone: Vec<Document> = documents
            .iter()
            .flat_map(|text| yaml::parse(&[file(text.clone())]).0)
            .collect();
        let small = "kind: Gateway\napiVersion: networking.istio.io/v1\nmetadata: {name: last}\n";
        let files = [file(documents.join(marker)), file(small.to_string())];
        let (together, found) = yaml::parse(&files);
        prop_assert!(found.is_empty(), "{}", render_text(&files, &found));
        prop_assert_eq!(together.len(), alone.len() + 1);
        prop_assert_eq!(values(&together[..alone.len()]), values(&alone));
        let indexes = together[..alone.len()].iter().map(|document| document.id.index as usize);
        prop_assert!(indexes.eq(0..alone.len()));
    }
}

#[test]
fn what_is_wrong_far_down_is_told_with_its_line_in_the_file() {
    let mut text = String::new();
    while text.len() < LARGE_BYTES {
        text += &gateway("good", "---\n");
    }
    let line = text.lines().count() + 4;
    text += &gateway("bad", "spec: {a: 1, a: 2}\n");
    let files = [file(text)];
    let (documents, found) = yaml::parse(&files);
    assert!(!documents.is_empty());
    let told = render_text(&files, &found);
    assert!(told.contains(&format!("large.yaml:{line}:")), "{told}");
    assert!(told.contains("duplicate-key"), "{told}");
    assert_eq!(found.len(), 1, "{told}");
}

/// Aliases make more values than a look at the text would guess.
#[test]
fn the_limits_of_a_file_hold_for_the_sum_of_its_parts() {
    let aliases =
        "spec:\n  a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n  b: [*a, *a, *a, *a, *a, *a]\n---\n";
    let mut text = String::new();
    while text.len() < LARGE_BYTES {
        text += &gateway("good", aliases);
    }
    let documents = text.matches("---").count();
    let separators = text.matches(['\n', ',', ':', '[', '{', '-']).count();
    let limits = YamlLimits {
        max_nodes: documents * 60,
        ..YamlLimits::default()
    };
    assert!(separators < limits.max_nodes);
    let files = [file(text)];
    let (_, found) = yaml::parse_within(&files, &limits);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].code, yaml::code::ALIAS_EXPANSION);
    assert!(yaml::parse(&files).1.is_empty());
}
