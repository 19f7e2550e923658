//! Direct system calls on non-blocking sockets, shared by both real engines.
//!
//! Nothing here waits: a call does what can be done at once, or answers EAGAIN.

use std::io::IoSlice;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SocketFlags};
use rustix::pipe::SpliceFlags;
use socket2::{SockFilter, SockRef};

use crate::address::Address;
use crate::engine::{Io, add};
use crate::socket::{End, READY_ACCEPTS_MAX, SocketKey};
use crate::splice::Pipe;

/// Receives once into a pool buffer and records what came. EAGAIN if nothing is there; if there is
/// no buffer the socket is put in the starved queue.
pub(crate) fn receive(io: &mut Io, key: SocketKey) -> Result<(), Errno> {
    let socket = io.sockets.at(key);
    let Some(mut lease) = io.pool.take() else {
        io.starve(key);
        add(&io.counts.starved, 1);
        return Ok(());
    };
    add(&io.counts.submitted, 1);
    let received = retry(|| rustix::net::recv(socket.fd(), lease.writable(), RecvFlags::empty()));
    match received.map(|(_, count)| count) {
        Err(Errno::AGAIN) => {
            socket.edges.readable = false;
            return Err(Errno::AGAIN);
        }
        Ok(0) => socket.ended(),
        Ok(count) => {
            note_short_read(socket, count < lease.len());
            lease.truncate(count);
            socket.recv.push(lease);
        }
        Err(errno) => socket.recv.end = Some(End::Failed(errno)),
    }
    add(&io.counts.completed, 1);
    socket.recv.wake();
    Ok(())
}

/// A short read of a stream means that it is drained (`epoll(7)`), unless the peer has closed: then
/// the end is still to be read and no further edge tells.
fn note_short_read(socket: &mut crate::socket::Socket, short: bool) {
    if short && !socket.edges.read_closed {
        socket.edges.readable = false;
    }
}

pub(crate) fn read(
    io: &mut Io,
    key: SocketKey,
    into: &mut Vec<u8>,
    max: usize,
) -> Result<usize, Errno> {
    let socket = io.sockets.at(key);
    into.reserve(max);
    add(&io.counts.submitted, 1);
    let before = into.len();
    let room = &mut into.spare_capacity_mut()[..max];
    let received = retry(|| {
        let (_, count) = rustix::net::recv(socket.fd(), &mut room[..], RecvFlags::empty())?;
        Ok(count)
    });
    match received {
        Ok(count) => {
            note_short_read(socket, count < max);
            add(&io.counts.completed, 1);
            set_len(into, before + count);
            Ok(count)
        }
        Err(errno) => {
            if errno == Errno::AGAIN {
                socket.edges.readable = false;
            }
            Err(errno)
        }
    }
}

#[expect(unsafe_code, reason = "the kernel initialised the bytes")]
fn set_len(vector: &mut Vec<u8>, bytes: usize) {
    // SAFETY: the caller received exactly up to `bytes` into the spare room that follows the old
    // length, so all of it is initialised and within the capacity.
    unsafe { vector.set_len(bytes) };
}

/// Sends what the socket takes of `bytes` and returns how much that was; a failure is recorded.
pub(crate) fn send_once(io: &mut Io, key: SocketKey, bytes: &[u8]) -> usize {
    let socket = io.sockets.at(key);
    add(&io.counts.submitted, 1);
    match retry(|| rustix::net::send(socket.fd(), bytes, socket.send.flags())) {
        Ok(count) => {
            add(&io.counts.completed, 1);
            socket.send.bytes_total += count as u64;
            count
        }
        Err(errno) => {
            socket.edges.writable = false;
            if errno != Errno::AGAIN {
                socket.send.error = Some(errno);
            }
            0
        }
    }
}

/// True if bytes, the end or an error wait in the socket. Takes nothing.
pub(crate) fn has_unread(io: &mut Io, key: SocketKey) -> bool {
    let socket = io.sockets.at(key);
    let mut byte = [0; 1];
    add(&io.counts.submitted, 1);
    let peeked =
        retry(|| rustix::net::recv(socket.fd(), &mut byte[..], RecvFlags::PEEK).map(|_| ()));
    if peeked == Err(Errno::AGAIN) {
        socket.edges.readable = false;
    }
    peeked != Err(Errno::AGAIN)
}

/// Sends as much of `send.op` as the socket takes. Ok(true) when all is gone.
pub(crate) fn send(io: &mut Io, key: SocketKey) -> Result<bool, Errno> {
    let socket = io.sockets.at(key);
    let flags = socket.send.flags();
    loop {
        let fd = socket.fd.as_ref().ok_or(Errno::BADF)?;
        let Some(op) = socket.send.op.as_mut() else { return Ok(true) };
        add(&io.counts.submitted, 1);
        let sent = match op.single() {
            Some(bytes) => retry(|| rustix::net::send(fd, bytes, flags)),
            None => {
                let mut parts = [IoSlice::new(&[]); crate::chunk::CHUNKS_MAX];
                for (part, bytes) in parts.iter_mut().zip(op.remaining()) {
                    *part = IoSlice::new(bytes);
                }
                let mut control = SendAncillaryBuffer::default();
                retry(|| rustix::net::sendmsg(fd, &parts, &mut control, flags))
            }
        };
        match sent {
            Ok(count) => {
                add(&io.counts.completed, 1);
                socket.send.bytes_total += count as u64;
                if op.advance(count) {
                    return Ok(true);
                }
            }
            Err(Errno::AGAIN) => {
                socket.edges.writable = false;
                return Ok(false);
            }
            Err(errno) => return Err(errno),
        }
    }
}

