//! Plain socket calls: listeners, options, addresses, the descriptor limit.
//!
//! Everything here happens at start or once per connection, never per request.

use std::{
    io, mem,
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd, RawFd},
};

/// A socket address in the kernel's layout; it must stay where it is while a connect is under way.
pub struct KernelAddress {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl KernelAddress {
    /// Converts an IPv4 address, the only family a loopback measurement needs.
    ///
    /// # Errors
    /// `InvalidInput` for an IPv6 address.
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        let SocketAddr::V4(v4) = address else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an IPv4 address is needed"));
        };
        // SAFETY: sockaddr_storage is plain old data, for which all zeroes is a valid value.
        let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let inner = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: v4.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
            sin_zero: [0; 8],
        };
        // SAFETY: sockaddr_storage is at least as large and as aligned as any sockaddr_*.
        unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(inner) };
        Ok(Self { storage, length: size_of::<libc::sockaddr_in>() as libc::socklen_t })
    }

    /// The address and its length in bytes, as connect(2) takes them.
    pub fn as_raw(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.storage).cast(), self.length)
    }
}

/// Binds a listener whose accepted sockets inherit TCP_NODELAY, and prints `listening <addr>`.
///
/// # Errors
/// Whatever bind(2), listen(2) or setsockopt(2) return.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    // std listens with a backlog of 128; a row with 512 connections would overflow it.
    // SAFETY: listen(2) takes no pointer and the descriptor is ours.
    check(unsafe { libc::listen(listener.as_raw_fd(), 4096) })?;
    set_no_delay(listener.as_raw_fd())?;
    println!("listening {}", listener.local_addr()?);
    Ok(listener)
}

/// Opens a non-blocking TCP socket with TCP_NODELAY.
///
/// # Errors
/// Whatever socket(2) or setsockopt(2) return, `EMFILE` above all.
pub fn open_stream() -> io::Result<RawFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket(2) takes no pointer.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    set_no_delay(fd)?;
    Ok(fd)
}

/// Sets TCP_NODELAY: every program here writes whole messages, Nagle would only add latency.
///
/// # Errors
/// Whatever setsockopt(2) returns.
pub fn set_no_delay(fd: RawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is a live c_int of the given length; the kernel only reads it.
    check(unsafe {
        libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const on).cast(), length)
    })?;
    Ok(())
}

/// Ends the sending side (`SHUT_WR`) or both sides (`SHUT_RDWR`); a socket already gone is no error.
pub fn shut_down(fd: RawFd, how: libc::c_int) {
    // SAFETY: shutdown(2) takes no pointer.
    unsafe { libc::shutdown(fd, how) };
}

/// Raises the soft limit of open descriptors to the hard one.
///
/// # Errors
/// Whatever getrlimit(2) or setrlimit(2) return.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit into the live value that is pointed at.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads one rlimit from the live value that is pointed at.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(())
}

/// Turns a syscall's −1 into the error in `errno`.
///
/// # Errors
/// The last OS error when `result` is negative.
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
