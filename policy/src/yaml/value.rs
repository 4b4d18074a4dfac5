//! Builds a [`Value`] from parser events, under bounds, and refuses what a configuration may not
//! hold.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde_yaml::{Mapping, Value};

use super::{YamlLimits, code};

/// What may still be built of one file.
pub(super) struct Budget {
    nodes: usize,
    bytes: usize,
    depth: usize,
    /// What was met first that is refused, although a value may still have been built.
    pub refusal: Option<&'static str>,
}

impl Budget {
    pub(super) fn new(limits: &YamlLimits) -> Self {
        Self {
            nodes: limits.max_nodes,
            bytes: limits.max_expanded_bytes,
            depth: limits.max_depth,
            refusal: None,
        }
    }

    /// The values and the bytes of text that were built, if nothing was met that is refused.
    pub(super) fn used(&self, limits: &YamlLimits) -> Option<(usize, usize)> {
        let nodes = limits.max_nodes - self.nodes;
        let bytes = limits.max_expanded_bytes - self.bytes;
        self.refusal.is_none().then_some((nodes, bytes))
    }

    fn note(&mut self, refusal: &'static str) {
        self.refusal.get_or_insert(refusal);
    }

    fn refuse<E: Error>(&mut self, refusal: &'static str) -> E {
        self.note(refusal);
        E::custom("refused")
    }

    fn take_bytes<E: Error>(&mut self, count: usize) -> Result<(), E> {
        match self.bytes.checked_sub(count) {
            Some(left) => {
                self.bytes = left;
                Ok(())
            }
            None => Err(self.refuse(code::ALIAS_EXPANSION)),
        }
    }

    fn take_node<E: Error>(&mut self) -> Result<(), E> {
        match self.nodes.checked_sub(1) {
            Some(left) => {
                self.nodes = left;
                Ok(())
            }
            None => Err(self.refuse(code::TOO_MANY_NODES)),
        }
    }

    fn descend<E: Error>(&mut self) -> Result<(), E> {
        match self.depth.checked_sub(1) {
            Some(left) => {
                self.depth = left;
                Ok(())
            }
            None => Err(self.refuse(code::TOO_DEEP)),
        }
    }
}

/// Reads one node with all below it.
pub(super) struct Node<'b>(pub &'b mut Budget);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.take_node()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Number((value as f64).into()))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Number((value as f64).into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.0.take_bytes(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        self.0.take_bytes(value.len())?;
        Ok(Value::String(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.0.descend()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Node(self.0))? {
            list.push(item);
        }
        self.0.depth += 1;
        Ok(Value::Sequence(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.0.descend()?;
        let mut mapping = Mapping::new();
        while let Some(key) = entries.next_key_seed(Key(self.0))? {
            if key == "<<" {
                self.0.note(code::MERGE_KEY);
            }
            let value = entries.next_value_seed(Node(self.0))?;
            if mapping.insert(Value::String(key), value).is_some() {
                self.0.note(code::DUPLICATE_KEY);
            }
        }
        self.0.depth += 1;
        Ok(Value::Mapping(mapping))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        self.0.note(code::TAG);
        let (_, value) = tagged.variant_seed(Key(self.0))?;
        value.newtype_variant_seed(Node(self.0))
    }
}

/// Reads a key as the text that stands there, whatever its type would be: `8080:` and `on:` are
/// the keys `8080` and `on`, as in the JSON form of a Kubernetes object.
struct Key<'b>(&'b mut Budget);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        self.0.take_node()?;
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<String, E> {
        self.0.take_bytes(value.len())?;
        Ok(value.to_owned())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<String, E> {
        self.0.take_bytes(value.len())?;
        Ok(value)
    }

    fn visit_unit<E: Error>(self) -> Result<String, E> {
        Err(self.0.refuse(code::KEY_NOT_A_STRING))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(self.0.refuse(code::KEY_NOT_A_STRING))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(self.0.refuse(code::KEY_NOT_A_STRING))
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<String, E> {
        Err(E::invalid_type(Unexpected::Bytes(value), &self))
    }
}
