//! What the machine allows: io_uring refused by a sandbox, fewer cores than there are.

mod harness;

use harness::{
    Client, DRIVERS, Proxy, Upstream, answering, folder, free_address, gateway, get, splitting,
    until_equal,
};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

fn config(address: SocketAddr) -> tempfile::TempDir {
    folder(&[
        ("gate.yaml", &gateway(address)),
        ("answer.yaml", &answering("hello")),
    ])
}

/// The binary in a sandbox that refuses io_uring, as container runtimes do by default.
fn without_io_uring() -> Command {
    refusing(libc::SYS_io_uring_setup, 0)
}

/// The binary in a sandbox that refuses this system call where its second argument is no less.
fn refusing(call: libc::c_long, second_argument_from: u32) -> Command {
    const fn statement(code: u32, k: u32) -> libc::sock_filter {
        libc::sock_filter {
            code: code as u16,
            jt: 0,
            jf: 0,
            k,
        }
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringroad"));
    let install = move || {
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        let number = call as u32;
        let mut filter = [
            // The number of the system call stands first in what a filter sees.
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
            libc::sock_filter {
                jt: 0,
                jf: 3,
                ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number)
            },
            // Arguments begin after 16 bytes; this is the lower half of the second.
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 24),
            libc::sock_filter {
                jt: 0,
                jf: 1,
                ..statement(
                    libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K,
                    second_argument_from,
                )
            },
            statement(libc::BPF_RET | libc::BPF_K, refused),
            statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: both calls read their arguments only, and `program` outlives them.
        let installed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                ) == 0
        };
        match installed {
            true => Ok(()),
            false => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec it makes two system calls and touches its own stack only.
    unsafe { command.pre_exec(install) };
    command
}

#[test]
fn epoll_takes_over_where_io_uring_is_refused() {
    let address = free_address();
    let proxy = Proxy::start_command(without_io_uring(), config(address), &["--workers", "2"]);
    assert_eq!(get(address, "a", "/").body, "hello");
    let driver = &proxy.admin_json("/server_info")["driver"];
    assert_eq!(driver["name"], "epoll");
    let reason = driver["reason"].as_str().expect("a reason");
    assert!(reason.contains("not permitted"), "{reason}");
    proxy.until_logged(reason);
}

/// Whether the kernel makes a ring for this process as for the proxy on Linux 6.1 and later.
fn may_make_a_ring() -> Result<(), std::io::Error> {
    const SINGLE_ISSUER: u32 = 1 << 12;
    const DEFER_TASKRUN: u32 = 1 << 13;
    // `struct io_uring_params`: two numbers of entries, then the flags.
    let mut parameters = [0_u32; 30];
    parameters[2] = SINGLE_ISSUER | DEFER_TASKRUN;
    let (call, entries) = (libc::SYS_io_uring_setup, 8_u32);
    // SAFETY: the structure is as long as the kernel's, and outlives the call, which makes a
    // descriptor of its own.
    unsafe {
        match libc::syscall(call, entries, parameters.as_mut_ptr()) {
            made @ 0.. => drop(OwnedFd::from_raw_fd(made as i32)),
            _ => return Err(std::io::Error::last_os_error()),
        }
    }
    Ok(())
}

/// All tests on both drivers would be on epoll twice, and pass.
#[test]
fn epoll_was_taken_although_io_uring_is_there() {
    let proxy = Proxy::start(config(free_address()), &["--driver", DRIVERS[0]]);
    let driver = &proxy.admin_json("/server_info")["driver"];
    match may_make_a_ring() {
        Ok(()) => assert_eq!(driver["name"], "io_uring", "{driver}"),
        Err(why) => eprintln!("skipped: there is no io_uring here, all tests use epoll: {why}"),
    }
}

/// Profiles that list calls one by one may let the ring be made, but not used.
#[test]
fn epoll_takes_over_where_a_ring_may_be_made_but_not_used() {
    let address = free_address();
    let sandbox = refusing(libc::SYS_io_uring_enter, 0);
    let proxy = Proxy::start_command(sandbox, config(address), &["--workers", "2"]);
    let driver = &proxy.admin_json("/server_info")["driver"];
    assert_eq!(driver["name"], "epoll");
    let reason = driver["reason"].as_str().expect("a reason");
    assert!(reason.contains("io_uring_enter"), "{reason}");
    assert_eq!(get(address, "a", "/").body, "hello");
}

