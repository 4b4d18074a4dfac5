//! Istio resources as written, validated, compiled into one immutable [`snapshot::Snapshot`],
//! and the decisions taken from it.
//!
//! This crate is pure: it opens no file or socket and reads no clock. Time and randomness are
//! arguments. Reading of large texts is shared with a second thread, which has ended when the call
//! returns. The order of the pipeline is the order of the modules:
//! [`source`] → [`yaml`] → [`schema`] → [`validate`] → [`resource`] → [`compile`] →
//! [`snapshot`] → decisions; [`explain`] retells a decision, [`routing_tests`] hold decisions
//! against what was expected, [`difference`] those of two configurations against each other.
#![forbid(unsafe_code)]

pub mod authenticate;
pub mod authorize;
pub mod compile;
pub mod diagnostic;
pub mod difference;
pub mod explain;
mod grpc_status;
pub mod health;
mod inquiry;
mod load;
mod pem;
pub mod re2;
pub mod resource;
pub mod routing_tests;
pub mod rules;
pub mod schema;
pub mod settings;
pub mod snapshot;
pub mod source;
pub mod validate;
pub mod yaml;

pub use load::{Loaded, load};
