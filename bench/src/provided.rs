//! A ring of receive buffers that the kernel picks from (`IORING_REGISTER_PBUF_RING`).

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

const PAGE_BYTES: usize = 4096;

/// All buffers of one relay, and the ring through which free ones are given to the kernel.
pub struct ProvidedBuffers {
    entries: *mut BufRingEntry,
    count: u16,
    buffers: Vec<u8>,
    buffer_bytes: usize,
    tail: u16,
}

impl ProvidedBuffers {
    /// The group that receives name.
    pub const GROUP: u16 = 0;

    /// Registers `count` (a power of two) buffers of `buffer_bytes` each.
    ///
    /// The ring has to be dropped before the buffers.
    pub fn register(ring: &IoUring, count: u16, buffer_bytes: usize) -> io::Result<Self> {
        let layout = Self::layout(count)?;
        // SAFETY: the layout has a size above zero, since `layout` refuses a count of zero.
        let entries = unsafe { alloc_zeroed(layout) }.cast::<BufRingEntry>();
        if entries.is_null() {
            handle_alloc_error(layout);
        }
        let mut this = Self {
            entries,
            count,
            buffers: vec![0; usize::from(count) * buffer_bytes],
            buffer_bytes,
            tail: 0,
        };
        // SAFETY: the entries are page-aligned, zeroed, `count` long, and live until the relay
        // ends, which drops its ring first.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(entries as u64, count, Self::GROUP, 0)?;
        }
        for id in 0..count {
            this.give_back(id);
        }
        Ok(this)
    }

    fn layout(count: u16) -> io::Result<Layout> {
        if !count.is_power_of_two() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a power of two",
            ));
        }
        Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), PAGE_BYTES)
            .map_err(io::Error::other)
    }

    /// The bytes of a buffer that the kernel has handed out.
    pub fn bytes(&self, id: u16) -> &[u8] {
        let start = usize::from(id) * self.buffer_bytes;
        &self.buffers[start..start + self.buffer_bytes]
    }

    /// Gives a buffer to the kernel again.
    pub fn give_back(&mut self, id: u16) {
        let address = self.bytes(id).as_ptr() as u64;
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: the index is below `count`, and the kernel reads an entry only once the tail has
        // moved past it.
        let entry = unsafe { &mut *self.entries.add(index) };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `entries` is the base of the ring; its tail is aligned and shared with the
        // kernel alone, which reads it atomically.
        unsafe {
            let tail = BufRingEntry::tail(self.entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for ProvidedBuffers {
    fn drop(&mut self) {
        if let Ok(layout) = Self::layout(self.count) {
            // SAFETY: allocated in `register` with the same layout.
            unsafe { dealloc(self.entries.cast(), layout) };
        }
    }
}
