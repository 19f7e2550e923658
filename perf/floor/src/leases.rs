//! The provided-buffer ring: memory that the kernel fills when bytes arrive.
//!
//! Ownership: a buffer belongs to the kernel while it is published, to exactly one [`Lease`] after
//! the completion that named it, and to the kernel again once the lease is given back. The memory
//! is mapped once and lives as long as the process.

use std::{
    io,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::{IoUring, types::BufRingEntry};

use crate::socket::check;

/// The only buffer group these programs register.
pub const GROUP: u16 = 0;

/// Published buffers. 64 connections in one batch never need more; see `net` for what happens when
/// they run out.
const COUNT: u16 = 256;

/// One read can bring a whole 64 KiB response with its head. Small messages touch only the first
/// lines of a buffer, so that the size costs address space and no memory.
const SIZE_BYTES: usize = 68 * 1024;

/// Buffers that all begin at a page boundary would fight for the same sets of the first-level
/// cache; the odd number of lines spreads their beginnings.
const STRIDE_BYTES: usize = SIZE_BYTES + 5 * 64;

/// Bytes `start..end` of buffer `id`, to be given back exactly once.
#[derive(Debug)]
pub struct Lease {
    id: u16,
    /// First byte still wanted.
    pub start: u32,
    /// One past the last byte received.
    pub end: u32,
}

/// The ring of buffers and the memory behind it.
pub struct Leases {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    tail: u16,
    published: u16,
}

impl Leases {
    /// Maps the buffers, registers the ring, and publishes all of it.
    ///
    /// # Errors
    /// From mmap(2), or from the registration on a kernel before 5.19.
    pub fn new(ring: &IoUring) -> io::Result<Self> {
        let entries = map(usize::from(COUNT) * size_of::<BufRingEntry>())?.cast();
        let memory = map(usize::from(COUNT) * STRIDE_BYTES)?;
        // SAFETY: the mapping is page-aligned, large enough for COUNT entries, and never unmapped.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, COUNT, GROUP, 0)
        }?;
        let mut leases = Self { entries, memory, tail: 0, published: 0 };
        for id in 0..COUNT {
            leases.give_back(Lease { id, start: 0, end: 0 });
        }
        leases.publish();
        Ok(leases)
    }

    /// Takes over the buffer that a completion named.
    pub fn lease(&mut self, id: u16, length: u32) -> Lease {
        debug_assert!(self.published > 0, "the kernel filled a buffer that was not published");
        self.published -= 1;
        Lease { id, start: 0, end: length }
    }

    /// The bytes of a lease.
    pub fn bytes(&mut self, lease: &Lease) -> &mut [u8] {
        let start = usize::from(lease.id) * STRIDE_BYTES + lease.start as usize;
        // SAFETY: id < COUNT and start ≤ SIZE_BYTES, so the offset stays inside the mapping.
        let pointer = unsafe { self.memory.add(start) };
        let length = (lease.end - lease.start) as usize;
        // SAFETY: the lease owns these bytes (the kernel does not write an unpublished buffer), they
        // were written by the kernel or zeroed by mmap, and `&mut self` excludes a second slice.
        unsafe { slice::from_raw_parts_mut(pointer.as_ptr(), length) }
    }

    /// Queues a buffer for the kernel; visible to it after [`Leases::publish`].
    pub fn give_back(&mut self, lease: Lease) {
        let offset = usize::from(lease.id) * STRIDE_BYTES;
        // SAFETY: as in `bytes`, the offset stays inside the mapping.
        let address = unsafe { self.memory.add(offset) };
        let slot = usize::from(self.tail % COUNT);
        // SAFETY: slot < COUNT, so the entry lies inside the mapping.
        let mut entry = unsafe { self.entries.add(slot) };
        // SAFETY: the kernel reads only entries before the shared tail; this one is not before it,
        // because at most COUNT buffers exist.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(address.as_ptr() as u64);
        entry.set_len(SIZE_BYTES as u32);
        entry.set_bid(lease.id);
        self.tail = self.tail.wrapping_add(1);
        self.published += 1;
    }

    /// Lets the kernel see every buffer given back so far.
    pub fn publish(&mut self) {
        // SAFETY: `entries` is the base of the registered, initialised ring.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail is a live, aligned u16 that only this thread writes and the kernel reads.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Buffers that the kernel may still fill.
    pub fn published(&self) -> u16 {
        self.published
    }
}

fn map(length: usize) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no other memory.
    let pointer = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
    if pointer == libc::MAP_FAILED {
        check(-1)?;
    }
    NonNull::new(pointer.cast()).ok_or_else(|| io::Error::other("mmap returned the null page"))
}
