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
//!
//! The pointer logic of this crate runs under Miri, without sockets: `tests/run miri`.
#![expect(unsafe_code, reason = "buffer memory is shared with the kernel")]

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::buffer::mapping::Mapping;

mod mapping;

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

/// Free buffers that may keep their memory; more of them are the remains of a burst.
const WARM_MAX: usize = 64;

/// The pool of one worker.
pub(crate) struct Pool {
    memory: Mapping,
    buffer_bytes: usize,
    count_max: u16,
    inner: RefCell<Inner>,
    leased: Cell<u16>,
    /// When more than so many are lent, whoever keeps one should rather copy.
    plenty: Cell<u16>,
    /// Since the pool last shrank the kernel ran dry, or a burst left many buffers warm.
    grown: Cell<bool>,
}

struct Inner {
    free: Vec<u16>,
    /// So many at the bottom of `free` have no memory: it went back to the system.
    clean: usize,
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
            inner: RefCell::new(Inner { free: Vec::new(), clean: 0, opened: 0, ring: None }),
            leased: Cell::new(0),
            plenty: Cell::new(count_max / 2),
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
        inner.clean = inner.clean.min(inner.free.len());
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

    /// Gives back what a burst made the pool grow to: all published buffers
    /// are taken back for a moment, and the memory of all free buffers returns to the system.
    ///
    /// `may_unpublish` says that the kernel cannot be picking a buffer now.
    pub(crate) fn shrink(&self, may_unpublish: bool) {
        {
            let mut inner = self.inner.borrow_mut();
            let inner = &mut *inner;
            if let Some(ring) = &mut inner.ring {
                ring.target = ring.target_min;
                while may_unpublish && ring.published > 0 {
                    inner.free.push(ring.unpublish());
                }
            }
            for &index in &inner.free[inner.clean..] {
                self.memory.forget(usize::from(index) * self.buffer_bytes, self.buffer_bytes);
            }
            inner.clean = inner.free.len();
        }
        self.replenish();
        self.grown.set(false);
    }

    /// Takes a buffer for a direct read; `None` if all are lent.
    pub(crate) fn take(self: &Rc<Self>) -> Option<Lease> {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let index = take_free(&mut inner.free, &mut inner.opened, self.count_max)?;
        inner.clean = inner.clean.min(inner.free.len());
        self.leased.set(self.leased.get() + 1);
        let memory = Memory::Pooled { pool: self.clone(), index };
        Some(Lease { memory, start: 0, bytes: self.buffer_bytes as u32 })
    }

    /// The kernel filled a published buffer: it is the caller's now.
    #[inline]
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
                inner.clean = inner.clean.min(inner.free.len());
            }
        }
        self.leased.set(self.leased.get() + 1);
        let memory = Memory::Pooled { pool: self.clone(), index };
        Lease { memory, start: 0, bytes: bytes as u32 }
    }

    #[inline]
    fn release(&self, index: u16) {
        self.leased.set(self.leased.get() - 1);
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        match &mut inner.ring {
            Some(ring) if ring.published < ring.target => {
                ring.publish(self.address(index), self.buffer_bytes as u32, index);
            }
            _ => {
                inner.free.push(index);
                if inner.free.len() - inner.clean > WARM_MAX {
                    self.grown.set(true);
                }
            }
        }
    }

    fn address(&self, index: u16) -> u64 {
        self.buffer(index).addr() as u64
    }

    /// Where a buffer begins.
    fn buffer(&self, index: u16) -> *mut u8 {
        self.memory.start.as_ptr().wrapping_add(usize::from(index) * self.buffer_bytes)
    }

    /// So many buffers are lent that whoever keeps one should rather copy.
    pub(crate) fn is_scarce(&self) -> bool {
        self.leased.get() > self.plenty.get()
    }

    /// Sets from how many lent buffers on they count as scarce.
    pub(crate) fn set_plenty(&self, leases: u16) {
        self.plenty.set(leases);
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
/// be kept longer is copied out, because the buffers of a worker are few: the engine itself does so
/// with bytes that queue up behind others, and with all bytes while more than half of the buffers
/// are lent, so that no number of slow peers can take them all.
pub struct Lease {
    memory: Memory,
    start: u32,
    bytes: u32,
}

enum Memory {
    Pooled { pool: Rc<Pool>, index: u16 },
    Copied(Box<[u8]>),
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

    /// True if its buffer is one of a pool that has few left.
    #[inline]
    pub(crate) fn is_scarce(&self) -> bool {
        matches!(&self.memory, Memory::Pooled { pool, .. } if pool.is_scarce())
    }

    /// The same bytes in memory of their own, if their buffer had better go back: because they will
    /// have to wait (`waits`), or because buffers are scarce.
    pub(crate) fn settled(self, waits: bool) -> Self {
        let Memory::Pooled { pool, .. } = &self.memory else { return self };
        if !waits && !pool.is_scarce() {
            return self;
        }
        Self { memory: Memory::Copied(Box::from(&*self)), start: 0, bytes: self.bytes }
    }

    /// The whole buffer, to be filled by a direct read and then truncated.
    pub(crate) fn writable(&mut self) -> &mut [u8] {
        let bytes = self.bytes as usize;
        let start = match &mut self.memory {
            Memory::Pooled { pool, index } => pool.buffer(*index),
            Memory::Copied(copy) => return &mut copy[self.start as usize..][..bytes],
        };
        let start = start.wrapping_add(self.start as usize);
        // SAFETY: the range lies inside this lease's buffer, which nobody else reads or writes while
        // it is lent: it is not published, and a lease is not cloned.
        unsafe { std::slice::from_raw_parts_mut(start, bytes) }
    }
}

impl Deref for Lease {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let (start, bytes) = (self.start as usize, self.bytes as usize);
        let base = match &self.memory {
            Memory::Pooled { pool, index } => pool.buffer(*index),
            Memory::Copied(copy) => return &copy[start..start + bytes],
        };
        // SAFETY: the range lies inside this lease's buffer; the memory was zeroed at first and
        // since then written only by the kernel and `writable`; nobody writes it while it is lent.
        unsafe { std::slice::from_raw_parts(base.wrapping_add(start), bytes) }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Memory::Pooled { pool, index } = &self.memory {
            pool.release(*index);
        }
    }
}

#[cfg(test)]
mod tests;
