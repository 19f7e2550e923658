//! Memory comes across whole, or not at all.

use std::io::Write;

use super::*;

fn memory(bytes: &[u8], seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = memfd_create("test", flags).expect("memory");
    assert_eq!(pwrite(&memory, bytes, 0), Ok(bytes.len()));
    fcntl_add_seals(&memory, seals).expect("allowed");
    memory
}

#[test]
fn brings_the_bytes() {
    for bytes in [&b""[..], b"x", &[7; 1_000_000]] {
        let memory = seal(bytes).expect("memory");
        assert_eq!(read(&memory, bytes.len() as u64).expect("whole"), bytes);
        // Whoever reads twice gets them twice: no position is shared.
        assert_eq!(read(&memory, bytes.len() as u64).expect("whole"), bytes);
    }
}

#[test]
fn can_no_longer_be_changed_by_its_maker() {
    let memory = seal(b"abc").expect("memory");
    assert_eq!(pwrite(&memory, b"x", 0), Err(Errno::PERM));
    assert_eq!(rustix::fs::ftruncate(&memory, 1), Err(Errno::PERM));
    assert_eq!(rustix::fs::ftruncate(&memory, 9), Err(Errno::PERM));
    assert_eq!(fcntl_add_seals(&memory, SealFlags::FUTURE_WRITE), Err(Errno::PERM));
}

#[test]
fn refuses_memory_that_lacks_a_seal() {
    for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::WRITE, SealFlags::SEAL] {
        let memory = memory(b"abc", SEALS.difference(missing));
        let error = read(&memory, 3).expect_err("not sealed");
        assert!(matches!(error, SealedError::Seals), "{missing:?}: {error}");
    }
}

#[test]
fn refuses_lies_about_the_size() {
    let memory = seal(b"abc").expect("memory");
    for announced in [0, 2, 4, ENCODED_BYTES_MAX as u64] {
        let error = read(&memory, announced).expect_err("a lie");
        assert!(matches!(error, SealedError::Size { actual: 3, .. }), "{announced}: {error}");
    }
    for announced in [ENCODED_BYTES_MAX as u64 + 1, u64::MAX] {
        let error = read(&memory, announced).expect_err("too large");
        assert!(matches!(error, SealedError::TooLarge { .. }), "{announced}: {error}");
    }
}

#[test]
fn refuses_what_is_no_memory() {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    writer.write_all(b"abc").expect("room");
    assert!(matches!(read(&reader, 3), Err(SealedError::Kind)));
    let (socket, _other) = std::os::unix::net::UnixStream::pair().expect("sockets");
    assert!(matches!(read(&socket, 3), Err(SealedError::Kind)));
    let device = std::fs::File::open("/dev/zero").expect("a device");
    assert!(matches!(read(&device, 3), Err(SealedError::Kind | SealedError::Seals)));
    let folder = std::fs::File::open("/proc/self").expect("a folder");
    assert!(matches!(read(&folder, 3), Err(SealedError::Kind)));
}
