//! What the C library's allocator keeps for itself when a burst is over.
//!
//! `glibc` gives each worker an arena of its own. Left alone it keeps the end of an arena, by a
//! threshold that it raises with each large block that is freed, so that a table that grew and went
//! leaves megabytes behind; and it keeps a few freed blocks of each small size for the thread, which
//! after a burst lie scattered and hold a page each. mimalloc and jemalloc keep more still: see
//! `perf/results/2026-11-25-memory.md`. Other C libraries do without any of this.

pub(crate) use system::{settle, trim};

#[cfg(all(target_env = "gnu", not(miri)))]
#[expect(unsafe_code, reason = "calls of the C library")]
mod system {
    use std::hint::black_box;

    /// Blocks past it are mapped and unmapped singly, and so much free memory at the end of an arena
    /// is kept. The library's first values; setting them keeps them (`mallopt(3)`).
    const THRESHOLD_BYTES: libc::c_int = 128 * 1024;
    /// Freeing a block of so many bytes has the library look at the end of its arena.
    const LOOK_BYTES: usize = 64 * 1024;
    /// The sizes of block that a thread keeps some of, and of each so many.
    const CACHED_BYTES: std::ops::RangeInclusive<usize> = 24..=1_032;
    const CACHED_STEP_BYTES: usize = 16;
    const CACHED_EACH: usize = 7;

    /// Sets the allocator's thresholds for good.
    pub(crate) fn settle() {
        set(libc::M_MMAP_THRESHOLD, THRESHOLD_BYTES);
        set(libc::M_TRIM_THRESHOLD, THRESHOLD_BYTES);
        set(libc::M_TOP_PAD, THRESHOLD_BYTES);
    }

    /// Returns free memory to the system, also from between what is in use: a burst leaves its heap
    /// in pieces.
    pub(crate) fn trim() {
        empty_thread_cache();
        // `malloc_trim` empties holes only; what is free at the end of this thread's arena goes when
        // a block is freed while nothing is to be kept there. Another thread that frees meanwhile
        // gives back more than it would have.
        set(libc::M_TOP_PAD, 0);
        set(libc::M_TRIM_THRESHOLD, 0);
        drop(black_box(Vec::<u8>::with_capacity(LOOK_BYTES)));
        settle();
        // SAFETY: it takes no pointer, locks what it needs, and frees nothing that is in use.
        let _ = unsafe { libc::malloc_trim(0) };
    }

    /// Has the blocks that this thread keeps freed for good. There is no call for it, but what another
    /// thread frees goes with that thread: it is handed all of them, and waited for, which takes no
    /// longer than the trimming itself. Where no thread is to be had, they stay.
    fn empty_thread_cache() {
        let sizes = CACHED_BYTES.step_by(CACHED_STEP_BYTES);
        let blocks: Vec<Vec<u8>> = sizes
            .flat_map(|bytes| {
                std::iter::repeat_with(move || Vec::with_capacity(bytes)).take(CACHED_EACH)
            })
            .collect();
        let freeing = std::thread::Builder::new().spawn(move || drop(black_box(blocks)));
        let _ = freeing.map(std::thread::JoinHandle::join);
    }

    fn set(parameter: libc::c_int, value: libc::c_int) {
        // SAFETY: it takes no pointer and locks what it needs; a refusal changes nothing.
        let _ = unsafe { libc::mallopt(parameter, value) };
    }
}

#[cfg(not(all(target_env = "gnu", not(miri))))]
mod system {
    pub(crate) fn settle() {}
    pub(crate) fn trim() {}
}
