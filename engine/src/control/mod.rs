//! The control side: one thread that reads the configuration, resolves names and answers the
//! admin interface. Workers never wait for it.

pub mod access_log;
pub mod access_log_sink;
pub mod config_dir;
pub mod cores;
pub mod descriptors;
pub mod logging;
