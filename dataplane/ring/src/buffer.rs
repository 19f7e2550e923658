//! Receive buffers: one pool per worker, lent out as [`Lease`]s, so that an idle socket owns none.
//!
//! The pool is one reservation of address space cut into equal buffers; a buffer costs memory only
//! once something was received into it. Free buffers form a stack, so that the same few stay warm
//! and the rest stay untouched. Where the kernel can pick a buffer itself (provided-buffer rings,
//! Linux 5.19), a bounded number is *published* to it; elsewhere the engine takes one when a socket
//! has become readable.
//!
//! Publishing more buffers than a turn needs costs memory (4,096 of 16 KiB cost 19 MiB once
//! touched), publishing fewer makes receives fail with ENOBUFS; so the pool starts small, doubles
//! when the kernel runs dry and gives memory back when a burst is over.
#![expect(unsafe_code, reason = "buffer memory is shared with the kernel")]

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// A range of anonymous memory, zeroed, untouched until used, unmapped on drop.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> std::io::Result<Self> {
        // SAFETY: a fresh private anonymous mapping aliases nothing; the address is the kernel's
        // choice.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        let start = NonNull::new(start.cast()).expect("mmap answers an error or an address");
        Ok(Self { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` with this length, and the pool (the only owner) is
        // going: no lease is left (each holds the pool), and the kernel's ring is closed or the pool
        // was leaked on purpose.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "unmapping a known mapping");
    }
}

/// The array through which published buffers reach the kernel (`io_uring_register_buf_ring(3)`).
struct BufferRing {
    entries: Mapping,
    mask: u16,
    tail: u16,
    /// Entries that the kernel has not consumed yet.
    published: u16,
    /// How many the pool tries to keep published.
    target: u16,
    target_min: u16,
}

impl BufferRing {
    fn publish(&mut self, address: u64, bytes: u32, index: u16) {
        let slot = usize::from(self.tail & self.mask);
        let base = self.entries.start.cast::<BufRingEntry>();
        // SAFETY: `slot` is at most `mask`, so it lies inside the mapping of mask + 1 entries.
        let entry = unsafe { base.add(slot) };
        // SAFETY: the mapping is valid and zeroed, and entries at or past the tail are ours alone:
        // the kernel reads only what lies before the tail that is stored below.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(address);
        entry.set_len(bytes);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
        self.published += 1;
        self.store_tail();
    }

    /// Takes back the entry published last, for shrinking. Only while the kernel cannot be reading:
    /// with DEFER_TASKRUN it picks buffers inside `io_uring_enter` alone.
    fn unpublish(&mut self) -> u16 {
        debug_assert!(self.published > 0, "something is published");
        self.tail = self.tail.wrapping_sub(1);
        self.published -= 1;
        self.store_tail();
        let slot = usize::from(self.tail & self.mask);
        let base = self.entries.start.cast::<BufRingEntry>();
        // SAFETY: `slot` is at most `mask`, so it lies inside the mapping of mask + 1 entries.
        let entry = unsafe { base.add(slot) };
        // SAFETY: the entry is at the tail again, so it is ours, and it was written by `publish`.
        unsafe { entry.as_ref() }.bid()
    }

    fn store_tail(&self) {
        let base = self.entries.start.cast::<BufRingEntry>();
        // SAFETY: `base` is the page-aligned address of the first entry, inside the mapping.
        let tail = unsafe { BufRingEntry::tail(base.as_ptr()) };
        // SAFETY: the tail is a 16-bit word inside the mapping, aligned, which the kernel only reads.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: the kernel must see the entry before it sees the tail that covers it.
        tail.store(self.tail, Ordering::Release);
    }
}

/// The pool of one worker.
pub(crate) struct Pool {
    memory: Mapping,
    buffer_bytes: usize,
    count_max: u16,
    inner: RefCell<Inner>,
    leased: Cell<u16>,
    /// The kernel ran dry since the pool last shrank.
    grown: Cell<bool>,
}

struct Inner {
    free: Vec<u16>,
    /// Buffers below this index have been used at least once.
    opened: u16,
    ring: Option<BufferRing>,
}

impl Pool {
    /// Reserves `count_max` buffers of `buffer_bytes` each (a multiple of the page size).
    pub(crate) fn new(buffer_bytes: usize, count_max: u16) -> std::io::Result<Rc<Self>> {
        debug_assert!(count_max.is_power_of_two(), "the kernel's ring wants a power of two");
        Ok(Rc::new(Self {
            memory: Mapping::new(buffer_bytes * usize::from(count_max))?,
            buffer_bytes,
            count_max,
            inner: RefCell::new(Inner { free: Vec::new(), opened: 0, ring: None }),
            leased: Cell::new(0),
            grown: Cell::new(false),
        }))
    }

    /// Makes the array for the kernel; the caller registers it at the returned address with
    /// `count_max` entries and then calls [`Pool::publish_first`].
    pub(crate) fn make_ring(&self, target: u16) -> std::io::Result<u64> {
        let bytes = usize::from(self.count_max) * size_of::<BufRingEntry>();
        let ring = BufferRing {
            entries: Mapping::new(bytes)?,
            mask: self.count_max - 1,
            tail: 0,
            published: 0,
            target,
            target_min: target,
        };
        let address = ring.entries.start.as_ptr().addr() as u64;
        self.inner.borrow_mut().ring = Some(ring);
        Ok(address)
    }

    /// Forgets the array, because the kernel refused it.
    pub(crate) fn drop_ring(&self) {
        self.inner.borrow_mut().ring = None;
    }

    pub(crate) fn count_max(&self) -> u16 {
        self.count_max
    }

    /// Publishes buffers up to the target. True if at least one is published.
    pub(crate) fn replenish(&self) -> bool {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let Some(ring) = &mut inner.ring else { return false };
        while ring.published < ring.target {
            let Some(index) = take_free(&mut inner.free, &mut inner.opened, self.count_max) else {
                break;
            };
            ring.publish(self.address(index), self.buffer_bytes as u32, index);
        }
        ring.published > 0
    }

    /// The kernel ran dry: publish more from now on.
    pub(crate) fn grow(&self) {
        if let Some(ring) = &mut self.inner.borrow_mut().ring {
            ring.target = ring.target.saturating_mul(2).min(self.count_max);
            self.grown.set(true);
        }
    }

    pub(crate) fn has_grown(&self) -> bool {
        self.grown.get()
    }

    /// Gives back what a burst made the pool grow to: the published buffers beyond the first target
    /// return to the stack, and the memory of all free buffers returns to the system.
    ///
    /// `may_unpublish` says that the kernel cannot be picking a buffer now.
    pub(crate) fn shrink(&self, may_unpublish: bool) {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        if let Some(ring) = &mut inner.ring {
            ring.target = ring.target_min;
            while may_unpublish && ring.published > ring.target {
                inner.free.push(ring.unpublish());
            }
        }
        for &index in &inner.free {
            let start =
                self.memory.start.as_ptr().wrapping_add(usize::from(index) * self.buffer_bytes);
            // SAFETY: the range is one buffer of our own mapping, and a free buffer's content is
            // nobody's: dropping its pages only makes them read as zero again.
            let advised = unsafe {
                rustix::mm::madvise(start.cast(), self.buffer_bytes, Advice::LinuxDontNeed)
            };
            debug_assert!(advised.is_ok(), "advising on a mapping of our own");
        }
        self.grown.set(false);
    }

    /// Takes a buffer for a direct read; `None` if all are lent.
    pub(crate) fn take(self: &Rc<Self>) -> Option<Lease> {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let index = take_free(&mut inner.free, &mut inner.opened, self.count_max)?;
        self.leased.set(self.leased.get() + 1);
        Some(Lease { pool: self.clone(), index, start: 0, bytes: self.buffer_bytes as u32 })
    }

    /// The kernel filled a published buffer: it is the caller's now.
    pub(crate) fn consumed(self: &Rc<Self>, index: u16, bytes: usize) -> Lease {
        debug_assert!(index < self.count_max, "the kernel names a buffer that we published");
        debug_assert!(bytes <= self.buffer_bytes, "the kernel stays inside the buffer");
        {
            let mut inner = self.inner.borrow_mut();
            let inner = &mut *inner;
            let ring = inner.ring.as_mut().expect("only a ring hands out buffers");
            ring.published -= 1;
            if ring.published < ring.target / 2 {
                while ring.published < ring.target {
                    let free = take_free(&mut inner.free, &mut inner.opened, self.count_max);
                    let Some(free) = free else { break };
                    ring.publish(self.address(free), self.buffer_bytes as u32, free);
                }
            }
        }
        self.leased.set(self.leased.get() + 1);
        Lease { pool: self.clone(), index, start: 0, bytes: bytes as u32 }
    }

    fn release(&self, index: u16) {
        self.leased.set(self.leased.get() - 1);
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        match &mut inner.ring {
            Some(ring) if ring.published < ring.target => {
                ring.publish(self.address(index), self.buffer_bytes as u32, index);
            }
            _ => inner.free.push(index),
        }
    }

    fn address(&self, index: u16) -> u64 {
        (self.memory.start.as_ptr().addr() + usize::from(index) * self.buffer_bytes) as u64
    }

    /// Buffers that are lent out now.
    pub(crate) fn leased(&self) -> u16 {
        self.leased.get()
    }

    /// Buffers that could still be lent.
    pub(crate) fn available(&self) -> u16 {
        self.count_max - self.leased.get()
    }
}

fn take_free(free: &mut Vec<u16>, opened: &mut u16, count_max: u16) -> Option<u16> {
    free.pop().or_else(|| {
        (*opened < count_max).then(|| {
            *opened += 1;
            *opened - 1
        })
    })
}

/// Received bytes in a buffer that is lent until the lease is dropped.
///
/// A lease is for the turn in which it arrived, or for as long as a send of it takes. Whatever must
/// be kept longer is copied out, because the buffers of a worker are few.
pub struct Lease {
    pool: Rc<Pool>,
    index: u16,
    start: u32,
    bytes: u32,
}

impl Lease {
    /// Drops the first `count` bytes from view.
    ///
    /// # Panics
    /// If fewer than `count` bytes are left.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.bytes as usize, "advance past the end of a lease");
        self.start += count as u32;
        self.bytes -= count as u32;
    }

    /// Keeps the first `count` bytes only; no effect if there are no more.
    pub fn truncate(&mut self, count: usize) {
        self.bytes = self.bytes.min(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// The whole buffer, to be filled by a direct read and then truncated.
    pub(crate) fn writable(&mut self) -> &mut [u8] {
        let start = self.as_ptr().cast_mut();
        // SAFETY: the range lies inside this lease's buffer, which nobody else reads or writes while
        // it is lent: it is not published, and a lease is not cloned.
        unsafe { std::slice::from_raw_parts_mut(start, self.bytes as usize) }
    }

    fn as_ptr(&self) -> *const u8 {
        let offset = usize::from(self.index) * self.pool.buffer_bytes + self.start as usize;
        self.pool.memory.start.as_ptr().wrapping_add(offset)
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies inside this lease's buffer; the memory was zeroed at first and
        // since then written only by the kernel and `writable`; nobody writes it while it is lent.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.bytes as usize) }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("index", &self.index).field("bytes", &self.bytes).finish()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.release(self.index);
    }
}
