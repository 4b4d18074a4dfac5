//! The data path: what happens to a downstream connection and its requests.
//!
//! [`exchange`] reads from top to bottom as the life of one request, [`attempt`] as one try of it,
//! [`upstream_exchange`] as what passes on one upstream connection; the other files are their
//! steps.

pub mod accept;
pub mod admission;
mod answer;
pub mod attempt;
pub mod body;
pub mod check;
mod client_cert;
mod client_side;
pub mod connection;
pub mod cors;
pub mod deadline;
pub mod edits;
pub mod exchange;
pub mod fault;
mod filters;
pub mod format;
pub mod grpc;
mod labels;
pub mod local_reply;
pub mod mirror;
mod pool;
pub mod proxy_header;
mod receive_head;
pub mod record;
pub mod replay;
pub mod request_head;
pub mod request_id;
pub mod response_head;
pub mod retries;
mod seen_head;
mod send_stall;
mod shared_pool;
mod start_time;
mod stream_end;
pub mod target;
pub mod timeouts;
pub mod tunnel;
pub mod tunnel_record;
mod tunnel_request;
pub mod upstream;
mod upstream_connection;
mod upstream_exchange;
pub mod upstream_tls;
mod written_request;
