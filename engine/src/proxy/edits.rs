//! Applying the header operations of routes and destinations.

use super::cors::CorsGrant;
use ringroad_policy::snapshot::{
    FormatContext, HeaderEdits, HeaderLevels, HeaderValue, HeaderWrite,
};

/// The header operations that apply to one head, in the order of application.
#[derive(Default, Clone, Copy)]
pub struct EditLevels<'a> {
    levels: HeaderLevels<'a>,
    /// The last word on a response.
    cors: Option<CorsGrant<'a>>,
}

impl<'a> EditLevels<'a> {
    /// The destination's operations, then the route's.
    pub fn new(destination: &'a HeaderEdits, route: &'a HeaderEdits) -> Self {
        HeaderLevels::new(destination, route).into()
    }

    /// The same, and what a cross-origin request is granted.
    pub fn with_cors(self, cors: Option<CorsGrant<'a>>) -> Self {
        Self { cors, ..self }
    }

    /// The same, and what somebody who was asked about the request adds.
    pub fn with_check(self, check: &'a HeaderEdits) -> Self {
        let levels = self.levels.with_check(check);
        Self { levels, ..self }
    }

    /// The operations of a route that answers by itself.
    pub fn of_route(route: &'a HeaderEdits) -> Self {
        HeaderLevels::of_route(route).into()
    }

    /// Whether there is nothing to do.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.cors.is_none() && self.levels.is_empty()
    }

    /// Whether the operations give the head a line of this lower-case name: one with a value.
    #[inline]
    pub fn gives(&self, name: &str, format: &impl FormatContext) -> bool {
        let mut is_given = false;
        if !self.is_empty() {
            self.levels.visit(name, format, &mut |_| is_given = true);
        }
        is_given
    }

    /// Whether some operation writes a header of this lower-case name.
    pub fn writes(&self, name: &str) -> bool {
        self.levels.writes(name)
    }

    /// Whether a header that is there stays: no level removes it or sets it to something.
    #[inline]
    pub fn keeps(&self, name: &[u8], format: &impl FormatContext) -> bool {
        self.is_empty() || self.nothing_replaces(name, format)
    }

    fn nothing_replaces(&self, name: &[u8], format: &impl FormatContext) -> bool {
        let is_replaced = |cors: &CorsGrant<'_>| cors.replaces(name);
        !self.cors.as_ref().is_some_and(is_replaced) && self.levels.keeps(name, format)
    }

    /// Appends the lines that the operations write.
    #[inline]
    pub fn write(&self, format: &impl FormatContext, out: &mut Vec<u8>) {
        self.write_but(|_| false, format, out);
    }

    /// The same without the lines of names that `is_taken` by what is there.
    #[inline]
    pub fn write_but(
        &self,
        is_taken: impl Fn(&str) -> bool,
        format: &impl FormatContext,
        out: &mut Vec<u8>,
    ) {
        if !self.is_empty() {
            self.write_lines(is_taken, format, out);
        }
    }

    fn write_lines(
        &self,
        is_taken: impl Fn(&str) -> bool,
        format: &impl FormatContext,
        out: &mut Vec<u8>,
    ) {
        let is_written = |line: &HeaderWrite| {
            let replaces = |cors: &CorsGrant<'_>| cors.replaces(line.name.as_bytes());
            !self.cors.as_ref().is_some_and(replaces) && !is_taken(&line.name)
        };
        self.levels.visit_lines(format, is_written, &mut |line| {
            write_line(&line.name, &line.value, format, out)
        });
        if let Some(cors) = &self.cors {
            cors.write(out);
        }
    }
}

impl<'a> From<HeaderLevels<'a>> for EditLevels<'a> {
    fn from(levels: HeaderLevels<'a>) -> Self {
        Self { levels, cors: None }
    }
}

/// Appends one line; none when a formatted value turns out to have no value at all.
fn write_line(name: &str, value: &HeaderValue, format: &impl FormatContext, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let value_start = out.len();
    if value.render(format, out) || matches!(value, HeaderValue::Literal(_)) {
        // A formatted value carries what the client sent: it must not end the line early.
        out[value_start..]
            .iter_mut()
            .filter(|b| matches!(b, b'\r' | b'\n' | 0))
            .for_each(|b| *b = b' ');
        out.extend_from_slice(b"\r\n");
    } else {
        out.truncate(start);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use ringroad_policy::snapshot::{Operator, WriteMode};

    /// Operators have no values.
    pub(in super::super) struct NoValues;
    impl FormatContext for NoValues {
        fn render(&self, _: &Operator, _: &mut Vec<u8>) -> bool {
            false
        }

        fn response_has(&self, _: &str) -> bool {
            false
        }
    }

    fn edits(remove: &[&str], write: &[(&str, &str, WriteMode)]) -> HeaderEdits {
        HeaderEdits {
            remove: remove.iter().map(|name| name.to_string()).collect(),
            write: write
                .iter()
                .map(|(name, value, mode)| HeaderWrite {
                    name: name.to_string(),
                    value: HeaderValue::Literal(value.to_string()),
                    mode: *mode,
                })
                .collect(),
        }
    }

    #[test]
    fn the_route_wins_over_the_destination() {
        let destination = edits(
            &[],
            &[("a", "1", WriteMode::Set), ("b", "1", WriteMode::Add)],
        );
        let route = edits(
            &["b"],
            &[("a", "2", WriteMode::Set), ("c", "3", WriteMode::Add)],
        );
        let levels = EditLevels::new(&destination, &route);
        let mut out = Vec::new();
        levels.write(&NoValues, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "a: 2\r\nc: 3\r\n");
        assert!(
            !levels.keeps(b"A", &NoValues),
            "a set header replaces the one that came"
        );
        assert!(
            levels.keeps(b"C", &NoValues),
            "an added header stands beside the one that came"
        );
    }

    #[test]
    fn an_empty_value_replaces_nothing() {
        let format = HeaderValue::parse("%REQ(x)%").expect("a value");
        let mut route = edits(&[], &[("a", "1", WriteMode::Set)]);
        for name in ["a", "b"] {
            route.write.push(HeaderWrite {
                name: name.to_string(),
                value: format.clone(),
                mode: WriteMode::Set,
            });
        }
        let levels = EditLevels::of_route(&route);
        assert!(levels.keeps(b"b", &NoValues));
        let mut out = Vec::new();
        levels.write(&NoValues, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "a: 1\r\n");
    }

    #[test]
    fn what_one_level_adds_stays_beside_what_it_sets() {
        let mut route = edits(&[], &[("a", "added", WriteMode::Add)]);
        route.append(&edits(&[], &[("a", "set", WriteMode::Set)]));
        let mut out = Vec::new();
        EditLevels::of_route(&route).write(&NoValues, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "a: set\r\na: added\r\n");
    }
}
