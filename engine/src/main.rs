//! `ringroad`: a thread-per-core proxy that reads Istio YAML.
//!
//! [`cli`] reads the command line. [`control`] is the one thread that reloads, resolves and
//! answers the admin interface; [`worker`] and [`proxy`] carry the traffic on [`rt`], counted by
//! [`stats`].

mod alloc;
mod cli;
mod control;
#[allow(dead_code, unused_imports)]
mod proxy;
#[allow(dead_code, unused_imports)]
mod rt;
#[allow(dead_code, unused_imports)]
mod stats;
#[allow(dead_code, unused_imports)]
mod worker;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: alloc::CountingAllocator = alloc::CountingAllocator;

fn main() -> ExitCode {
    cli::main()
}
