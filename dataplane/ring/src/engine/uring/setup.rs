//! Setting up a ring with what this kernel has.
#![expect(unsafe_code, reason = "registers the buffer pool's memory with the kernel")]

use io_uring::IoUring;
use rustix::io::Errno;

use crate::engine::Io;
use crate::features::{Feature, Features};

/// Submission entries; a turn that wants more submits in between.
const SQ_ENTRIES: u32 = 1_024;
/// Completion entries: a multishot receive may post many in one turn, and an overflow, although
/// nothing is lost in it, costs an allocation in the kernel for each.
const CQ_ENTRIES: u32 = 8_192;
/// The one group of provided buffers.
pub(super) const BUFFER_GROUP: u16 = 0;
/// Buffers published at first.
const PUBLISHED_FIRST: u16 = 64;
/// Builds the ring, giving up one setup flag after another until the kernel agrees.
pub(super) fn set_up(wanted: Features) -> Result<(IoUring, Features), Errno> {
    let mut features = wanted;
    loop {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_cqsize(CQ_ENTRIES);
        if features.has(Feature::DeferTaskrun) {
            // TASKRUN_FLAG: without it a worker whose tasks are always ready cannot see that
            // completions wait, and starves them.
            builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_taskrun_flag()
                .setup_submit_all();
        }
        if features.has(Feature::NoSqArray) {
            builder.setup_no_sqarray();
        }
        match builder.build(SQ_ENTRIES) {
            Ok(ring) => return Ok((ring, features)),
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                features = match errno {
                    Errno::INVAL if features.has(Feature::NoSqArray) => {
                        features.without(Feature::NoSqArray)
                    }
                    // SINGLE_ISSUER came with Linux 6.0 and multishot receive with it, but the pair
                    // with DEFER_TASKRUN needs 6.1; whoever lacks it is taken to lack both.
                    Errno::INVAL if features.has(Feature::DeferTaskrun) => {
                        features.without(Feature::DeferTaskrun).without(Feature::MultishotRecv)
                    }
                    errno => return Err(errno),
                };
            }
        }
    }
}

/// Registers the pool's array and publishes the first buffers. False where the kernel has no buffer
/// rings.
pub(super) fn publish_buffers(ring: &IoUring, io: &Io) -> bool {
    let Ok(address) = io.pool.make_ring(PUBLISHED_FIRST.min(io.pool.count_max())) else {
        return false;
    };
    // SAFETY: the pool's array holds count_max entries at this page-aligned address, and is
    // unmapped only with the pool, which the runtime drops after the ring.
    let registered = unsafe {
        ring.submitter().register_buf_ring_with_flags(address, io.pool.count_max(), BUFFER_GROUP, 0)
    };
    if registered.is_err() {
        io.pool.drop_ring();
        return false;
    }
    io.pool.replenish()
}
