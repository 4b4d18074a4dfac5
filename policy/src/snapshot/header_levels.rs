//! What several levels of the configuration make of one head together.

use super::headers::{FormatContext, HeaderEdits, HeaderWrite, WriteMode};

/// The header operations that apply to one head, in the order of application.
#[derive(Debug, Default, Clone, Copy)]
pub struct HeaderLevels<'a> {
    levels: [Option<&'a HeaderEdits>; 3],
}

impl<'a> HeaderLevels<'a> {
    /// The destination's operations, then the route's.
    #[inline]
    pub fn new(destination: &'a HeaderEdits, route: &'a HeaderEdits) -> Self {
        Self {
            levels: [used(destination), used(route), None],
        }
    }

    /// The operations of a route that answers by itself.
    #[inline]
    pub fn of_route(route: &'a HeaderEdits) -> Self {
        Self {
            levels: [None, used(route), None],
        }
    }

    /// The same, and after them what somebody who was asked about the request adds.
    #[inline]
    pub fn with_check(mut self, check: &'a HeaderEdits) -> Self {
        self.levels[2] = used(check);
        self
    }

    /// Whether there is nothing to do.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.levels.iter().all(Option::is_none)
    }

    /// Whether some operation writes a header of this lower-case name.
    pub fn writes(&self, name: &str) -> bool {
        self.used()
            .any(|edits| edits.write.iter().any(|line| line.name == name))
    }

    /// Whether a header that is there stays: no level removes it or sets it to something.
    pub fn keeps(&self, name: &[u8], format: &impl FormatContext) -> bool {
        self.used().all(|edits| {
            let same = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            !edits.remove.iter().any(|removed| same(removed))
                && !edits
                    .write
                    .iter()
                    .any(|w| w.mode.replaces() && same(&w.name) && w.value.is_written(format))
        })
    }

    /// Calls `each` with the values that the operations write for a header of this lower-case name.
    pub fn visit(&self, name: &str, format: &impl FormatContext, each: &mut dyn FnMut(&[u8])) {
        let is_asked = |line: &HeaderWrite| line.name == name;
        self.visit_lines(format, is_asked, &mut |line| {
            let mut value = Vec::new();
            if line.value.render(format, &mut value) {
                each(&value);
            }
        });
    }

    /// Calls `each` with the lines, of those that are `asked` for, that are written in the end. A
    /// later `set` takes an earlier line of the same name back, and so does a removal by a later
    /// level.
    pub fn visit_lines(
        &self,
        format: &impl FormatContext,
        asked: impl Fn(&HeaderWrite) -> bool,
        each: &mut dyn FnMut(&HeaderWrite),
    ) {
        for (at, edits) in self.levels.iter().enumerate() {
            let Some(edits) = edits else { continue };
            for (line, write) in edits.write.iter().enumerate().filter(|(_, w)| asked(w)) {
                let set_later = |w: &[HeaderWrite]| {
                    w.iter().any(|w| {
                        w.mode == WriteMode::Set
                            && w.name == write.name
                            && w.value.is_written(format)
                    })
                };
                let undone = set_later(&edits.write[line + 1..])
                    || self.levels[at + 1..]
                        .iter()
                        .flatten()
                        .any(|later| later.remove.contains(&write.name) || set_later(&later.write));
                let applies = match write.mode {
                    WriteMode::Set | WriteMode::Add => true,
                    WriteMode::AddIfAbsent => !format.response_has(&write.name),
                    WriteMode::SetIfPresent => format.response_has(&write.name),
                };
                if applies && !undone {
                    each(write);
                }
            }
        }
    }

    fn used(&self) -> impl Iterator<Item = &'a HeaderEdits> {
        self.levels.iter().flatten().copied()
    }
}

fn used(edits: &HeaderEdits) -> Option<&HeaderEdits> {
    (!edits.is_empty()).then_some(edits)
}
