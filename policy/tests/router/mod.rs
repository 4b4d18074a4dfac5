//! Random services and requests, and a router that is obviously right.

mod drawn;
mod plain;
mod written;

pub use drawn::{ask, services};
pub use plain::{expanded, is_for_us, plain};
pub use written::yaml;

/// Regular expressions with what they mean, written out.
type Meaning = fn(&str) -> bool;
const REGEXES: [(&str, Meaning); 5] = [
    (".*", |_| true),
    ("/a.*", |text| text.starts_with("/a")),
    ("/[ab]/v1", |text| text == "/a/v1" || text == "/b/v1"),
    ("1|2", |text| text == "1" || text == "2"),
    ("[0-9]+", |text| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
    }),
];

#[derive(Clone, Debug)]
pub enum Text {
    Exact(&'static str),
    Prefix(&'static str),
    Regex(usize),
    Present,
}

#[derive(Clone, Debug, Default)]
pub struct Condition {
    pub uri: Option<Text>,
    pub ignore_case: bool,
    pub method: Option<Text>,
    pub authority: Option<Text>,
    pub headers: Vec<(&'static str, Text)>,
    pub without: Vec<(&'static str, Text)>,
    pub query: Vec<(&'static str, Text)>,
    pub port: u16,
    pub source_namespace: &'static str,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub matches: Vec<Condition>,
    /// Rules of another VirtualService that this one hands its requests to. Where this one has
    /// matches they have none, so that what they come to needs no thought.
    pub delegate: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub hosts: Vec<&'static str>,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub struct Ask {
    pub host: &'static str,
    pub path: &'static str,
    pub query: Option<&'static str>,
    pub method: &'static str,
    pub headers: Vec<(&'static str, &'static str)>,
}
