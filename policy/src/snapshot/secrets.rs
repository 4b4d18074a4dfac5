//! What `Secret` documents hold. It is never shown.

use std::collections::BTreeMap;

/// The entries of all secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    by_name: BTreeMap<(String, String), BTreeMap<String, Vec<u8>>>,
}

impl Secrets {
    /// Adds the entries of `namespace/name`.
    pub fn insert(&mut self, namespace: &str, name: &str, entries: BTreeMap<String, Vec<u8>>) {
        let key = (namespace.to_string(), name.to_string());
        self.by_name.insert(key, entries);
    }

    /// The entries of a secret in one of these namespaces, the first that has it; else of one of
    /// that name in any other.
    pub fn find(&self, namespaces: &[&str], name: &str) -> Option<&BTreeMap<String, Vec<u8>>> {
        let mut wanted = namespaces.iter();
        let here = wanted.find_map(|namespace| {
            let key = (namespace.to_string(), name.to_string());
            self.by_name.get(&key)
        });
        let anywhere = || {
            let mut all = self.by_name.iter();
            all.find(|((_, known), _)| known == name)
                .map(|(_, entries)| entries)
        };
        here.or_else(anywhere)
    }

    /// The entries of a secret in this namespace.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&BTreeMap<String, Vec<u8>>> {
        let key = (namespace.to_string(), name.to_string());
        self.by_name.get(&key)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.by_name.len())
    }
}
