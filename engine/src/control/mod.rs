//! The control side: one thread that reads the configuration, resolves names and answers the
//! admin interface. Workers never wait for it.

pub mod access_log;
pub mod admin;
pub mod config_dir;
pub mod cores;
pub mod data_path;
pub mod descriptors;
pub mod dns;
mod ejections;
pub mod fleet;
mod footprint;
pub mod line_sink;
pub mod load;
pub mod logging;
pub mod metrics;
pub mod process;
pub mod reload;
mod stalls;
pub mod status;
pub mod token_keys;
mod watch;
