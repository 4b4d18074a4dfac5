//! What can be written: every kind, every field, its type and its range, and whether traffic
//! follows it yet.
//!
//! The facts stand in two tables, `kinds.tsv` and `fields.tsv`, which say how they are read. To
//! carry a field, change `no` to `yes` in its row; nothing else knows.

mod kinds;
mod node;
mod report;
mod scalar;
mod shape;
mod suggest;
mod table;
mod walk;

pub use kinds::{is_carried, is_known_anywhere, kind_of};
pub use node::Node;
pub use report::Report;
pub use scalar::{check_duration, check_integer, duration_ns};
pub use suggest::nearest;
pub use table::Kind;
pub use walk::check;
