//! A routed request as it is written: its head, and what header values are rendered from.

use super::attempt::RoutedRequest;
use super::format::{Client, OnDemand, RequestFormat};
use super::request_head::UpstreamHead;
use std::net::SocketAddr;

impl RoutedRequest<'_> {
    /// What configured header values are rendered from.
    pub fn format<'f>(
        &'f self,
        client: Client<'f>,
        upstream: Option<SocketAddr>,
    ) -> RequestFormat<'f> {
        let (plan, seen) = (self.plan, self.seen);
        plan.format(seen, client, upstream, self.started, self.worker)
    }

    /// Appends the head of the `number`th try to `out`.
    pub fn write_head(&self, format: &OnDemand<'_, '_>, number: u32, out: &mut Vec<u8>) {
        UpstreamHead {
            seen: self.seen,
            path: &self.plan.path,
            query: self.plan.query,
            authority: self.plan.authority,
            original_path: self.plan.original_path.as_deref(),
            original_authority: self.plan.original_authority,
            attempt: number,
            timeout_ms: self.timeouts.expected_ms(number),
            is_grpc: self.is_grpc,
            edits: &self.plan.request_edits(),
            format,
        }
        .write(out);
    }
}
