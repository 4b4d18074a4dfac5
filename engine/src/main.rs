//! `ringroad`: a thread-per-core proxy that reads Istio YAML.
//!
//! [`cli`] reads the command line. [`control`] is the one thread that reloads, resolves and
//! answers the admin interface; [`worker`] and [`proxy`] carry the traffic on [`rt`], counted by
//! [`stats`]; what they share about clusters is in [`health`]. [`demo`] is the bookinfo application
//! to try it on.

mod alloc;
mod cli;
mod control;
mod demo;
mod health;
mod http2;
mod proxy;
// The seam is whole, whatever of it is in use today.
#[allow(dead_code, unused_imports)]
mod rt;
mod stats;
mod tls;
mod transport;
mod uptime;
mod worker;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: alloc::CountingAllocator = alloc::CountingAllocator;

fn main() -> ExitCode {
    cli::main()
}
