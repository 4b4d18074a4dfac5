//! The tables of kinds and fields, read once from their files.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Everything that is known about what can be written.
pub static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::read(include_str!("kinds.tsv"), include_str!("fields.tsv"))
        .expect("the tables are part of the program, and a test reads them")
});

/// All kinds and the types of their fields.
#[derive(Debug)]
pub struct Table {
    pub kinds: Vec<Kind>,
    types: Vec<Type>,
    by_name: HashMap<&'static str, TypeId>,
}

/// Index of a type in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeId(usize);

/// A kind of document.
#[derive(Debug)]
pub struct Kind {
    /// Empty for the core group of Kubernetes.
    pub group: &'static str,
    pub versions: Vec<&'static str>,
    pub name: &'static str,
    pub fields: TypeId,
    /// Whether the fields stand beside `metadata` and not under `spec`.
    pub at_root: bool,
    /// Whether traffic follows documents of this kind.
    pub carried: bool,
}

/// A mapping with fields of fixed names.
#[derive(Debug)]
pub struct Type {
    pub name: &'static str,
    /// Sorted by name.
    pub fields: Vec<Field>,
    /// The names of the fields, close together: they are compared one by one.
    names: Vec<&'static str>,
    /// The fields, a bit for each, whose absence has to be looked at: those that are required or
    /// have a default.
    pub missed: u64,
    /// At most one field of each of these sets may be written.
    pub one_of: Vec<Vec<usize>>,
}

/// A field of a [`Type`].
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub repeat: Repeat,
    pub shape: Shape,
    pub carried: Carried,
    pub rules: Rules,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    One,
    List,
    /// Values under names of the author's choice.
    Map,
}

/// What happens with a field at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    Yes,
    No,
    /// None of a proxy's business.
    Ignored,
}

#[derive(Debug)]
pub enum Shape {
    Text,
    Bool,
    Int32,
    Uint32,
    Uint64,
    Number,
    Duration,
    Base64,
    Any,
    PortOrName,
    /// One word of a set.
    Words(Vec<Word>),
    /// One word of a set, in any case of letters; any other text is left to validation.
    Protocol(Vec<Word>),
    Object(TypeId),
}

/// A word of a set.
#[derive(Debug)]
pub struct Word {
    pub text: &'static str,
    pub carried: bool,
}

/// What else holds for a field.
#[derive(Debug, Default)]
pub struct Rules {
    pub required: bool,
    /// Smallest value; milliseconds for a duration.
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub min_length: usize,
    pub max_length: Option<usize>,
    pub min_items: usize,
    pub max_items: Option<usize>,
    /// The word that counts when none is written.
    pub default: Option<&'static str>,
    /// The field of the type that a value alone is meant for.
    pub meant: Option<&'static str>,
}

impl Table {
    /// The fields of a type.
    pub fn type_of(&self, id: TypeId) -> &Type {
        &self.types[id.0]
    }

    /// The type with this name.
    pub fn type_named(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    fn read(kinds: &'static str, fields: &'static str) -> Result<Self, String> {
        let rows: Vec<Vec<&str>> = rows(fields).collect();
        let mut by_name = HashMap::new();
        let mut types: Vec<Type> = Vec::new();
        for row in &rows {
            let [name, ..] = row[..] else { continue };
            by_name.entry(name).or_insert_with(|| {
                types.push(Type {
                    name,
                    fields: Vec::new(),
                    names: Vec::new(),
                    missed: 0,
                    one_of: Vec::new(),
                });
                TypeId(types.len() - 1)
            });
        }
        let mut alternatives = Vec::new();
        for row in &rows {
            let [owner, name, shape, carried, rules] = row[..] else {
                return Err(format!("not five columns: {row:?}"));
            };
            let owner = by_name[owner];
            if name == "-" {
                alternatives.push((owner, rules));
                continue;
            }
            let field = read_field(name, shape, carried, rules, &by_name)
                .map_err(|error| format!("{row:?}: {error}"))?;
            types[owner.0].fields.push(field);
        }
        for found in &mut types {
            found.fields.sort_by_key(|field| field.name);
            if found.fields.len() > u64::BITS as usize {
                return Err(format!("{} has more fields than a mask", found.name));
            }
            if found
                .fields
                .windows(2)
                .any(|two| two[0].name == two[1].name)
            {
                return Err(format!("{} has a field twice", found.name));
            }
            for (at, field) in found.fields.iter().enumerate() {
                found.names.push(field.name);
                if field.rules.required || field.rules.default.is_some() {
                    found.missed |= 1 << at;
                }
            }
        }
        for (owner, rules) in alternatives {
            let names = rules.strip_prefix("one-of=").ok_or("expected one-of=")?;
            let one_of = names
                .split('|')
                .map(|name| types[owner.0].position(name).ok_or(name))
                .collect::<Result<_, _>>()
                .map_err(|name| format!("{} has no field {name}", types[owner.0].name))?;
            types[owner.0].one_of.push(one_of);
        }
        for field in types.iter().flat_map(|found| &found.fields) {
            let has = |name| matches!(field.shape, Shape::Object(id) if types[id.0].position(name).is_some());
            if let Some(meant) = field.rules.meant
                && !has(meant)
            {
                return Err(format!("{} has no field {meant}", field.name));
            }
        }
        let kinds = self::rows(kinds)
            .map(|row| read_kind(&row, &by_name))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            kinds,
            types,
            by_name,
        })
    }
}

