//! The limit of open files: every connection needs one downstream and mostly one upstream.

use std::io;

/// Below this many descriptors a proxy refuses connections soon; the start warns.
pub const FEW_DESCRIPTORS: u64 = 8_192;

/// Raises the soft limit of open files to the hard one, and returns the limit that holds now.
pub fn raise_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a writable `rlimit`.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit {
            rlim_cur: limit.rlim_max,
            ..limit
        };
        // SAFETY: `raised` is a readable `rlimit`.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            limit = raised;
        }
    }
    Ok(limit.rlim_cur)
}

/// Descriptors for sockets that listen, the admin interface and files: an eighth of them, 1,024 at
/// most.
fn spare(limit: u64) -> u64 {
    (limit / 8).min(1_024)
}

/// The first of the descriptors that connections to upstreams leave alone.
pub fn first_spare(limit: u64) -> i32 {
    i32::try_from(limit - spare(limit)).unwrap_or(i32::MAX)
}

/// Connections of the admin interface that may be open, so that files find a descriptor, too.
pub fn most_admin_connections(limit: u64) -> usize {
    const MOST: u64 = 128;
    usize::try_from((spare(limit) / 2).clamp(1, MOST)).unwrap_or(usize::MAX)
}

/// What a worker opens besides connections and listeners: its ring or its set, and what wakes it.
const DESCRIPTORS_OF_WORKER: usize = 2;

/// What is open now, and what as many workers with as many listeners will open.
pub fn own(workers: usize, listeners: usize) -> u64 {
    let open_now = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    (open_now + workers * (DESCRIPTORS_OF_WORKER + listeners)) as u64
}

/// Connections of clients that may be open: so few that each of them can have one to an upstream,
/// beside the `own` descriptors. Those grow with listeners, and count at least as many as are spare.
///
/// # Errors
/// There is no room for any: what to do.
pub fn most_clients(limit: u64, own: u64) -> Result<usize, String> {
    let for_pairs = (limit - spare(limit)).saturating_sub(own.max(spare(limit)));
    if for_pairs < 2 {
        return Err(format!(
            "only {limit} files may be open, and the proxy itself needs {own}: none is left for \
             clients; {RAISE_IT}"
        ));
    }
    Ok(usize::try_from(for_pairs / 2).unwrap_or(usize::MAX))
}

/// What to do about a limit that is too low.
pub const RAISE_IT: &str = "raise it with `ulimit -Hn 65536`, LimitNOFILE=65536 in a systemd unit, or \
                        --ulimit nofile=65536 of the container runtime";

/// What to say about a limit that is too low, if it is.
pub fn warning(limit: u64) -> Option<String> {
    (limit < FEW_DESCRIPTORS).then(|| {
        format!(
            "only {limit} files may be open, and fewer than half of them for clients: {RAISE_IT}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raises_to_the_hard_limit_and_stays_there() {
        let limit = raise_limit().expect("the limit can be read");
        assert!(limit > 0);
        assert_eq!(raise_limit().expect("again"), limit);
    }

    #[test]
    fn an_eighth_is_spare_and_a_thousand_at_most() {
        assert_eq!(first_spare(64), 56);
        assert_eq!(first_spare(1_048_576), 1_047_552);
        assert_eq!(first_spare(u64::MAX), i32::MAX);
    }

    #[test]
    fn the_admin_interface_has_half_of_the_spare_ones_and_a_hundred_at_most() {
        assert_eq!(most_admin_connections(8), 1);
        assert_eq!(most_admin_connections(256), 16);
        assert_eq!(most_admin_connections(u64::MAX), 128);
    }

    #[test]
    fn each_client_has_a_descriptor_for_an_upstream() {
        assert_eq!(most_clients(1_024, 20), Ok(384));
        assert_eq!(most_clients(1_024, 228), Ok(334));
        assert_eq!(most_clients(64, 20), Ok(18));
        assert_eq!(most_clients(20_000, 20), Ok(8_976));
    }

    #[test]
    fn no_room_for_clients_is_an_error() {
        for (limit, own) in [(0, 20), (24, 20), (2_150, 2_000)] {
            let why = most_clients(limit, own).expect_err("too few");
            assert!(why.contains("ulimit -Hn"), "{why}");
        }
    }

    #[test]
    fn warns_only_when_few() {
        assert!(warning(1_024).expect("is few").contains("1024 files"));
        assert_eq!(warning(FEW_DESCRIPTORS), None);
    }
}
