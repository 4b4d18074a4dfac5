//! The worker's buffers: receive buffers (for io_uring shared with the kernel through a
//! provided-buffer ring), bulk buffers, and outgoing buffers.

use super::RuntimeOptions;
use super::chunk::{Header, Home};
use super::core;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// Buffers start this far apart beyond their size, so that their first lines, which small
/// messages fill, do not all fall into the same set of the cache.
const COLOUR_BYTES: usize = 5 * 64;
/// Unused bulk buffers that are kept.
const SPARE_BULK_BUFFERS: usize = 16;
/// Where no bulk buffer is left, the next ones are of this size; how many there are of them at most,
/// and how many are kept unused.
const SMALL_BULK_BYTES: usize = 32 * 1024;
const MOST_SMALL_BULK_BUFFERS: usize = 1024;
const SPARE_SMALL_BULK_BUFFERS: usize = 32;
/// The numbers by which bulk buffers are told apart.
const LARGE_BULK: u16 = 0;
const SMALL_BULK: u16 = 1;
/// Bytes that are copied out of their buffer when buffers run short.
const COPY_WHEN_SHORT_BYTES: usize = 4096;
/// A page of memory; larger ones are multiples of it.
const PAGE_BYTES: usize = 4096;

/// A bulk buffer with its header in front.
#[repr(C)]
pub(super) struct BulkBlock {
    header: Header,
    bytes: NonNull<[u8]>,
}

impl Drop for BulkBlock {
    fn drop(&mut self) {
        // SAFETY: made by `Box::leak` in `bulk_block`, freed once, and no chunk refers to it.
        drop(unsafe { Box::from_raw(self.bytes.as_ptr()) });
    }
}

struct Region {
    start: NonNull<u8>,
    length: usize,
}

impl Region {
    fn map(length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping at a place that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Region { start, length })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `map` made, unmapped once.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// The ring through which the kernel takes receive buffers (`io_uring_register_buf_ring(3)`).
pub(super) struct BufferRing {
    memory: Region,
    mask: u16,
    tail: u16,
}

impl BufferRing {
    /// # Errors
    /// When memory is short. `entries` is a power of two up to 32,768.
    fn new(entries: u16) -> io::Result<Self> {
        let bytes = usize::from(entries) * size_of::<io_uring::types::BufRingEntry>();
        Ok(BufferRing {
            memory: Region::map(bytes)?,
            mask: entries - 1,
            tail: 0,
        })
    }

    pub fn address(&self) -> u64 {
        self.memory.start.as_ptr() as u64
    }

    pub fn entries(&self) -> u16 {
        self.mask + 1
    }

    #[inline]
    fn push(&mut self, header: &Header, length: u32) {
        let base = self.memory.start.cast::<io_uring::types::BufRingEntry>();
        // SAFETY: the masked index is inside the mapping, and the kernel does not read an entry
        // at or behind the tail. The fields are written one by one since the tail shares memory
        // with the first entry.
        unsafe {
            let entry = &mut *base.as_ptr().add(usize::from(self.tail & self.mask));
            entry.set_addr(header.base.as_ptr() as u64);
            entry.set_len(length);
            entry.set_bid(header.number);
        }
        self.tail = self.tail.wrapping_add(1);
        self.publish_tail();
    }

    /// Takes the entry back that was pushed last. The kernel must not have taken it, and must not
    /// be looking.
    fn take_last(&mut self) -> u16 {
        self.tail = self.tail.wrapping_sub(1);
        self.publish_tail();
        let base = self.memory.start.cast::<io_uring::types::BufRingEntry>();
        // SAFETY: the masked index is inside the mapping, and we have written the entry.
        unsafe { &*base.as_ptr().add(usize::from(self.tail & self.mask)) }.bid()
    }

