//! Asking for memory before it is used. Between two events of a connection the kernel and all other
//! connections have used the nearest cache; while one event is worked on, what the next ones need
//! can be on its way.

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// Of one value: what lies further behind would drive out more than it is worth.
const MOST_LINES: usize = 2;

/// Has the processor fetch the first lines of `value`.
#[inline]
pub(super) fn prefetch<T: ?Sized>(value: &T) {
    let start = (&raw const *value).cast::<u8>();
    for line in 0..size_of_val(value).div_ceil(LINE_BYTES).min(MOST_LINES) {
        prefetch_line(start.wrapping_add(line * LINE_BYTES));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch_line(place: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch changes nothing that a program can see, whatever the address: it never
    // faults.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn prefetch_line(_place: *const u8) {}
