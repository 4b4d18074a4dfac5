//! The side-by-side run: rounds in which every proxy is measured once, in an order that rotates.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::figures;
use crate::load::{self, LoadPlan};
use crate::measure::{Durations, Sample, measure};
use crate::payload::Payload;
use crate::peers::{self, Peer, Running, Setup};
use crate::process;
use crate::report::{Memory, Missing, Report, Round, RowResult};
use crate::rows::{self, Front, Row};
use crate::wire::Security;

/// How often a single disturbed run is repeated before its round is given up.
const RUN_ATTEMPTS: usize = 3;
/// Rounds begun, for each round that is wanted.
const ROUND_ATTEMPTS: usize = 3;
/// Idle connections between which the memory slope is taken.
const IDLE_CONNECTIONS: [usize; 2] = [1_000, 5_000];
/// Time for a proxy to come to rest before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);

/// What to compare.
pub struct Plan {
    pub peers: Vec<Peer>,
    pub rounds: usize,
    pub rows: Vec<Row>,
    /// On which listeners the memory of idle connections is measured.
    pub memory: Vec<Front>,
    pub durations: Durations,
    /// Let disturbed rounds count; the report marks them.
    pub accept_disturbed: bool,
    /// A binary to use instead of building one.
    pub ringroad: Option<PathBuf>,
    /// Where results and the proxies' files go.
    pub directory: PathBuf,
}

struct Bench<'a> {
    plan: &'a Plan,
    stop: &'a AtomicBool,
    programs: BTreeMap<Peer, PathBuf>,
    upstream: Running,
    scratch: PathBuf,
    begun: Instant,
}