pub(crate) fn splice_in(
    io: &mut Io,
    key: SocketKey,
    pipe: &mut Pipe,
    max: usize,
) -> Result<usize, Errno> {
    let socket = io.sockets.at(key);
    let Some((_, write)) = pipe.ends() else { return Err(Errno::BADF) };
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    add(&io.counts.submitted, 1);
    let moved = retry(|| rustix::pipe::splice(socket.fd(), None, write, None, max, flags));
    match moved {
        Ok(count) => {
            add(&io.counts.completed, 1);
            pipe.filled(count);
        }
        // With an empty pipe this can only mean that the socket is empty; with bytes in the pipe it
        // may mean that the pipe is full, and the socket stays readable.
        Err(Errno::AGAIN) if pipe.is_empty() => socket.edges.readable = false,
        Err(_) => {}
    }
    moved
}

pub(crate) fn splice_out(io: &mut Io, key: SocketKey, pipe: &mut Pipe) -> Result<usize, Errno> {
    let socket = io.sockets.at(key);
    let Some((read, _)) = pipe.ends() else { return Err(Errno::BADF) };
    // Not SPLICE_F_MORE: it would hold a last short segment back while the source pauses.
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    add(&io.counts.submitted, 1);
    let moved = retry(|| rustix::pipe::splice(read, None, socket.fd(), None, pipe.bytes(), flags));
    match moved {
        Ok(count) => {
            add(&io.counts.completed, 1);
            socket.send.bytes_total += count as u64;
            // It took along what was sent ahead of it.
            socket.send.ahead = false;
            pipe.drained(count);
        }
        Err(Errno::AGAIN) => socket.edges.writable = false,
        Err(_) => {}
    }
    moved
}

/// Lets go what was sent ahead of a splice that brings nothing yet.
pub(crate) fn push(io: &mut Io, key: SocketKey) {
    let socket = io.sockets.at(key);
    socket.send.ahead = false;
    // Setting it again sends what is held (`tcp(7)`). A Unix socket refuses, and holds nothing.
    let _ = rustix::net::sockopt::set_tcp_nodelay(socket.fd(), true);
}

/// Drops each SYN that comes to a listener (a classic BPF filter, socket(7)), so that who begins to connect after
/// this is not in its queue when it closes. A client far away whose SYN was answered before may still be. Where
/// the kernel won't have it, and for a Unix socket, nothing is dropped.
pub(crate) fn turn_deaf(io: &mut Io, key: SocketKey) {
    /// Where TCP's flags are in a segment, and which of them is SYN. Source: RFC 9293 §3.1.
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    let code = |bits: u32| bits as u16;
    let filter = [
        SockFilter::new(code(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS), 0, 0, FLAGS_AT),
        SockFilter::new(code(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K), 0, 1, SYN),
        SockFilter::new(code(libc::BPF_RET | libc::BPF_K), 0, 0, 0),
        SockFilter::new(code(libc::BPF_RET | libc::BPF_K), 0, 0, u32::MAX),
    ];
    let _ = SockRef::from(&io.sockets.at(key).fd()).attach_filter(&filter);
}

pub(crate) fn accept(io: &mut Io, key: SocketKey) -> Result<OwnedFd, Errno> {
    let fd = io.sockets.at(key).fd();
    retry(|| rustix::net::accept_with(fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC))
}

/// Accepts until the queue is empty or enough wait to be taken.
pub(crate) fn accept_ready(io: &mut Io, key: SocketKey) {
    let socket = io.sockets.at(key);
    let fd = socket.fd.as_ref().expect("a real engine's sockets have descriptors");
    let accept = socket.rare.get_or_insert_default().accept.get_or_insert_default();
    while accept.ready.len() < READY_ACCEPTS_MAX {
        add(&io.counts.submitted, 1);
        match rustix::net::accept_with(fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(accepted) => {
                add(&io.counts.completed, 1);
                accept.ready.push_back(accepted.into());
            }
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(Errno::AGAIN) => {
                socket.edges.readable = false;
                break;
            }
            Err(errno) => {
                accept.error = Some(errno);
                break;
            }
        }
    }
    if !accept.ready.is_empty() || accept.error.is_some() {
        accept.armed = false;
        accept.wake();
    }
}

pub(crate) fn shutdown(io: &mut Io, key: SocketKey, how: Shutdown) -> Result<(), Errno> {
    let how = match how {
        Shutdown::Read => rustix::net::Shutdown::Read,
        Shutdown::Write => rustix::net::Shutdown::Write,
        Shutdown::Both => rustix::net::Shutdown::Both,
    };
    rustix::net::shutdown(io.sockets.at(key).fd(), how)
}

pub(crate) fn reset_on_close(io: &mut Io, key: SocketKey) {
    // A Unix socket has no reset to send and refuses nothing; closing it is all that can be done.
    let _ = SockRef::from(&io.sockets.at(key).fd()).set_linger(Some(Duration::ZERO));
}

pub(crate) fn local_address(io: &mut Io, key: SocketKey) -> Result<Address, Errno> {
    let address = SockRef::from(&io.sockets.at(key).fd()).local_addr();
    address.map(|address| Address::from_socket_address(&address)).map_err(|error| errno_of(&error))
}

pub(crate) fn peer_address(io: &mut Io, key: SocketKey) -> Result<Address, Errno> {
    let address = SockRef::from(&io.sockets.at(key).fd()).peer_addr();
    address.map(|address| Address::from_socket_address(&address)).map_err(|error| errno_of(&error))
}

pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
