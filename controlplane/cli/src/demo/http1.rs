//! As much HTTP/1.1 as the demo's app and client need: blocking, and bodies with a length.

use std::io::{self, BufRead, Read, Write};

/// Bytes of a message's head.
const HEAD_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a body, of which the longest is a proxy's metrics.
const BODY_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A request or a response.
#[derive(Debug)]
pub(super) struct Message {
    /// Its first line, and its fields.
    head: String,
    /// Its body.
    pub(super) body: String,
}

impl Message {
    /// Reads one; `None` if the peer closed before its first byte.
    ///
    /// # Errors
    /// The connection's, and `InvalidData` for what is not HTTP/1.1 or past a bound.
    pub(super) fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = String::new();
        let mut limited = reader.by_ref().take(HEAD_BYTES_MAX);
        while !head.ends_with("\r\n\r\n") {
            if limited.read_line(&mut head)? == 0 {
                return if head.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
        let mut message = Self { head, body: String::new() };
        let length = match message.field("content-length") {
            Some(length) => length.parse().map_err(|_| invalid("a length that is no number"))?,
            None if message.field("transfer-encoding").is_some() => {
                return Err(invalid("a body without a length"));
            }
            None => 0,
        };
        if length > BODY_BYTES_MAX {
            return Err(invalid("a body that is too long"));
        }
        if reader.take(length).read_to_string(&mut message.body)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(message))
    }

    /// The status of a response.
    pub(super) fn status(&self) -> Option<u16> {
        self.head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
    }

    /// Whether the connection ends after it.
    pub(super) fn is_last(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    fn field(&self, wanted: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    }
}

/// Writes a GET request.
pub(super) fn write_request(mut to: impl Write, host: &str, path: &str) -> io::Result<()> {
    to.write_all(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes())
}

/// Writes a response of text.
pub(super) fn write_response(mut to: impl Write, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    to.write_all(
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .as_bytes(),
    )
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &str) -> io::Result<Option<Message>> {
        Message::read(&mut bytes.as_bytes())
    }

    #[test]
    fn reads_what_it_writes_and_knows_the_end() {
        let mut written = Vec::new();
        write_response(&mut written, "200 OK", "hello\n").expect("a Vec takes it");
        write_response(&mut written, "503 No", "").expect("a Vec takes it");
        let mut reader = &written[..];
        let first = Message::read(&mut reader).expect("it is whole").expect("it is there");
        assert_eq!((first.status(), &*first.body, first.is_last()), (Some(200), "hello\n", false));
        let second = Message::read(&mut reader).expect("it is whole").expect("it is there");
        assert_eq!((second.status(), &*second.body), (Some(503), ""));
        assert!(Message::read(&mut reader).expect("it ended between messages").is_none());
    }

    #[test]
    fn refuses_what_is_cut_off_or_has_no_length() {
        for (bytes, kind) in [
            ("HTTP/1.1 200 OK\r\n", io::ErrorKind::UnexpectedEof),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", io::ErrorKind::UnexpectedEof),
            ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", io::ErrorKind::InvalidData),
            ("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", io::ErrorKind::InvalidData),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", io::ErrorKind::InvalidData),
        ] {
            assert_eq!(read(bytes).expect_err(bytes).kind(), kind, "{bytes:?}");
        }
        assert!(
            read("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n")
                .is_ok_and(|read| read.is_some_and(|m| m.is_last()))
        );
    }
}
