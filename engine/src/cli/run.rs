//! `ringroad run`.

use std::process::ExitCode;

use ringroad_policy::settings::Overrides;

use super::{DriverArg, Format, RunArgs, TuningArgs, refuse_input};
use crate::control::process::{self, ProcessOptions};
use crate::rt::DriverChoice;

pub fn run(args: RunArgs) -> ExitCode {
    if let Some(first) = args.without_flag.first() {
        let first = first.display();
        let why = format!(
            "what is `{first}`? Directories are given by --config: ringroad run --config {first}"
        );
        return refuse_input(Format::Text, &why);
    }
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
