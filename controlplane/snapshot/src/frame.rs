//! Frames on a Unix stream socket: how a message gets to the other side.
//!
//! ```text
//! length   4   of the payload, little-endian
//! kind     1   which message; the high bit says that one descriptor comes with the frame
//! payload
//! ```
//!
//! Before: [`message`](crate::message) made a frame, or the socket has bytes. After: the frame, whole,
//! or an error after which the connection is of no more use. Blocking, for threads that carry no
//! traffic. A frame that began has a deadline as a whole, so that a peer that sends a byte an hour
//! holds nobody. Descriptors come with the first byte of a frame that announced one, or are closed.
//! It never interprets a payload.

#[cfg(test)]
mod tests;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::limits::FRAME_BYTES_MAX;

const HEADER_BYTES: usize = 5;
const DESCRIPTOR_BIT: u8 = 0x80;

/// One message, as bytes and perhaps a descriptor.
#[derive(Debug)]
pub struct Frame {
    /// Which message; less than 128.
    pub kind: u8,
    /// At most [`FRAME_BYTES_MAX`].
    pub payload: Vec<u8>,
    /// What goes beside the payload.
    pub descriptor: Option<OwnedFd>,
}

/// Why no frame could be sent or received. The connection is of no more use: a part of the frame
/// may have passed.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer closed in the middle of a frame, or before taking one.
    #[error("the peer closed the connection within a frame")]
    Broken,
    /// The deadline passed: the peer is too slow, or stopped.
    #[error("the peer took longer than allowed for a frame")]
    TimedOut,
    /// More than [`FRAME_BYTES_MAX`].
    #[error("a frame of {bytes} bytes, {FRAME_BYTES_MAX} are allowed")]
    TooLarge {
        /// What the frame would take.
        bytes: usize,
    },
    /// A descriptor that was announced is missing, or came without being announced, or not alone.
    #[error("{0}")]
    Descriptors(&'static str),
    /// The system refused.
    #[error("the connection failed: {0}")]
    System(#[from] io::Error),
}

impl From<Errno> for FrameError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PIPE | Errno::CONNRESET => Self::Broken,
            errno => Self::System(errno.into()),
        }
    }
}

/// Splits a connection, so that one thread reads while another writes.
///
/// Errors: the process is out of descriptors.
pub fn split(stream: UnixStream) -> io::Result<(Sender, Receiver)> {
    let other = stream.try_clone()?;
    Ok((Sender { stream }, Receiver { stream: other }))
}

/// Who is at the other end of a connection, as the kernel saw it when the connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Effective user.
    pub uid: u32,
    /// Process; 0 if it is in a process namespace that can't be seen from here.
    pub pid: i32,
}

/// Asks the kernel who is at the other end.
///
/// Errors: not a connected Unix socket.
pub fn peer_credentials(stream: impl AsFd) -> io::Result<PeerCredentials> {
    let credentials = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(PeerCredentials {
        uid: credentials.uid.as_raw(),
        pid: rustix::process::Pid::as_raw(Some(credentials.pid)),
    })
}

/// The writing half.
#[derive(Debug)]
pub struct Sender {
    stream: UnixStream,
}

