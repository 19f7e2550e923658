//! The splice side of `pipe` and of `floor_splice`: pages go socket → pipe → socket without a copy through user space.
//!
//! splice(2) is called directly on readiness; the ring's own splice operation always goes through a
//! kernel worker thread. Sockets are non-blocking, for SPLICE_F_NONBLOCK alone does not keep a
//! blocking socket from blocking.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use crate::{
    epoll::Epoll,
    socket::{check, set_no_delay, shut_down},
};

/// Bytes that one pipe may hold, and that one call asks for.
const PIPE_BYTES: usize = 1024 * 1024;

/// The token of the listener; connections have their index.
const LISTENER: u64 = u64::MAX;

/// Serves `listener` for ever: one upstream connection and two pipes for each client.
///
/// # Errors
/// What makes going on impossible: the poll or an accept failed, or no pipe of 1 MiB is to be had.
pub fn run(listener: &TcpListener, upstream: SocketAddr) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut epoll = Epoll::new()?;
    epoll.add(listener.as_raw_fd(), LISTENER)?;
    let mut tunnels: Vec<Option<Tunnel>> = Vec::new();
    let mut ready = Vec::new();
    loop {
        epoll.wait(None, &mut ready)?;
        for &token in &ready {
            if token == LISTENER {
                accept_all(listener, upstream, &epoll, &mut tunnels)?;
            } else if let Some(slot) = tunnels.get_mut(token as usize) {
                // Both sockets of a tunnel carry its token; it may be gone since the wait.
                if slot.as_mut().is_some_and(|tunnel| tunnel.pump().is_err() || tunnel.is_done()) {
                    *slot = None;
                }
            }
        }
    }
}

fn accept_all(
    listener: &TcpListener,
    upstream: SocketAddr,
    epoll: &Epoll,
    tunnels: &mut Vec<Option<Tunnel>>,
) -> io::Result<()> {
    loop {
        let client = match listener.accept() {
            Ok((client, _)) => client,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        // A blocking connect: on a loopback it is done at once or refused.
        let Ok(server) = TcpStream::connect(upstream) else { continue };
        let index = tunnels.iter().position(Option::is_none).unwrap_or(tunnels.len());
        let tunnel = Tunnel::new(client, server)?;
        epoll.add(tunnel.client.as_raw_fd(), index as u64)?;
        epoll.add(tunnel.server.as_raw_fd(), index as u64)?;
        if index == tunnels.len() {
            tunnels.push(None);
        }
        tunnels[index] = Some(tunnel);
    }
}

struct Tunnel {
    client: TcpStream,
    server: TcpStream,
    up: Direction,
    down: Direction,
}

impl Tunnel {
    fn new(client: TcpStream, server: TcpStream) -> io::Result<Self> {
        for stream in [&client, &server] {
            stream.set_nonblocking(true)?;
            set_no_delay(stream.as_raw_fd())?;
        }
        Ok(Self { client, server, up: Direction::new()?, down: Direction::new()? })
    }

    fn pump(&mut self) -> io::Result<()> {
        self.up.pump(&self.client, &self.server)?;
        self.down.pump(&self.server, &self.client)
    }

    fn is_done(&self) -> bool {
        self.up.finished && self.down.finished
    }
}

struct Direction {
    pipe: Pipe,
    left: usize,
    /// FIN was passed on.
    finished: bool,
}

impl Direction {
    fn new() -> io::Result<Self> {
        Ok(Self { pipe: Pipe::new()?, left: usize::MAX, finished: false })
    }

    fn pump(&mut self, from: &TcpStream, to: &TcpStream) -> io::Result<()> {
        if !self.finished && self.pipe.pump(from, to, &mut self.left)? == Pumped::Ended {
            self.finished = true;
            shut_down(to.as_raw_fd(), libc::SHUT_WR);
        }
        // A stream has no length; far more than can ever be moved in one call stays allowed.
        self.left = usize::MAX;
        Ok(())
    }
}

/// A pipe of 1 MiB, and the bytes that wait in it.
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    held_bytes: usize,
}

