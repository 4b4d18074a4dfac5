//! From text to documents.
//!
//! The only module that names the YAML library: the rest of the crate sees [`Value`]. Mappings in
//! a [`Value`] have text keys only, no tags, and every alias is written out.

mod ahead;
mod brackets;
mod document;
mod inspect;
mod json;
mod limits;
mod list;
mod marked;
mod marks;
mod syntax;
mod tabs;
mod unquoted;
mod value;

use std::borrow::Cow;

use serde::de::DeserializeSeed;
pub use serde_yaml::{Mapping, Value};

pub use document::Document;
pub(crate) use document::kind_of;
pub use limits::YamlLimits;
pub use marked::{Found, Query, locate, locate_all};
pub(crate) use unquoted::read_elsewhere;

use crate::diagnostic::{Diagnostic, Place};
use crate::source::{DocumentId, FileId, SourceFile};
use marks::{stray_mark, without_marks};
use value::{Budget, Node};

/// Codes of the diagnostics that this module gives.
pub mod code {
    pub const SYNTAX: &str = "yaml-syntax";
    pub const TAB: &str = "yaml-tab";
    pub const DUPLICATE_KEY: &str = "duplicate-key";
    pub const MERGE_KEY: &str = "merge-key";
    pub const TAG: &str = "yaml-tag";
    pub const KEY_NOT_A_STRING: &str = "key-not-a-string";
    pub const TOO_DEEP: &str = "yaml-too-deep";
    pub const TOO_MANY_NODES: &str = "yaml-too-many-nodes";
    pub const ALIAS_EXPANSION: &str = "yaml-alias-expansion";
    pub const FILE_TOO_LARGE: &str = "file-too-large";
    pub const CONFIGURATION_TOO_LARGE: &str = "configuration-too-large";
    pub const NOT_A_MAPPING: &str = "not-a-mapping";
    pub const MISSING_KIND: &str = "missing-kind";
    pub const FOREIGN_FILE: &str = "foreign-file";
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
    let diagnostics = parse_values(files, limits, |file, next_index, value, diagnostics| {
        if document::is_foreign(&files[file.0 as usize].path, &value) {
            *next_index += 1;
            diagnostics.push(document::foreign(file));
            return;
        }
        document::read(file, next_index, value, &mut documents, diagnostics);
    });
    unquoted::note(files, &mut documents);
    (documents, diagnostics)
}

/// The documents of files that hold something other than resources, with the same limits; empty
/// ones are left out.
pub fn parse_plain(files: &[SourceFile]) -> (Vec<(DocumentId, Value)>, Vec<Diagnostic>) {
    let mut documents = Vec::new();
    let limits = YamlLimits::default();
    let diagnostics = parse_values(files, &limits, |file, next_index, value, _| {
        if !value.is_null() {
            let index = *next_index;
            *next_index += 1;
            documents.push((DocumentId { file, index }, value));
        }
    });
    (documents, diagnostics)
}

/// The text as the parsers take it.
fn readable(text: &str) -> Cow<'_, str> {
    json::as_yaml(without_marks(text))
}

/// Hands each value of each file to `read`, with the number of documents before it in its file.
fn parse_values(
    files: &[SourceFile],
    limits: &YamlLimits,
    mut read: impl FnMut(FileId, &mut u32, Value, &mut Vec<Diagnostic>),
) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let mut total_bytes = 0usize;
    let is_cheap = |text: &str| !is_crowded(text, limits) && !is_bracketed_deep(text);
    let texts: Vec<Cow<'_, str>> = files.iter().map(|file| readable(&file.text)).collect();
    let mut ahead = ahead::read_ahead(&texts, limits, is_cheap);
    for (at, file) in files.iter().enumerate() {
        let file_id = FileId(at as u32);
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
        total_bytes = total_bytes.saturating_add(file.text.len());
        if total_bytes > limits.max_total_bytes {
            let message = format!(
                "the files hold more than {} bytes together (limit maxTotalBytes)",
                limits.max_total_bytes
            );
            diagnostics.push(
                Diagnostic::error(code::CONFIGURATION_TOO_LARGE, Place::File(file_id), message)
                    .with_help("split the configuration, or keep other files out of the directory"),
            );
            break;
        }
        let text = &texts[at];
        if let Cow::Owned(text) = text
            && let Some(position) = stray_mark(text)
        {
            let message = "a byte order mark (U+FEFF) stands inside of a document";
            let place = Place::Position {
                file: file_id,
                position,
            };
            diagnostics.push(
                Diagnostic::error(code::SYNTAX, place, message)
                    .with_help("remove it; where another file begins here, put `---` above it"),
            );
            continue;
        }
        match ahead[at].take() {
            None => parse_file(file_id, text, limits, &mut read, &mut diagnostics),
            Some(values) => {
                let mut next_index = 0;
                for value in values {
                    read(file_id, &mut next_index, value, &mut diagnostics);
                }
            }
        }
    }
    diagnostics
}

