//! The workers as the control thread needs them.

use std::sync::Arc;

use ringroad_policy::snapshot::Snapshot;

use crate::tls::CertificateReport;

/// The workers: they take snapshots and can be drained.
pub trait DataPath: Send + Sync + 'static {
    /// Takes `snapshot` into use and returns its generation.
    ///
    /// # Errors
    /// Why it cannot be used; the one before stays.
    fn publish(&self, snapshot: Arc<Snapshot>) -> Result<u64, String>;

    /// One entry a worker, in order.
    fn workers(&self) -> Vec<Worker>;

    /// The certificates in use.
    fn certificates(&self) -> Vec<CertificateReport>;

    /// How many sets of certificates cannot be read; what was in use stays.
    fn certificate_problems(&self) -> usize;

    /// Stops accepting and lets requests finish.
    fn drain(&self);

    fn is_draining(&self) -> bool;
}

/// A worker, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    pub id: usize,
    /// Downstream connections that are open.
    pub connections: usize,
    /// The snapshot that it uses.
    pub generation: u64,
}