/// Better started anew by whoever watches it than alive and deaf.
#[test]
fn a_process_whose_worker_can_no_longer_use_its_ring_ends_with_an_error() {
    let address = free_address();
    // Refused is what submits so much at once as an idle worker never does.
    let sandbox = refusing(libc::SYS_io_uring_enter, 16);
    let mut proxy = Proxy::start_command(sandbox, config(address), &["--workers", "1"]);
    assert_eq!(get(address, "a", "/").body, "hello");
    if proxy.admin_json("/server_info")["driver"]["name"] != "io_uring" {
        return eprintln!("skipped: there is no io_uring here");
    }
    proxy.stop();
    let _connections: Vec<_> = (0..64)
        .map(|_| Client::connect(address).expect("waits in the backlog"))
        .collect();
    proxy.signal(libc::SIGCONT);
    assert_eq!(proxy.wait().code(), Some(1));
    proxy.until_logged("the worker's I/O driver failed");
}

#[test]
fn a_driver_that_is_demanded_and_refused_ends_the_start() {
    let config = config(free_address());
    let output = without_io_uring()
        .args(["run", "--admin", "127.0.0.1:0", "--driver", "io-uring"])
        .arg("--config")
        .arg(config.path())
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("error: ") && told.contains("--driver auto"),
        "{told}"
    );
}

/// The kernel closes what a killed process had in its rings a little after its end.
#[test]
fn a_start_waits_a_moment_for_an_address_that_is_taken() {
    let address = free_address();
    let taken = TcpListener::bind(address).expect("is free");
    let config = config(address);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            drop(taken);
        });
        let _proxy = Proxy::start(config, &[]);
        assert_eq!(get(address, "a.test", "/").body, "hello");
    });
}

/// The first core that this process may use.
fn first_core() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("is there");
    let mut lines = status.lines();
    let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let first = list.and_then(|list| list.trim().split([',', '-']).next());
    first.and_then(|core| core.parse().ok()).expect("a core")
}

/// The soft limit is the habit of a shell, the hard one is what the machine allows.
#[test]
fn as_many_files_may_be_open_as_the_hard_limit_says() {
    let mut command = Command::new("sh");
    let script = "ulimit -Sn 256 && exec \"$@\"";
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_ringroad")]);
    let proxy = Proxy::start_command(command, config(free_address()), &["--workers", "1"]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", proxy.id())).expect("is there");
    let mut lines = limits.lines();
    let files = lines.find_map(|line| line.strip_prefix("Max open files"));
    let mut fields = files.expect("is told").split_whitespace();
    let (soft, hard) = (fields.next(), fields.next());
    assert!(soft.is_some());
    assert_eq!(soft, hard);
}

/// By what the kernel says of their threads.
#[test]
fn each_worker_stays_on_its_core() {
    for driver in DRIVERS {
        let proxy = Proxy::start(config(free_address()), &["--driver", driver]);
        let mut allowed: Vec<(String, String)> = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", proxy.id())).expect("is there") {
            // A thread may end in between.
            let path = task.expect("an entry").path().join("status");
            let status = fs::read_to_string(path).unwrap_or_default();
            let field = |name: &str| {
                let value = status.lines().find_map(|line| line.strip_prefix(name));
                value.unwrap_or_default().trim().to_string()
            };
            if field("Name:").starts_with("worker-") {
                allowed.push((field("Name:"), field("Cpus_allowed_list:")));
            }
        }
        allowed.sort();
        let workers = &proxy.admin_json("/server_info")["workers"];
        let told = [0, 1].map(|at| (format!("worker-{at}"), workers[at]["core"].to_string()));
        assert_eq!(allowed, told, "{driver}");
    }
}

