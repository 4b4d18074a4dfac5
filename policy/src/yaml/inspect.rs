//! Reads a text event by event and names everything in it that a configuration may not hold. It
//! builds nothing, so it is safe for any text; it runs where the fast way met a refusal or would
//! cost too much memory.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, Span as ParserSpan, StrInput, Tag};

use super::marked::to_span;
use super::tabs::as_marked;
use super::{YamlLimits, code};
use crate::diagnostic::{Diagnostic, Place};
use crate::source::{FileId, Position, Span};

/// After this many findings in one file the rest is not looked for.
const MAX_FINDINGS: usize = 100;

/// What an inspection came to.
pub(super) struct Inspection {
    /// In the order of the text.
    pub findings: Vec<Diagnostic>,
    /// Whether the last finding ended it: nothing is known of the text after it.
    pub is_cut_short: bool,
    /// What the marked parser took for a syntax error, which ended it.
    pub syntax_error: Option<Diagnostic>,
}

/// Everything to refuse in the text. Syntax errors are not told here.
pub(super) fn inspect(file: FileId, text: &str, limits: &YamlLimits) -> Inspection {
    let mut inspector = Inspector {
        file,
        limits,
        open: Vec::new(),
        anchors: HashMap::new(),
        total: Size::default(),
        findings: Vec::new(),
    };
    let text = as_marked(text);
    let mut parser = Parser::new(StrInput::new(&text));
    let mut syntax_error = None;
    let mut is_cut_short = false;
    while let Some(next) = parser.next_event() {
        match next {
            Ok((event, span)) => {
                is_cut_short = inspector.take(event, &span).is_break()
                    || inspector.findings.len() >= MAX_FINDINGS;
            }
            Err(error) => {
                let span = to_span(&ParserSpan::empty(*error.marker()));
                // The parser looks ahead through brackets and has a bound of its own.
                if error.info().contains("recursion limit") {
                    inspector.too_deep(span);
                    is_cut_short = true;
                } else {
                    let place = Place::Position {
                        file,
                        position: span.start,
                    };
                    syntax_error = Some(Diagnostic::error(code::SYNTAX, place, error.info()));
                }
                break;
            }
        }
        if is_cut_short {
            break;
        }
    }
    Inspection {
        findings: inspector.findings,
        is_cut_short,
        syntax_error,
    }
}

/// How much a value comes to with its aliases written out.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
    /// Levels of lists and mappings in it.
    depth: usize,
}

impl Size {
    fn add(&mut self, part: Size) {
        self.nodes = self.nodes.saturating_add(part.nodes);
        self.bytes = self.bytes.saturating_add(part.bytes);
    }
}

/// A list or mapping that is not closed yet.
struct Open {
    anchor: usize,
    size: Size,
    /// The keys so far with their places, for a mapping.
    keys: Option<HashMap<String, Position>>,
    /// Whether the next node of a mapping is a value.
    has_key: bool,
}

struct Inspector<'i> {
    file: FileId,
    limits: &'i YamlLimits,
    open: Vec<Open>,
    /// The sizes of the anchored values of this document; `None` while one is not closed.
    anchors: HashMap<usize, Option<Size>>,
    total: Size,
    findings: Vec<Diagnostic>,
}

type Flow = std::ops::ControlFlow<()>;

