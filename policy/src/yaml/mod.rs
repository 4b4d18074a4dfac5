//! From text to documents.
//!
//! The only module that names the YAML library: the rest of the crate sees [`Value`]. Mappings in
//! a [`Value`] have text keys only, no tags, and every alias is written out.

mod document;
mod limits;
mod value;

use serde::de::DeserializeSeed;
pub use serde_yaml::{Mapping, Value};

pub use document::Document;
pub use limits::YamlLimits;

use crate::diagnostic::{Diagnostic, Place};
use crate::source::{FileId, Position, SourceFile};
use value::{Budget, Node, Refusal};

/// Codes of the diagnostics that this module gives.
pub mod code {
    pub const SYNTAX: &str = "yaml-syntax";
    pub const DUPLICATE_KEY: &str = "duplicate-key";
    pub const MERGE_KEY: &str = "merge-key";
    pub const TAG: &str = "yaml-tag";
    pub const KEY_NOT_A_STRING: &str = "key-not-a-string";
    pub const TOO_DEEP: &str = "yaml-too-deep";
    pub const TOO_MANY_NODES: &str = "yaml-too-many-nodes";
    pub const FILE_TOO_LARGE: &str = "file-too-large";
    pub const CONFIG_TOO_LARGE: &str = "config-too-large";
    pub const NOT_A_MAPPING: &str = "not-a-mapping";
    pub const MISSING_KIND: &str = "missing-kind";
    pub const MISSING_API_VERSION: &str = "missing-api-version";
    pub const MISSING_NAME: &str = "missing-name";
    pub const BAD_METADATA: &str = "bad-metadata";
    pub const BAD_LIST: &str = "bad-list";
}

/// All documents of all files, and what is wrong with their text, under the default limits.
///
/// Documents come in the order of the files and of their place in them. A `kind: List` is
/// replaced by its items; empty documents are left out. A document without `kind`,
/// `apiVersion` or a name that it needs is reported and left out.
pub fn parse(files: &[SourceFile]) -> (Vec<Document>, Vec<Diagnostic>) {
    parse_within(files, &YamlLimits::default())
}

/// [`parse`] under limits of the caller's choice.
pub fn parse_within(files: &[SourceFile], limits: &YamlLimits) -> (Vec<Document>, Vec<Diagnostic>) {
    let mut documents = Vec::new();
    let mut diagnostics = Vec::new();
    let mut total_bytes = 0usize;
    for (at, file) in files.iter().enumerate() {
        let file_id = FileId(at as u32);
        total_bytes = total_bytes.saturating_add(file.text.len());
        if total_bytes > limits.max_total_bytes {
            let message = format!(
                "the files hold more than {} bytes together (limit maxTotalBytes)",
                limits.max_total_bytes
            );
            diagnostics.push(
                Diagnostic::error(code::CONFIG_TOO_LARGE, Place::File(file_id), message)
                    .with_help("split the configuration, or keep other files out of the directory"),
            );
            break;
        }
        if file.text.len() > limits.max_file_bytes {
            let message = format!(
                "the file holds {} bytes, more than {} (limit maxFileBytes)",
                file.text.len(),
                limits.max_file_bytes
            );
            diagnostics.push(
                Diagnostic::error(code::FILE_TOO_LARGE, Place::File(file_id), message)
                    .with_help("split it into several files"),
            );
            continue;
        }
        parse_file(file_id, file, limits, &mut documents, &mut diagnostics);
    }
    (documents, diagnostics)
}

fn parse_file(
    file: FileId,
    source: &SourceFile,
    limits: &YamlLimits,
    documents: &mut Vec<Document>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut budget = Budget {
        nodes: limits.max_nodes,
        depth: limits.max_depth,
        refusal: None,
    };
    let mut index = 0;
    for text in serde_yaml::Deserializer::from_str(&source.text) {
        budget.depth = limits.max_depth;
        match Node(&mut budget).deserialize(text) {
            Ok(value) => document::read(file, &mut index, value, documents, diagnostics),
            Err(error) => {
                diagnostics.push(refusal(file, &error, budget.refusal));
                return;
            }
        }
    }
}

fn refusal(file: FileId, error: &serde_yaml::Error, refusal: Option<Refusal>) -> Diagnostic {
    let place = match error.location() {
        Some(location) => Place::Position {
            file,
            position: Position {
                line: location.line() as u32,
                column: location.column() as u32,
            },
        },
        None => Place::File(file),
    };
    let (code, message) = match refusal {
        None => (code::SYNTAX, error.to_string()),
        Some(Refusal::TooDeep) => (code::TOO_DEEP, "values are nested too deeply".to_string()),
        Some(Refusal::TooManyNodes) => (
            code::TOO_MANY_NODES,
            "the file holds too many values".to_string(),
        ),
        Some(Refusal::DuplicateKey) => (code::DUPLICATE_KEY, "a key stands twice".to_string()),
        Some(Refusal::MergeKey) => (code::MERGE_KEY, "merge keys are not supported".to_string()),
        Some(Refusal::Tag) => (code::TAG, "tags are not supported".to_string()),
        Some(Refusal::KeyNotAString) => {
            (code::KEY_NOT_A_STRING, "a key must be a string".to_string())
        }
    };
    Diagnostic::error(code, place, message)
}
