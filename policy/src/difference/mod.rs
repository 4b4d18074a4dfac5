//! Two configurations side by side: what changed, and which recorded requests would go elsewhere.

mod access_log;
mod fate;
mod inference;
mod left_out;
mod reason;
mod report;
mod requests;
mod same_route;
mod structure;
mod unrouted;

use crate::snapshot::Snapshot;
use crate::source::SourceFile;

pub use access_log::{Line, Recorded, parse_line};
pub use report::{render_requests, render_structure};
pub use requests::{Comparison, Group, GroupKind, RequestDifference};
pub use structure::{Change, ChangeKind, Detail, StructureDifference, structure};

/// One of the two.
#[derive(Debug, Clone, Copy)]
pub struct Side<'s> {
    pub snapshot: &'s Snapshot,
    /// What it was loaded from.
    pub files: &'s [SourceFile],
}