    #[inline]
    fn publish_tail(&self) {
        let base = self.memory.start.cast::<io_uring::types::BufRingEntry>();
        // SAFETY: the tail's place is inside the mapping, aligned, and written by us alone; the
        // release store publishes the entry.
        unsafe {
            let tail = io_uring::types::BufRingEntry::tail(base.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

/// Receive and bulk buffers of one worker.
pub(super) struct Pool {
    serial: u64,
    buffer_bytes: usize,
    initial: usize,
    limit: usize,
    headers: Vec<NonNull<Header>>,
    header_blocks: Vec<NonNull<[Header]>>,
    regions: Vec<Region>,
    /// Buffers that can be leased, when no ring holds them.
    free: Vec<NonNull<Header>>,
    /// Buffers that nobody holds, and whose memory was given back.
    retired: Vec<NonNull<Header>>,
    /// Most buffers in use since the last trim, and between that and the one before.
    peaks: [usize; 2],
    ring: Option<BufferRing>,
    in_use: usize,
    exhausted: u64,
    bulk_bytes: usize,
    bulk_limit: usize,
    bulk_in_use: usize,
    bulk_spare: Vec<NonNull<BulkBlock>>,
    small_bulk_in_use: usize,
    small_bulk_spare: Vec<NonNull<BulkBlock>>,
}

impl Pool {
    pub fn new(options: &RuntimeOptions, serial: u64) -> Self {
        let limit = options.max_receive_buffers.clamp(1, 1 << 15);
        Pool {
            serial,
            buffer_bytes: options.receive_buffer_bytes.clamp(512, 1 << 24),
            initial: options.initial_receive_buffers.clamp(1, limit),
            limit,
            headers: Vec::new(),
            header_blocks: Vec::new(),
            regions: Vec::new(),
            free: Vec::new(),
            retired: Vec::new(),
            peaks: [0; 2],
            ring: None,
            in_use: 0,
            exhausted: 0,
            bulk_bytes: options.bulk_buffer_bytes.clamp(512, 1 << 30),
            bulk_limit: options.max_bulk_buffers,
            bulk_in_use: 0,
            bulk_spare: Vec::new(),
            small_bulk_in_use: 0,
            small_bulk_spare: Vec::new(),
        }
    }

    /// Makes the ring that the driver registers; from now on the kernel hands out the buffers.
    pub fn make_ring(&mut self) -> io::Result<&BufferRing> {
        let entries = self.limit.next_power_of_two() as u16;
        let ring = BufferRing::new(entries)?;
        Ok(self.ring.insert(ring))
    }

    /// Hands out the buffers here after all.
    pub fn give_up_ring(&mut self) {
        self.ring = None;
    }

    /// Makes more buffers; `false` at the limit or when memory is short.
    pub fn grow(&mut self) -> bool {
        if !self.retired.is_empty() {
            let kept = self.retired.len().saturating_sub(self.circulating());
            let again = self.retired.split_off(kept);
            again.into_iter().for_each(|header| self.put(header));
            return true;
        }
        let count = match self.headers.len() {
            0 => self.initial,
            some => some.min(self.limit - some),
        };
        if count == 0 {
            return false;
        }
        let stride = self.buffer_bytes + COLOUR_BYTES;
        let Ok(region) = Region::map(count * stride) else {
            return false;
        };
        let first = self.headers.len();
        let header = |index: usize| {
            // SAFETY: `index` is below `count`, so the place is inside the new mapping.
            let base = unsafe { region.start.add(index * stride) };
            Header::new(base, Home::Receive, (first + index) as u16, self.serial)
        };
        let block: Box<[Header]> = (0..count).map(header).collect();
        let block = NonNull::from(Box::leak(block));
        for index in 0..count {
            // SAFETY: the index is inside the block, which lives as long as the pool.
            let header = unsafe { block.cast::<Header>().add(index) };
            self.headers.push(header);
            self.put(header);
        }
        self.header_blocks.push(block);
        self.regions.push(region);
        true
    }

    /// Takes buffers out of circulation, and gives their memory back, when they are far more than
    /// the most that were in use lately.
    ///
    /// No completion may be outstanding that hands a buffer over.
    pub fn trim(&mut self) {
        let lately = self.peaks[0].max(self.peaks[1]).max(self.in_use);
        self.peaks = [self.in_use, self.peaks[0]];
        let wanted = lately + lately / 4 + self.initial;
        if self.circulating() < wanted + wanted / 2 {
            return;
        }
        let surplus = (self.circulating() - wanted).min(self.available());
        for _ in 0..surplus {
            let taken = match &mut self.ring {
                Some(ring) => Some(self.headers[usize::from(ring.take_last())]),
                None => self.free.pop(),
            };
            self.retired.extend(taken);
        }
        self.give_memory_back();
    }

    /// Gives back the pages that lie within retired buffers, or between two of them.
    fn give_memory_back(&mut self) {
        // SAFETY: headers live as long as the pool.
        let base = |header: &NonNull<Header>| unsafe { header.as_ref() }.base.as_ptr() as usize;
        self.retired.sort_unstable_by_key(base);
        let stride = self.buffer_bytes + COLOUR_BYTES;
        for run in self
            .retired
            .chunk_by(|one, next| base(next) == base(one) + stride)
        {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let from = base(first).next_multiple_of(PAGE_BYTES);
            let to = (base(last) + self.buffer_bytes) & !(PAGE_BYTES - 1);
            if from < to {
                // SAFETY: the pages lie within buffers of ours that nobody holds, or between two
                // of one mapping; that they are zero when they are used again does no harm.
                unsafe { libc::madvise(from as *mut _, to - from, libc::MADV_DONTNEED) };
            }
        }
    }

    /// Buffers that are in use or can be leased at once.
    fn circulating(&self) -> usize {
        self.headers.len() - self.retired.len()
    }

    fn put(&mut self, header: NonNull<Header>) {
        match &mut self.ring {
            // SAFETY: headers live as long as the pool.
            Some(ring) => ring.push(unsafe { header.as_ref() }, self.buffer_bytes as u32),
            None => self.free.push(header),
        }
    }

    /// The buffer that the kernel filled, now with one reference.
    #[inline]
    pub fn taken_by_kernel(&mut self, number: u16) -> NonNull<Header> {
        let header = self.headers[usize::from(number)];
        // SAFETY: headers live as long as the pool.
        unsafe { header.as_ref() }.references.set(1);
        self.note_use();
        header
    }

    fn note_use(&mut self) {
        self.in_use += 1;
        self.peaks[0] = self.peaks[0].max(self.in_use);
    }

    /// A free buffer with one reference; `None` at the limit.
    pub fn lease(&mut self) -> Option<NonNull<Header>> {
        if self.free.is_empty() && !self.grow() {
            self.exhausted += 1;
            return None;
        }
        let header = self.free.pop()?;
        // SAFETY: headers live as long as the pool.
        unsafe { header.as_ref() }.references.set(1);
        self.note_use();
        Some(header)
    }

    pub fn give_back(&mut self, header: NonNull<Header>) {
        self.in_use -= 1;
        self.put(header);
    }

    /// Whether so few buffers are left that short contents should be copied out of theirs.
    pub fn should_copy(&self, filled: usize) -> bool {
        filled <= COPY_WHEN_SHORT_BYTES && self.in_use * 4 > self.limit * 3
    }

    /// Whether queues ahead of their consumers should be kept as short as can be.
    pub fn is_scarce(&self) -> bool {
        self.in_use * 16 > self.limit
    }

    /// Whether half of the buffers there may be are in use: who keeps some without need lets go, so
    /// that the rest goes round.
    pub fn is_half_used(&self) -> bool {
        self.in_use * 2 > self.limit
    }

    pub fn note_exhausted(&mut self) {
        self.exhausted += 1;
    }

    /// Buffers that could be leased at once.
    pub fn available(&self) -> usize {
        self.circulating() - self.in_use
    }

    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Whether half of the bulk buffers there may be are in use, or as much memory in long sends.
    pub fn is_half_of_bulk_used(&self, long_sends: usize) -> bool {
        (self.bulk_in_use + long_sends) * 2 > self.bulk_limit
    }

    /// A bulk buffer with one reference and its length; `None` at the limit, to which long sends
    /// count.
    pub fn lease_bulk(&mut self, long_sends: usize) -> Option<(NonNull<Header>, usize)> {
        if self.bulk_in_use + long_sends >= self.bulk_limit {
            return None;
        }
        self.bulk_in_use += 1;
        let spare = self.bulk_spare.pop();
        let header = self.bulk_block(spare, LARGE_BULK, self.bulk_bytes);
        Some((header, self.bulk_bytes))
    }

    /// The same of a small one, for those that find no large one left.
    pub fn lease_small_bulk(&mut self) -> Option<(NonNull<Header>, usize)> {
        if self.small_bulk_in_use >= MOST_SMALL_BULK_BUFFERS {
            return None;
        }
        self.small_bulk_in_use += 1;
        let spare = self.small_bulk_spare.pop();
        let header = self.bulk_block(spare, SMALL_BULK, SMALL_BULK_BYTES);
        Some((header, SMALL_BULK_BYTES))
    }

    fn bulk_block(
        &self,
        spare: Option<NonNull<BulkBlock>>,
        number: u16,
        length: usize,
    ) -> NonNull<Header> {
        let block = spare.unwrap_or_else(|| {
            let bytes = NonNull::from(Box::leak(vec![0; length].into_boxed_slice()));
            let header = Header::new(bytes.cast(), Home::Bulk, number, self.serial);
            NonNull::from(Box::leak(Box::new(BulkBlock { header, bytes })))
        });
        let header = block.cast::<Header>();
        // SAFETY: the block is live, and its header is its first field.
        unsafe { header.as_ref() }.references.set(1);
        header
    }

    pub fn give_back_bulk(&mut self, block: NonNull<BulkBlock>) {
        // SAFETY: the block is live, and this was the last reference.
        let is_small = unsafe { block.as_ref() }.header.number == SMALL_BULK;
        let (in_use, spare, most) = match is_small {
            true => (
                &mut self.small_bulk_in_use,
                &mut self.small_bulk_spare,
                SPARE_SMALL_BULK_BUFFERS,
            ),
            false => (
                &mut self.bulk_in_use,
                &mut self.bulk_spare,
                SPARE_BULK_BUFFERS,
            ),
        };
        *in_use -= 1;
        if spare.len() < most {
            spare.push(block);
        } else {
            // SAFETY: made by `Box::leak` in `bulk_block`, and nothing refers to it any more.
            drop(unsafe { Box::from_raw(block.as_ptr()) });
        }
    }

    pub fn in_use(&self) -> usize {
        self.in_use
    }

    pub fn bulk_in_use(&self) -> usize {
        self.bulk_in_use + self.small_bulk_in_use
    }

    pub fn allocated(&self) -> usize {
        self.circulating()
    }

    pub fn exhausted(&self) -> u64 {
        self.exhausted
    }

    /// Leaves all memory mapped for good: for a kernel that may still write to it.
    pub fn leak(&mut self) {
        self.header_blocks.clear();
        self.regions.drain(..).for_each(std::mem::forget);
        if let Some(ring) = self.ring.take() {
            std::mem::forget(ring);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.in_use > 0 {
            // Chunks that outlive the runtime keep their memory.
            self.leak();
        }
        for block in self.header_blocks.drain(..) {
            // SAFETY: made by `Box::leak` in `grow`; no chunk is left that refers to a header.
            drop(unsafe { Box::from_raw(block.as_ptr()) });
        }
        let spare = self.bulk_spare.drain(..);
        for block in spare.chain(self.small_bulk_spare.drain(..)) {
            // SAFETY: made by `Box::leak` in `bulk_block`, and nothing refers to it any more.
            drop(unsafe { Box::from_raw(block.as_ptr()) });
        }
    }
}

/// Outgoing buffers that are kept, and the largest that is worth keeping.
const SPARE_OUTGOING: usize = 256;
const LARGEST_SPARE_BYTES: usize = 64 * 1024;
const OUTGOING_BYTES: usize = 2048;

/// Outgoing buffers that wait for their next use.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "the boxes themselves are handed on")]
pub(super) struct Outgoing(Vec<Box<Vec<u8>>>);

/// An outgoing buffer: a `Vec<u8>` that keeps its capacity from use to use. Handed on as one pointer:
/// a vector's three words, written one by one and read at once by the next move, stall the processor.
/// The default buffer is empty and has no memory before it is written to.
#[derive(Default)]
pub struct Buffer {
    #[expect(clippy::box_collection, reason = "handed on as one pointer")]
    bytes: Option<Box<Vec<u8>>>,
    local: PhantomData<*const ()>,
}

impl Buffer {
    /// An empty buffer from the worker's pool.
    pub fn lease() -> Self {
        Buffer {
            bytes: Some(spare_bytes()),
            local: PhantomData,
        }
    }
}

#[expect(clippy::box_collection, reason = "handed on as one pointer")]
fn spare_bytes() -> Box<Vec<u8>> {
    let spare = core::try_with(|core| core.outgoing.borrow_mut().0.pop()).flatten();
    spare.unwrap_or_else(|| Box::new(Vec::with_capacity(OUTGOING_BYTES)))
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        static NOTHING: Vec<u8> = Vec::new();
        self.bytes.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        self.bytes.get_or_insert_with(spare_bytes)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(mut bytes) = self.bytes.take() else {
            return;
        };
        if !(1..=LARGEST_SPARE_BYTES).contains(&bytes.capacity()) {
            return;
        }
        bytes.clear();
        core::try_with(|core| {
            let mut spare = core.outgoing.borrow_mut();
            if spare.0.len() < SPARE_OUTGOING {
                spare.0.push(bytes);
            }
        });
    }
}
