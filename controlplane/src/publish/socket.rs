//! The socket's file: whose it is, who may open it, when it goes.
//!
//! Before: nothing. After: a listening socket for `accept`. One control plane at a
//! time holds the lock beside the file, until its process ends however it ends; only under that lock
//! is a file taken for stale. The lock's file stays: to remove it would let two processes hold two
//! locks of one name.

use std::ffi::OsString;
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use super::limits::{BACKLOG, PATH_BYTES_MAX};

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody serves it.
    #[error("{}: another control plane serves this socket; stop it, or choose another {option}", path.display())]
    InUse {
        /// Of the socket.
        path: PathBuf,
        /// Which names it.
        option: &'static str,
    },
    /// It is no leftover of a control plane.
    #[error("{}: exists and is not a socket; remove it, or choose another {option}", path.display())]
    NotASocket {
        /// Of whatever it is.
        path: PathBuf,
        /// Which names it.
        option: &'static str,
    },
    /// The kernel takes at most [`PATH_BYTES_MAX`] bytes.
    #[error("{}: a socket's path has at most {PATH_BYTES_MAX} bytes", path.display())]
    PathTooLong {
        /// The one asked for.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: {what} failed: {cause}", path.display())]
    System {
        /// Of the socket.
        path: PathBuf,
        /// The step.
        what: &'static str,
        /// What the system says.
        cause: io::Error,
    },
}

/// A listening socket, and its file, which goes with it.
pub(crate) struct Bound {
    pub(crate) listener: UnixListener,
    // In this order: once the lock is free the file may be another control plane's.
    _file: SocketFile,
    _lock: File,
}

struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// Whose socket it is.
#[derive(Clone, Copy)]
pub(crate) struct Purpose {
    /// Who may open it, as permissions of its file.
    pub(crate) mode: u32,
    /// The option that names it.
    pub(crate) option: &'static str,
}

/// The proxies': their users may share a group with this one.
pub(super) const PROXIES: Purpose = Purpose { mode: 0o660, option: "--socket" };

/// Listens on a socket.
pub(crate) fn bind(path: &Path, purpose: Purpose) -> Result<Bound, BindError> {
    let address = SocketAddrUnix::new(path).map_err(|errno| match errno {
        Errno::NAMETOOLONG => BindError::PathTooLong { path: path.into() },
        errno => system(path, "using it as a socket's path")(errno.into()),
    })?;
    let lock = lock(path, purpose)?;
    remove_stale(path, &address, purpose)?;
    let socket = stream_socket(path, SocketFlags::CLOEXEC)?;
    rustix::net::bind(&socket, &address).map_err(|e| system(path, "binding it")(e.into()))?;
    let file = SocketFile::of(path).map_err(system(path, "looking at the new socket"))?;
    // Before listening: until then nobody can connect, whatever the mode that it was made with.
    let permissions = Permissions::from_mode(purpose.mode);
    fs::set_permissions(path, permissions).map_err(system(path, "setting its mode"))?;
    rustix::net::listen(&socket, BACKLOG).map_err(|e| system(path, "listening")(e.into()))?;
    Ok(Bound { listener: socket.into(), _file: file, _lock: lock })
}

fn system(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> BindError {
    move |cause| BindError::System { path: path.into(), what, cause }
}

fn lock(path: &Path, purpose: Purpose) -> Result<File, BindError> {
    let mut name = OsString::from(path);
    name.push(".lock");
    let no_link = OFlags::NOFOLLOW.bits() as i32;
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(no_link);
    let file = options.open(name).map_err(system(path, "opening the lock beside it"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(BindError::InUse { path: path.into(), option: purpose.option })
        }
        Err(TryLockError::Error(error)) => Err(system(path, "locking it")(error)),
    }
}

/// Removes what a control plane left that was killed.
fn remove_stale(path: &Path, address: &SocketAddrUnix, purpose: Purpose) -> Result<(), BindError> {
    let option = purpose.option;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(path, "looking at what is there")(error)),
        Ok(there) if !there.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.into(), option });
        }
        Ok(_) => {}
    }
    // Not blocking: somebody's queue may be full.
    let probe = stream_socket(path, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(system(path, "removing it")),
        Err(Errno::NOENT) => Ok(()),
        Ok(()) | Err(Errno::AGAIN) => Err(BindError::InUse { path: path.into(), option }),
        Err(errno) => Err(system(path, "asking who serves it")(errno.into())),
    }
}

fn stream_socket(path: &Path, flags: SocketFlags) -> Result<OwnedFd, BindError> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| system(path, "making a socket")(errno.into()))
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.into(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever put another file there wants to keep it.
        if identity(&self.path).is_ok_and(|there| there == self.identity) {
            // Fails if the folder became read-only; the next start finds it stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let there = fs::symlink_metadata(path)?;
    Ok((there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn only_owner_and_group_may_connect_and_the_file_goes_at_the_end() {
        let folder = folder();
        let path = folder.path().join("control");
        let bound = bind(&path, PROXIES).expect("free");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o660);
        UnixStream::connect(&path).expect("listening");
        drop(bound);
        assert!(!path.exists());
        bind(&path, PROXIES).expect("free again");
    }

    #[test]
    fn a_socket_in_use_is_left_alone() {
        let folder = folder();
        let path = folder.path().join("control");
        let ours = bind(&path, PROXIES).expect("free");
        let error = bind(&path, PROXIES).err().expect("in use");
        assert!(error.to_string().contains("another control plane serves this socket"), "{error}");
        UnixStream::connect(&path).expect("still listening");
        drop(ours);

        // One that knows nothing of our lock, and whose queue is full at last.
        let theirs = UnixListener::bind(&path).expect("free");
        let error = bind(&path, PROXIES).err().expect("in use");
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        rustix::net::listen(&theirs, 0).expect("a shorter queue");
        for _ in 0..2 {
            let error = bind(&path, PROXIES).err().expect("in use");
            assert!(matches!(error, BindError::InUse { .. }), "{error}");
        }
        assert!(path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_nothing_else() {
        let folder = folder();
        let path = folder.path().join("control");
        drop(UnixListener::bind(&path).expect("free"));
        assert!(path.exists(), "std leaves it");
        drop(bind(&path, PROXIES).expect("stale"));

        fs::write(&path, "important").expect("room");
        let error = bind(&path, PROXIES).err().expect("a file");
        assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("kept"), "important");
    }

    #[test]
    fn a_file_that_took_the_place_of_the_socket_stays() {
        let folder = folder();
        let path = folder.path().join("control");
        let bound = bind(&path, PROXIES).expect("free");
        fs::rename(&path, folder.path().join("moved")).expect("ours");
        fs::write(&path, "important").expect("room");
        drop(bound);
        assert!(path.exists());
    }

    #[test]
    fn errors_name_the_path_and_what_is_wrong() {
        let folder = folder();
        let long = folder.path().join("x".repeat(PATH_BYTES_MAX));
        let error = bind(&long, PROXIES).err().expect("too long");
        assert!(error.to_string().contains("at most 107 bytes"), "{error}");
        let nowhere = folder.path().join("missing/control");
        let error = bind(&nowhere, PROXIES).err().expect("no folder").to_string();
        assert!(error.contains("missing/control: opening the lock"), "{error}");
    }
}
