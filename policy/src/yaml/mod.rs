//! From text to documents.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;

use crate::diagnostic::{Diagnostic, Place};
use crate::source::{DocumentId, FileId, Position, SourceFile};

/// One YAML document with the head that all kinds share.
#[derive(Debug, Clone)]
pub struct Document {
    pub id: DocumentId,
    pub kind: String,
    pub api_version: String,
    /// `default` when it is not written.
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub creation_timestamp: Option<String>,
    pub value: Value,
}

/// All documents of all files, and what does not parse.
pub fn parse(files: &[SourceFile]) -> (Vec<Document>, Vec<Diagnostic>) {
    let mut documents = Vec::new();
    let mut diagnostics = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let file_id = FileId(at as u32);
        for (index, text) in serde_yaml::Deserializer::from_str(&file.text).enumerate() {
            let id = DocumentId {
                file: file_id,
                index: index as u32,
            };
            match Value::deserialize(text) {
                Ok(Value::Null) => {}
                Ok(value) => documents.push(document(id, value)),
                Err(error) => {
                    let place = match error.location() {
                        Some(location) => Place::Position {
                            file: file_id,
                            position: Position {
                                line: location.line() as u32,
                                column: location.column() as u32,
                            },
                        },
                        None => Place::File(file_id),
                    };
                    diagnostics.push(Diagnostic::error("yaml", place, error.to_string()));
                    break;
                }
            }
        }
    }
    (documents, diagnostics)
}

fn document(id: DocumentId, value: Value) -> Document {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_string);
    let metadata = value.get("metadata");
    let map = |name: &str| {
        let entries = metadata
            .and_then(|metadata| metadata.get(name))
            .and_then(Value::as_mapping);
        let pairs = entries.into_iter().flatten();
        pairs
            .filter_map(|(key, value)| Some((text(Some(key))?, text(Some(value))?)))
            .collect()
    };
    let field = |name: &str| text(metadata.and_then(|metadata| metadata.get(name)));
    Document {
        id,
        kind: text(value.get("kind")).unwrap_or_default(),
        api_version: text(value.get("apiVersion")).unwrap_or_default(),
        namespace: field("namespace").unwrap_or_else(|| "default".to_string()),
        name: field("name").unwrap_or_default(),
        labels: map("labels"),
        annotations: map("annotations"),
        creation_timestamp: field("creationTimestamp"),
        value,
    }
}
