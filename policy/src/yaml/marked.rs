//! A second parse that keeps where each node stands. It runs only when there is something to
//! report.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as ParserSpan, StrInput};

use super::tabs::{as_marked, is_name};
use crate::source::{FieldPath, Position, Span, Step};

/// What to find in a file.
#[derive(Debug, Clone, Copy)]
pub struct Query<'q> {
    /// As in [`crate::source::DocumentId`].
    pub document: u32,
    pub path: &'q FieldPath,
    /// Whether the name of the field is meant, not its value.
    pub key: bool,
}

/// What is known of a queried node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    pub span: Span,
    /// What is written at the span, for a value that stands there without quotes.
    pub plain_text: Option<String>,
    /// Whether the node itself is there, and is not null.
    pub is_written: bool,
}

/// Where the value at `path` of a document stands. See [`locate_all`].
pub fn locate(text: &str, document: u32, path: &FieldPath) -> Position {
    let query = Query {
        document,
        path,
        key: false,
    };
    locate_all(text, &[query])[0].span.start
}

/// Where each queried node stands, in the order of the queries, at the cost of one parse.
///
/// A value that is written below its key, or is empty, is pointed to by its key. What does not
/// exist (a field that is missing) is pointed to by the nearest thing around it that does.
pub fn locate_all(text: &str, queries: &[Query<'_>]) -> Vec<Found> {
    let mut found = vec![Found::default(); queries.len()];
    let mut by_document: HashMap<u32, Vec<usize>> = HashMap::new();
    for (at, query) in queries.iter().enumerate() {
        by_document.entry(query.document).or_default().push(at);
    }
    let text = super::readable(text);
    let text = as_marked(&text);
    let mut trees = Trees::new(&text);
    let mut next_index = 0;
    while !by_document.is_empty() {
        let Some(tree) = trees.next_document() else {
            break;
        };
        for root in tree.resources() {
            let asked = by_document.remove(&next_index).unwrap_or_default();
            for at in asked {
                found[at] = tree.find(root, queries[at].path, queries[at].key);
            }
            next_index += 1;
        }
    }
    found
}

type NodeId = usize;

#[derive(Debug)]
struct Node<'t> {
    span: Span,
    kind: Kind<'t>,
}

#[derive(Debug)]
enum Kind<'t> {
    Scalar {
        text: std::borrow::Cow<'t, str>,
        style: ScalarStyle,
    },
    List(Vec<NodeId>),
    Mapping(Vec<(NodeId, NodeId)>),
    Alias(Option<NodeId>),
}

/// One document with the places of its nodes. Node 0 is its root.
#[derive(Debug, Default)]
struct Tree<'t> {
    nodes: Vec<Node<'t>>,
}

/// Reads document after document, up to the first syntax error.
struct Trees<'t> {
    parser: Parser<'t, StrInput<'t>>,
    ended: bool,
}

impl<'t> Trees<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            parser: Parser::new_from_str(text),
            ended: false,
        }
    }

    /// The next document. One with a syntax error is given as far as it goes.
    fn next_document(&mut self) -> Option<Tree<'t>> {
        let mut tree = Tree::default();
        // Open lists and mappings, and for a mapping the key that waits for its value.
        let mut open: Vec<(NodeId, Option<NodeId>)> = Vec::new();
        let mut anchors: HashMap<usize, NodeId> = HashMap::new();
        while !self.ended {
            let Some(Ok((event, span))) = self.parser.next_event() else {
                self.ended = true;
                break;
            };
            let (kind, anchor, opens) = match event {
                Event::DocumentEnd => return Some(tree),
                Event::StreamEnd => {
                    self.ended = true;
                    break;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    open.pop();
                    continue;
                }
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => continue,
                Event::Alias(anchor) => (Kind::Alias(anchors.get(&anchor).copied()), 0, false),
                // What has a tag is no more up to its text than what is in quotes.
                Event::Scalar(text, ScalarStyle::Plain, anchor, Some(_)) if !text.is_empty() => {
                    let style = ScalarStyle::SingleQuoted;
                    (Kind::Scalar { text, style }, anchor, false)
                }
                Event::Scalar(text, style, anchor, _) => {
                    (Kind::Scalar { text, style }, anchor, false)
                }
                Event::SequenceStart(anchor, _) => (Kind::List(Vec::new()), anchor, true),
                Event::MappingStart(anchor, _) => (Kind::Mapping(Vec::new()), anchor, true),
            };
            let id = tree.nodes.len();
            tree.nodes.push(Node {
                span: to_span(&span),
                kind,
            });
            if let Some((parent, waiting_key)) = open.last_mut() {
                match &mut tree.nodes[*parent].kind {
                    Kind::List(items) => items.push(id),
                    Kind::Mapping(entries) => match waiting_key.take() {
                        Some(key) => entries.push((key, id)),
                        None => *waiting_key = Some(id),
                    },
                    Kind::Scalar { .. } | Kind::Alias(_) => {}
                }
            }
            if anchor != 0 {
                anchors.insert(anchor, id);
            }
            if opens {
                open.push((id, None));
            }
        }
        (!tree.nodes.is_empty()).then_some(tree)
    }
}

