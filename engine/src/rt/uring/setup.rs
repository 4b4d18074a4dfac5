//! Making a ring, with the reasons why it cannot be.

use io_uring::{EnterFlags, IoUring, Probe, opcode};
use std::io;

const SUBMISSION_ENTRIES: u32 = 512;
const COMPLETION_ENTRIES: u32 = 4096;

/// To wait in the ring is not to wait for a disk (`IORING_ENTER_NO_IOWAIT`; Linux 6.15). Without it
/// the kernel books the sleep of an idle worker as time lost to slow storage: in `iowait`, in
/// `/proc/pressure/io`, and in the CPU that keeping those books takes at each sleep.
const NO_IOWAIT: u32 = 1 << 7;

/// How eagerly completions interrupt us, best first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flavour {
    /// Completions are worked on when we ask (Linux 6.1).
    Deferred,
    /// … or when we enter the kernel anyway (Linux 5.19).
    Cooperative,
    /// … or by interrupting us.
    Plain,
}

/// A ring, and what it is able to, in words.
pub(in crate::rt) struct Made {
    pub ring: IoUring,
    pub description: String,
    /// The kernel works on completions, and takes buffers, only when it is asked to.
    pub is_deferred: bool,
    /// The flags of each enter.
    pub enter_flags: u32,
}

/// Makes a ring with the best flags that the kernel takes.
///
/// # Errors
/// A reason for people: what was refused and what probably refused it.
pub(in crate::rt) fn make_ring() -> Result<Made, String> {
    let mut refusal = None;
    for (flavour, without_array) in [
        (Flavour::Deferred, true),
        (Flavour::Deferred, false),
        (Flavour::Cooperative, false),
        (Flavour::Plain, false),
    ] {
        match build(flavour, without_array) {
            Ok(mut ring) => {
                check(&ring)?;
                try_out(&mut ring)?;
                let enter_flags = enter_flags(&ring);
                let description = match flavour {
                    Flavour::Deferred => "io_uring, completions deferred",
                    Flavour::Cooperative => "io_uring, completions cooperative (before Linux 6.1)",
                    Flavour::Plain => "io_uring without task-run flags (before Linux 5.19)",
                };
                return Ok(Made {
                    ring,
                    description: description.to_owned(),
                    is_deferred: flavour == Flavour::Deferred,
                    enter_flags,
                });
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refusal = Some(error),
            Err(error) => return Err(refused(&error)),
        }
    }
    Err(refusal.map_or_else(String::new, |error| refused(&error)))
}

fn build(flavour: Flavour, without_array: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_clamp()
        .setup_cqsize(COMPLETION_ENTRIES)
        .dontfork();
    match flavour {
        Flavour::Deferred => {
            builder
                .setup_single_issuer()
                .setup_coop_taskrun()
                .setup_defer_taskrun();
        }
        Flavour::Cooperative => {
            builder.setup_coop_taskrun();
        }
        Flavour::Plain => {}
    }
    if without_array {
        builder.setup_no_sqarray();
    }
    builder.build(SUBMISSION_ENTRIES)
}

fn refused(error: &io::Error) -> String {
    let cause = match error.raw_os_error() {
        Some(libc::EPERM) => match sysctl() {
            Some(value @ 1..) => format!("sysctl kernel.io_uring_disabled is {value}"),
            _ => "a seccomp profile, as container runtimes have by default".to_owned(),
        },
        Some(libc::EACCES) => "a security module such as SELinux".to_owned(),
        Some(libc::ENOSYS) => {
            "a kernel without io_uring, or a seccomp profile that hides it".to_owned()
        }
        Some(libc::ENOMEM) => "the limit of locked memory (ulimit -l)".to_owned(),
        Some(libc::EMFILE | libc::ENFILE) => "the limit of open files (ulimit -n)".to_owned(),
        Some(libc::EINVAL) => "an old kernel".to_owned(),
        _ => "an unknown cause".to_owned(),
    };
    format!("io_uring_setup failed: {error}; probably {cause}")
}

fn sysctl() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Lets an operation that does nothing pass through the ring: what may make a ring need not be
/// allowed to use it.
fn try_out(ring: &mut IoUring) -> Result<(), String> {
    let nothing = opcode::Nop::new().build();
    // SAFETY: the entry points to nothing.
    let pushed = unsafe { ring.submission().push(&nothing) };
    pushed.map_err(|error| format!("io_uring takes no entry: {error}"))?;
    ring.submit_and_wait(1)
        .map_err(|error| format!("io_uring_enter failed: {error}; probably a seccomp profile"))?;
    match ring.completion().next() {
        Some(done) if done.result() >= 0 => Ok(()),
        _ => Err("io_uring does not complete what it is given".to_owned()),
    }
}

/// How the ring is entered: without GETEVENTS one with deferred completions makes no progress.
fn enter_flags(ring: &IoUring) -> u32 {
    let flags = EnterFlags::GETEVENTS.bits();
    // SAFETY: no argument is given.
    let entered = unsafe { ring.submitter().enter::<u64>(0, 0, flags | NO_IOWAIT, None) };
    match entered {
        Ok(_) => flags | NO_IOWAIT,
        Err(_) => flags,
    }
}

/// Whether the ring can do all that the driver needs.
fn check(ring: &IoUring) -> Result<(), String> {
    let parameters = ring.params();
    let features = [
        (
            parameters.is_feature_ext_arg(),
            "waiting with a time limit (EXT_ARG, Linux 5.11)",
        ),
        (
            parameters.is_feature_nodrop(),
            "lossless completions (NODROP, Linux 5.5)",
        ),
        (
            parameters.is_feature_fast_poll(),
            "internal polling (FAST_POLL, Linux 5.7)",
        ),
        (
            parameters.is_feature_skip_cqe_on_success(),
            "silent success (CQE_SKIP, Linux 5.17)",
        ),
    ];
    let mut probe = Probe::new();
    if let Err(error) = ring.submitter().register_probe(&mut probe) {
        return Err(format!(
            "io_uring cannot be asked for its operations: {error}"
        ));
    }
    let operations = [
        (opcode::Recv::CODE, "RECV"),
        (opcode::Send::CODE, "SEND"),
        (opcode::SendMsg::CODE, "SENDMSG"),
        (opcode::Accept::CODE, "ACCEPT"),
        (opcode::Connect::CODE, "CONNECT"),
        (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
        (opcode::PollAdd::CODE, "POLL_ADD"),
        (opcode::Read::CODE, "READ"),
        (opcode::Timeout::CODE, "TIMEOUT"),
        (opcode::TimeoutUpdate::CODE, "TIMEOUT_UPDATE"),
        // Multishot receive came in the same release as this one and has no bit of its own.
        (opcode::SendZc::CODE, "multishot RECV (Linux 6.0)"),
    ];
    let missing_feature = features
        .iter()
        .find(|(present, _)| !present)
        .map(|(_, name)| *name);
    let missing_operation = operations
        .iter()
        .find(|(code, _)| !probe.is_supported(*code))
        .map(|(_, name)| *name);
    match missing_feature.or(missing_operation) {
        Some(name) => Err(format!("io_uring lacks {name}; probably an old kernel")),
        None => Ok(()),
    }
}
