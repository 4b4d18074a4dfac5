//! What a decision may ask about a request.

use super::connection::ConnectionFacts;
use crate::authenticate::Claims;

/// A request as the matchers see it. The path is normalised and has no query.
#[derive(Clone, Copy)]
pub struct RequestFacts<'a> {
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The Host header or the authority of the request target, as sent, with its port.
    pub authority: &'a str,
    pub path: &'a str,
    /// What follows the question mark.
    pub query: Option<&'a str>,
    pub headers: &'a dyn HeaderLookup,
    /// What it came on.
    pub connection: &'a ConnectionFacts,
    /// What its verified token says.
    pub claims: Option<&'a Claims>,
}

/// Access to header fields by name.
pub trait HeaderLookup {
    /// Calls `each` with every value of the field `name` (lower-case), in order.
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8]));
}

/// Plain pairs are a lookup: for `explain`, for tests, for tools.
impl<N: AsRef<str>, V: AsRef<[u8]>> HeaderLookup for [(N, V)] {
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        for (key, value) in self {
            if key.as_ref().eq_ignore_ascii_case(name) {
                each(value.as_ref());
            }
        }
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> HeaderLookup for Vec<(N, V)> {
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.as_slice().visit(name, each);
    }
}
