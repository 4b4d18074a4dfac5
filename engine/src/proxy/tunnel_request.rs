//! Asking a proxy upstream to connect TCP on. Istio: DestinationRule `trafficPolicy.tunnel`.

use super::connection::deadline_after;
use super::deadline::until;
use super::receive_head::receive_response_head;
use crate::rt::{self, Buffer, Chunk, Deadline};
use crate::transport::Transport;
use crate::worker::Worker;
use ringroad_codec::http1::ResponseHead;

/// Opens a tunnel to `target`, `HOST:PORT`, through the proxy at the other end of `upstream` (RFC
/// 9110 section 9.3.6). What came behind its answer belongs to the tunnel. `None`: it refused, or
/// has not answered within `patience_ms`.
pub async fn open_tunnel(
    worker: &Worker,
    upstream: &Transport,
    target: &str,
    patience_ms: u64,
) -> Option<Chunk> {
    let deadline = Deadline::new();
    deadline.set(deadline_after(rt::now(), patience_ms));
    let ask = async {
        let mut out = Buffer::lease();
        for part in [
            "CONNECT ",
            target,
            " HTTP/1.1\r\nhost: ",
            target,
            "\r\n\r\n",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
        upstream.send(out, Chunk::default()).await.ok()?;
        let limits = worker.limits();
        let mut unread = Chunk::default();
        let mut head = ResponseHead::default();
        loop {
            let received =
                receive_response_head(upstream, &mut unread, false, &limits.head, false, &mut head);
            received.await.ok()?;
            unread.advance(head.head_len);
            if !head.is_interim() {
                return (head.status == 200).then_some(unread);
            }
        }
    };
    until(&deadline, ask).await.ok().flatten()
}
