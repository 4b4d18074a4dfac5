//! What all workers share about clusters: which endpoints are ejected, and how much of each limit
//! is used. It is the only state that requests of different workers have in common.
//!
//! It costs a request nothing that it does not need: while nothing fails, a request reads shared
//! words and writes none; a limit that is not set is not counted; one that is set is leased to the
//! workers in blocks. It outlives snapshots: clusters go by their name, endpoints by their address.

mod cluster;
mod endpoint;
mod figures;
mod limit;
mod quota;
mod registry;
mod share;

pub use cluster::ClusterHealth;
pub use endpoint::EndpointHealth;
pub use registry::HealthRegistry;
pub use share::{ClusterShare, ConnectionSlot, EndpointShare, InFlight, RetryPermit};