/// Why [`Pipe::pump`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pumped {
    /// One of the two sockets has to become ready first.
    Blocked,
    /// The source ended; everything it sent was passed on.
    Ended,
    /// All that was asked for was passed on.
    Whole,
}

impl Pipe {
    /// Opens an empty pipe.
    ///
    /// # Errors
    /// From pipe2(2), or from `F_SETPIPE_SZ` when the user already has too many large pipes.
    pub fn new() -> io::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: the kernel writes two descriptors into the live array.
        check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) })?;
        // SAFETY: both descriptors were just opened and have no other owner.
        let [reader, writer] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let size = PIPE_BYTES as libc::c_int;
        // SAFETY: F_SETPIPE_SZ takes an integer.
        check(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, size) })?;
        Ok(Self { reader, writer, held_bytes: 0 })
    }

    /// Bytes that wait in it.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Moves up to `bytes_max` bytes from a non-blocking socket into the empty pipe; 0 is the end of
    /// the stream. For those who wait for one socket at a time.
    ///
    /// # Errors
    /// `WouldBlock` when the socket has nothing; else from splice(2).
    pub fn fill(&mut self, from: RawFd, bytes_max: u64) -> io::Result<usize> {
        debug_assert_eq!(
            self.held_bytes, 0,
            "in a full pipe EAGAIN would say nothing of the socket"
        );
        let wanted = bytes_max.min(PIPE_BYTES as u64) as usize;
        let count =
            splice(from, self.writer.as_raw_fd(), wanted)?.ok_or(io::ErrorKind::WouldBlock)?;
        self.held_bytes += count;
        Ok(count)
    }

    /// Moves bytes that wait in it into a non-blocking socket.
    ///
    /// # Errors
    /// `WouldBlock` when the socket has no room; else from splice(2).
    pub fn drain(&mut self, to: RawFd) -> io::Result<usize> {
        let count = splice(self.reader.as_raw_fd(), to, self.held_bytes)?;
        let count = count.ok_or(io::ErrorKind::WouldBlock)?;
        self.held_bytes -= count;
        Ok(count)
    }

    /// Moves up to `left` bytes, and lowers it by what was taken from the source, until one of the
    /// two non-blocking sockets would block.
    ///
    /// # Errors
    /// From splice(2): one of the connections is broken.
    pub fn pump(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        left: &mut usize,
    ) -> io::Result<Pumped> {
        loop {
            let mut source_ended = false;
            let mut idle = true;
            if *left > 0 {
                let wanted = PIPE_BYTES.min(*left);
                match splice(from.as_raw_fd(), self.writer.as_raw_fd(), wanted)? {
                    Some(0) => source_ended = true,
                    Some(count) => {
                        self.held_bytes += count;
                        *left -= count;
                        idle = false;
                    }
                    // The source is empty, or the pipe is full: only the other half can tell.
                    None => {}
                }
            }
            while self.held_bytes > 0 {
                match splice(self.reader.as_raw_fd(), to.as_raw_fd(), self.held_bytes)? {
                    Some(count) => self.held_bytes -= count,
                    None => return Ok(Pumped::Blocked),
                }
                idle = false;
            }
            match (*left, source_ended) {
                (0, _) => return Ok(Pumped::Whole),
                (_, true) => return Ok(Pumped::Ended),
                _ if idle => return Ok(Pumped::Blocked),
                _ => {}
            }
        }
    }
}

/// `None` when one of the two would block.
fn splice(from: i32, to: i32, length: usize) -> io::Result<Option<usize>> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: null offsets mean the descriptors' own positions; no memory of ours is involved.
    let count = unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), length, flags) };
    if count >= 0 {
        return Ok(Some(count as usize));
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        error => Err(error),
    }
}
