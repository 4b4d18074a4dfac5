//! Reads large texts in parts, two at a time: parsing is most of what a reload takes.
//!
//! Only what is in order comes out of here. A file in which any part is refused is read again from
//! its beginning, so that what is said about it does not depend on where it was cut.

use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::de::DeserializeSeed as _;
use serde_yaml::Value;

use super::YamlLimits;
use super::value::{Budget, Node};

/// Less text than this is read by the thread that asks.
const WORTH_A_THREAD_BYTES: usize = 64 * 1024;
/// What a thread takes at once, to the end of its last document.
const PART_BYTES: usize = 32 * 1024;

/// The documents of each file that is in order, empty ones among them; `None` for a file that has
/// to be read from its beginning. Files for which `is_cheap` does not hold are not looked into.
pub(super) fn read_ahead(
    texts: &[Cow<'_, str>],
    limits: &YamlLimits,
    is_cheap: impl Fn(&str) -> bool,
) -> Vec<Option<Vec<Value>>> {
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    let mut values = vec![None; texts.len()];
    if bytes < WORTH_A_THREAD_BYTES || bytes > limits.max_total_bytes {
        return values;
    }
    let cheap = texts
        .iter()
        .enumerate()
        .filter(|(_, text)| text.len() <= limits.max_file_bytes && is_cheap(text));
    let parts: Vec<(usize, &str)> = cheap
        .flat_map(|(at, text)| parts(text).into_iter().map(move |part| (at, part)))
        .collect();
    let read: Vec<Mutex<Option<Part>>> = parts.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    let read_next = || {
        while let Some((at, (_, text))) = take(&next, &parts) {
            *read[at].lock().unwrap_or_else(PoisonError::into_inner) = Part::read(text, limits);
        }
    };
    thread::scope(|scope| {
        // Without a second thread this one reads them all.
        let _ = thread::Builder::new().spawn_scoped(scope, read_next);
        read_next();
    });
    let mut read = read
        .into_iter()
        .map(|part| part.into_inner().ok().flatten());
    for of_file in parts.chunk_by(|(one, _), (other, _)| one == other) {
        let whole: Option<Vec<Part>> = read.by_ref().take(of_file.len()).collect();
        values[of_file[0].0] = whole.and_then(|parts| within(parts, limits));
    }
    values
}

fn take<'p, T>(next: &AtomicUsize, parts: &'p [T]) -> Option<(usize, &'p T)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    parts.get(at).map(|part| (at, part))
}

/// What a run of documents came to.
struct Part {
    values: Vec<Value>,
    nodes: usize,
    bytes: usize,
}

impl Part {
    fn read(text: &str, limits: &YamlLimits) -> Option<Self> {
        let mut budget = Budget::new(limits);
        let values: Result<Vec<Value>, _> = serde_yaml::Deserializer::from_str(text)
            .map(|document| Node(&mut budget).deserialize(document))
            .collect();
        let values = values.ok()?;
        let (nodes, bytes) = budget.used(limits)?;
        Some(Self {
            values,
            nodes,
            bytes,
        })
    }
}

/// All values of a file, if together they keep within what one file may hold.
fn within(parts: Vec<Part>, limits: &YamlLimits) -> Option<Vec<Value>> {
    let nodes: usize = parts.iter().map(|part| part.nodes).sum();
    let bytes: usize = parts.iter().map(|part| part.bytes).sum();
    let keeps = nodes <= limits.max_nodes && bytes <= limits.max_expanded_bytes;
    keeps.then(|| parts.into_iter().flat_map(|part| part.values).collect())
}

/// Cuts a text before lines that begin a document (YAML 1.2.2, 9.1.2: nothing else may begin a line
/// with three dashes and a blank).
fn parts(text: &str) -> Vec<&str> {
    const MARKER: &str = "---";
    let mut parts = Vec::new();
    let mut begun = 0;
    for (line_end, _) in text.match_indices("\n---") {
        let line = line_end + 1;
        let after = text.as_bytes().get(line + MARKER.len());
        let is_marker = matches!(after, None | Some(b' ' | b'\t' | b'\r' | b'\n'));
        if is_marker && line - begun >= PART_BYTES {
            parts.push(&text[begun..line]);
            begun = line;
        }
    }
    parts.push(&text[begun..]);
    parts
}
