//! The headers of a request as its upstream gets them, for balancers that hash: Envoy asks for the
//! key when the route has made its changes.

use super::header_levels::HeaderLevels;
use super::headers::FormatContext;
use super::request::HeaderLookup;
use super::request_values::RequestValues;

/// What came, what the route makes of the request line, and the operations on headers. What the
/// proxy tells an upstream about the try itself, such as `x-envoy-attempt-count`, is no part of it.
pub struct UpstreamHeaders<'a, C> {
    pub values: RequestValues<'a>,
    pub edits: HeaderLevels<'a>,
    /// What the values of the operations are rendered from.
    pub format: &'a C,
}

impl<C: FormatContext> HeaderLookup for UpstreamHeaders<'_, C> {
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let RequestValues { head, target, .. } = &self.values;
        let Some(head) = head else { return };
        match name {
            ":method" => each(head.method),
            ":scheme" => each(head.scheme.as_bytes()),
            ":authority" | "host" => each(target.authority.as_bytes()),
            ":path" => match target.query {
                None => each(target.path),
                Some(query) => each(&[target.path, &b"?"[..], query.as_bytes()].concat()),
            },
            _ => {
                if self.edits.keeps(name.as_bytes(), self.format) {
                    head.headers.visit(name, each);
                }
                self.edits.visit(name, self.format, each);
            }
        }
    }
}