impl Tree<'_> {
    /// The roots of the documents that [`super::parse`] makes of this one, in its order.
    fn resources(&self) -> Vec<NodeId> {
        let Some(root) = self.nodes.first() else {
            return Vec::new();
        };
        if self.is_empty_value(root) {
            return Vec::new();
        }
        let mut roots = vec![0];
        let kind = self.child(0, "kind").and_then(|(_, kind)| self.text(kind));
        let items = self.child(0, "items").map(|(_, items)| self.target(items));
        let is_list = match kind {
            Some("List") => true,
            Some(kind) => kind.ends_with("List"),
            None => false,
        };
        if let Some(Kind::List(items)) = items.map(|items| &self.nodes[items].kind)
            && is_list
        {
            let items = items.iter().copied();
            roots.extend(items.filter(|&item| !self.is_empty_value(&self.nodes[item])));
        }
        roots
    }

    fn find(&self, root: NodeId, path: &FieldPath, key_is_meant: bool) -> Found {
        let mut key = None;
        let mut node = self.target(root);
        let mut complete = true;
        for step in &path.0 {
            let next = match (step, &self.nodes[node].kind) {
                (Step::Field(name), Kind::Mapping(_)) => self
                    .child(node, name)
                    .map(|(key, value)| (Some(key), value)),
                (Step::Index(index), Kind::List(items)) => {
                    items.get(*index).map(|&item| (None, item))
                }
                _ => None,
            };
            let Some((next_key, next_node)) = next else {
                complete = false;
                break;
            };
            key = next_key;
            node = self.target(next_node);
        }
        let key = key.map(|key| self.nodes[key].span);
        let (span, plain_text) = match key {
            Some(key) if key_is_meant || !complete || !self.stands_alone(node) => (key, None),
            _ => (self.nodes[node].span, self.plain_text(node)),
        };
        Found {
            span,
            plain_text: plain_text.filter(|_| complete),
            is_written: complete && !self.is_empty_value(&self.nodes[node]),
        }
    }

    fn plain_text(&self, node: NodeId) -> Option<String> {
        match &self.nodes[node].kind {
            Kind::Scalar {
                text,
                style: ScalarStyle::Plain,
            } => Some(text.to_string()),
            _ => None,
        }
    }

    /// Whether a caret under the value itself shows it: not for what is empty or begins on a
    /// line below its key.
    fn stands_alone(&self, node: NodeId) -> bool {
        let node = &self.nodes[node];
        match &node.kind {
            Kind::Scalar { style, .. } => {
                !matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) && node.span.length > 0
            }
            Kind::List(_) | Kind::Mapping(_) | Kind::Alias(_) => false,
        }
    }

    /// The key and value of a field of a mapping.
    fn child(&self, node: NodeId, name: &str) -> Option<(NodeId, NodeId)> {
        match &self.nodes[node].kind {
            Kind::Mapping(entries) => entries
                .iter()
                .copied()
                .find(|&(key, _)| self.text(key).is_some_and(|key| is_name(key, name))),
            _ => None,
        }
    }

    fn text(&self, node: NodeId) -> Option<&str> {
        match &self.nodes[self.target(node)].kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The node itself, or the one that an alias stands for. Anchors come before their aliases,
    /// so this ends.
    fn target(&self, mut node: NodeId) -> NodeId {
        while let Kind::Alias(Some(anchored)) = self.nodes[node].kind {
            node = anchored;
        }
        node
    }

    fn is_empty_value(&self, node: &Node<'_>) -> bool {
        match &node.kind {
            Kind::Scalar {
                text,
                style: ScalarStyle::Plain,
            } => {
                matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }
}

pub(super) fn to_span(span: &ParserSpan) -> Span {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let length = if span.start.line() == span.end.line() {
        span.end.col().saturating_sub(span.start.col())
    } else {
        1
    };
    // What is empty up to the end of its line begins, to the parser, with the next one.
    let is_of_line_before = length == 0 && span.start.col() == 0 && span.start.line() > 1;
    Span {
        start: Position {
            line: count(span.start.line()) - u32::from(is_of_line_before),
            column: count(span.start.col()).saturating_add(1),
        },
        length: count(length),
    }
}
