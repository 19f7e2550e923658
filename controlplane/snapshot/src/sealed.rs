//! Sealed memory: how a snapshot that is too large for a frame goes beside it.
//!
//! Before: the control plane encoded a snapshot. After: a proxy has its bytes. The memory is an
//! anonymous file (`memfd_create(2)`) that nobody can change any more, not even its maker; the
//! receiver makes sure of that, and reads it into memory of its own. It never maps it: a file that
//! is not what it claims to be would end the process with SIGBUS.

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use rustix::io::{Errno, pread, pwrite};

use crate::limits::ENCODED_BYTES_MAX;

/// What keeps the memory as it is, and the seals on it.
const SEALS: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE).union(SealFlags::SEAL);

/// Why a descriptor's bytes can't be had; the fault of whoever sent it, but for `System`.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// It is something else than memory, such as a file or a socket.
    #[error("the descriptor is not one of sealed memory")]
    Kind,
    /// It can still be changed.
    #[error("the memory is not sealed against every change")]
    Seals,
    /// It has another size than announced.
    #[error("the memory has {actual} bytes, {announced} were announced")]
    Size {
        /// By the message that it came with.
        announced: u64,
        /// What it has.
        actual: u64,
    },
    /// More than [`ENCODED_BYTES_MAX`] were announced.
    #[error("{announced} bytes were announced, {ENCODED_BYTES_MAX} are allowed")]
    TooLarge {
        /// By the message that it came with.
        announced: u64,
    },
    /// The system refused.
    #[error("reading the memory failed: {0}")]
    System(#[from] io::Error),
}

impl From<Errno> for SealedError {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

/// Copies bytes into sealed memory.
///
/// Errors: the process is out of descriptors, or the system of memory.
pub fn seal(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = memfd_create("lateen-snapshot", flags)?;
    let mut written = 0;
    while written < bytes.len() {
        match pwrite(&memory, &bytes[written..], written as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => written += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    fcntl_add_seals(&memory, SEALS)?;
    Ok(memory)
}

/// Reads all of a peer's sealed memory, whose size it announced.
pub fn read(memory: impl AsFd, announced: u64) -> Result<Vec<u8>, SealedError> {
    if announced > ENCODED_BYTES_MAX as u64 {
        return Err(SealedError::TooLarge { announced });
    }
    match fcntl_get_seals(&memory) {
        // Only memory can be sealed; what else there is (a pipe, a disk) may block or change.
        Err(Errno::INVAL) => return Err(SealedError::Kind),
        Err(errno) => return Err(errno.into()),
        Ok(seals) if !seals.contains(SEALS) => return Err(SealedError::Seals),
        Ok(_) => {}
    }
    // After the seals: from then on the size is what it is.
    let actual = u64::try_from(fstat(&memory)?.st_size).map_err(|_| SealedError::Kind)?;
    if actual != announced {
        return Err(SealedError::Size { announced, actual });
    }
    let mut bytes = vec![0; announced as usize];
    let mut got = 0;
    while got < bytes.len() {
        match pread(&memory, &mut bytes[got..], got as u64) {
            Ok(0) => return Err(SealedError::Size { announced, actual: got as u64 }),
            Ok(more) => got += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(bytes)
}
