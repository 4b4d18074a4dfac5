//! Frames of HTTP/2 as they pass by (RFC 9113 section 4.1): enough of them to tell an honest peer
//! from one that keeps us busy. Decoding them is somebody else's.

mod conduct;
mod walk;

pub use conduct::{Conduct, ConductLimits, Misconduct, ResetCounts};
pub use walk::{FrameHead, FrameKind, FrameWalk};
