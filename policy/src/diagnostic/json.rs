//! Diagnostics for programs.

use std::borrow::Cow;

use serde::Serialize;

use super::secrecy::Secrecy;
use super::{Diagnostic, place_all};
use crate::source::{FileId, SourceFile};

/// One entry of the array; `docs/diagnostics.md` promises this shape. What does not apply is
/// `null`, and never left out.
#[derive(Serialize)]
struct Entry<'d> {
    severity: String,
    code: &'d str,
    file: Option<&'d str>,
    line: Option<u32>,
    column: Option<u32>,
    field: Option<Cow<'d, str>>,
    message: Cow<'d, str>,
    help: Option<Cow<'d, str>>,
    related: Option<RelatedEntry<'d>>,
}

#[derive(Serialize)]
struct RelatedEntry<'d> {
    note: Cow<'d, str>,
    file: Option<&'d str>,
    line: Option<u32>,
    column: Option<u32>,
    field: String,
}

/// The diagnostics as a JSON array in the order of [`place_all`], one entry a line.
pub fn render_json(files: &[SourceFile], diagnostics: &[Diagnostic]) -> String {
    let mut out = String::from("[");
    let mut secrecy = Secrecy::new(files);
    for (at, placed) in place_all(files, diagnostics).iter().enumerate() {
        let path = |file: FileId| Some(files.get(file.0 as usize)?.path.as_str());
        let place = placed.file.zip(placed.span);
        let diagnostic = placed.diagnostic;
        let entry = Entry {
            severity: diagnostic.severity.to_string(),
            code: diagnostic.code,
            file: placed.file.and_then(path),
            line: placed.span.map(|span| span.start.line),
            column: placed.span.map(|span| span.start.column),
            field: (placed.field.as_deref()).map(|field| secrecy.field(place, field)),
            message: secrecy.sentence(place, &diagnostic.message),
            help: (placed.help.as_deref()).map(|help| secrecy.sentence(place, help)),
            related: diagnostic.related.as_ref().map(|related| {
                let start = placed.related.map(|(_, span)| span.start);
                RelatedEntry {
                    note: secrecy.sentence(placed.related, &related.note),
                    file: path(related.origin.document.file),
                    line: start.map(|start| start.line),
                    column: start.map(|start| start.column),
                    field: related.origin.field.to_string(),
                }
            }),
        };
        out.push_str(if at == 0 { "\n  " } else { ",\n  " });
        // Strings and numbers always serialize.
        out.push_str(&serde_json::to_string(&entry).unwrap_or_default());
    }
    out.push_str(if out.len() == 1 { "]\n" } else { "\n]\n" });
    out
}