impl Inspector<'_> {
    fn take(&mut self, event: Event<'_>, span: &ParserSpan) -> Flow {
        let span = to_span(span);
        match event {
            Event::Scalar(text, _, anchor, tag) => {
                self.check_tag(tag.as_deref(), span);
                self.check_key(Some(&text), span)?;
                let size = Size {
                    nodes: 1,
                    bytes: text.len(),
                    depth: 0,
                };
                if anchor != 0 {
                    self.anchors.insert(anchor, Some(size));
                }
                self.add_to_open(size);
                self.count(size, false, span)
            }
            Event::Alias(anchor) => {
                self.check_key(None, span)?;
                match self.anchors.get(&anchor) {
                    Some(&Some(size)) => {
                        self.add_to_open(size);
                        self.count(size, true, span)
                    }
                    Some(None) => {
                        let message = "the alias stands inside the value that it repeats";
                        self.find(code::ALIAS_EXPANSION, span, message, WRITE_OUT);
                        Flow::Break(())
                    }
                    // The marked parser keeps the anchors of all documents.
                    None => {
                        let message =
                            "the alias refers to an anchor (`&name`) of an earlier document";
                        let help = "anchors end with their document: write the value out here";
                        self.find(code::SYNTAX, span, message, help);
                        Flow::Break(())
                    }
                }
            }
            Event::SequenceStart(anchor, tag) => self.begin(anchor, tag.as_deref(), None, span),
            Event::MappingStart(anchor, tag) => {
                self.begin(anchor, tag.as_deref(), Some(HashMap::new()), span)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(closed) = self.open.pop() {
                    if closed.anchor != 0 {
                        self.anchors.insert(closed.anchor, Some(closed.size));
                    }
                    self.add_to_open(closed.size);
                }
                Flow::Continue(())
            }
            Event::DocumentEnd => {
                self.anchors.clear();
                Flow::Continue(())
            }
            Event::DocumentStart(_) | Event::StreamStart | Event::StreamEnd | Event::Nothing => {
                Flow::Continue(())
            }
        }
    }

    fn begin(
        &mut self,
        anchor: usize,
        tag: Option<&Tag>,
        keys: Option<HashMap<String, Position>>,
        span: Span,
    ) -> Flow {
        self.check_tag(tag, span);
        if self
            .open
            .last()
            .is_some_and(|around| around.keys.is_some() && !around.has_key)
        {
            let message = "a list or mapping stands where a key is wanted";
            let help = "text that begins with `[` or `{` needs quotes; a template with `{{ }}` is rendered \
                        first, such as with `helm template`";
            self.find(code::KEY_NOT_A_STRING, span, message, help);
            return Flow::Break(());
        }
        self.check_key(None, span)?;
        if anchor != 0 {
            self.anchors.insert(anchor, None);
        }
        let size = Size {
            nodes: 1,
            bytes: 0,
            depth: 1,
        };
        self.count(size, false, span)?;
        self.open.push(Open {
            anchor,
            size,
            keys,
            has_key: false,
        });
        Flow::Continue(())
    }

    /// Counts a value, that of an alias as often as it is repeated, against the bounds.
    fn count(&mut self, size: Size, is_alias: bool, span: Span) -> Flow {
        self.total.add(size);
        if self.open.len() + size.depth > self.limits.max_depth {
            self.too_deep(span);
            return Flow::Break(());
        }
        let limits = self.limits;
        if self.total.nodes <= limits.max_nodes && self.total.bytes <= limits.max_expanded_bytes {
            return Flow::Continue(());
        }
        if is_alias {
            let message = format!(
                "with its aliases written out, the file comes to more than {} values or {} bytes \
                 (limits maxNodes, maxExpandedBytes)",
                limits.max_nodes, limits.max_expanded_bytes
            );
            self.find(code::ALIAS_EXPANSION, span, message, WRITE_OUT);
        } else {
            let message = format!(
                "the file holds more than {} values (limit maxNodes)",
                limits.max_nodes
            );
            self.find(
                code::TOO_MANY_NODES,
                span,
                message,
                "split it into several files",
            );
        }
        Flow::Break(())
    }

    /// Adds a complete value to the list or mapping that it stands in.
    fn add_to_open(&mut self, size: Size) {
        if let Some(around) = self.open.last_mut() {
            around.size.add(size);
            around.size.depth = around.size.depth.max(size.depth + 1);
        }
    }

    /// Turns over from key to value and back, and looks at keys. An alias has no text.
    fn check_key(&mut self, text: Option<&str>, span: Span) -> Flow {
        let Some(Open {
            keys: Some(keys),
            has_key,
            ..
        }) = self.open.last_mut()
        else {
            return Flow::Continue(());
        };
        *has_key = !*has_key;
        let (true, Some(text)) = (*has_key, text) else {
            return Flow::Continue(());
        };
        if text == "<<" {
            let help = "write the merged fields out; an alias for a whole value (`key: *name`) \
                        is accepted";
            self.find(
                code::MERGE_KEY,
                span,
                "merge keys (`<<`) are not supported",
                help,
            );
            return Flow::Continue(());
        }
        if let Some(first) = keys.get(text) {
            let message = format!(
                "the key `{text}` stands twice in one mapping, first in line {}",
                first.line
            );
            let help = "remove one of them, or join what is below both";
            self.find(code::DUPLICATE_KEY, span, message, help);
        } else {
            keys.insert(text.to_string(), span.start);
        }
        Flow::Continue(())
    }

    fn check_tag(&mut self, tag: Option<&Tag>, span: Span) {
        let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) else {
            return;
        };
        let message = format!("the tag `{}{}` is not supported", tag.handle, tag.suffix);
        let help = "remove the tag and write the value itself; text that begins with `!` needs \
                    quotes";
        self.find(code::TAG, span, message, help);
    }

    fn too_deep(&mut self, span: Span) {
        let message = format!(
            "lists and mappings are nested more than {} deep (limit maxDepth)",
            self.limits.max_depth
        );
        let help = "no field is nested that deep: look for brackets that are not closed";
        self.find(code::TOO_DEEP, span, message, help);
    }

    fn find(&mut self, code: &'static str, span: Span, message: impl Into<String>, help: &str) {
        let place = Place::Position {
            file: self.file,
            position: span.start,
        };
        self.findings
            .push(Diagnostic::error(code, place, message).with_help(help));
    }
}

const WRITE_OUT: &str = "write the value out where it is needed, without anchors and aliases";
