//! One end of a TCP connection that does exactly what a test says: these bytes, then a reset, a
//! half-close, or nothing.

use crate::wait::PATIENCE;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How a connection ended, seen from one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// FIN: all bytes arrived.
    Closed,
    /// RST.
    Reset,
    /// Still open when the patience ran out.
    Open,
}

/// A connection. Reads wait for at most [`PATIENCE`], unless said otherwise.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    /// Read, but not yet asked for.
    unread: Vec<u8>,
}

impl Peer {
    /// Connects.
    ///
    /// # Panics
    /// When the connection is refused.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE);
        Self::new(stream.unwrap_or_else(|error| panic!("connect to {address}: {error}")))
    }

    /// Connects with a receive buffer of about `bytes`, so that a client that does not read is felt
    /// soon.
    ///
    /// # Panics
    /// When the connection is refused.
    pub fn connect_with_receive_buffer(address: SocketAddr, bytes: usize) -> Self {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(bytes).expect("a small receive buffer is allowed");
        socket
            .connect(&address.into())
            .unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        Self::new(socket.into())
    }

    /// Wraps a connection that is already there.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("nodelay works on TCP");
        stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        Self { stream, unread: Vec::new() }
    }

    /// The socket itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// This side's address.
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    /// Sends all of it.
    ///
    /// # Panics
    /// When the other side is gone or does not read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the other side takes what is sent");
    }

    /// Sends all of it, or says why not.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends one byte at a time, each in a segment of its own.
    pub fn send_bytewise(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]);
        }
    }

    /// Ends this direction with a FIN; the other one stays open.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is still there");
    }

    /// Ends both directions with an RST.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("linger works on TCP");
    }

    /// The next `count` bytes.
    ///
    /// # Panics
    /// When the connection ends before.
    pub fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            if let Some(ending) = self.fill() {
                panic!(
                    "{ending:?} after {} of {count} bytes: {}",
                    self.unread.len(),
                    self.unread_text()
                );
            }
        }
        self.unread.drain(..count).collect()
    }

    /// What comes up to and including `marker`; `None` where the connection ends before its first
    /// byte.
    ///
    /// # Panics
    /// When the connection ends, or stays silent, in between.
    pub fn read_until(&mut self, marker: &[u8]) -> Option<Vec<u8>> {
        let mut searched = 0;
        loop {
            let found =
                self.unread[searched..].windows(marker.len()).position(|window| window == marker);
            if let Some(at) = found {
                return Some(self.unread.drain(..searched + at + marker.len()).collect());
            }
            searched = self.unread.len().saturating_sub(marker.len() - 1);
            match self.fill() {
                None => {}
                Some(Ending::Open) if self.unread.is_empty() => {
                    panic!("nothing came for {PATIENCE:?}")
                }
                Some(_) if self.unread.is_empty() => return None,
                Some(ending) => panic!("{ending:?} in the middle of: {}", self.unread_text()),
            }
        }
    }

    /// Whatever comes next, at least one byte; empty at the end.
    pub fn read_some(&mut self) -> Vec<u8> {
        if self.unread.is_empty() {
            self.fill();
        }
        std::mem::take(&mut self.unread)
    }

    /// All bytes up to the end, and how it ended.
    pub fn read_to_end(&mut self) -> (Vec<u8>, Ending) {
        loop {
            if let Some(ending) = self.fill() {
                return (std::mem::take(&mut self.unread), ending);
            }
        }
    }

    /// How the connection ends, with no further byte before.
    ///
    /// # Panics
    /// When bytes come.
    pub fn ending(&mut self) -> Ending {
        let (bytes, ending) = self.read_to_end();
        assert!(
            bytes.is_empty(),
            "bytes where the end should be: {}",
            String::from_utf8_lossy(&bytes)
        );
        ending
    }

    /// Whether bytes, or the end, have come.
    pub fn has_heard(&self) -> bool {
        self.stream.set_nonblocking(true).expect("it is a socket");
        let heard = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("it is a socket");
        !self.unread.is_empty() || !heard.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Nothing comes for `silence`, and the connection stays open.
    ///
    /// # Panics
    /// When something comes, or it ends.
    pub fn assert_silent_for(&mut self, silence: Duration) {
        assert!(self.unread.is_empty(), "it came before: {}", self.unread_text());
        self.stream.set_read_timeout(Some(silence)).expect("the timeout is not zero");
        let ending = self.fill();
        self.stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        assert_eq!(ending, Some(Ending::Open), "unread: {}", self.unread_text());
    }

    /// Reads and drops everything up to the end; the number of bytes and how it ended.
    pub fn drain(&mut self) -> (u64, Ending) {
        let mut count = 0;
        loop {
            count += std::mem::take(&mut self.unread).len() as u64;
            if let Some(ending) = self.fill() {
                return (count, ending);
            }
        }
    }

    /// Reads once. `None` when bytes came.
    fn fill(&mut self) -> Option<Ending> {
        let mut buffer = [0; 64 * 1024];
        match self.read(&mut buffer) {
            Ok(0) => Some(Ending::Closed),
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                None
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Some(Ending::Open),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Some(Ending::Reset),
                _ => panic!("read: {error}"),
            },
        }
    }

    /// Reads as the socket does, but through stops of the process, each of which ends a read that has a timeout
    /// (signal(7)): all of them together take no longer than that.
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let began = Instant::now();
        let mut result = self.stream.read(buffer);
        if !result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
            return result;
        }
        let patience = self.stream.read_timeout()?;
        while result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
            let left = patience.map(|patience| patience.saturating_sub(began.elapsed()));
            if left == Some(Duration::ZERO) {
                result = Err(ErrorKind::TimedOut.into());
            } else {
                self.stream.set_read_timeout(left)?;
                result = self.stream.read(buffer);
            }
        }
        self.stream.set_read_timeout(patience)?;
        result
    }

    fn unread_text(&self) -> String {
        String::from_utf8_lossy(&self.unread[..self.unread.len().min(200)]).into_owned()
    }
}