/// Runs the plan, prints as it goes, and returns the report. Whatever ends it, no child stays.
pub fn run(plan: &Plan, stop: &AtomicBool) -> io::Result<Report> {
    let ringroad = match &plan.ringroad {
        Some(binary) => binary.clone(),
        None if plan.peers.iter().any(|peer| peer.is_ringroad()) => build_ringroad()?,
        None => PathBuf::new(),
    };
    crate::sys::raise_descriptor_limit()?;
    crate::sys::pin_to_core(peers::LOAD_CORE)?;
    fs::create_dir_all(&plan.directory)?;
    // Absolute, since nginx takes it as such.
    let directory = plan.directory.canonicalize()?;
    let scratch = directory.join(format!("run-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let mut missing = Vec::new();
    let mut programs = BTreeMap::new();
    for peer in &plan.peers {
        match peer.find(&ringroad) {
            Some(program) => drop(programs.insert(*peer, program)),
            None => {
                let hint = peer.install_hint();
                println!("{} is missing: {hint}", peer.label());
                missing.push(Missing {
                    peer: *peer,
                    reason: format!("not installed: {hint}"),
                });
            }
        }
    }
    let upstream = peers::start_upstream(Some(peers::LOAD_CORE), &scratch, "upstream")?;
    let bench = Bench {
        plan,
        stop,
        programs,
        upstream,
        scratch,
        begun: Instant::now(),
    };
    let mut report = Report {
        unix_time: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs()),
        interrupted: false,
        missing,
        rows: Vec::new(),
        memory: Vec::new(),
    };
    let ended = bench.fill(&mut report);
    report.interrupted = matches!(&ended, Err(error) if error.kind() == io::ErrorKind::Interrupted);
    let scratch = bench.scratch.clone();
    drop(bench);
    if report.interrupted {
        println!("interrupted: what was measured so far follows");
    } else {
        ended?;
    }
    // The logs of the proxies are of use only after a failure.
    fs::remove_dir_all(scratch)?;
    Ok(report)
}

/// Lets cargo build the proxy, if it is not up to date, and returns where it is.
pub fn build_ringroad() -> io::Result<PathBuf> {
    println!("building ringroad (release)");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args([
        "build",
        "--release",
        "--quiet",
        "-p",
        "ringroad",
        "--bin",
        "ringroad",
    ]);
    let status = command.current_dir(&workspace).status()?;
    if !status.success() {
        return Err(io::Error::other("ringroad could not be built"));
    }
    let own = std::env::current_exe()?;
    let target = own
        .parent()
        .and_then(Path::parent)
        .ok_or(io::ErrorKind::NotFound)?;
    Ok(target.join("release/ringroad"))
}

impl Bench<'_> {
    fn fill(&self, report: &mut Report) -> io::Result<()> {
        for (index, row) in self.plan.rows.iter().enumerate() {
            self.say(&format!(
                "row {} of {}: {}",
                index + 1,
                self.plan.rows.len(),
                row.title()
            ));
            // What a row has before it is interrupted is kept.
            let mut result = RowResult::new(*row);
            let ended = self.row(&mut result);
            report.rows.push(result);
            ended?;
        }
        for front in &self.plan.memory {
            let title = match front {
                Front::Tls => "memory over TLS",
                _ => "memory",
            };
            for (peer, program) in &self.programs {
                if !Row::memory_is_of(*front, *peer) {
                    continue;
                }
                self.say(&format!("{title}: {}", peer.label()));
                match self.memory(*peer, program, *front) {
                    Ok(memory) => report.memory.push(memory),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                    Err(error) => {
                        report.missing.push(Missing {
                            peer: *peer,
                            reason: error.to_string(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        println!("[{:>5.0} s] {text}", self.begun.elapsed().as_secs_f64());
    }

    fn start(&self, peer: Peer, program: &Path, bulk: bool, front: Front) -> io::Result<Running> {
        let upstream = self.upstream.address;
        peers::start(
            peer,
            &Setup {
                program,
                upstream,
                directory: &self.scratch,
                bulk,
                front,
            },
        )
    }

    fn row(&self, result: &mut RowResult) -> io::Result<()> {
        let mut running = Vec::new();
        let bulk = result.row.payload == Payload::Large;
        let taking_part = |peer: &Peer| result.row.measures(*peer);
        for (peer, program) in self.programs.iter().filter(|(peer, _)| taking_part(peer)) {
            match self.start(*peer, program, bulk, result.row.front()) {
                Ok(proxy) => running.push((*peer, proxy)),
                Err(error) => {
                    self.say(&format!("{} left out: {error}", peer.label()));
                    result.left_out.push(Missing {
                        peer: *peer,
                        reason: error.to_string(),
                    });
                }
            }
        }
        let rounds = self.plan.rounds * figures::rounds_factor(&result.row);
        let mut turn = 0;
        while result.rounds.len() < rounds && turn < rounds * ROUND_ATTEMPTS && !running.is_empty()
        {
            running.rotate_left(usize::from(turn > 0));
            turn += 1;
            let mut round = Round::default();
            let mut faulty = None;
            for (peer, proxy) in &running {
                let sample = self.run_until_clean(*peer, proxy, &result.row)?;
                if let Some(fault) = &sample.fault {
                    self.say(&format!(
                        "{}: {fault}: the run does not count",
                        peer.label()
                    ));
                    faulty = Some((*peer, fault.clone()));
                    break;
                }
                round.samples.push(sample);
            }
            if let Some((peer, reason)) = faulty {
                result.repeated += 1;
                // Twice is no accident: the others go on without it.
                let failed_before = result.faults.insert(peer, reason.clone()).is_some();
                if failed_before {
                    running.retain(|(other, _)| *other != peer);
                    result.left_out.push(Missing { peer, reason });
                }
                continue;
            }
            round.disturbed = round
                .samples
                .iter()
                .any(|sample| sample.disturbance.is_some());
            self.say(&round.line(turn));
            if round.disturbed && !self.plan.accept_disturbed {
                result.repeated += 1;
                result.discarded.push(round);
            } else {
                result.rounds.push(round);
            }
        }
        Ok(())
    }

    /// Repeats a run at once when it was disturbed, so that the round stays one round.
    fn run_until_clean(&self, peer: Peer, proxy: &Running, row: &Row) -> io::Result<Sample> {
        let own = [std::process::id()];
        let once = || measure(peer, proxy, row, &self.plan.durations, &own, self.stop);
        let mut sample = once()?;
        for _ in 1..RUN_ATTEMPTS {
            let disturbed = sample.disturbance.is_some() && !self.plan.accept_disturbed;
            if !disturbed || sample.fault.is_some() {
                break;
            }
            sample = once()?;
        }
        Ok(sample)
    }

    fn memory(&self, peer: Peer, program: &Path, front: Front) -> io::Result<Memory> {
        let proxy = self.start(peer, program, false, front)?;
        let settle = || {
            std::thread::sleep(SETTLE);
            match self.stop.load(Ordering::Relaxed) {
                true => Err(io::Error::from(io::ErrorKind::Interrupted)),
                false => Ok(()),
            }
        };
        settle()?;
        let empty_bytes = process::resident_bytes(proxy.pid())?;
        let mut plan = LoadPlan::to(proxy.address, Payload::Small, 1);
        if front == Front::Tls {
            plan.security = Security::tls(false)?;
        }
        let mut held = Vec::new();
        let (mut resident, mut without_files) = ([0; 2], [0; 2]);
        for (step, count) in IDLE_CONNECTIONS.iter().enumerate() {
            held.extend(load::open_idle(&plan, count - held.len(), self.stop)?);
            settle()?;
            resident[step] = process::resident_bytes(proxy.pid())?;
            without_files[step] = process::resident_bytes_without_files(proxy.pid())?;
        }
        let ([few, many], [fewer, more]) = (resident, without_files);
        let added = (IDLE_CONNECTIONS[1] - IDLE_CONNECTIONS[0]) as f64;
        Ok(Memory {
            peer,
            front,
            empty_bytes,
            with_fewer_bytes: few,
            with_more_bytes: many,
            bytes_per_idle_connection: (more as f64 - fewer as f64) / added,
        })
    }
}

/// The names of rows and of what memory is measured for, each with what it is.
pub fn list(rows: &[Row]) -> String {
    let memory = [
        (
            "memory",
            "resident memory, empty and for each idle connection",
        ),
        ("memory-tls", "the same over TLS 1.3"),
    ];
    let mut lines: Vec<(String, String)> = Vec::new();
    lines.extend(rows.iter().map(|row| (row.name(), row.title())));
    lines.extend(memory.map(|(name, title)| (name.to_string(), title.to_string())));
    let longest = lines.iter().map(|(name, _)| name.len()).max();
    let width = longest.unwrap_or_default() + 2;
    let lines = lines
        .iter()
        .map(|(name, title)| format!("{name:width$}{title}\n"));
    lines.collect()
}

/// The rows to run for a choice on the command line, and whether memory is among them.
pub fn choose(quick: bool, patterns: &[String]) -> (Vec<Row>, Vec<Front>) {
    let rows = if quick && patterns.is_empty() {
        Row::quick()
    } else {
        Row::all()
    };
    let is_chosen = |name| patterns.is_empty() || patterns.iter().any(|p| rows::matches(p, name));
    let mut memory = Vec::new();
    for (name, front) in [("memory", Front::Plain), ("memory-tls", Front::Tls)] {
        if is_chosen(name) {
            memory.push(front);
        }
    }
    (rows::select(rows, patterns), memory)
}

#[cfg(test)]
mod tests {
    use super::{Row, list};

    #[test]
    fn a_long_name_touches_its_description() {
        let rows = Row::all();
        let text = list(&rows);
        assert!(rows.iter().any(|row| row.name().len() >= 18));
        for row in &rows {
            let line = format!("\n{}  ", row.name());
            assert!(format!("\n{text}").contains(&line), "{}", row.name());
        }
    }
}
