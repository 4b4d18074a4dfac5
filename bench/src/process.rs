//! What a process cost: processor time, its split, its memory, and what disturbed it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::iter::Sum;
use std::ops::Sub;

/// Times of a process and all its descendants, since each began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuUse {
    /// Time on a core, in nanoseconds, exact.
    pub run_ns: u64,
    /// Time ready to run while another had the core, in nanoseconds.
    pub waited_ns: u64,
    /// Share of user space and of the kernel in ticks (sampled by the kernel's timer, so only
    /// long runs tell).
    pub user_ticks: u64,
    pub system_ticks: u64,
}

impl Sub for CpuUse {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            run_ns: self.run_ns.saturating_sub(earlier.run_ns),
            waited_ns: self.waited_ns.saturating_sub(earlier.waited_ns),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
        }
    }
}

impl Sum for CpuUse {
    fn sum<I: Iterator<Item = Self>>(each: I) -> Self {
        each.fold(Self::default(), |sum, one| Self {
            run_ns: sum.run_ns + one.run_ns,
            waited_ns: sum.waited_ns + one.waited_ns,
            user_ticks: sum.user_ticks + one.user_ticks,
            system_ticks: sum.system_ticks + one.system_ticks,
        })
    }
}

impl CpuUse {
    /// The user-space part of the ticks, between 0 and 1.
    pub fn user_share(&self) -> Option<f64> {
        let total = self.user_ticks + self.system_ticks;
        (total > 0).then(|| self.user_ticks as f64 / total as f64)
    }
}

/// Reads the times of `root` and its descendants.
pub fn cpu_use(root: u32) -> io::Result<CpuUse> {
    let mut sum = CpuUse::default();
    for pid in family(root) {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end while it is looked at.
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else {
                continue;
            };
            let (run_ns, waited_ns) = parse_schedstat(&text).ok_or_else(malformed)?;
            sum.run_ns += run_ns;
            sum.waited_ns += waited_ns;
        }
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (user, system) = parse_process_times(&text).ok_or_else(malformed)?;
        sum.user_ticks += user;
        sum.system_ticks += system;
    }
    Ok(sum)
}

/// Resident bytes of `root` and its descendants (pages shared between them count once each).
pub fn resident_bytes(root: u32) -> io::Result<u64> {
    resident(root, |_files, all| all)
}

/// The same without pages of files, the programs' text above all, which come and go with what the
/// kernel has memory for.
pub fn resident_bytes_without_files(root: u32) -> io::Result<u64> {
    resident(root, |files, all| all.saturating_sub(files))
}

/// Sums what `of` makes of the resident bytes of files and of all resident bytes of each process.
fn resident(root: u32, of: impl Fn(u64, u64) -> u64) -> io::Result<u64> {
    let mut sum = 0;
    for pid in family(root) {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        // A process that has just ended has no memory, and no such lines.
        let bytes = |name| parse_status_bytes(&text, name).unwrap_or(0);
        sum += of(bytes("RssFile:"), bytes("VmRSS:"));
    }
    Ok(sum)
}

/// A figure of `/proc/PID/status`, which has them in kB.
fn parse_status_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kilobytes: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// `root` and all processes that descend from it.
pub fn family(root: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([root]);
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            for child in children
                .split_ascii_whitespace()
                .filter_map(|c| c.parse().ok())
            {
                if found.insert(child) {
                    open.push(child);
                }
            }
        }
    }
    found
}

/// Time on a core, in nanoseconds, of each thread by its id.
pub type ThreadTimes = BTreeMap<u32, u64>;

/// The times of every thread but those of the families of `known` and the kernel's own. What ran
/// while a proxy was measured shows here, whichever core it had.
pub fn other_threads(known: &[u32]) -> io::Result<ThreadTimes> {
    let known: BTreeSet<u32> = known.iter().flat_map(|pid| family(*pid)).collect();
    let number = |name: std::ffi::OsString| name.to_str()?.parse::<u32>().ok();
    let mut times = ThreadTimes::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = number(entry.file_name()) else {
            continue;
        };
        if known.contains(&pid) || is_kernel_thread(pid) {
            continue;
        }
        // A process may end while it is looked at.
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            if let (Some(id), Some((run_ns, _))) =
                (number(thread.file_name()), parse_schedstat(&text))
            {
                times.insert(id, run_ns);
            }
        }
    }
    Ok(times)
}

/// What all threads ran between two readings. A thread that has ended is left out, since nothing
/// tells how long it ran: those who wait for its core see it.
pub fn ran_between(before: &ThreadTimes, after: &ThreadTimes) -> u64 {
    let ran = |(id, run_ns): (&u32, &u64)| {
        run_ns.saturating_sub(before.get(id).copied().unwrap_or_default())
    };
    after.iter().map(ran).sum()
}

/// The kernel's threads are children of process 2.
fn is_kernel_thread(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent = text
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1));
    pid == 2 || parent == Some("2")
}

/// Ticks in which one core was wanted here while the hypervisor ran another machine.
pub fn stolen_ticks(core: usize) -> io::Result<u64> {
    parse_stolen_ticks(&fs::read_to_string("/proc/stat")?, core).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a file of /proc has an unknown form",
    )
}

/// `run_ns waited_ns slices`
fn parse_schedstat(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.split_ascii_whitespace().map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

/// Fields 14 and 15 of `/proc/PID/stat`; the second, the name in parentheses, may hold anything.
fn parse_process_times(text: &str) -> Option<(u64, u64)> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11).map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

/// `cpuN user nice system idle iowait irq softirq steal guest guest_nice`
fn parse_stolen_ticks(text: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core}");
    let line = text
        .lines()
        .find(|line| line.split(' ').next() == Some(&name))?;
    line.split_ascii_whitespace().nth(8)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_gives_run_and_wait_time() {
        assert_eq!(parse_schedstat("997899 12 2\n"), Some((997_899, 12)));
        assert_eq!(parse_schedstat("997899\n"), None);
        assert_eq!(parse_schedstat("a b c"), None);
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_times() {
        let text = "7 (a ) b) S 1 7 7 0 -1 4194560 98 0 0 0 41 17 0 0 20 0 1 0 99 1 2 3";
        assert_eq!(parse_process_times(text), Some((41, 17)));
        assert_eq!(parse_process_times("7 (a) S 1 7"), None);
    }

    #[test]
    fn stolen_ticks_are_those_of_the_right_core() {
        let text =
            "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 1 2 3 100 50 4 5 6 0 0\ncpu11 7 7 7 7 7 7 7 7 0 0\n";
        assert_eq!(parse_stolen_ticks(text, 1), Some(6));
        assert_eq!(parse_stolen_ticks(text, 2), None);
    }

    #[test]
    fn threads_that_end_take_nothing_from_those_that_run() {
        let before = ThreadTimes::from([(1, 100), (2, 5_000)]);
        let after = ThreadTimes::from([(1, 130), (3, 7)]);
        assert_eq!(ran_between(&before, &after), 37);
    }

    #[test]
    fn the_times_of_this_process_grow_as_it_works() {
        let used = || cpu_use(std::process::id()).expect("readable").run_ns;
        let before = used();
        let begun = std::time::Instant::now();
        while used() < before + 10_000_000 {
            assert!(begun.elapsed().as_secs() < 30, "no time was counted");
        }
        assert!(resident_bytes(std::process::id()).expect("readable") > 100_000);
    }
}
