//! One connected socket, in the clear or under TLS, with owned buffers as monoio wants them.
//!
//! Comes after connect or accept, before the framing of HTTP. It never cancels an operation: who
//! wants to end a wait shuts the socket down, and the wait ends by itself.

use std::io::{self, BufRead, Read, Write};

use monoio::BufResult;
use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::TcpStream;

/// Sealed bytes that one receive takes: a TLS record is at most 16 KiB and a little.
const SEALED_BYTES: usize = 17 * 1024;

pub(crate) struct Wire {
    stream: TcpStream,
    tls: Option<Box<Session>>,
}

/// A TLS session without its socket.
struct Session {
    connection: rustls::Connection,
    /// What arrives and what leaves, one buffer each for the whole life of the session.
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Wire {
    /// A connection in the clear.
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self { stream, tls: None }
    }

    /// Does the handshake of either side.
    ///
    /// # Errors
    /// `InvalidData` where the two don't agree on TLS, with rustls's reason inside; else what the
    /// socket says.
    pub(crate) async fn handshake(
        stream: TcpStream,
        connection: rustls::Connection,
    ) -> io::Result<Self> {
        let session = Session {
            connection,
            incoming: Vec::with_capacity(SEALED_BYTES),
            outgoing: Vec::with_capacity(SEALED_BYTES),
        };
        let mut wire = Self { stream, tls: Some(Box::new(session)) };
        let Self { stream, tls: Some(session) } = &mut wire else { return Ok(wire) };
        while session.connection.is_handshaking() {
            if session.connection.wants_write() {
                session.flush(stream).await?;
            } else if session.fill(stream).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        // A server has tickets to send, a client its Finished.
        session.flush(stream).await?;
        Ok(wire)
    }

    /// Sends all of the bytes; in the clear that is one system call if the socket takes them.
    #[inline]
    pub(crate) async fn send(&mut self, bytes: &'static [u8]) -> io::Result<()> {
        match &mut self.tls {
            None => {
                let (sent, _) = self.stream.write(bytes).await;
                match sent? {
                    sent if sent == bytes.len() => Ok(()),
                    sent => self.stream.write_all(&bytes[sent..]).await.0.map(drop),
                }
            }
            Some(session) => session.send(&mut self.stream, bytes).await,
        }
    }

    /// Like [`send`](Self::send), of a buffer that comes back.
    #[inline]
    pub(crate) async fn send_buffer(&mut self, bytes: Vec<u8>) -> BufResult<(), Vec<u8>> {
        match &mut self.tls {
            None => {
                let (sent, bytes) = self.stream.write(bytes).await;
                match sent {
                    Ok(sent) if sent == bytes.len() => (Ok(()), bytes),
                    Ok(sent) => {
                        let (sent, rest) = self.stream.write_all(bytes.slice(sent..)).await;
                        (sent.map(drop), rest.into_inner())
                    }
                    Err(error) => (Err(error), bytes),
                }
            }
            Some(session) => (session.send(&mut self.stream, &bytes).await, bytes),
        }
    }

    /// Appends what has arrived to the buffer's spare room, of which there must be some. 0 bytes
    /// are the peer's end.
    ///
    /// # Errors
    /// As [`handshake`](Self::handshake); `UnexpectedEof` for a TLS peer that just went.
    #[inline]
    pub(crate) async fn receive(&mut self, mut buffer: Vec<u8>) -> BufResult<usize, Vec<u8>> {
        debug_assert!(buffer.len() < buffer.capacity(), "nothing could arrive");
        match &mut self.tls {
            None if buffer.is_empty() => self.stream.read(buffer).await,
            None => {
                let spare = buffer.len()..buffer.capacity();
                let (received, slice) = self.stream.read(buffer.slice_mut(spare)).await;
                (received, slice.into_inner())
            }
            Some(session) => {
                let received = session.receive(&mut self.stream, &mut buffer).await;
                (received, buffer)
            }
        }
    }

    /// Ends our side; the peer may go on.
    ///
    /// # Errors
    /// What the socket says.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.tls {
            session.connection.send_close_notify();
            session.flush(&mut self.stream).await?;
        }
        self.stream.shutdown().await
    }
}

impl Session {
    async fn send(&mut self, stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = self.connection.writer().write(bytes)?;
            bytes = &bytes[taken..];
            self.flush(stream).await?;
        }
        Ok(())
    }

    async fn receive(&mut self, stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            let mut reader = self.connection.reader();
            match reader.fill_buf() {
                Ok(opened) => {
                    let taken = opened.len().min(buffer.capacity() - buffer.len());
                    buffer.extend_from_slice(&opened[..taken]);
                    reader.consume(taken);
                    return Ok(taken);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            self.fill(stream).await?;
            if self.connection.wants_write() {
                self.flush(stream).await?;
            }
        }
    }

    /// Receives once and opens what came.
    async fn fill(&mut self, stream: &mut TcpStream) -> io::Result<usize> {
        let (received, incoming) = stream.read(std::mem::take(&mut self.incoming)).await;
        self.incoming = incoming;
        let received = received?;
        let mut sealed: &[u8] = &self.incoming;
        loop {
            // Of no bytes: tells rustls of the end.
            let read = self.connection.read_tls(&mut sealed.by_ref())?;
            if let Err(error) = self.connection.process_new_packets() {
                // The peer is told why; that it can't be told changes nothing.
                let _ = self.flush(stream).await;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            if read == 0 || sealed.is_empty() {
                return Ok(received);
            }
        }
    }

    async fn flush(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.outgoing)?;
        }
        let (sent, mut outgoing) = stream.write_all(std::mem::take(&mut self.outgoing)).await;
        outgoing.clear();
        self.outgoing = outgoing;
        sent.map(drop)
    }
}