/// Without `--workers` there is one for each core of the affinity mask, on that core.
#[test]
fn workers_follow_the_affinity_mask() {
    for driver in DRIVERS {
        let address = free_address();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringroad"));
        let core = first_core();
        let pin = move || {
            // SAFETY: a zeroed set is an empty one, and the calls stay within it.
            let set = unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(core, &mut set);
                libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
            };
            match set {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: between fork and exec it makes one system call and touches its own stack only.
        unsafe { command.pre_exec(pin) };
        let proxy = Proxy::start_command(command, config(address), &["--driver", driver]);
        assert_eq!(proxy.stat("server.concurrency"), 1);
        let workers = &proxy.admin_json("/server_info")["workers"];
        assert_eq!(workers.as_array().map(Vec::len), Some(1));
        assert_eq!(workers[0]["core"], core);
        assert_eq!(get(address, "a", "/").body, "hello");
    }
}

/// A cgroup of this test, with a quota of CPU time for each period of 100 ms.
struct QuotaGroup(PathBuf);

impl QuotaGroup {
    /// `Err` says why this machine does not let us make one.
    fn make(quota_us: u32) -> Result<Self, String> {
        let memberships = fs::read_to_string("/proc/self/cgroup").map_err(|e| e.to_string())?;
        let path_of = |is_it: fn(&str) -> bool| {
            let mut lines = memberships.lines().filter_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let (controllers, path) = (fields.next()?, fields.next()?);
                is_it(controllers).then(|| path.trim_start_matches('/').to_string())
            });
            lines.next()
        };
        let mount = PathBuf::from("/sys/fs/cgroup");
        let (around, is_v2) = match mount.join("cgroup.controllers").exists() {
            true => (mount.join(path_of(str::is_empty).unwrap_or_default()), true),
            false => {
                let is_cpu = |list: &str| list.split(',').any(|controller| controller == "cpu");
                let own = path_of(is_cpu).ok_or("no cgroup has the cpu controller")?;
                (mount.join("cpu").join(own), false)
            }
        };
        let put = |path: PathBuf, text: String| {
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        if is_v2 {
            put(around.join("cgroup.subtree_control"), "+cpu".to_string())?;
        }
        let group = around.join(format!("ringroad-test-{}", std::process::id()));
        fs::create_dir(&group).map_err(|error| format!("{}: {error}", group.display()))?;
        let made = Self(group);
        match is_v2 {
            true => put(made.0.join("cpu.max"), format!("{quota_us} 100000"))?,
            false => put(made.0.join("cpu.cfs_quota_us"), quota_us.to_string())?,
        }
        Ok(made)
    }

    /// The binary in this group; arguments may follow.
    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        let script = "echo $$ > \"$1\" && shift && exec \"$@\"";
        command.args(["-c", script, "sh"]);
        command.arg(self.0.join("cgroup.procs"));
        command.arg(env!("CARGO_BIN_EXE_ringroad"));
        command
    }
}

impl Drop for QuotaGroup {
    fn drop(&mut self) {
        // The processes within have just been reaped; the kernel may take a moment to notice.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::yield_now();
        }
        eprintln!("{} is left behind", self.0.display());
    }
}

/// Without `--workers` there are no more of them than the cgroup's CPU quota pays for.
#[test]
fn workers_follow_the_quota_of_their_cgroup() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (quota_us, expected) in [(50_000, 1), (150_000, 2.min(cores as u64))] {
        let group = match QuotaGroup::make(quota_us) {
            Ok(group) => group,
            Err(why) => return eprintln!("skipped: a cgroup with a quota cannot be made: {why}"),
        };
        for driver in DRIVERS {
            let address = free_address();
            let args = ["--driver", driver];
            let proxy = Proxy::start_command(group.command(), config(address), &args);
            assert_eq!(proxy.stat("server.concurrency"), expected, "{quota_us}");
            assert_eq!(get(address, "a", "/").body, "hello");
            drop(proxy);
            let args = ["--driver", driver, "--workers", "3"];
            let proxy = Proxy::start_command(group.command(), config(free_address()), &args);
            assert_eq!(
                proxy.stat("server.concurrency"),
                3,
                "what is asked for counts"
            );
        }
    }
}

/// Clients that keep as many connections as they get: those that are in are answered by upstreams.
#[test]
fn idle_clients_leave_descriptors_to_upstreams_and_the_admin_interface() {
    for (driver, limit) in DRIVERS
        .into_iter()
        .flat_map(|driver| [(driver, 64), (driver, 256)])
    {
        let upstream = Upstream::start("ok");
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("split.yaml", &splitting(&[(upstream.address, 1)])),
        ]);
        let args = ["--driver", driver, "--workers", "2"];
        let proxy = Proxy::start_with_open_files(limit, config, &args);
        proxy.until_logged(" connections of clients");
        let log = proxy.log();
        let most = log.lines().find_map(|line| {
            let (_, most) = line.split_once("up to ")?;
            most.strip_suffix(" connections of clients at a time")
        });
        let most: usize = most.expect("is told").parse().expect("a number");
        // Fewer when whoever started it leaves it descriptors of its own.
        assert!(most > limit as usize / 8, "{most} of {limit}");
        let mut kept: Vec<Client> = (0..200)
            .filter_map(|_| {
                let mut client = Client::connect(address).ok()?;
                client.send("GET", "a", "/").ok().map(|_| client)
            })
            .collect();
        assert_eq!(kept.len(), most, "{driver}");
        let listener = format!("http.{}_{}", address.ip(), address.port());
        assert_eq!(
            proxy.stat(&format!("{listener}.downstream_cx_overflow")),
            200 - most as u64
        );
        upstream.close_gate();
        let before = upstream.requests();
        for client in &mut kept {
            client.start("GET", "a", "/").expect("is sent");
        }
        until_equal("all at the upstream", before + most, || upstream.requests());
        assert_eq!(proxy.admin("/ready").status, 200);
        upstream.open_gate();
        for client in &mut kept {
            assert_eq!(client.answer().expect("an answer").status, 200);
        }
    }
}
