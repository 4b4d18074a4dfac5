//! One walk over a document, field by field.

use std::collections::HashSet;

use serde_yaml::Value;

use super::node::Node;
use super::report::Report;
use super::scalar::{self, Scalar, wrong_type};
use super::shape;
use super::suggest::nearest;
use super::table::{Carried, Field, Kind, Repeat, Shape, TABLE, Type};

/// Checks the names, types and ranges of everything in a document of a known kind. What traffic
/// does not follow yet gives one warning for each field, however many items of a list name it.
pub fn check(kind: &'static Kind, root: &Node<'_>, report: &mut Report<'_>) {
    let fields = TABLE.type_of(kind.fields);
    let mut walk = Walk {
        report,
        warned: HashSet::new(),
    };
    if !kind.carried {
        let message = format!(
            "kind {} is checked but has no effect on traffic yet",
            kind.name
        );
        let help = "expect traffic as if the document were not there";
        let node = root.get("kind");
        walk.report
            .warning("kind-not-carried", &node, message, help);
    }
    let quiet = !kind.carried;
    if kind.at_root {
        walk.object(fields, root, quiet, Head::Beside);
        return;
    }
    for (name, node) in root.entries() {
        if !is_head(name, &node, &mut walk) && name != "spec" {
            walk.unknown_field(&node, HEAD_FIELDS.into_iter().chain(["spec"]));
        }
    }
    let spec = root.get("spec");
    if spec.is_set() {
        walk.object(fields, &spec, quiet, Head::None);
    } else {
        let empty = Value::Mapping(serde_yaml::Mapping::new());
        walk.object(fields, &root.child("spec", &empty), quiet, Head::None);
    }
}

const HEAD_FIELDS: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

/// Whether a field belongs to the head that all kinds share; it is checked then. `status` is
/// what a cluster writes.
fn is_head(name: &str, node: &Node<'_>, walk: &mut Walk<'_, '_>) -> bool {
    if name == "metadata" {
        if let (Some(id), true) = (TABLE.type_named("ObjectMeta"), node.is_set()) {
            walk.object(TABLE.type_of(id), node, false, Head::None);
            for texts in ["labels", "annotations"] {
                for (_, text) in node.get(texts).entries() {
                    scalar::check_quotes(&text, walk.report);
                }
            }
        }
        return true;
    }
    HEAD_FIELDS.contains(&name)
}

/// Whether the fields of the head stand in the same mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    None,
    Beside,
}

struct Walk<'r, 'd> {
    report: &'r mut Report<'d>,
    /// Paths, all items of a list as one, that a warning named: their hashes, and the word where
    /// the warning is about a word.
    warned: HashSet<(u64, &'static str)>,
}

impl Walk<'_, '_> {
    /// `quiet`: something above is not carried, so nothing below needs to say so.
    fn object(&mut self, found: &'static Type, node: &Node<'_>, quiet: bool, head: Head) {
        let Value::Mapping(entries) = node.value() else {
            return wrong_type(node, "a mapping", self.report);
        };
        let mut written = 0u64;
        for (key, value) in entries {
            let Some(name) = key.as_str() else {
                let message = format!("a field of `{}` has a name that is no text", node.name());
                let help = "write names as text";
                self.report.error("unknown-field", node, message, help);
                continue;
            };
            let child = node.child(name, value);
            let Some(at) = found.position(name) else {
                if head == Head::None || !is_head(name, &child, self) {
                    self.unknown_field(&child, found.fields.iter().map(|field| field.name));
                }
                continue;
            };
            if !value.is_null() {
                written |= 1 << at;
                self.field(&found.fields[at], &child, quiet);
            }
        }
        self.whole(found, written, node, quiet);
    }

    /// What holds for the fields of a mapping together.
    fn whole(&mut self, found: &'static Type, written: u64, node: &Node<'_>, quiet: bool) {
        let mut missed = found.missed & !written;
        while missed != 0 {
            let field = &found.fields[missed.trailing_zeros() as usize];
            missed &= missed - 1;
            if field.rules.required {
                let message = format!("`{}` is missing", field.name);
                let help = format!("write `{}:`", field.name);
                self.report.error("missing-field", node, message, help);
            }
            if let (Some(word), false) = (field.rules.default, quiet)
                && !default_is_carried(field, word)
            {
                let message = format!(
                    "without `{}` it is {word}, which has no effect yet",
                    field.name
                );
                let help = format!(
                    "write `{}:` and one of {}",
                    field.name,
                    carried_words(field)
                );
                self.report
                    .warning("value-not-carried", node, message, help);
            }
        }
        for set in &found.one_of {
            let mut names = set
                .iter()
                .filter(|at| written & (1 << **at) != 0)
                .map(|at| found.fields[*at].name);
            if let (Some(first), Some(second)) = (names.next(), names.next()) {
                let message = format!("`{first}` and `{second}` exclude each other");
                let help = "keep one of them";
                self.report
                    .error("exclusive-fields", &node.get(second), message, help);
            }
        }
    }

