//! The head that documents of all kinds share.

use std::collections::{BTreeMap, HashSet};

use serde_yaml::{Mapping, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::code;
use super::list::{head_of_items, is_list};
use crate::diagnostic::{Diagnostic, Place};
use crate::schema::nearest;
use crate::source::{DocumentId, FieldPath, FileId};

/// One resource: a YAML document, or one item of a `List`.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub id: DocumentId,
    /// Such as `VirtualService`.
    pub kind: String,
    /// Such as `networking.istio.io/v1`.
    pub api_version: String,
    /// `metadata.namespace`, `default` when it is not written.
    pub namespace: String,
    /// `metadata.name`; empty only for kinds that need none.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// `metadata.creationTimestamp` (RFC 3339), in seconds since 1970.
    pub created_unix_s: Option<i64>,
    /// Texts that stand without quotes and that a cluster reads as a boolean or a number.
    pub unquoted: HashSet<FieldPath>,
    /// The whole document, head included; always a mapping.
    pub value: Value,
}

/// The namespace of a document that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Turns one parsed value into documents. `next_index` counts the non-empty documents and list
/// items of the file, which is how places are counted.
pub(super) fn read(
    file: FileId,
    next_index: &mut u32,
    value: Value,
    documents: &mut Vec<Document>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    if value.is_null() {
        return;
    }
    let id = DocumentId {
        file,
        index: *next_index,
    };
    *next_index += 1;
    let mut head = Head { id, diagnostics };
    let Value::Mapping(mut mapping) = value else {
        let message = format!("the document is {}, not a mapping", kind_of(&value));
        head.error(code::NOT_A_MAPPING, &[], message, EXAMPLE_HEAD);
        return;
    };
    if !is_list(&mapping) {
        documents.extend(head.read(mapping));
        return;
    }
    head.check_list(&mapping);
    let of_items = head_of_items(&mapping);
    match mapping.remove("items") {
        Some(Value::Sequence(items)) => {
            for mut item in items {
                of_items.complete(&mut item);
                if item.as_mapping().is_some_and(is_list) {
                    let id = DocumentId {
                        file,
                        index: *next_index,
                    };
                    let message = "a List stands in a List";
                    Head { id, diagnostics }.error(
                        code::BAD_LIST,
                        &["kind"],
                        message,
                        "write its items into the outer List",
                    );
                    *next_index += 1;
                } else if item.is_null() {
                    let message = "an item of the List is empty";
                    Head { id, diagnostics }.error(
                        code::BAD_LIST,
                        &["items"],
                        message,
                        "remove the empty item",
                    );
                } else {
                    read(file, next_index, item, documents, diagnostics);
                }
            }
        }
        None | Some(Value::Null) => {}
        Some(other) => {
            let message = format!("`items` is {}, not a list", kind_of(&other));
            head.error(
                code::BAD_LIST,
                &["items"],
                message,
                "write the resources as a list under `items:`",
            );
        }
    }
}

/// Whether this is data of some other program: JSON without any of the fields that a resource, or what
/// was meant as one, begins with.
pub(super) fn is_foreign(path: &str, value: &Value) -> bool {
    const HEAD: [&str; 6] = [
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        "items",
        "testCases",
    ];
    let is_of_head = |key: &Value| {
        let key = key.as_str().unwrap_or_default();
        HEAD.iter().any(|field| key.eq_ignore_ascii_case(field))
    };
    let is_json = path.ends_with(".json");
    is_json
        && value
            .as_mapping()
            .is_some_and(|it| !it.keys().any(is_of_head))
}

/// Names a file that is left out since it [is foreign](is_foreign).
pub(super) fn foreign(file: FileId) -> Diagnostic {
    let message =
        "this file holds no resource, and is left out: it has neither `apiVersion` nor `kind`";
    Diagnostic::warning(code::FOREIGN_FILE, Place::File(file), message)
        .with_help("keep files of other programs out of the configuration's directory")
}

const EXAMPLE_HEAD: &str = "begin the document with `apiVersion: networking.istio.io/v1`, \
    `kind: VirtualService` and `metadata:` with a `name:`";

const TEST_CASES_HELP: &str = "keep the file out of this folder, and run it by \
    `ringroad test FILE --config FOLDER`";

/// Reads the head of one document.
pub(super) struct Head<'d> {
    pub id: DocumentId,
    pub diagnostics: &'d mut Vec<Diagnostic>,
}