impl Sender {
    /// Sends a frame; the peer has `timeout` to take it.
    pub fn send(&mut self, frame: &Frame, timeout: Duration) -> Result<(), FrameError> {
        let deadline = Deadline::after(timeout);
        debug_assert!(frame.kind & DESCRIPTOR_BIT == 0, "a kind is less than 128");
        if frame.payload.len() > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge { bytes: frame.payload.len() });
        }
        let flag = if frame.descriptor.is_some() { DESCRIPTOR_BIT } else { 0 };
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&(frame.payload.len() as u32).to_le_bytes());
        header[4] = frame.kind | flag;

        // The descriptor goes with the first byte, and only once however often sending goes on.
        let mut descriptor = frame.descriptor.as_ref().map(AsFd::as_fd);
        let mut sent = 0;
        while sent < HEADER_BYTES + frame.payload.len() {
            let rest = [
                IoSlice::new(&header[sent.min(HEADER_BYTES)..]),
                IoSlice::new(&frame.payload[sent.saturating_sub(HEADER_BYTES)..]),
            ];
            match self.send_some(&rest, descriptor) {
                Ok(bytes) => (sent, descriptor) = (sent + bytes, None),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => deadline.wait(&self.stream, PollFlags::OUT)?,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn send_some(
        &self,
        bytes: &[IoSlice<'_>],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<usize, Errno> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if descriptor.is_some() {
            let pushed = control.push(SendAncillaryMessage::ScmRights(descriptor.as_slice()));
            debug_assert!(pushed, "the space is for one descriptor");
        }
        // NOSIGNAL: a peer that is gone is an error here, not the end of the process.
        sendmsg(&self.stream, bytes, &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    /// Ends both halves: whoever waits in [`Receiver::receive`] gets the end of the stream.
    pub fn shut_down(&self) {
        // Fails only if the peer ended the connection before.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// The reading half.
#[derive(Debug)]
pub struct Receiver {
    stream: UnixStream,
}

/// How long a reader waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a frame to begin; `None`: for ever.
    pub first_byte: Option<Duration>,
    /// From its first byte to its last.
    pub whole_frame: Duration,
}

impl Receiver {
    /// Waits for a frame; `None` if the peer closed the connection after the last one.
    pub fn receive(&mut self, patience: Patience) -> Result<Option<Frame>, FrameError> {
        let mut descriptor = None;
        let mut header = [0; HEADER_BYTES];
        let idle = patience.first_byte.map_or(Deadline(None), Deadline::after);
        let got = self.receive_some(&mut header, &mut descriptor, &idle)?;
        if got == 0 {
            return Ok(None);
        }
        let deadline = Deadline::after(patience.whole_frame);
        self.receive_rest(&mut header[got..], &mut descriptor, &deadline)?;
        let [length @ .., kind] = header;
        let bytes = u32::from_le_bytes(length) as usize;
        if bytes > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge { bytes });
        }
        match (kind & DESCRIPTOR_BIT != 0, &descriptor) {
            (true, Some(_)) | (false, None) => {}
            (true, None) => {
                return Err(FrameError::Descriptors("a descriptor was announced, none came"));
            }
            (false, Some(_)) => {
                return Err(FrameError::Descriptors("a descriptor came that was not announced"));
            }
        }
        let mut payload = vec![0; bytes];
        let mut late = None;
        self.receive_rest(&mut payload, &mut late, &deadline)?;
        if late.is_some() {
            return Err(FrameError::Descriptors("a descriptor came in the middle of a frame"));
        }
        Ok(Some(Frame { kind: kind & !DESCRIPTOR_BIT, payload, descriptor }))
    }

    fn receive_rest(
        &self,
        mut rest: &mut [u8],
        descriptor: &mut Option<OwnedFd>,
        deadline: &Deadline,
    ) -> Result<(), FrameError> {
        while !rest.is_empty() {
            match self.receive_some(rest, descriptor, deadline)? {
                0 => return Err(FrameError::Broken),
                got => rest = &mut rest[got..],
            }
        }
        Ok(())
    }

    /// Waits for bytes and takes what there is; 0: the end.
    fn receive_some(
        &self,
        bytes: &mut [u8],
        descriptor: &mut Option<OwnedFd>,
        deadline: &Deadline,
    ) -> Result<usize, FrameError> {
        loop {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            match recvmsg(&self.stream, &mut [IoSliceMut::new(bytes)], &mut control, flags) {
                Ok(received) => {
                    take_descriptor(&mut control, received.flags, descriptor)?;
                    return Ok(received.bytes);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => deadline.wait(&self.stream, PollFlags::IN)?,
                // As after a FIN: what a peer left unread when it closed changes nothing for us.
                Err(Errno::CONNRESET) => return Ok(0),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// To wait for a frame beside other events.
impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Takes the one descriptor that may have come. All others are closed: those in the buffer when it
/// is dropped, those that did not fit by the kernel.
fn take_descriptor(
    control: &mut RecvAncillaryBuffer<'_>,
    flags: ReturnFlags,
    descriptor: &mut Option<OwnedFd>,
) -> Result<(), FrameError> {
    const SEVERAL: FrameError = FrameError::Descriptors("more than one descriptor came");
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            for one in descriptors {
                if descriptor.replace(one).is_some() {
                    return Err(SEVERAL);
                }
            }
        }
    }
    // Set as well when the process is out of descriptors.
    if flags.contains(ReturnFlags::CTRUNC) { Err(SEVERAL) } else { Ok(()) }
}

/// When waiting ends; `None`: never.
struct Deadline(Option<Instant>);

impl Deadline {
    fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// Waits until the socket is ready.
    fn wait(&self, socket: &UnixStream, flags: PollFlags) -> Result<(), FrameError> {
        let left = match self.0 {
            None => None,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(FrameError::TimedOut);
                }
                Some(Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }))
            }
        };
        match poll(&mut [PollFd::new(socket, flags)], left.as_ref()) {
            // Ready, or late: the caller tries again, and comes back here to be told.
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
