//! Looks up where diagnostics point to, one marked parse a file, and puts them in order.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Diagnostic, Place};
use crate::source::{FileId, Origin, SourceFile, Span};
use crate::yaml::{self, Query};

/// A diagnostic and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<'d> {
    pub diagnostic: &'d Diagnostic,
    /// `None` for the directory as a whole.
    pub file: Option<FileId>,
    /// `None` for a file as a whole.
    pub span: Option<Span>,
    /// The field as a path such as `spec.http[0].route`; empty for the root of a document.
    pub field: Option<String>,
    /// Its help, with the example that belongs to it.
    pub help: Option<Cow<'d, str>>,
    /// Where its second place stands.
    pub related: Option<(FileId, Span)>,
}

/// Whose position is looked up: of the diagnostic with this index, or of its second place.
enum Asked {
    Itself(usize),
    Related(usize),
}

/// All diagnostics with their places: by file, line and column, those without a file last. The
/// same text and diagnostics give the same order.
pub fn place_all<'d>(files: &[SourceFile], diagnostics: &'d [Diagnostic]) -> Vec<Placed<'d>> {
    let mut placed: Vec<Placed<'d>> = diagnostics.iter().map(without_lookup).collect();
    let mut to_look_up: BTreeMap<FileId, Vec<(Asked, Query<'d>)>> = BTreeMap::new();
    let mut ask = |asked: Asked, origin: &'d Origin, key: bool| {
        let query = Query {
            document: origin.document.index,
            path: &origin.field,
            key,
        };
        let of_file = to_look_up.entry(origin.document.file).or_default();
        of_file.push((asked, query));
    };
    for (at, diagnostic) in diagnostics.iter().enumerate() {
        match &diagnostic.place {
            Place::Field(origin) => ask(Asked::Itself(at), origin, false),
            Place::Key(origin) => ask(Asked::Itself(at), origin, true),
            _ => {}
        }
        if let Some(related) = &diagnostic.related {
            ask(Asked::Related(at), &related.origin, false);
        }
    }
    for (file, asked) in to_look_up {
        let Some(source) = files.get(file.0 as usize) else {
            continue;
        };
        let queries: Vec<Query<'d>> = asked.iter().map(|(_, query)| *query).collect();
        for ((asked, _), found) in asked.iter().zip(yaml::locate_all(&source.text, &queries)) {
            match asked {
                Asked::Itself(at) => {
                    placed[*at].span = Some(found.span);
                    placed[*at].complete_help(found.plain_text.as_deref());
                }
                Asked::Related(at) => placed[*at].related = Some((file, found.span)),
            }
        }
    }
    placed.sort_by(|one, other| {
        let order = |placed: &Placed<'d>| {
            let span = placed.span.map(|span| span.start);
            let severity = std::cmp::Reverse(placed.diagnostic.severity);
            (
                placed.file.is_none(),
                placed.file,
                span,
                severity,
                placed.diagnostic.code,
            )
        };
        order(one)
            .cmp(&order(other))
            .then_with(|| one.diagnostic.message.cmp(&other.diagnostic.message))
    });
    placed.dedup_by(|one, other| {
        one.file == other.file && one.span == other.span && one.diagnostic == other.diagnostic
    });
    placed
}

impl Placed<'_> {
    /// Shows the text that is written there, unless that is in quotes or unknown.
    fn complete_help(&mut self, plain_text: Option<&str>) {
        if let (Some(help), Some(example), Some(text)) =
            (&mut self.help, &self.diagnostic.example, plain_text)
        {
            let (before, after) = (&example.before, &example.after);
            help.to_mut().push_str(&format!(": {before}{text}{after}"));
        }
    }
}

fn without_lookup(diagnostic: &Diagnostic) -> Placed<'_> {
    let (file, span, field) = match &diagnostic.place {
        Place::Field(origin) | Place::Key(origin) => (
            Some(origin.document.file),
            None,
            Some(origin.field.to_string()),
        ),
        Place::Position { file, position } => (
            Some(*file),
            Some(Span {
                start: *position,
                length: 0,
            }),
            None,
        ),
        Place::File(file) => (Some(*file), None, None),
        Place::Nowhere => (None, None, None),
    };
    Placed {
        diagnostic,
        file,
        span,
        field,
        help: diagnostic.help.as_deref().map(Cow::Borrowed),
        related: None,
    }
}
