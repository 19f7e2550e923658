//! The upstream of the tests: a thread for each connection, and bodies that show any byte misplaced.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

/// `GET /N` is answered with [`body`] of N bytes, `POST /echo` with what it brought, `GET /short`
/// with a part of the mebibyte that it promises.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    /// A connection ends after so many responses.
    close_after: usize,
    /// It does not say so before.
    silent: bool,
}

impl Origin {
    /// Serves in the background for as long as the process lives.
    pub(crate) fn start(close_after: usize) -> SocketAddr {
        Self { close_after, silent: false }.listen()
    }

    /// As [`Origin::start`], but its last response says nothing of the end.
    pub(crate) fn start_silent(close_after: usize) -> SocketAddr {
        Self { close_after, silent: true }.listen()
    }

    fn listen(self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A forwarder that is killed resets its connections.
                thread::spawn(move || self.serve(stream).ok());
            }
        });
        address
    }

    fn serve(self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        for answered in 1..=self.close_after {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head)? == 0 {
                    return Ok(());
                }
            }
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let mut sent = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0)];
            stream.read_exact(&mut sent)?;
            let path = head.split(' ').nth(1).unwrap_or_default();
            if path == "/short" {
                return stream
                    .get_mut()
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\nx");
            }
            let body = path.trim_start_matches('/').parse().map_or(sent, body);
            let last = answered == self.close_after && !self.silent;
            let close = if last { "Connection: close\r\n" } else { "" };
            let fields = head.lines().count() - 2;
            let head = format!(
                "HTTP/1.1 200 OK\r\n{close}X-Fields: {fields}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.get_mut().write_all(&[head.as_bytes(), &body].concat())?;
        }
        Ok(())
    }
}

/// `size` bytes, each of which depends on its place.
pub(crate) fn body(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index % 251) as u8 ^ (index >> 12) as u8).collect()
}
