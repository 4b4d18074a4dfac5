//! `ringroad run`.

use std::process::ExitCode;

use ringroad_policy::settings::Overrides;

use super::{DriverArg, RunArgs, TuningArgs};
use crate::control::process::{self, ProcessOptions};
use crate::rt::DriverChoice;

pub fn run(args: RunArgs) -> ExitCode {
    process::run(&process_options(args.config, &args.tuning), |_| {})
}

/// What the flags ask for.
pub fn process_options(roots: Vec<std::path::PathBuf>, tuning: &TuningArgs) -> ProcessOptions {
    ProcessOptions {
        roots,
        overrides: Overrides {
            workers: tuning.workers.map(u32::from),
            admin_address: tuning.admin,
            ..Overrides::default()
        },
        driver: match tuning.driver {
            DriverArg::Auto => DriverChoice::Auto,
            DriverArg::IoUring => DriverChoice::IoUring,
            DriverArg::Epoll => DriverChoice::Epoll,
        },
        log_level: tuning.log_level,
    }
}
