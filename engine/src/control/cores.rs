//! How many workers, and on which cores: what the affinity mask and the cgroup quota leave.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The cores of the calling thread's affinity mask, ascending.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero `cpu_set_t` is a valid, empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a writable `cpu_set_t` of the size that is passed along.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let holds = |core: usize| {
        // SAFETY: `core` is below the number of bits of the set.
        unsafe { libc::CPU_ISSET(core, &set) }
    };
    Ok((0..8 * size_of::<libc::cpu_set_t>())
        .filter(|&core| holds(core))
        .collect())
}

/// The cores to run one worker each on: `requested` many, or else as many as the mask holds and
/// the cgroup's quota pays for, rounded up. More workers than cores share the cores in turn.
pub fn worker_cores(allowed: &[usize], quota_cores: Option<f64>, requested: usize) -> Vec<usize> {
    let wanted = match requested {
        0 => quota_cores.map_or(allowed.len(), |quota| {
            (quota.ceil() as usize).min(allowed.len())
        }),
        requested => requested,
    };
    allowed
        .iter()
        .copied()
        .cycle()
        .take(wanted.max(1))
        .collect()
}

/// The CPU time that the cgroups of this process grant, in cores; `None` is no limit.
pub fn cgroup_quota_cores() -> Option<f64> {
    quota_cores_below(Path::new("/"))
}

/// As [`cgroup_quota_cores`], with `/proc` and `/sys` taken from below `root`.
fn quota_cores_below(root: &Path) -> Option<f64> {
    let memberships = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mut tightest: Option<f64> = None;
    for line in memberships.lines() {
        // hierarchy-id:controllers:path
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if controllers.is_empty() {
            let mount = root.join("sys/fs/cgroup");
            tightest = tighter(tightest, tightest_up_to(&mount, path, quota_v2));
        } else if controllers.split(',').any(|controller| controller == "cpu") {
            for folder in ["cpu", "cpu,cpuacct"] {
                let mount = root.join("sys/fs/cgroup").join(folder);
                tightest = tighter(tightest, tightest_up_to(&mount, path, quota_v1));
            }
        }
    }
    tightest
}

fn tighter(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The least quota of the group at `path` and of the groups around it. In a container the path
/// may be the host's, of which nothing is mounted: the mount point itself is then the group.
fn tightest_up_to(mount: &Path, path: &str, quota: impl Fn(&Path) -> Option<f64>) -> Option<f64> {
    let mut group = PathBuf::from(path.trim_start_matches('/'));
    let mut tightest = None;
    loop {
        tightest = tighter(tightest, quota(&mount.join(&group)));
        if !group.pop() {
            return tightest;
        }
    }
}

fn quota_v2(group: &Path) -> Option<f64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

fn quota_v1(group: &Path) -> Option<f64> {
    let number = |name: &str| -> Option<f64> {
        fs::read_to_string(group.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let quota = number("cpu.cfs_quota_us")?;
    (quota > 0.0).then_some(quota / number("cpu.cfs_period_us")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_a_core_unless_the_quota_pays_for_fewer() {
        let cores = [0, 2, 4, 6];
        assert_eq!(worker_cores(&cores, None, 0), cores);
        assert_eq!(worker_cores(&cores, Some(1.5), 0), [0, 2]);
        assert_eq!(worker_cores(&cores, Some(0.1), 0), [0]);
        assert_eq!(worker_cores(&cores, Some(64.0), 0), cores);
        assert_eq!(worker_cores(&cores, Some(1.0), 3), [0, 2, 4]);
        assert_eq!(worker_cores(&[1, 3], None, 5), [1, 3, 1, 3, 1]);
    }

    #[test]
    fn this_process_may_use_a_core() {
        assert!(!allowed_cores().expect("the mask").is_empty());
    }

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("has a parent")).expect("created");
            fs::write(path, text).expect("written");
        }
        root
    }

    #[test]
    fn the_tightest_group_of_version_2_holds() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/pod/container\n"),
            ("sys/fs/cgroup/pod/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/pod/container/cpu.max", "max 100000\n"),
        ]);
        assert_eq!(quota_cores_below(root.path()), Some(1.5));
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_mount_point() {
        let root = tree(&[
            (
                "proc/self/cgroup",
                "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n",
            ),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(quota_cores_below(root.path()), Some(0.5));
    }

    #[test]
    fn no_quota_is_no_limit() {
        let root = tree(&[
            ("proc/self/cgroup", "4:cpu:/\n0::/\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(quota_cores_below(root.path()), None);
        assert_eq!(quota_cores_below(Path::new("/nonexistent")), None);
    }
}
