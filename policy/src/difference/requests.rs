//! Recorded requests, shown to both configurations.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use serde::Serialize;

use super::Side;
use super::access_log::{Line, Recorded, parse_line};
use super::fate::{Fate, shortened};
use super::inference::{as_asked, by_port, decide, is_consistent};
use super::reason::{self, Part};
use super::same_route::Services;
use super::structure::Detail;
use crate::explain::Written;
use crate::explain::places::locate;
use crate::inquiry::Decided;
use crate::source::Origin;

/// Requests of which the verdict is remembered.
const MAX_REMEMBERED: usize = 100_000;
/// Requests that a group names.
const MAX_EXAMPLES: usize = 3;
/// Longest request in an example, in characters.
const MAX_EXAMPLE_CHARS: usize = 120;
/// Lines that could not be read and are named.
const MAX_NAMED_LINES: usize = 5;

/// How requests of a group differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum GroupKind {
    /// Another cluster, other shares or endpoints, another path or host, another answer.
    Elsewhere,
    /// The same place, with another timeout, other headers and the like.
    Treatment,
}

/// Requests that one change concerns.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    pub kind: GroupKind,
    pub requests: u64,
    /// How many of them go elsewhere: where shares change, only a part does.
    pub moved: u64,
    pub from: String,
    pub to: String,
    /// What differs, the place among it.
    pub details: Vec<Detail>,
    pub why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_route: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_route: Option<Written>,
    pub examples: Vec<String>,
    /// Headers that the new configuration asks for and the log does not have, with the number of
    /// requests that they might send another way.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown_headers: BTreeMap<String, u64>,
}

/// What the log comes to under the two configurations.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestDifference {
    /// That were read and judged.
    pub requests: u64,
    pub same: u64,
    /// Requests in groups of [`GroupKind::Elsewhere`].
    pub elsewhere: u64,
    /// Those of them that arrive at another place, by the shares.
    pub moved: u64,
    pub treated_differently: u64,
    /// Requests that stay as they are unless they have headers that the log does not record, by
    /// header.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown_headers: BTreeMap<String, u64>,
    /// Requests that went another way than the old configuration says: it is not the one that
    /// the log was written under, or headers decided that the log does not have.
    pub contradicted: u64,
    /// Lines about what no route decides: refused heads, CONNECT, `OPTIONS *`, connections of TCP.
    pub unrouted_lines: u64,
    pub unreadable_lines: u64,
    /// Numbers of the first of them, from 1.
    pub first_unreadable: Vec<u64>,
    /// The largest first.
    pub groups: Vec<Group>,
}

/// A group whose places have no line yet.
struct Draft {
    kind: GroupKind,
    requests: u64,
    moved_share: f64,
    from: String,
    to: String,
    details: Vec<Detail>,
    why: Vec<Part>,
    routes: [Option<(String, Option<Origin>)>; 2],
    examples: Vec<String>,
    unknown_headers: BTreeMap<String, u64>,
}

/// What is remembered of a request.
#[derive(Clone)]
struct Verdict {
    group: Option<usize>,
    is_contradicted: bool,
    unknown_headers: Vec<String>,
}

/// A comparison that takes a log line by line.
pub struct Comparison<'s> {
    old: Side<'s>,
    new: Side<'s>,
    services: [Services; 2],
    fates: [HashMap<u64, Rc<Fate>>; 2],
    verdicts: HashMap<Recorded, Verdict>,
    groups: Vec<Draft>,
    by_key: HashMap<String, usize>,
    outcome: RequestDifference,
    lines: u64,
}

impl<'s> Comparison<'s> {
    pub fn new(old: Side<'s>, new: Side<'s>) -> Self {
        Self {
            old,
            new,
            services: [Services::of(old), Services::of(new)],
            fates: Default::default(),
            verdicts: HashMap::new(),
            groups: Vec::new(),
            by_key: HashMap::new(),
            outcome: RequestDifference::default(),
            lines: 0,
        }
    }

    /// Judges the request of a line of the log; empty lines count for nothing.
    pub fn add_line(&mut self, line: &str) {
        self.lines += 1;
        if line.trim().is_empty() {
            return;
        }
        let recorded = match parse_line(line) {
            Some(Line::Request(recorded)) => recorded,
            Some(Line::Unrouted) => {
                self.outcome.unrouted_lines += 1;
                return;
            }
            None => {
                self.outcome.unreadable_lines += 1;
                if self.outcome.first_unreadable.len() < MAX_NAMED_LINES {
                    self.outcome.first_unreadable.push(self.lines);
                }
                return;
            }
        };
        self.outcome.requests += 1;
        let known = self.verdicts.get(&recorded).cloned();
        let verdict = known.unwrap_or_else(|| {
            let verdict = self.judge(&recorded);
            if self.verdicts.len() < MAX_REMEMBERED {
                self.verdicts.insert(recorded, verdict.clone());
            }
            verdict
        });
        self.outcome.contradicted += u64::from(verdict.is_contradicted);
        let unknown = match verdict.group {
            None => {
                self.outcome.same += 1;
                &mut self.outcome.unknown_headers
            }
            Some(at) => {
                self.groups[at].requests += 1;
                &mut self.groups[at].unknown_headers
            }
        };
        for name in verdict.unknown_headers {
            *unknown.entry(name).or_default() += 1;
        }
    }

