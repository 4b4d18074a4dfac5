//! Whether endpoints are fit to be sent to: outlier detection, and how many retries may be under
//! way at once.
//!
//! Everything here is a plain value. The engine keeps [`FailureCounts`] in one shared word for each
//! endpoint and one [`Detector`] for each cluster, and hands the time in as milliseconds of a clock
//! that never goes back.

mod detector;
mod failures;
mod retry_budget;

pub use detector::{Detector, Ejection, Verdict};
pub use failures::{EjectionCause, FailureCounts, Triggered, TryOutcome};
pub use retry_budget::{RequestWindow, RetryBudget};
