//! Configuration text as it came from a directory, and places inside it.

use std::fmt;

/// One file, read by the caller. `path` is how diagnostics name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    pub path: String,
    pub text: String,
}

/// Index into the slice of [`SourceFile`]s that a load was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A YAML document: the file and its place in it, counted from 0. Empty documents do not count;
/// each item of a `kind: List` counts as a document after that of the list itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentId {
    pub file: FileId,
    pub index: u32,
}

/// A step from a YAML node to one of its children.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    Field(String),
    Index(usize),
}

/// The way from the root of a document to a node, such as `spec.http[0].route`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FieldPath(pub Vec<Step>);

impl FieldPath {
    /// The root of the document.
    pub fn root() -> Self {
        Self::default()
    }

    /// This path and then the field `name`.
    pub fn field(&self, name: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Field(name.to_string()));
        Self(steps)
    }

    /// This path and then item `index` of a list, counted from 0.
    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if at == 0 => write!(f, "{name}")?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Where something was written, before anyone asked for its line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    pub document: DocumentId,
    pub field: FieldPath,
}

impl Origin {
    /// The rule that something of a VirtualService is written in, such as `spec.http[1]`.
    pub fn rule(&self) -> Self {
        const STEPS: usize = 3;
        Self {
            document: self.document,
            field: FieldPath(self.field.0.iter().take(STEPS).cloned().collect()),
        }
    }
}

/// A line and column, both counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

impl Default for Position {
    /// The beginning of a file.
    fn default() -> Self {
        Self { line: 1, column: 1 }
    }
}

/// A place in one line of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    pub start: Position,
    /// In characters; 0 where a single place is meant, or what stands there goes on below.
    pub length: u32,
}

/// What editors may put before a text; joined files have it before later documents too.
pub(crate) const BYTE_ORDER_MARK: char = '\u{feff}';

/// The lines of a text as YAML breaks them: at LF, CR LF or CR. A byte order mark at the beginning
/// is no part of a line.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?.trim_start_matches(BYTE_ORDER_MARK);
        let Some(end) = text.find(['\n', '\r']) else {
            rest = None;
            return Some(text);
        };
        let is_pair = text[end..].starts_with("\r\n");
        rest = Some(&text[end + if is_pair { 2 } else { 1 }..]);
        Some(&text[..end])
    })
}
