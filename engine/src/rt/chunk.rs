//! Leased receive buffers, passed on without copying.

use super::core;
use super::pool::BulkBlock;
use super::sys;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::RawFd;
use std::ptr::NonNull;

/// Where the bytes go back to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// The pool of receive buffers of the runtime that made the header.
    Receive,
    /// The pool of bulk buffers; freed when its runtime has ended.
    Bulk,
    /// The heap.
    Heap,
}

/// The part of a receive buffer that stays outside of it, so that buffers that were never used
/// take no memory.
pub(super) struct Header {
    pub base: NonNull<u8>,
    /// Chunks that share the buffer.
    pub references: Cell<u32>,
    pub home: Home,
    /// The number under which the kernel knows the buffer.
    pub number: u16,
    /// Bytes received, while the buffer waits in a stream's queue.
    pub filled: Cell<u32>,
    /// The next buffer in a stream's queue.
    pub next: Cell<Option<NonNull<Header>>>,
    /// The runtime whose pool it is of; these numbers are never used twice.
    pub owner: u64,
}

/// A heap buffer that looks like a receive buffer from outside.
#[repr(C)]
struct HeapBlock {
    header: Header,
    bytes: NonNull<[u8]>,
}

impl Drop for HeapBlock {
    fn drop(&mut self) {
        // SAFETY: made by `Box::leak` in `heap_block`, freed once, and no chunk refers to it.
        drop(unsafe { Box::from_raw(self.bytes.as_ptr()) });
    }
}

/// Received bytes. Returns its buffer to the worker's pool when the last chunk that shares it is
/// dropped. The default chunk is empty and holds no buffer.
///
/// Of two words, which are passed on in registers: three would go through memory, written one by one
/// and read at once by the next move, which stalls the processor.
pub struct Chunk {
    header: Option<NonNull<Header>>,
    place: Place,
    local: PhantomData<*const ()>,
}

/// Which bytes of its buffer a chunk is over: where they start in the upper half, how many there are
/// in the lower.
#[derive(Clone, Copy)]
struct Place(u64);

impl Place {
    /// # Panics
    /// When a buffer is of 4 GiB or more.
    fn first(length: usize) -> Self {
        let length = u32::try_from(length).expect("buffers are shorter than 4 GiB");
        Place(length.into())
    }

    fn start(self) -> usize {
        (self.0 >> 32) as usize
    }

    fn length(self) -> usize {
        self.0 as u32 as usize
    }

    /// Without the first `count` bytes, of which there are as many.
    fn without(self, count: usize) -> Self {
        let count = count as u64;
        Place(self.0 + (count << 32) - count)
    }

    /// The first `count` bytes, of which there are as many.
    fn up_to(self, count: usize) -> Self {
        Place(self.0 >> 32 << 32 | count as u64)
    }
}

impl Chunk {
    /// A chunk over the first `length` bytes of a buffer.
    ///
    /// # Safety
    /// `header` is live, `length` bytes from its base are initialised, nobody writes to the
    /// buffer, and one of its counted references is handed over to the chunk.
    pub(super) unsafe fn over(header: NonNull<Header>, length: usize) -> Self {
        Chunk {
            header: Some(header),
            place: Place::first(length),
            local: PhantomData,
        }
    }

    /// Receives without waiting into a leased buffer; an empty chunk is the end, `Err` the errno.
    ///
    /// # Safety
    /// `header` is live and has one reference, which is handed over; nobody else uses the
    /// `length` bytes from its base.
    pub(super) unsafe fn receive(
        header: NonNull<Header>,
        length: usize,
        fd: RawFd,
    ) -> Result<Self, i32> {
        // SAFETY: the caller says that the header is live, and its bytes unused.
        let received = unsafe { sys::receive(fd, header.as_ref().base.as_ptr(), length, 0) };
        // SAFETY: that many bytes were filled, and the caller hands the reference over.
        let chunk = unsafe { Chunk::over(header, *received.as_ref().unwrap_or(&0)) };
        received.map(|_| chunk)
    }

    /// A chunk that holds a copy of `bytes` and no buffer of the pool: for bytes that are kept for
    /// long, or that were not received.
    pub fn copy_of(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Chunk::default();
        }
        Chunk::from_vec(bytes.to_vec())
    }

    /// A chunk over bytes that were not received, such as decrypted ones.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            return Chunk::default();
        }
        let length = bytes.len();
        let header = heap_block(bytes.into_boxed_slice());
        // SAFETY: the block was just made with one reference and is filled with `bytes`.
        unsafe { Chunk::over(header, length) }
    }

    /// Drops the first `count` bytes.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "advance past the end of a chunk");
        self.place = self.place.without(count);
    }

    /// Takes the first `count` bytes out as a chunk that shares the buffer.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn split_to(&mut self, count: usize) -> Chunk {
        assert!(count <= self.len(), "split past the end of a chunk");
        let whole = count == self.len();
        if whole {
            return std::mem::take(self);
        }
        if count == 0 {
            return Chunk::default();
        }
        let mut first = self.share();
        first.truncate(count);
        self.advance(count);
        first
    }

    /// Another chunk over the same bytes.
    pub fn share(&self) -> Chunk {
        if let Some(header) = self.header {
            // SAFETY: a header is live as long as a chunk refers to it.
            let references = unsafe { &header.as_ref().references };
            references.set(references.get() + 1);
        }
        Chunk {
            header: self.header,
            place: self.place,
            local: PhantomData,
        }
    }

    /// How many bytes there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.place.length()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes to be changed in place; `None` when another chunk shares the buffer.
    pub fn exclusive(&mut self) -> Option<&mut [u8]> {
        let Some(header) = self.header else {
            return Some(&mut []);
        };
        // SAFETY: a header is live as long as a chunk refers to it.
        let buffer = unsafe { header.as_ref() };
        if buffer.references.get() > 1 {
            return None;
        }
        // SAFETY: the bytes were filled before the chunk was made. Whoever reads or writes the
        // buffer holds a counted reference; the only one is this chunk's, which is borrowed for as
        // long as the slice lives, so that no other can be made of it either.
        Some(unsafe {
            let start = buffer.base.add(self.place.start());
            std::slice::from_raw_parts_mut(start.as_ptr(), self.len())
        })
    }

    /// Keeps the first `count` bytes only.
    pub fn truncate(&mut self, count: usize) {
        self.place = self.place.up_to(count.min(self.len()));
    }
}

