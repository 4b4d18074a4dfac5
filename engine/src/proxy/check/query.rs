//! What a service changes of the query of a request.

use std::collections::BTreeMap;

/// Changes of the parameters of a query.
#[derive(Default)]
pub struct QueryEdits {
    /// Names and values that take the place of all of that name.
    pub set: Vec<(String, String)>,
    /// Names that go, though they be set.
    pub remove: Vec<String>,
}

impl QueryEdits {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// A request target with its query changed. As in Envoy names are compared as they are written,
    /// and what comes of it is in the order of the names.
    pub fn apply(&self, target: &[u8]) -> Vec<u8> {
        let at = target.iter().position(|byte| *byte == b'?');
        let (path, query) = target.split_at(at.unwrap_or(target.len()));
        let query = String::from_utf8_lossy(query.get(1..).unwrap_or_default());
        let mut parameters = BTreeMap::<String, Vec<String>>::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let values = parameters.entry(name.to_string()).or_default();
            values.push(value.to_string());
        }
        for (name, value) in &self.set {
            parameters.insert(writable(name), vec![writable(value)]);
        }
        for name in &self.remove {
            parameters.remove(&writable(name));
        }
        let mut out = path.to_vec();
        let mut separator = b'?';
        for (name, values) in &parameters {
            for value in values {
                out.push(separator);
                out.extend_from_slice(name.as_bytes());
                out.push(b'=');
                out.extend_from_slice(value.as_bytes());
                separator = b'&';
            }
        }
        out
    }
}

/// Escapes what would end the target or the line that it stands in.
fn writable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'#' | ..=b' ' | 0x7f.. => out += &format!("%{byte:02X}"),
            byte => out.push(byte as char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_changed_as_envoy_does() {
        let edits = |set: &[(&str, &str)], remove: &[&str]| QueryEdits {
            set: set
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            remove: remove.iter().map(|name| name.to_string()).collect(),
        };
        for (target, set, remove, changed) in [
            ("/p", &[("a", "1")][..], &[][..], "/p?a=1"),
            ("/p?b=1&a=2&b=3", &[("c", "")], &[], "/p?a=2&b=1&b=3&c="),
            ("/p?b=1&&y&b=3", &[("b", "2")], &[], "/p?b=2&y="),
            ("/p?b=1", &[("a", "1")], &["a", "b"], "/p"),
            ("/p?%61=1", &[], &["a"], "/p?%61=1"),
            ("http://h/p?a", &[], &["a"], "http://h/p"),
            (
                "/p",
                &[("a b", "1 HTTP/1.1\r\nx: #\u{e9}&c=d")],
                &[],
                "/p?a%20b=1%20HTTP/1.1%0D%0Ax:%20%23%C3%A9&c=d",
            ),
        ] {
            let found = edits(set, remove).apply(target.as_bytes());
            assert_eq!(String::from_utf8(found).unwrap(), changed, "{target}");
        }
    }
}
