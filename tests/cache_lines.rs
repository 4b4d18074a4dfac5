//! No cache line is written by two workers in the steady state.
//!
//! The method needs no hardware counters. The memory of the running proxy is read from outside
//! (`/proc/PID/mem`) before a batch of requests, while a request is held in flight, and after it.
//! Lines of 64 bytes that differ were written. While one worker serves and the other does not, all
//! that is written for requests is the first one's; then the roles change. A line that is written
//! in every round of both workers is shared.
//!
//! A request in flight shows what is taken back at its end, such as a counter of references. What
//! stays unseen is a write that is undone before the request waits for anything.

mod harness;

use harness::{
    Client, DRIVERS, Proxy, Upstream, folder, free_address, gateway, splitting, until, until_equal,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

const PAGE: usize = 4096;
const LINE: usize = 64;
/// At least so many rounds; on a slow machine each may meet what a worker does once a second, so that
/// it takes more of them until every line has been left alone in one.
const ROUNDS: u64 = 6;
const MOST_ROUNDS: u64 = 60;

/// Addresses of lines.
type Lines = BTreeSet<u64>;

/// The writable private memory of a process, by page.
struct Memory(BTreeMap<u64, Vec<u8>>);

impl Memory {
    fn of(pid: u32) -> Self {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("is there");
        let pagemap = File::open(format!("/proc/{pid}/pagemap")).expect("is there");
        let memory = File::open(format!("/proc/{pid}/mem")).expect("may be read by its parent");
        let mut pages = BTreeMap::new();
        for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
            let range = line
                .split(' ')
                .next()
                .and_then(|range| range.split_once('-'));
            let (start, end) = range.expect("a range");
            let address = |text| u64::from_str_radix(text, 16).expect("an address");
            let (start, end) = (address(start), address(end));
            let count = (end - start) as usize / PAGE;
            let mut entries = vec![0; count * 8];
            let at = start / PAGE as u64 * 8;
            pagemap.read_exact_at(&mut entries, at).expect("is read");
            for (page, entry) in entries.chunks(8).enumerate() {
                // The highest bits: present, swapped.
                if entry[7] & 0xc0 == 0 {
                    continue;
                }
                let address = start + (page * PAGE) as u64;
                let mut bytes = vec![0; PAGE];
                // A page may go in between.
                if memory.read_exact_at(&mut bytes, address).is_ok() {
                    pages.insert(address, bytes);
                }
            }
        }
        Self(pages)
    }

    /// The lines that are not as they were before.
    fn written_since(&self, before: &Self) -> Lines {
        let zeros = vec![0; PAGE];
        let mut lines = Lines::new();
        for (address, page) in &self.0 {
            let old = before.0.get(address).unwrap_or(&zeros);
            let pairs = page.chunks(LINE).zip(old.chunks(LINE)).enumerate();
            let differing = pairs.filter(|(_, (new, old))| new != old);
            lines.extend(differing.map(|(at, _)| address + (at * LINE) as u64));
        }
        lines
    }
}

/// What is written for requests of this client's connection, by one round.
fn written_for(pid: u32, client: &mut Client, upstream: &Upstream) -> Lines {
    let send = |client: &mut Client| {
        client.send("GET", "a.test", "/").expect("an answer");
    };
    let before = Memory::of(pid);
    (0..50).for_each(|_| send(client));
    upstream.close_gate();
    let arrived = upstream.requests() + 1;
    client.start("GET", "a.test", "/").expect("is sent");
    until("the request in flight", || upstream.requests() == arrived);
    let during = Memory::of(pid);
    upstream.open_gate();
    client.answer().expect("an answer");
    let after = Memory::of(pid);
    let mut lines = during.written_since(&before);
    lines.extend(after.written_since(&during));
    lines
}

#[test]
fn no_line_is_written_by_two_workers() {
    for driver in DRIVERS {
        let upstream = Upstream::start("up");
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("split.yaml", &splitting(&[(upstream.address, 1)])),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        // A worker that is ahead hands a connection over, so each gets one.
        let mut clients = [0, 1].map(|_| {
            let mut client = Client::connect(address).expect("connects");
            for _ in 0..500 {
                client.send("GET", "a.test", "/").expect("an answer");
            }
            client
        });
        let served = |worker: &str| proxy.stat(&format!("worker_{worker}.requests"));
        until_equal("requests, one connection each", (500, 500), || {
            (served("0"), served("1"))
        });

        let mut written: [Option<Lines>; 2] = [None, None];
        let mut shared = Lines::new();
        for round in 0..MOST_ROUNDS {
            // Time is what matters: out of step with what each worker does once a second.
            std::thread::sleep(Duration::from_millis(37 * (round % 27)));
            for (client, always) in clients.iter_mut().zip(&mut written) {
                let lines = written_for(proxy.id(), client, &upstream);
                *always = Some(match always.take() {
                    Some(always) => &always & &lines,
                    None => lines,
                });
            }
            if let [Some(first), Some(second)] = &written {
                shared = first & second;
            }
            if round + 1 >= ROUNDS && shared.is_empty() {
                break;
            }
        }
        let [first, second] = written.map(Option::unwrap_or_default);
        assert!(
            first.len() > 20 && second.len() > 20,
            "the method sees nothing"
        );
        let shared: Vec<String> = shared
            .into_iter()
            .map(|line| describe(proxy.id(), line))
            .collect();
        assert!(
            shared.is_empty(),
            "{driver}: {} of {} and {} lines are written by both workers:\n{}",
            shared.len(),
            first.len(),
            second.len(),
            shared.join("\n")
        );
    }
}

/// Where a line lies and what it holds, for who has to find out what it is.
fn describe(pid: u32, line: u64) -> String {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("is there");
    let holds = |map: &&str| {
        let range = map
            .split(' ')
            .next()
            .and_then(|range| range.split_once('-'));
        let bounds = range.and_then(|(start, end)| {
            let start = u64::from_str_radix(start, 16).ok()?;
            Some(start..u64::from_str_radix(end, 16).ok()?)
        });
        bounds.is_some_and(|bounds| bounds.contains(&line))
    };
    let map = maps.lines().find(holds).unwrap_or("nowhere");
    let mut bytes = [0; LINE];
    let memory = File::open(format!("/proc/{pid}/mem")).expect("may be read by its parent");
    memory.read_exact_at(&mut bytes, line).expect("is read");
    let words: Vec<String> = bytes
        .chunks(8)
        .map(|word| {
            format!(
                "{:x}",
                u64::from_le_bytes(word.try_into().expect("eight bytes"))
            )
        })
        .collect();
    format!("{line:x} in {map}: {}", words.join(" "))
}
