//! Ringroad beside its peers: what a request costs each of them on one core.
//!
//! `compare` is the command to run; the others are its parts, which can be used on their own.

mod certificates;
mod compare;
mod figures;
mod load;
mod load_http2;
mod measure;
mod payload;
mod peer_config;
mod peers;
mod probe;
mod process;
mod provided;
mod relay;
mod relay_monoio;
mod reload;
mod report;
mod response;
mod routes_config;
mod rows;
mod schedule;
mod statistics;
mod storm;
mod sys;
mod upstream;
mod wire;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::load::LoadPlan;
use crate::measure::Durations;
use crate::payload::Payload;
use crate::peers::Peer;

#[derive(Parser)]
#[command(about = "Measures Ringroad beside nginx, HAProxy, Envoy and a bare relay")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all proxies side by side and print what a request costs each
    Compare(CompareOptions),
    /// Time reloads from the file to every worker, idle and under full load
    Reload(ReloadOptions),
    /// Reload many times under load and count what went wrong
    ReloadStorm(StormOptions),
    /// Offer a load to one address and print what came back
    Load(LoadOptions),
    /// Serve the answers that the proxies fetch
    Upstream {
        #[arg(long, default_value = "127.0.0.1:9080")]
        listen: SocketAddr,
    },
    /// Relay on a bare io_uring ring: the floor
    Relay(RelayOptions),
    /// Relay on monoio
    RelayMonoio(RelayOptions),
}

#[derive(Args)]
struct CompareOptions {
    /// Rounds that have to count for each row; for those judged by p99, three times as many
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Only the rows of the figures to reach, and shorter runs
    #[arg(long)]
    quick: bool,
    /// Proxies to measure
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Peer::ALL)]
    peers: Vec<Peer>,
    /// Rows to run, by name; `*` stands for any text, `memory` and `memory-tls` for the memory
    /// tables
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Print the names of the rows and end
    #[arg(long)]
    list: bool,
    /// Seconds measured in a run [default: 2, with --quick 1]
    #[arg(long)]
    seconds: Option<f64>,
    /// Seconds measured in a run that tells user space from the kernel
    #[arg(long, default_value_t = 10.0)]
    split_seconds: f64,
    /// Let rounds count that were disturbed from outside
    #[arg(long)]
    accept_disturbed: bool,
    /// A Ringroad binary to measure instead of building one
    #[arg(long)]
    ringroad: Option<PathBuf>,
    /// Where results go
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"))]
    directory: PathBuf,
}

#[derive(Args)]
struct SubjectOptions {
    /// A Ringroad binary to use instead of building one
    #[arg(long)]
    ringroad: Option<PathBuf>,
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Where configuration, logs and results go
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench/reload"))]
    directory: PathBuf,
}

#[derive(Args)]
struct ReloadOptions {
    #[command(flatten)]
    subject: SubjectOptions,
    /// Numbers of routes
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000])]
    routes: Vec<usize>,
    /// Reloads for each number of routes, idle and under load
    #[arg(long, default_value_t = 100)]
    reloads: usize,
}

#[derive(Args)]
struct StormOptions {
    #[command(flatten)]
    subject: SubjectOptions,
    #[arg(long, default_value_t = 200)]
    reloads: usize,
    /// Requests a second while it lasts
    #[arg(long, default_value_t = 5_000.0)]
    rate: f64,
    /// A request that takes longer than this many milliseconds is late
    #[arg(long, default_value_t = 250)]
    late_ms: u64,
}

