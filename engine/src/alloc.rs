//! The global allocator: mimalloc, with a count of allocations per thread.
//!
//! The count is what shows that a worker allocates nothing per request: one increment of a
//! thread-local, which nothing but its own thread writes.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

use mimalloc::MiMalloc;

thread_local! {
    // `const` and without a destructor: reading it never allocates, which an allocator needs.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// How many times the calling thread has allocated or grown memory since it started.
pub fn thread_allocations() -> u64 {
    ALLOCATIONS.get()
}

/// mimalloc, counting the allocations of each thread.
pub struct CountingAllocator;

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get().wrapping_add(1));
}

// SAFETY: every method hands its arguments unchanged to `MiMalloc`, which fulfils the contract of
// `GlobalAlloc`; counting touches only a thread-local without destructor and cannot unwind.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's obligations are those of `MiMalloc::alloc`.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `MiMalloc` by one of the methods here, with this layout.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { MiMalloc.realloc(block, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_the_calling_thread_allocates_and_nothing_else() {
        let before = thread_allocations();
        std::hint::black_box(7_u64);
        assert_eq!(thread_allocations(), before);
        let kept = std::hint::black_box(Box::new(7_u64));
        assert_eq!(thread_allocations(), before + 1);
        drop(kept);
        assert_eq!(thread_allocations(), before + 1);
        std::thread::spawn(|| std::hint::black_box(vec![0_u8; 64]))
            .join()
            .expect("allocates");
        let after_spawn = thread_allocations();
        let mut grows: Vec<u8> = Vec::with_capacity(1);
        grows.extend_from_slice(&[0; 100]);
        std::hint::black_box(&grows);
        assert!(thread_allocations() >= after_spawn + 2);
    }
}
