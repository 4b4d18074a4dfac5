//! Matches of one VirtualService that an equal one before them leaves nothing.

use std::collections::HashMap;

use serde_yaml::Value;

use crate::schema::{Node, Report};

/// Fields on which a request is matched besides its path. The compiler, which sees the routes of
/// all documents together, tells which paths are never reached.
const BESIDES_THE_PATH: [&str; 3] = ["headers", "withoutHeaders", "queryParams"];

/// Warns of equal matches in a list of routes: `http`, `tls` or `tcp`.
pub(super) fn check(routes: &Node<'_>, report: &mut Report<'_>) {
    let is_http = routes.name() == "http";
    let mut known: HashMap<Vec<&Value>, usize> = HashMap::new();
    for (at, route) in routes.items().enumerate() {
        let matches = route.get("match");
        let written = route.value().get("match").and_then(Value::as_sequence);
        for (one, value) in matches.items().zip(written.into_iter().flatten()) {
            let is_told_elsewhere = is_http
                && BESIDES_THE_PATH
                    .iter()
                    .all(|field| one.get(field).is_empty());
            if is_told_elsewhere {
                continue;
            }
            let first = *known.entry(conditions(value)).or_insert(at);
            if first != at {
                let name = routes.name();
                let message = format!("`{name}[{first}]` matches the same and takes everything");
                report.warning("duplicate-match", &one, message, "remove one of the two");
            }
        }
    }
}

/// What a match asks for, its name left out, in an order that does not depend on the author.
fn conditions(one: &Value) -> Vec<&Value> {
    let Value::Mapping(fields) = one else {
        return Vec::new();
    };
    let mut fields: Vec<_> = fields
        .iter()
        .filter(|(name, value)| name.as_str() != Some("name") && !value.is_null())
        .collect();
    fields.sort_by_key(|(name, _)| name.as_str());
    fields
        .into_iter()
        .flat_map(|(name, value)| [name, value])
        .collect()
}