    fn field(&mut self, field: &'static Field, node: &Node<'_>, quiet: bool) {
        if field.carried == Carried::Ignored {
            return;
        }
        if field.carried == Carried::No && !quiet {
            self.not_carried(node);
        }
        let quiet = quiet || field.carried == Carried::No;
        match field.repeat {
            Repeat::One => self.value(field, node, quiet),
            Repeat::List => self.list(field, node, quiet),
            Repeat::Map => self.map(field, node, quiet),
        }
    }

    fn list(&mut self, field: &'static Field, node: &Node<'_>, quiet: bool) {
        let Value::Sequence(items) = node.value() else {
            return shape::no_list(field, node, self.report);
        };
        let rules = &field.rules;
        if items.len() < rules.min_items {
            let message = format!("`{}` is empty", field.name);
            let help = format!("write at least {}", rules.min_items);
            self.report.error("too-few-items", node, message, help);
        } else if let Some(most) = rules.max_items
            && items.len() > most
        {
            let message = format!("`{}` has {} items", field.name, items.len());
            let help = format!("write at most {most}");
            self.report.error("too-many-items", node, message, help);
        }
        for item in node.items() {
            if item.is_set() {
                self.value(field, &item, quiet);
            } else {
                let message = format!("an item of `{}` is empty", field.name);
                self.report
                    .error("empty-item", &item, message, "fill it in or remove its `-`");
            }
        }
    }

    fn map(&mut self, field: &'static Field, node: &Node<'_>, quiet: bool) {
        if !node.value().is_mapping() {
            return shape::no_names(node, self.report);
        }
        for (name, entry) in node.entries() {
            if entry.is_set() {
                self.value(field, &entry, quiet);
            } else if matches!(field.shape, Shape::Text) {
                let message = format!("`{name}` in `{}` has no value", field.name);
                let help = "write \"\" where empty text is meant";
                self.report.error("empty-item", &entry, message, help);
            }
        }
    }

    fn value(&mut self, field: &'static Field, node: &Node<'_>, quiet: bool) {
        if let Shape::Object(id) = field.shape {
            let found = TABLE.type_of(id);
            if !node.value().is_mapping() {
                return shape::no_mapping(field, found, node, self.report);
            }
            return self.object(found, node, quiet, Head::None);
        }
        if let Scalar::NotCarried(word) = scalar::check(field, node, self.report)
            && !quiet
            && self.warned.insert((node.pattern_hash(), word))
        {
            let message = format!("`{}: {word}` has no effect yet", field.name);
            let help = format!("what works is {}", carried_words(field));
            self.report
                .warning("value-not-carried", node, message, help);
        }
    }

    fn not_carried(&mut self, node: &Node<'_>) {
        if !self.warned.insert((node.pattern_hash(), "")) {
            return;
        }
        let message = format!(
            "`{}` is checked but has no effect on traffic yet",
            node.pattern()
        );
        let help = "expect traffic as if it were not written";
        self.report
            .key_warning("field-not-carried", node, message, help);
    }

    fn unknown_field<'c>(&mut self, node: &Node<'_>, known: impl Iterator<Item = &'c str>) {
        // A merge key has been refused by name already.
        if node.name() == "<<" {
            return;
        }
        let known: Vec<_> = known.collect();
        let message = format!("unknown field `{}`", node.name());
        let help = match nearest(node.name(), known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the fields here are {}", known.join(", ")),
        };
        self.report.key_error("unknown-field", node, message, help);
    }
}

fn default_is_carried(field: &Field, default: &str) -> bool {
    match &field.shape {
        Shape::Words(words) | Shape::Protocol(words) => words
            .iter()
            .any(|word| word.text == default && word.carried),
        _ => true,
    }
}

fn carried_words(field: &Field) -> String {
    match &field.shape {
        Shape::Words(words) | Shape::Protocol(words) => {
            let words: Vec<_> = words
                .iter()
                .filter(|word| word.carried)
                .map(|word| word.text)
                .collect();
            words.join(", ")
        }
        _ => String::new(),
    }
}
