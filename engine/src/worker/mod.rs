//! The workers: one thread a core, each with its own ring, listeners, pools and counters.

mod context;
mod fleet;
mod listeners;
mod rules;
mod shared;
mod sockets;
mod view;

pub use context::{Worker, WorkerLimits};
pub use fleet::{Fleet, FleetOptions, ListenError, StartError};
pub use listeners::ListenerSlot;
pub use rules::Rules;