impl Head<'_> {
    fn read(&mut self, mapping: Mapping) -> Option<Document> {
        if !mapping.contains_key("apiVersion") && !mapping.contains_key("kind") {
            let (message, help) = if mapping.contains_key("testCases") {
                ("these are test cases, no configuration", TEST_CASES_HELP)
            } else {
                (
                    "the document has neither `apiVersion` nor `kind`",
                    EXAMPLE_HEAD,
                )
            };
            self.error(code::MISSING_KIND, &[], message, help);
            return None;
        }
        let missing = code::MISSING_API_VERSION;
        let api_version = self.required(&mapping, "apiVersion", missing, EXAMPLE_HEAD);
        let kind = self.required(&mapping, "kind", code::MISSING_KIND, EXAMPLE_HEAD);
        let (api_version, kind) = (api_version?, kind?);
        if api_version == "v1" && nearest(&kind, ["List"]).is_some() {
            let message = format!("`v1` has no kind `{kind}`");
            self.error("unknown-kind", &["kind"], message, "did you mean `List`?");
            return None;
        }
        let empty = Mapping::new();
        let metadata = match mapping.get("metadata") {
            None | Some(Value::Null) => &empty,
            Some(Value::Mapping(metadata)) => metadata,
            Some(other) => {
                let message = format!("`metadata` is {}, not a mapping", kind_of(other));
                self.error(
                    code::BAD_METADATA,
                    &["metadata"],
                    message,
                    "write `name:` and `namespace:` under `metadata:`",
                );
                return None;
            }
        };
        let name = self.text(metadata, "name")?;
        if name.is_none() && needs_name(&api_version) {
            let path: &[&str] = if metadata.is_empty() {
                &["kind"]
            } else {
                &["metadata"]
            };
            let message = format!("this {kind} has no name");
            let help = match mapping.contains_key("items") {
                true => "write `name:` under `metadata:`; around several resources, `kind: List`",
                false => "write `name:` under `metadata:`",
            };
            self.error(code::MISSING_NAME, path, message, help);
            return None;
        }
        let namespace = self.text(metadata, "namespace")?;
        let labels = self.texts(metadata, "labels");
        let annotations = self.texts(metadata, "annotations");
        let created_unix_s = self.time(metadata, "creationTimestamp")?;
        Some(Document {
            id: self.id,
            kind,
            api_version,
            namespace: namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_string()),
            name: name.unwrap_or_default(),
            labels,
            annotations,
            created_unix_s,
            unquoted: HashSet::new(),
            value: Value::Mapping(mapping),
        })
    }

    pub(super) fn required(
        &mut self,
        mapping: &Mapping,
        field: &str,
        code: &'static str,
        help: &str,
    ) -> Option<String> {
        match mapping.get(field) {
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            None | Some(Value::Null | Value::String(_)) => {
                let message = format!("the document has no `{field}`");
                self.error(code, &[], message, help);
                None
            }
            Some(other) => {
                let message = format!("`{field}` is {}, not a string", kind_of(other));
                self.error(code, &[field], message, help);
                None
            }
        }
    }

    /// The text under `metadata.FIELD`; `None` when something else stands there, which is
    /// reported. Empty text counts as absent.
    fn text(&mut self, metadata: &Mapping, field: &str) -> Option<Option<String>> {
        match metadata.get(field) {
            None | Some(Value::Null) => Some(None),
            Some(Value::String(text)) => Some((!text.is_empty()).then(|| text.clone())),
            Some(other) => {
                let message = format!("`metadata.{field}` is {}, not a string", kind_of(other));
                self.no_text(&["metadata", field], message, other);
                None
            }
        }
    }

    /// The time under `metadata.FIELD` in seconds since 1970.
    fn time(&mut self, metadata: &Mapping, field: &str) -> Option<Option<i64>> {
        let Some(text) = self.text(metadata, field)? else {
            return Some(None);
        };
        if let Ok(time) = OffsetDateTime::parse(&text, &Rfc3339) {
            return Some(Some(time.unix_timestamp()));
        }
        let message = format!("`metadata.{field}` is no time");
        let help = "write a date and a time of RFC 3339, `2026-01-02T03:04:05Z`, or nothing";
        self.error(code::BAD_METADATA, &["metadata", field], message, help);
        None
    }

    /// The texts under `metadata.FIELD`; what is no text is reported and left out.
    fn texts(&mut self, metadata: &Mapping, field: &str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        match metadata.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::Mapping(entries)) => {
                for (key, value) in entries {
                    let Some(key) = key.as_str() else { continue };
                    match value {
                        Value::String(text) => {
                            texts.insert(key.to_string(), text.clone());
                        }
                        Value::Null => {
                            texts.insert(key.to_string(), String::new());
                        }
                        other => {
                            let kind = kind_of(other);
                            let message = format!("`{key}` in `{field}` is {kind}, not a string");
                            let path = ["metadata", field, key];
                            self.no_text(&path, message, other);
                        }
                    }
                }
            }
            Some(other) => {
                let message = format!("`metadata.{field}` is {}, not a mapping", kind_of(other));
                self.error(
                    code::BAD_METADATA,
                    &["metadata", field],
                    message,
                    "write `name: value` pairs",
                );
            }
        }
        texts
    }

    /// Something else stands where a text is wanted.
    fn no_text(&mut self, path: &[&str], message: String, value: &Value) {
        let error = Diagnostic::error(code::BAD_METADATA, self.place(path), message);
        self.diagnostics.push(match value {
            Value::Bool(_) | Value::Number(_) => error
                .with_help("write it in quotes")
                .with_example("\"", "\""),
            _ => error.with_help("write one text"),
        });
    }

    pub(super) fn error(
        &mut self,
        code: &'static str,
        path: &[&str],
        message: impl Into<String>,
        help: &str,
    ) {
        let error = Diagnostic::error(code, self.place(path), message);
        self.diagnostics.push(error.with_help(help));
    }

    fn place(&self, path: &[&str]) -> Place {
        let path = path
            .iter()
            .fold(FieldPath::root(), |path, field| path.field(field));
        Place::field(self.id, path)
    }
}

/// Whether resources of this API are addressed by name: those of Istio and of Kubernetes that
/// are carried. Other kinds are none of our business.
fn needs_name(api_version: &str) -> bool {
    match api_version.split_once('/') {
        None => api_version == "v1",
        Some(("discovery.k8s.io", _)) => true,
        Some((group, _)) => {
            let group = group.strip_suffix(".istio.io");
            matches!(
                group,
                Some("networking" | "security" | "telemetry" | "extensions")
            )
        }
    }
}

/// How messages call a value's type.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
        Value::Tagged(_) => "a tagged value",
    }
}