fn parse_file(
    file: FileId,
    text: &str,
    limits: &YamlLimits,
    read: &mut impl FnMut(FileId, &mut u32, Value, &mut Vec<Diagnostic>),
    diagnostics: &mut Vec<Diagnostic>,
) {
    if is_crowded(text, limits) || is_bracketed_deep(text) {
        let inspection = inspect::inspect(file, text, limits);
        if inspection.is_cut_short || inspection.syntax_error.is_some() {
            diagnostics.extend(inspection.findings);
            diagnostics.extend(inspection.syntax_error);
            return;
        }
    }
    let mut budget = Budget::new(limits);
    let mut next_index = 0;
    let mut failure = None;
    for document in serde_yaml::Deserializer::from_str(text) {
        match Node(&mut budget).deserialize(document) {
            Ok(mut value) => {
                if budget.refusal.is_some() {
                    merge(&mut value);
                }
                read(file, &mut next_index, value, diagnostics);
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    if failure.is_some() || budget.refusal.is_some() {
        explain_failure(file, text, limits, failure, budget.refusal, diagnostics);
    }
}

/// Puts the fields of merge keys where they are meant to be, so that none of them is said to be
/// missing: the keys themselves are refused by name. Those of a whole document stay, since places
/// are counted by what is written.
fn merge(value: &mut Value) {
    let fields = value.as_mapping_mut().into_iter().flatten();
    for (_, field) in fields.filter(|(key, _)| *key != "<<") {
        // What cannot be merged stays as it is.
        let _ = field.apply_merge();
    }
}

/// Reports why a file is refused, by a second look at it.
fn explain_failure(
    file: FileId,
    text: &str,
    limits: &YamlLimits,
    failure: Option<serde_yaml::Error>,
    refusal: Option<&'static str>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let inspection = inspect::inspect(file, text, limits);
    match (failure, refusal) {
        // The finding that ended the inspection is what the parser gave up at.
        _ if inspection.is_cut_short => {}
        (Some(error), None | Some(code::DUPLICATE_KEY | code::MERGE_KEY | code::TAG)) => {
            diagnostics.push(syntax::diagnose(file, text, &error));
        }
        // The two parsers read the text differently: the stricter one holds.
        (_, Some(code)) if inspection.findings.is_empty() => {
            let message = "the file holds what is refused by this name";
            diagnostics.push(Diagnostic::error(code, Place::File(file), message));
        }
        _ => {}
    }
    diagnostics.extend(inspection.findings);
}

/// Whether a text may hold more values than a file is granted: then it is inspected before its
/// events are held in memory. Each value takes a separator or a line of its own.
fn is_crowded(text: &str, limits: &YamlLimits) -> bool {
    let is_separator = |byte: &&u8| {
        matches!(
            byte,
            b'\n' | b'\r' | b',' | b':' | b'[' | b'{' | b'-' | b'?'
        )
    };
    text.len() > limits.max_nodes
        && text.as_bytes().iter().filter(is_separator).count() > limits.max_nodes
}

/// Whether brackets may be nested so deep that the parser would take long over them: its time
/// grows with the square of the depth. Brackets in texts and comments are counted too, which
/// costs an inspection and refuses nothing.
fn is_bracketed_deep(text: &str) -> bool {
    const CHEAP_DEPTH: usize = 200;
    let mut depth = 0usize;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth > CHEAP_DEPTH {
            return true;
        }
    }
    false
}
