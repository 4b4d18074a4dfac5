//! Runs the simulation of `tests/fleet` for many seeds and tells whether anything was violated.
//!
//! `cargo run --release -p ringroad-policy --example simulate_fleet -- [SEEDS] [FIRST SEED]`

#[path = "../tests/fleet/mod.rs"]
mod fleet;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let (Ok(seeds), Ok(first)) = (
        numbers.next().unwrap_or(Ok(1000)),
        numbers.next().unwrap_or(Ok(0)),
    ) else {
        eprintln!("usage: simulate_fleet [SEEDS] [FIRST SEED]");
        return ExitCode::FAILURE;
    };
    let next = AtomicU64::new(first);
    let total = Mutex::new((fleet::Report::default(), 0_u64));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let ran = fleet::run(seed);
                    let mut total = total.lock().expect("no thread has panicked");
                    match ran {
                        Ok(report) => total.0.add(&report),
                        Err(violation) => {
                            total.1 += 1;
                            println!("VIOLATION {violation}");
                        }
                    }
                }
            });
        }
    });
    let (report, violations) = total.into_inner().expect("no thread has panicked");
    println!("{seeds} seeds, {violations} violations: {report:?}");
    ExitCode::from(u8::from(violations > 0))
}
