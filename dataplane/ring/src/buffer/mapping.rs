//! Memory for receive buffers: address space reserved at once, used as it is needed.
#![expect(unsafe_code, reason = "maps memory by hand")]

use std::ptr::NonNull;

#[cfg(not(miri))]
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// A range of anonymous memory, zeroed, untouched until used, unmapped on drop.
pub(super) struct Mapping {
    pub(super) start: NonNull<u8>,
    bytes: usize,
}

/// Under Miri, which has no `mmap`, the range comes from the allocator.
#[cfg(miri)]
impl Mapping {
    fn layout(bytes: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(bytes.max(1), 4_096).expect("a pool's size is sound")
    }

    pub(super) fn new(bytes: usize) -> std::io::Result<Self> {
        // SAFETY: the layout's size is not zero.
        let start = unsafe { std::alloc::alloc_zeroed(Self::layout(bytes)) };
        let start = NonNull::new(start).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }

    /// Lets the pages in the range go: they read as zero from now on.
    pub(super) fn forget(&self, offset: usize, bytes: usize) {
        debug_assert!(offset + bytes <= self.bytes, "a range of this mapping");
        // SAFETY: the caller's range lies inside the mapping.
        let start = unsafe { self.start.add(offset) };
        // SAFETY: the range lies inside the mapping and, the buffer being free, is nobody's.
        unsafe { start.write_bytes(0, bytes) };
    }
}

#[cfg(miri)]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was allocated by `new` with this layout, and the only owner is going.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), Self::layout(self.bytes)) };
    }
}

#[cfg(not(miri))]
impl Mapping {
    pub(super) fn new(bytes: usize) -> std::io::Result<Self> {
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

    /// Lets the pages in the range go: they read as zero from now on.
    pub(super) fn forget(&self, offset: usize, bytes: usize) {
        debug_assert!(offset + bytes <= self.bytes, "a range of this mapping");
        let start = self.start.as_ptr().wrapping_add(offset);
        // SAFETY: the range is a free buffer of our own mapping, whose content is nobody's: dropping
        // its pages only makes them read as zero again.
        let advised = unsafe { rustix::mm::madvise(start.cast(), bytes, Advice::LinuxDontNeed) };
        debug_assert!(advised.is_ok(), "advising on a mapping of our own");
    }
}

#[cfg(not(miri))]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` with this length, and the pool (the only owner) is
        // going: no lease is left (each holds the pool), and the kernel's ring is closed or the pool
        // was leaked on purpose.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "unmapping a known mapping");
    }
}
