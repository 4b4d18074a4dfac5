//! The headers of a request as its upstream gets them, for balancers that hash: Envoy asks for the
//! key when the route has made its changes.

use super::connection::Connection;
use super::edits::EditLevels;
use super::format::RequestFormat;
use super::seen_head::SeenHead;
use super::target::Plan;
use crate::rt;
use ringroad_policy::snapshot::{HashKey, HeaderLookup};

struct OutgoingHeaders<'a> {
    seen: &'a SeenHead<'a>,
    plan: &'a Plan<'a>,
    edits: EditLevels<'a>,
    format: RequestFormat<'a>,
}

impl HeaderLookup for OutgoingHeaders<'_> {
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        match name {
            ":method" => each(self.seen.method()),
            ":scheme" => each(self.seen.scheme.as_bytes()),
            ":authority" | "host" => each(self.plan.authority.as_bytes()),
            ":path" => match self.plan.query {
                None => each(&self.plan.path),
                Some(query) => each(&[&self.plan.path, &b"?"[..], query.as_bytes()].concat()),
            },
            _ => {
                if self.edits.keeps(name.as_bytes(), &self.format) {
                    self.seen.visit(name, each);
                }
                self.edits.visit(name, &self.format, each);
            }
        }
    }
}

/// What the balancer of the plan's cluster goes by.
pub fn hash_key(plan: &Plan<'_>, connection: &Connection, seen: &SeenHead<'_>) -> HashKey {
    let Some(policy) = &plan.cluster.cluster.hash_policy else {
        return HashKey::default();
    };
    let headers = OutgoingHeaders {
        seen,
        plan,
        edits: plan.request_edits(),
        format: plan.format(seen, connection.told(), None, rt::now(), &connection.worker),
    };
    policy.key(&headers, plan.query, Some(connection.peer), || {
        connection.stream.local_addr().ok()
    })
}