impl Default for Chunk {
    fn default() -> Self {
        Chunk {
            header: None,
            place: Place(0),
            local: PhantomData,
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let Some(header) = self.header else {
            return &[];
        };
        // SAFETY: the bytes were filled before the chunk was made, nobody writes to a buffer that
        // a chunk refers to, and neither it nor its header is given back before the last of them is
        // dropped. The place lies within the bytes that the chunk was made over.
        unsafe {
            let start = header.as_ref().base.add(self.place.start());
            std::slice::from_raw_parts(start.as_ptr(), self.len())
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk")
            .field("length", &self.len())
            .finish()
    }
}

impl Drop for Chunk {
    #[inline]
    fn drop(&mut self) {
        if let Some(header) = self.header {
            // SAFETY: this chunk's reference ends here.
            unsafe { release(header) };
        }
    }
}

/// Gives up one reference to a buffer.
///
/// # Safety
/// The caller owns one counted reference and does not use it afterwards.
pub(super) unsafe fn release(header: NonNull<Header>) {
    // SAFETY: the header is live while there are references.
    let this = unsafe { header.as_ref() };
    let left = this.references.get() - 1;
    this.references.set(left);
    if left > 0 {
        return;
    }
    match this.home {
        Home::Receive => {
            // When the runtime has ended, the pool left its memory mapped for such latecomers.
            core::try_with(|core| {
                if core.serial() == this.owner {
                    core.pool.borrow_mut().give_back(header);
                }
            });
        }
        Home::Bulk => {
            let block = header.cast::<BulkBlock>();
            let returned = core::try_with(|core| {
                let ours = core.serial() == this.owner;
                if ours {
                    core.pool.borrow_mut().give_back_bulk(block);
                }
                ours
            });
            if returned != Some(true) {
                // SAFETY: bulk headers head a block made by `Box::into_raw`, and this was the
                // last reference.
                drop(unsafe { Box::from_raw(block.as_ptr()) });
            }
        }
        Home::Heap => {
            // SAFETY: heap headers head a block made by `Box::into_raw`, and this was the last
            // reference.
            drop(unsafe { Box::from_raw(header.cast::<HeapBlock>().as_ptr()) });
        }
    }
}

fn heap_block(bytes: Box<[u8]>) -> NonNull<Header> {
    let bytes = NonNull::from(Box::leak(bytes));
    let header = Header::new(bytes.cast(), Home::Heap, 0, 0);
    header.references.set(1);
    let block = Box::new(HeapBlock { header, bytes });
    NonNull::from(Box::leak(block)).cast()
}

impl Header {
    pub fn new(base: NonNull<u8>, home: Home, number: u16, owner: u64) -> Self {
        Header {
            base,
            references: Cell::new(0),
            home,
            number,
            filled: Cell::new(0),
            next: Cell::new(None),
            owner,
        }
    }
}

/// Received buffers in order, linked through their headers: an empty queue takes no memory of its
/// own. Each queued buffer counts as one reference.
#[derive(Default)]
pub(super) struct ChunkQueue {
    first: Option<NonNull<Header>>,
    last: Option<NonNull<Header>>,
    length: u32,
}

impl ChunkQueue {
    pub fn len(&self) -> u32 {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Queues a filled buffer.
    ///
    /// # Safety
    /// `header` is live with one reference that is handed over, and in no queue; `filled` bytes
    /// from its base are initialised, and nobody writes to the buffer any more.
    pub unsafe fn push(&mut self, header: NonNull<Header>, filled: u32) {
        // SAFETY: the caller says that the header is live.
        let this = unsafe { header.as_ref() };
        this.filled.set(filled);
        this.next.set(None);
        match self.last.replace(header) {
            // SAFETY: queued headers are live.
            Some(last) => unsafe { last.as_ref() }.next.set(Some(header)),
            None => self.first = Some(header),
        }
        self.length += 1;
    }

    /// Queues a copy of `bytes`, so that the buffer they arrived in can be used again.
    pub fn push_copy(&mut self, bytes: &[u8]) {
        // SAFETY: the block was just made, with one reference.
        unsafe { self.push(heap_block(bytes.into()), bytes.len() as u32) };
    }

    #[inline]
    pub fn pop(&mut self) -> Option<Chunk> {
        let header = self.first?;
        // SAFETY: queued headers are live.
        let this = unsafe { header.as_ref() };
        self.first = this.next.take();
        if self.first.is_none() {
            self.last = None;
        }
        self.length -= 1;
        // SAFETY: `push` was given the reference and the filled length, and both pass on.
        Some(unsafe { Chunk::over(header, this.filled.get() as usize) })
    }
}

impl Drop for ChunkQueue {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}
