//! Lines and columns of what an explanation names.

use std::cell::RefCell;
use std::collections::HashMap;

use serde::Serialize;

use crate::source::{Origin, SourceFile};
use crate::yaml::{Query, locate_all};

/// Where something was written: `file:line:column`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    pub file: String,
    pub line: u32,
    pub column: u32,
    /// Such as `spec.http[0].timeout`.
    pub field: String,
}

impl std::fmt::Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Where each of these places stands, one parse a file.
pub(crate) fn locate(
    files: &[SourceFile],
    origins: impl IntoIterator<Item = Origin>,
) -> HashMap<Origin, Written> {
    let places = Places {
        wanted: RefCell::new(origins.into_iter().collect()),
        known: HashMap::new(),
    };
    let known = places.looked_up(files).known.into_iter();
    known.map(|(origin, place)| (origin, place.at)).collect()
}

/// Positions by origin. A position costs a parse of its file, so an explanation is told twice:
/// once to learn which places it names, and, when they were all looked up in one parse a file,
/// once more with them.
#[derive(Debug, Default)]
pub(crate) struct Places {
    wanted: RefCell<Vec<Origin>>,
    known: HashMap<Origin, Place>,
}

/// Where something stands, or the nearest thing around it.
#[derive(Debug)]
struct Place {
    at: Written,
    is_written: bool,
}

impl Places {
    /// Notes a place; its position, once it is known.
    pub(crate) fn of(&self, origin: &Origin) -> Option<Written> {
        self.place(origin).map(|place| place.at.clone())
    }

    /// The field at `path` of a block: its own place if it is written. If not, its value comes from
    /// what is around it, or is a default, which has no place.
    pub(crate) fn of_field(
        &self,
        block: &Option<Origin>,
        path: &[&str],
        is_default: bool,
    ) -> Option<Written> {
        let Origin { document, field } = block.as_ref()?;
        let field = path.iter().fold(field.clone(), |at, name| at.field(name));
        let document = *document;
        let place = self.place(&Origin { document, field })?;
        (place.is_written || !is_default).then(|| place.at.clone())
    }

    fn place(&self, origin: &Origin) -> Option<&Place> {
        let known = self.known.get(origin);
        if known.is_none() {
            self.wanted.borrow_mut().push(origin.clone());
        }
        known
    }

    pub(crate) fn of_optional(&self, origin: &Option<Origin>) -> Option<Written> {
        origin.as_ref().and_then(|origin| self.of(origin))
    }

    /// Looks all noted places up.
    pub(crate) fn looked_up(self, files: &[SourceFile]) -> Self {
        let wanted = self.wanted.into_inner();
        let mut known = self.known;
        for (index, file) in files.iter().enumerate() {
            let here: Vec<&Origin> = wanted
                .iter()
                .filter(|o| o.document.file.0 as usize == index)
                .collect();
            if here.is_empty() {
                continue;
            }
            let queries: Vec<Query<'_>> = here
                .iter()
                .map(|o| Query {
                    document: o.document.index,
                    path: &o.field,
                    key: false,
                })
                .collect();
            for (origin, found) in here.into_iter().zip(locate_all(&file.text, &queries)) {
                let start = found.span.start;
                let at = Written {
                    file: file.path.clone(),
                    line: start.line,
                    column: start.column,
                    field: origin.field.to_string(),
                };
                let is_written = found.is_written;
                known.insert(origin.clone(), Place { at, is_written });
            }
        }
        Self {
            wanted: RefCell::default(),
            known,
        }
    }
}
