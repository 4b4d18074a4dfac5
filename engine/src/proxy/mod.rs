//! The data path: what happens to a downstream connection and its requests.
//!
//! [`exchange`] reads from top to bottom as the life of one request; the other files are its steps.

pub mod answer;
pub mod body;
pub mod connection;
pub mod deadline;
pub mod edits;
pub mod exchange;
pub mod format;
pub mod head_bytes;
mod labels;
pub mod local_reply;
pub mod record;
pub mod request_head;
pub mod request_id;
pub mod response_head;
pub mod target;
pub mod upstream;