    fn judge(&mut self, recorded: &Recorded) -> Verdict {
        let (sides, port) = ((self.old, self.new), recorded.port);
        let old_knows = by_port(sides.0, port).next().is_some();
        let (asked, old) = as_asked(sides.0, recorded);
        let is_contradicted = !is_consistent(old.route, recorded);
        let new = decide(sides.1, &asked, old_knows);
        let unknown_headers = unknown_headers(&old, &new, &asked.headers);
        let [from, to] = [self.fate(0, &old), self.fate(1, &new)];
        let mut differences = from.differences(&to);
        differences.extend(from.cluster_differences(&to));
        let group = match differences.is_empty() {
            true => None,
            false => Some(self.group(&asked, [&old, &new], [&from, &to], differences)),
        };
        Verdict {
            group,
            is_contradicted,
            unknown_headers,
        }
    }

    fn fate(&mut self, at: usize, decided: &Decided<'_>) -> Rc<Fate> {
        let side = if at == 0 { self.old } else { self.new };
        match decided.route {
            None => Rc::new(Fate::of_decided(decided, side)),
            Some(route) => {
                let known = self.fates[at].entry(route.identity);
                known
                    .or_insert_with(|| Rc::new(Fate::of_route(route, side)))
                    .clone()
            }
        }
    }

    fn group(
        &mut self,
        asked: &Recorded,
        [old, new]: [&Decided<'_>; 2],
        [from, to]: [&Fate; 2],
        differences: Vec<(String, String, String)>,
    ) -> usize {
        let key_of = |decided: &Decided<'_>, fate: &Fate| {
            let identity = decided.route.map(|route| route.identity);
            format!("{identity:?} {}", fate.in_words())
        };
        let key = format!("{} {}", key_of(old, from), key_of(new, to));
        let next = self.groups.len();
        let at = *self.by_key.entry(key).or_insert(next);
        if at == next {
            let named = |decided: &Decided<'_>| {
                let route = decided.route?;
                Some((route.name.clone(), route.origin.clone()))
            };
            let goes_elsewhere = !from.goes_where(to);
            self.groups.push(Draft {
                kind: match goes_elsewhere {
                    true => GroupKind::Elsewhere,
                    false => GroupKind::Treatment,
                },
                requests: 0,
                moved_share: if goes_elsewhere { from.moved(to) } else { 0.0 },
                from: from.in_words(),
                to: to.in_words(),
                details: Detail::of(differences),
                why: self.why([old, new], [from, to]),
                routes: [named(old), named(new)],
                examples: Vec::new(),
                unknown_headers: BTreeMap::new(),
            });
        }
        let examples = &mut self.groups[at].examples;
        if examples.len() < MAX_EXAMPLES {
            let Recorded {
                method,
                authority,
                target,
                ..
            } = asked;
            let example = format!("{method} {authority}{target}");
            examples.push(shortened(&example, MAX_EXAMPLE_CHARS));
        }
        at
    }

    fn why(&self, [old, new]: [&Decided<'_>; 2], [from, to]: [&Fate; 2]) -> Vec<Part> {
        let services = (&self.services[0], &self.services[1]);
        let is_same_route =
            from.differences(to).is_empty() && reason::is_counterpart(old, new, services);
        match is_same_route {
            true => reason::of_clusters(&from.changed_clusters(to), [self.old, self.new], services),
            false => reason::of(old, new, services),
        }
    }

    /// The outcome of all lines.
    pub fn finish(self) -> RequestDifference {
        let origins = |at: usize| {
            let routes = self
                .groups
                .iter()
                .filter_map(move |group| group.routes[at].as_ref());
            routes.filter_map(|(_, origin)| origin.clone())
        };
        let places = [
            locate(self.old.files, origins(0)),
            locate(self.new.files, origins(1)),
        ];
        let mut outcome = self.outcome;
        for draft in self.groups {
            let group = draft.finish(&places);
            match group.kind {
                GroupKind::Elsewhere => {
                    outcome.elsewhere += group.requests;
                    outcome.moved += group.moved;
                }
                GroupKind::Treatment => outcome.treated_differently += group.requests,
            }
            outcome.groups.push(group);
        }
        outcome
            .groups
            .sort_by(|a, b| a.kind.cmp(&b.kind).then(b.requests.cmp(&a.requests)));
        outcome
    }
}

impl Draft {
    fn finish(self, places: &[HashMap<Origin, Written>; 2]) -> Group {
        let written = |at: usize| {
            let (_, origin) = self.routes[at].as_ref()?;
            places[at].get(origin.as_ref()?).cloned()
        };
        let route = |at: usize| {
            let name = self.routes[at]
                .as_ref()
                .map_or("", |(name, _)| name.as_str());
            let name = match name {
                "" => String::new(),
                name => format!(" `{name}`"),
            };
            match written(at) {
                Some(place) => format!("route{name} ({place})"),
                None => format!("the mesh's own route{name}"),
            }
        };
        let parts = self.why.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::OldRoute => route(0),
            Part::NewRoute => route(1),
        });
        let why = parts.collect::<String>();
        let [old_route, new_route] = [written(0), written(1)];
        Group {
            kind: self.kind,
            requests: self.requests,
            moved: (self.requests as f64 * self.moved_share).round() as u64,
            from: self.from,
            to: self.to,
            details: self.details,
            why,
            old_route,
            new_route,
            examples: self.examples,
            unknown_headers: self.unknown_headers,
        }
    }
}

/// Headers on which the new decision hangs, of which the log knows nothing. What the old
/// configuration asks for as well, the log has answered.
fn unknown_headers(
    old: &Decided<'_>,
    new: &Decided<'_>,
    headers: &[(String, String)],
) -> Vec<String> {
    let mut unknown = Vec::new();
    for passed in &new.passed_over {
        let Some(name) = &passed.header else { continue };
        let is_known = headers.iter().any(|(known, _)| known == name)
            || old
                .passed_over
                .iter()
                .any(|other| other.because == passed.because)
            || unknown.contains(name);
        if !is_known {
            unknown.push(name.clone());
        }
    }
    unknown
}
