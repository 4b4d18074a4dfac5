//! Documents of one kind, namespace and name, of which a cluster would keep the last.

use std::collections::HashMap;

use crate::diagnostic::{Diagnostic, Place};
use crate::schema;
use crate::source::{FieldPath, Origin};
use crate::yaml::Document;

/// Warns of each document that says it is another one before it.
pub fn check(documents: &[Document], diagnostics: &mut Vec<Diagnostic>) {
    let mut first: HashMap<(&str, &str, &str, &str), &Document> = HashMap::new();
    let name = FieldPath::root().field("metadata").field("name");
    for document in documents {
        let group = document.api_version.rsplit_once('/').map_or("", |(g, _)| g);
        // Other kinds count neither once nor twice, and several ProxySettings are refused
        // whatever their names.
        let counts =
            group.is_empty() || group == "discovery.k8s.io" || group.ends_with(".istio.io");
        if document.name.is_empty() || !counts || !schema::is_carried(group, &document.kind) {
            continue;
        }
        let Document {
            kind, namespace, ..
        } = document;
        let key = (
            group,
            kind.as_str(),
            namespace.as_str(),
            document.name.as_str(),
        );
        let earlier = *first.entry(key).or_insert(document);
        if earlier.id == document.id {
            continue;
        }
        let message = format!(
            "there is a {kind} `{namespace}/{}` already: both count here, a cluster would keep \
             the last",
            document.name
        );
        let place = Place::field(document.id, name.clone());
        let other = Origin {
            document: earlier.id,
            field: name.clone(),
        };
        diagnostics.push(
            Diagnostic::warning("duplicate-document", place, message)
                .with_help("remove one of the two, or give it a name of its own")
                .with_related(other, "the first one"),
        );
    }
}