#[derive(Args)]
struct LoadOptions {
    target: SocketAddr,
    #[arg(long, value_enum, default_value = "128")]
    payload: Payload,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests a second [default: as many as go]
    #[arg(long)]
    rate: Option<f64>,
    /// How many of them are due at the same moment; 1 spreads them evenly
    #[arg(long, default_value_t = 1, requires = "rate")]
    at_once: usize,
    /// A new connection for each request
    #[arg(long)]
    connection_per_request: bool,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

#[derive(Args)]
struct RelayOptions {
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    #[arg(long, default_value = "127.0.0.1:9080")]
    upstream: SocketAddr,
    #[arg(long, default_value_t = 32 * 1024)]
    buffer_bytes: usize,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringroad-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> io::Result<()> {
    match command {
        Command::Compare(options) => compare(options),
        Command::Reload(options) => reload(options),
        Command::ReloadStorm(options) => reload_storm(options),
        Command::Load(options) => load(&options),
        Command::Upstream { listen } => {
            sys::raise_descriptor_limit()?;
            upstream::serve(listen)
        }
        Command::Relay(options) => {
            sys::raise_descriptor_limit()?;
            relay::serve(options.listen, options.upstream, options.buffer_bytes)
        }
        Command::RelayMonoio(options) => {
            sys::raise_descriptor_limit()?;
            relay_monoio::serve(options.listen, options.upstream, options.buffer_bytes)
        }
    }
}

/// A flag that SIGINT and SIGTERM raise, so that a run ends its children before it ends itself.
fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [libc::SIGINT, libc::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn compare(options: CompareOptions) -> io::Result<()> {
    let (rows, memory) = compare::choose(options.quick, &options.rows);
    if options.list {
        print!("{}", compare::list(&rows));
        return Ok(());
    }
    if rows.is_empty() && memory.is_empty() {
        return Err(io::Error::other(
            "no row has such a name; --list shows them",
        ));
    }
    let seconds = options
        .seconds
        .unwrap_or(if options.quick { 1.0 } else { 2.0 });
    let plan = compare::Plan {
        peers: options.peers,
        rounds: options.rounds,
        rows,
        memory,
        durations: Durations {
            warm_up: Duration::from_millis(if options.quick { 200 } else { 400 }),
            measured: Duration::from_secs_f64(seconds),
            split: Duration::from_secs_f64(options.split_seconds),
        },
        accept_disturbed: options.accept_disturbed,
        ringroad: options.ringroad,
        directory: options.directory,
    };
    let report = compare::run(&plan, &*stop_flag()?)?;
    let text = report.text();
    println!("\n{text}");
    let stem = plan.directory.join(format!("compare-{}", report.unix_time));
    fs::write(stem.with_extension("txt"), &text)?;
    let json = stem.with_extension("json");
    fs::write(&json, serde_json::to_vec_pretty(&report)?)?;
    println!("every run is in {}", json.display());
    if report.interrupted {
        Err(io::ErrorKind::Interrupted.into())
    } else {
        Ok(())
    }
}

impl SubjectOptions {
    fn binary(&self) -> io::Result<PathBuf> {
        self.ringroad
            .clone()
            .map_or_else(compare::build_ringroad, Ok)
    }
}

fn reload(options: ReloadOptions) -> io::Result<()> {
    sys::raise_descriptor_limit()?;
    let plan = reload::Plan {
        ringroad: options.subject.binary()?,
        workers: options.subject.workers,
        routes: options.routes,
        reloads: options.reloads,
        directory: options.subject.directory,
    };
    let times = reload::run(&plan, &*stop_flag()?)?;
    let json = plan.directory.join("reload.json");
    fs::write(&json, serde_json::to_vec_pretty(&times)?)?;
    println!("every time is in {}", json.display());
    Ok(())
}

fn reload_storm(options: StormOptions) -> io::Result<()> {
    sys::raise_descriptor_limit()?;
    let plan = storm::Plan {
        ringroad: options.subject.binary()?,
        workers: options.subject.workers,
        directory: options.subject.directory,
        reloads: options.reloads,
        rate: options.rate,
        late: Duration::from_millis(options.late_ms),
    };
    storm::run(&plan, &*stop_flag()?)
}

fn load(options: &LoadOptions) -> io::Result<()> {
    sys::raise_descriptor_limit()?;
    let plan = LoadPlan {
        rate: options.rate,
        at_once: options.at_once,
        connection_per_request: options.connection_per_request,
        measured: Duration::from_secs_f64(options.seconds),
        ..LoadPlan::to(options.target, options.payload, options.connections)
    };
    let outcome = load::run(&plan, &*stop_flag()?, |_| Ok(()))?;
    let latency = |part| outcome.latency.value_at_quantile(part) as f64 / 1e3;
    println!(
        "{} responses, {} a second; p50 {:.0} µs, p99 {:.0} µs, longest {:.0} µs",
        outcome.responses,
        statistics::thousands(outcome.responses as f64 / outcome.elapsed.as_secs_f64()),
        latency(0.5),
        latency(0.99),
        outcome.latency.max() as f64 / 1e3,
    );
    println!(
        "{} reconnects, {} of the schedule not sent",
        outcome.reconnects, outcome.unsent
    );
    for (fault, count) in &outcome.faults {
        println!("fault: {count} × {fault}");
    }
    if outcome.faults.is_empty() {
        Ok(())
    } else {
        Err(io::Error::other("not all answers are right"))
    }
}