impl Type {
    /// Where a field stands in [`Type::fields`].
    pub fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| *known == name)
    }
}

fn rows(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split('\t').collect())
}

fn read_kind(
    row: &[&'static str],
    by_name: &HashMap<&'static str, TypeId>,
) -> Result<Kind, String> {
    let [group, versions, name, place, carried] = row[..] else {
        return Err(format!("not five columns: {row:?}"));
    };
    Ok(Kind {
        group,
        versions: versions.split(',').collect(),
        name,
        fields: *by_name.get(name).ok_or(format!("no fields of {name}"))?,
        at_root: place == "root",
        carried: carried == "yes",
    })
}

fn read_field(
    name: &'static str,
    shape: &'static str,
    carried: &'static str,
    rules: &'static str,
    by_name: &HashMap<&'static str, TypeId>,
) -> Result<Field, String> {
    let (repeat, single) = if let Some(item) = shape.strip_prefix("[]") {
        (Repeat::List, item)
    } else if let Some(value) = shape.strip_prefix("map ") {
        (Repeat::Map, value)
    } else {
        (Repeat::One, shape)
    };
    let shape = match single {
        "text" => Shape::Text,
        "bool" => Shape::Bool,
        "int32" => Shape::Int32,
        "uint32" => Shape::Uint32,
        "uint64" => Shape::Uint64,
        "number" => Shape::Number,
        "duration" => Shape::Duration,
        "base64" => Shape::Base64,
        "any" => Shape::Any,
        "port-or-name" => Shape::PortOrName,
        other => {
            if let Some(words) = other.strip_prefix("one of ") {
                Shape::Words(read_words(words))
            } else if let Some(words) = other.strip_prefix("protocol ") {
                Shape::Protocol(read_words(words))
            } else {
                Shape::Object(*by_name.get(other).ok_or("unknown shape")?)
            }
        }
    };
    let carried = match carried {
        "yes" => Carried::Yes,
        "no" => Carried::No,
        "ignored" => Carried::Ignored,
        _ => return Err("carried is yes, no or ignored".to_string()),
    };
    Ok(Field {
        name,
        repeat,
        shape,
        carried,
        rules: read_rules(rules)?,
    })
}

fn read_words(words: &'static str) -> Vec<Word> {
    words
        .split('|')
        .map(|word| match word.strip_prefix('~') {
            Some(text) => Word {
                text,
                carried: false,
            },
            None => Word {
                text: word,
                carried: true,
            },
        })
        .collect()
}

fn read_rules(text: &'static str) -> Result<Rules, String> {
    let mut rules = Rules::default();
    for rule in text.split(' ').filter(|rule| *rule != "-") {
        let (name, value) = rule.split_once('=').unwrap_or((rule, ""));
        let number = || {
            let digits = value.strip_suffix("ms").unwrap_or(value);
            digits.parse::<f64>().map_err(|error| error.to_string())
        };
        let count = || value.parse::<usize>().map_err(|error| error.to_string());
        match name {
            "required" => rules.required = true,
            "min" => rules.min = Some(number()?),
            "max" => rules.max = Some(number()?),
            "min-length" => rules.min_length = count()?,
            "max-length" => rules.max_length = Some(count()?),
            "min-items" => rules.min_items = count()?,
            "max-items" => rules.max_items = Some(count()?),
            "default" => rules.default = Some(value),
            "meant" => rules.meant = Some(value),
            _ => return Err(format!("unknown rule {name}")),
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_read() {
        let table = Table::read(include_str!("kinds.tsv"), include_str!("fields.tsv"));
        let table = table.unwrap_or_else(|error| panic!("{error}"));
        assert!(table.type_named("VirtualService").is_some());
    }

    #[test]
    fn refuses_rows_that_mean_nothing() {
        let refused = |fields| Table::read("", fields).map(|_| ()).unwrap_err();
        assert!(refused("A\tb\ttext\tyes").contains("five columns"));
        assert!(refused("A\tb\ttext\tperhaps\t-").contains("carried"));
        assert!(refused("A\tb\tNothing\tyes\t-").contains("unknown shape"));
        assert!(refused("A\tb\ttext\tyes\tsome").contains("unknown rule"));
        assert!(refused("A\tb\ttext\tyes\t-\nA\tb\ttext\tno\t-").contains("twice"));
        assert!(refused("A\tb\tB\tyes\tmeant=d\nB\tc\ttext\tyes\t-").contains("no field d"));
        assert!(refused("A\tb\ttext\tyes\tmeant=d").contains("no field d"));
    }

    #[test]
    fn every_type_is_reached_from_a_kind() {
        let mut reached = vec![false; TABLE.types.len()];
        let mut open: Vec<TypeId> = TABLE.kinds.iter().map(|kind| kind.fields).collect();
        open.extend(TABLE.type_named("ObjectMeta"));
        while let Some(id) = open.pop() {
            if std::mem::replace(&mut reached[id.0], true) {
                continue;
            }
            for field in &TABLE.type_of(id).fields {
                if let Shape::Object(inner) = field.shape {
                    open.push(inner);
                }
            }
        }
        let unused: Vec<_> = TABLE
            .types
            .iter()
            .zip(reached)
            .filter_map(|(found, reached)| (!reached).then_some(found.name))
            .collect();
        assert_eq!(unused, [] as [&str; 0]);
    }
}
