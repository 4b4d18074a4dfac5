//! Texts without quotes that a cluster takes for something else. It reads YAML 1.1 as go-yaml v2
//! does, where `no` is a boolean and `1_000` a number; here, as in YAML 1.2, both are texts.

use serde_yaml::Value;

use super::document::Document;
use super::marked::{Query, locate_all};
use crate::schema::{self, Node};
use crate::source::{FieldPath, SourceFile};

/// What a cluster reads a text as that stands without quotes, if not as text. A date stays text.
pub(crate) fn read_elsewhere(text: &str) -> Option<&'static str> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some("a boolean"),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some("a boolean"),
        _ => is_number_elsewhere(text).then_some("a number"),
    }
}

/// Whether this is a number by YAML 1.1 alone: with `_` in it, a leading zero or a large `0X`.
fn is_number_elsewhere(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_other = match unsigned.as_bytes() {
        [b'0', b'0'..=b'9' | b'X' | b'O' | b'B', ..] => true,
        [b'0'..=b'9', rest @ ..] => rest.contains(&b'_'),
        _ => false,
    };
    if !is_other {
        return false;
    }
    let plain = unsigned.replace('_', "");
    let radix = match plain.as_bytes() {
        [b'0', b'x' | b'X', ..] => 16,
        [b'0', b'o' | b'O', ..] => 8,
        [b'0', b'b' | b'B', ..] => 2,
        _ => {
            let is_of_number = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
            return plain.chars().all(is_of_number) && plain.parse::<f64>().is_ok();
        }
    };
    plain.len() > 2 && plain.chars().skip(2).all(|c| c.is_digit(radix))
}

/// Notes in each document which of these texts have no quotes, at the cost of one marked parse of
/// a file that seems to have any.
pub(super) fn note(files: &[SourceFile], documents: &mut [Document]) {
    for of_file in documents.chunk_by_mut(|one, other| one.id.file == other.id.file) {
        let Some(first) = of_file.first() else {
            continue;
        };
        let file = files.get(first.id.file.0 as usize);
        let Some(text) = file.map(|file| file.text.as_str()) else {
            continue;
        };
        let mut asked = Vec::new();
        for (at, document) in of_file.iter().enumerate() {
            if has_any(&document.value) && is_of_a_cluster(document) {
                let mut paths = Vec::new();
                collect(&Node::root(&document.value), &mut paths);
                asked.extend(paths.into_iter().map(|path| (at, path)));
            }
        }
        if asked.is_empty() || !seems_to_have_any(text) {
            continue;
        }
        let queries = asked.iter().map(|(at, path)| Query {
            document: of_file[*at].id.index,
            path,
            key: false,
        });
        let found = locate_all(text, &queries.collect::<Vec<_>>());
        for ((at, path), found) in asked.into_iter().zip(found) {
            if found
                .plain_text
                .as_deref()
                .and_then(read_elsewhere)
                .is_some()
            {
                of_file[at].unquoted.insert(path);
            }
        }
    }
}

/// Whether such a text stands between blanks or signs of YAML, even if only in a comment. Mostly
/// those that are there stand in quotes.
fn seems_to_have_any(text: &str) -> bool {
    let ends_word =
        |c: char| c.is_ascii_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}' | ':');
    text.split(ends_word)
        .any(|word| read_elsewhere(word).is_some())
}

/// Our own settings are read by nobody else.
fn is_of_a_cluster(document: &Document) -> bool {
    schema::is_known_anywhere(&document.kind) && !document.api_version.starts_with("ringroad.dev/")
}

/// What [`collect`] would find something in, at a fraction of its cost: this is asked of all.
fn has_any(value: &Value) -> bool {
    match value {
        Value::String(text) => read_elsewhere(text).is_some(),
        Value::Sequence(items) => items.iter().any(has_any),
        Value::Mapping(entries) => entries.values().any(has_any),
        _ => false,
    }
}

fn collect(node: &Node<'_>, paths: &mut Vec<FieldPath>) {
    match node.value() {
        Value::String(text) if read_elsewhere(text).is_some() => paths.push(node.path()),
        Value::Sequence(_) => node.items().for_each(|item| collect(&item, paths)),
        Value::Mapping(_) => node.entries().for_each(|(_, entry)| collect(&entry, paths)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::read_elsewhere;

    #[test]
    fn reads_what_go_yaml_reads() {
        let of = |text: &str| read_elsewhere(text);
        for word in ["y", "No", "OFF", "on", "YES"] {
            assert_eq!(of(word), Some("a boolean"), "{word}");
        }
        for number in [
            "1_000", "-1_0", "1_2.5", "1_0e3", "010", "08", "+07", "0_7", "0xF_F", "0X1f", "0B1",
            "1_",
        ] {
            assert_eq!(of(number), Some("a number"), "{number}");
        }
        for text in [
            "",
            "nO",
            "yES",
            "oN",
            "none",
            "_1",
            "1_a",
            "1:30",
            "2020-01-01",
            "10.0.0.1",
            "0",
            "80",
            "0xG",
            "0X",
            "01a",
            "0b_2",
            "-",
            "+",
            "v1_0",
            "1_e",
            "1_000Mi",
            "0.0.0.0/0",
            "00-x",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
