//! What stands around several resources, as `kubectl get -o yaml` writes it.

use std::collections::{BTreeMap, HashSet};

use serde_yaml::{Mapping, Value};

use super::code;
use super::document::{DEFAULT_NAMESPACE, Document, Head};
use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::schema::{self, Node, Report, nearest};
use crate::source::FieldPath;

const FIELDS: [&str; 4] = ["apiVersion", "kind", "metadata", "items"];

/// Whether a mapping is a `List`, or the list type of one kind such as `VirtualServiceList`. What
/// others call so may be no list at all, unless it has items.
pub(super) fn is_list(mapping: &Mapping) -> bool {
    let kind = mapping.get("kind").and_then(Value::as_str);
    match kind.and_then(|kind| kind.strip_suffix("List")) {
        Some("") => true,
        Some(of) => mapping.contains_key("items") || schema::is_known_anywhere(of),
        None => false,
    }
}

/// What the items of a list are without a head of their own: in the list of one kind, as a cluster
/// answers it, they have none, and `kubectl` takes it from the list.
pub(super) struct HeadOfItems {
    kind_and_version: Option<(String, Value)>,
}

pub(super) fn head_of_items(list: &Mapping) -> HeadOfItems {
    let kind = list.get("kind").and_then(Value::as_str);
    let of = kind.and_then(|kind| kind.strip_suffix("List"));
    let of = of.filter(|of| !of.is_empty());
    let version = list.get("apiVersion").filter(|version| is_text(version));
    HeadOfItems {
        kind_and_version: of.map(str::to_string).zip(version.cloned()),
    }
}

impl HeadOfItems {
    /// Writes the head into an item that has neither part of it.
    pub(super) fn complete(&self, item: &mut Value) {
        let (Some((kind, version)), Value::Mapping(item)) = (&self.kind_and_version, item) else {
            return;
        };
        let has = |field: &str| item.get(field).is_some_and(|value| !is_unwritten(value));
        if has("kind") || has("apiVersion") {
            return;
        }
        item.insert("kind".into(), kind.as_str().into());
        item.insert("apiVersion".into(), version.clone());
    }
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

fn is_unwritten(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

impl Head<'_> {
    /// Refuses what a list has beside its items, where a slip would leave out all resources.
    pub(super) fn check_list(&mut self, list: &Mapping) {
        self.check_version_of_list(list);
        let mut has_items = list.contains_key("items");
        for name in list.keys().filter_map(Value::as_str) {
            // A merge key has been refused by name already, with what it may hold.
            if name == "<<" || FIELDS.contains(&name) {
                has_items |= name == "<<";
                continue;
            }
            let meant = nearest(name, FIELDS);
            has_items |= meant == Some("items");
            let help = match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("the fields here are {}", FIELDS.join(", ")),
            };
            let place = Place::key(self.id, FieldPath::root().field(name));
            let message = format!("unknown field `{name}`");
            let error = Diagnostic::error("unknown-field", place, message);
            self.diagnostics.push(error.with_help(help));
        }
        if !has_items {
            let help = "write the resources as a list under `items:`, and `items: []` for none";
            self.error(code::BAD_LIST, &["kind"], "the List has no `items`", help);
        }
    }

    fn check_version_of_list(&mut self, list: &Mapping) {
        let kind = list.get("kind").and_then(Value::as_str);
        let of = kind.and_then(|kind| kind.strip_suffix("List"));
        let of = of.unwrap_or_default();
        let help = match of {
            "" => "write `apiVersion: v1`",
            _ => "write the `apiVersion:` of its items",
        };
        let missing = code::MISSING_API_VERSION;
        let Some(api_version) = self.required(list, "apiVersion", missing, help) else {
            return;
        };
        if !of.is_empty() {
            return self.check_kind_of_items(of, api_version);
        }
        if api_version != "v1" {
            let code = match api_version.contains('/') {
                true => "unknown-api-group",
                false => "unknown-api-version",
            };
            let message = format!("there is no List in `{api_version}`");
            self.error(code, &["apiVersion"], message, help);
        }
    }

    /// A list of one kind is of the version of that kind. What is not supported is told of each
    /// item.
    fn check_kind_of_items(&mut self, kind: &str, api_version: String) {
        let item = Document {
            id: self.id,
            kind: kind.to_string(),
            api_version,
            namespace: DEFAULT_NAMESPACE.to_string(),
            name: String::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            created_unix_s: None,
            unquoted: HashSet::new(),
            value: Value::Null,
        };
        let mut found = Vec::new();
        schema::kind_of(
            &Node::root(&item.value),
            &mut Report::new(&item, &mut found),
        );
        found.retain(|one| one.severity == Severity::Error);
        self.diagnostics.append(&mut found);
    }
}
