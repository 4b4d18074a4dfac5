//! Wakes from other threads: a registry of the runtimes that live, each with a queue of task
//! words and an eventfd that its driver watches.

use super::executor::{MAX_RUNTIMES, TaskWord};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

static REGISTRY: RwLock<Vec<Option<Arc<Mailbox>>>> = RwLock::new(Vec::new());

/// What other threads see of a runtime.
pub(super) struct Mailbox {
    words: Mutex<Vec<TaskWord>>,
    signalled: AtomicBool,
    eventfd: OwnedFd,
}

impl Mailbox {
    /// # Errors
    /// When no eventfd can be made.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a plain system call without pointers. It blocks when read, which io_uring needs
        // to wait for it instead of failing with EAGAIN.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else has it.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Mailbox {
            words: Mutex::default(),
            signalled: AtomicBool::new(false),
            eventfd,
        })
    }

    pub fn eventfd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// Moves out what other threads have woken. Call it after the eventfd was read.
    pub fn take(&self, words: &mut Vec<TaskWord>) {
        // Cleared first: a wake that comes later signals again.
        self.signalled.store(false, Ordering::SeqCst);
        let mut queue = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        words.append(&mut queue);
    }

    fn post(&self, word: TaskWord) {
        {
            let mut queue = self.words.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.last() != Some(&word) {
                queue.push(word);
            }
        }
        if !self.signalled.swap(true, Ordering::SeqCst) {
            let one: u64 = 1;
            // SAFETY: the descriptor is owned by `self` and eight readable bytes are given.
            unsafe { libc::write(self.eventfd(), (&raw const one).cast(), 8) };
        }
    }
}

/// A runtime's place in the registry, given up on drop.
pub(super) struct Registration {
    pub id: u16,
    pub mailbox: Arc<Mailbox>,
}

impl Registration {
    /// # Errors
    /// When no eventfd can be made, or 4,096 runtimes live already.
    pub fn new() -> io::Result<Self> {
        let mailbox = Arc::new(Mailbox::new()?);
        let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
        let free = registry.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            registry.push(None);
            registry.len() - 1
        });
        if index >= MAX_RUNTIMES {
            registry.truncate(MAX_RUNTIMES);
            return Err(io::Error::other("too many runtimes in one process"));
        }
        registry[index] = Some(mailbox.clone());
        Ok(Registration {
            id: index as u16,
            mailbox,
        })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
        registry[usize::from(self.id)] = None;
    }
}

/// Wakes a task of another thread's runtime; nothing happens when that runtime has ended.
pub(super) fn wake(word: TaskWord) {
    let registry = REGISTRY.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(Some(mailbox)) = registry.get(usize::from(word.runtime())) {
        mailbox.post(word);
    }
}
