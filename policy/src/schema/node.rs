//! A value together with the way to it, without building either.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_yaml::Value;

use crate::source::{FieldPath, Step};

static ABSENT: Value = Value::Null;

/// A value inside a document. It lives on the stack and borrows its parent, so that walking costs
/// nothing and a path is only built when there is something to report.
#[derive(Debug, Clone, Copy)]
pub struct Node<'n> {
    value: &'n Value,
    parent: Option<&'n Node<'n>>,
    step: NodeStep<'n>,
}

#[derive(Debug, Clone, Copy)]
enum NodeStep<'n> {
    Root,
    Field(&'n str),
    Index(usize),
}

impl<'n> Node<'n> {
    /// The whole of a document.
    pub fn root(value: &'n Value) -> Self {
        Self {
            value,
            parent: None,
            step: NodeStep::Root,
        }
    }

    /// The value itself; null when it is not written.
    pub fn value(&self) -> &'n Value {
        self.value
    }

    /// The field `name`, which may be absent.
    pub fn get<'s>(&'s self, name: &'s str) -> Node<'s> {
        // Comparing a few names costs less than hashing one.
        const FEW: usize = 16;
        let value = match self.value {
            Value::Mapping(fields) if fields.len() <= FEW => fields
                .iter()
                .find(|(key, _)| matches!(key, Value::String(key) if key == name))
                .map(|(_, value)| value),
            Value::Mapping(fields) => fields.get(name),
            _ => None,
        };
        self.child(name, value.unwrap_or(&ABSENT))
    }

    /// A field whose value is at hand.
    pub fn child<'s>(&'s self, name: &'s str, value: &'s Value) -> Node<'s> {
        Node {
            value,
            parent: Some(self),
            step: NodeStep::Field(name),
        }
    }

    /// An item of a list.
    pub fn item<'s>(&'s self, index: usize, value: &'s Value) -> Node<'s> {
        Node {
            value,
            parent: Some(self),
            step: NodeStep::Index(index),
        }
    }

    /// The items of a list; none when it is something else.
    pub fn items<'s>(&'s self) -> impl ExactSizeIterator<Item = Node<'s>> {
        let items: &'s [Value] = match self.value {
            Value::Sequence(items) => items,
            _ => &[],
        };
        items
            .iter()
            .enumerate()
            .map(|(index, value)| self.item(index, value))
    }

    /// The entries of a mapping that have text keys; none when it is something else.
    pub fn entries<'s>(&'s self) -> impl Iterator<Item = (&'s str, Node<'s>)> {
        self.value
            .as_mapping()
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| {
                let key = key.as_str()?;
                Some((key, self.child(key, value)))
            })
    }

    /// How many items or entries there are.
    pub fn len(&self) -> usize {
        match self.value {
            Value::Sequence(items) => items.len(),
            Value::Mapping(entries) => entries.len(),
            _ => 0,
        }
    }

    /// Whether there are no items or entries, or nothing is written at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether something other than null is written.
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// The text; empty when none is written.
    pub fn text(&self) -> &'n str {
        self.value.as_str().unwrap_or_default()
    }

    /// The number; 0 when none is written, the nearest one when it is out of range.
    pub fn integer(&self) -> i64 {
        match self.value {
            Value::Number(number) => number
                .as_i64()
                .or_else(|| number.as_u64().map(|_| i64::MAX))
                .unwrap_or_default(),
            _ => 0,
        }
    }

    /// The number; 0 when none is written.
    pub fn number(&self) -> f64 {
        self.value.as_f64().unwrap_or_default()
    }

    /// Whether `true` is written.
    pub fn is_true(&self) -> bool {
        self.value.as_bool() == Some(true)
    }

    /// The texts of a list.
    pub fn texts(&self) -> impl Iterator<Item = &'n str> + use<'n> {
        let items: &'n [Value] = match self.value {
            Value::Sequence(items) => items,
            _ => &[],
        };
        items.iter().filter_map(Value::as_str)
    }

    /// The way here, such as `spec.http[0].route`.
    pub fn path(&self) -> FieldPath {
        let mut steps: Vec<Step> = self
            .upwards()
            .filter_map(|node| match node.step {
                NodeStep::Root => None,
                NodeStep::Field(name) => Some(Step::Field(name.to_string())),
                NodeStep::Index(index) => Some(Step::Index(index)),
            })
            .collect();
        steps.reverse();
        FieldPath(steps)
    }

    /// This node and those around it, up to the root.
    fn upwards(&self) -> impl Iterator<Item = &Node<'n>> {
        std::iter::successors(Some(self), |node| node.parent)
    }

    /// The way here with all items of a list as one, such as `spec.http[].route`.
    pub fn pattern(&self) -> String {
        let mut pattern = match self.parent {
            Some(parent) => parent.pattern(),
            None => String::new(),
        };
        match self.step {
            NodeStep::Root => {}
            NodeStep::Field(name) => {
                if !pattern.is_empty() {
                    pattern.push('.');
                }
                pattern.push_str(name);
            }
            NodeStep::Index(_) => pattern.push_str("[]"),
        }
        pattern
    }

    /// A hash of [`Node::pattern`], made without building it.
    pub fn pattern_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for node in self.upwards() {
            match node.step {
                NodeStep::Root => {}
                NodeStep::Field(name) => name.hash(&mut hasher),
                NodeStep::Index(_) => "[]".hash(&mut hasher),
            }
        }
        hasher.finish()
    }

    /// The name of the field, or of the list whose item this is.
    pub fn name(&self) -> &'n str {
        match (self.step, self.parent) {
            (NodeStep::Field(name), _) => name,
            (_, Some(parent)) => parent.name(),
            (_, None) => "",
        }
    }
}
