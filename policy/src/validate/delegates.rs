//! VirtualServices that hand requests to each other in a circle.

use std::collections::HashMap;

use serde_yaml::Value;

use crate::diagnostic::{Diagnostic, Place};
use crate::source::{FieldPath, Origin};
use crate::yaml::Document;

/// A VirtualService by namespace and name.
type Name<'d> = (&'d str, &'d str);

/// A route that delegates.
struct Edge<'d> {
    target: Name<'d>,
    document: &'d Document,
    /// Place in `http`.
    route: usize,
}

/// How far the search got with a VirtualService.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Done,
}

/// Refuses circles of `http[].delegate` among the documents, at the route that closes each.
pub fn check(documents: &[Document], diagnostics: &mut Vec<Diagnostic>) {
    let mut edges: HashMap<Name<'_>, Vec<Edge<'_>>> = HashMap::new();
    let mut names = Vec::new();
    for document in documents {
        if document.kind != "VirtualService" {
            continue;
        }
        let name = (document.namespace.as_str(), document.name.as_str());
        for edge in delegations(document) {
            names.push(name);
            edges.entry(name).or_default().push(edge);
        }
    }
    let mut states: HashMap<Name<'_>, State> = HashMap::new();
    for start in names {
        if states.contains_key(&start) {
            continue;
        }
        states.insert(start, State::Open);
        // A stack of our own: a chain may be as long as there are documents.
        let mut way = vec![(start, 0)];
        while let Some((here, next)) = way.last_mut() {
            let Some(edge) = edges.get(here).and_then(|edges| edges.get(*next)) else {
                states.insert(*here, State::Done);
                way.pop();
                continue;
            };
            *next += 1;
            match states.get(&edge.target) {
                Some(State::Open) => diagnostics.push(circle(&way, edge)),
                Some(State::Done) => {}
                None => {
                    states.insert(edge.target, State::Open);
                    way.push((edge.target, 0));
                }
            }
        }
    }
}

fn circle(way: &[(Name<'_>, usize)], closing: &Edge<'_>) -> Diagnostic {
    let inside = way
        .iter()
        .map(|(name, _)| *name)
        .skip_while(|name| *name != closing.target);
    let names: Vec<String> = inside
        .chain([closing.target])
        .map(|(namespace, name)| format!("{namespace}/{name}"))
        .collect();
    let field = FieldPath::root()
        .field("spec")
        .field("http")
        .index(closing.route)
        .field("delegate");
    let place = Place::Field(Origin {
        document: closing.document.id,
        field,
    });
    let message = format!("requests are delegated in a circle: {}", names.join(" → "));
    Diagnostic::error("delegate-cycle", place, message)
        .with_help("let the last of them hold its routes itself")
}

fn delegations(document: &Document) -> impl Iterator<Item = Edge<'_>> {
    let routes = document
        .value
        .get("spec")
        .and_then(|spec| spec.get("http"))
        .and_then(Value::as_sequence);
    let numbered = routes.into_iter().flatten().enumerate();
    numbered.filter_map(|(route, value)| {
        let delegate = value.get("delegate")?;
        let text = |field| delegate.get(field).and_then(Value::as_str);
        let namespace = text("namespace").filter(|namespace| !namespace.is_empty());
        Some(Edge {
            target: (namespace.unwrap_or(&document.namespace), text("name")?),
            document,
            route,
        })
    })
}
