//! What a client speaks, told from its first bytes. Pure.
//!
//! Before: `connection` received some bytes. After: it goes the HTTP way or the TCP way. The bias:
//! what is not surely HTTP/1 is TCP, because TCP forwards anything unharmed, while HTTP would refuse
//! it.

/// The verdict on a connection's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// An HTTP/1 request begins.
    Http1,
    /// So far they are what the name of a registered method begins with, or such a name and a part
    /// of a target: it is worth waiting for the rest as long as for any request's.
    LikelyHttp1,
    /// Anything else.
    Tcp,
    /// The bytes may still become either; nothing speaks for HTTP.
    Undecided,
}

/// Bytes of a first line that are looked at before it is taken for TCP.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// Methods that settle it before the first line is whole.
const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"PATCH ",
    b"OPTIONS ",
    b"TRACE ",
    b"CONNECT ",
];

/// The others of the IANA registry of methods, without PRI, which begins HTTP/2.
const RARE_METHODS: [&[u8]; 30] = [
    b"ACL",
    b"BASELINE-CONTROL",
    b"BIND",
    b"CHECKIN",
    b"CHECKOUT",
    b"COPY",
    b"LABEL",
    b"LINK",
    b"LOCK",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MKREDIRECTREF",
    b"MKWORKSPACE",
    b"MOVE",
    b"ORDERPATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"QUERY",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"UNBIND",
    b"UNCHECKOUT",
    b"UNLINK",
    b"UNLOCK",
    b"UPDATE",
    b"UPDATEREDIRECTREF",
    b"VERSION-CONTROL",
];

/// Judges the first bytes of a connection.
///
/// A known method and a space are enough. Another token is one if its line ends in ` HTTP/1.x`;
/// so the HTTP/2 preface, SMTP's `EHLO host` and Redis's commands are TCP. An empty line before the
/// request line is passed over, as RFC 9112 §2.2 asks.
pub fn detect(bytes: &[u8]) -> Detected {
    let bytes = match bytes {
        [b'\r', b'\n', rest @ ..] => rest,
        [b'\r'] => return Detected::Undecided,
        bytes => bytes,
    };
    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        return Detected::Http1;
    }
    let line = match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) => return judge_line(&bytes[..end]),
        None => &bytes[..bytes.len().min(LINE_BYTES_MAX)],
    };
    let token = line.iter().position(|byte| !is_token(*byte)).unwrap_or(line.len());
    match line.get(token) {
        // No space yet: fine as long as it may be a method.
        None if line.len() < LINE_BYTES_MAX => {
            let begins_one = METHODS.iter().chain(&RARE_METHODS).any(|name| name.starts_with(line));
            likely(begins_one && !line.is_empty())
        }
        Some(b' ') if token > 0 && bytes.len() < LINE_BYTES_MAX => {
            likely(RARE_METHODS.contains(&&line[..token]))
        }
        _ => Detected::Tcp,
    }
}

fn likely(is_likely: bool) -> Detected {
    if is_likely { Detected::LikelyHttp1 } else { Detected::Undecided }
}

fn judge_line(line: &[u8]) -> Detected {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let ends_well = line.len() > 9
        && line[line.len() - 9..].starts_with(b" HTTP/1.")
        && line[line.len() - 1].is_ascii_digit();
    let token = line.iter().position(|byte| !is_token(*byte)).unwrap_or(line.len());
    if ends_well && token > 0 && line.get(token) == Some(&b' ') {
        Detected::Http1
    } else {
        Detected::Tcp
    }
}

fn is_token(byte: u8) -> bool {
    crate::codec::message::is_token_byte(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_http1_from_everything_else() {
        let table: [(&[u8], Detected); 26] = [
            (b"GET / HTTP/1.1\r\n", Detected::Http1),
            (b"GET ", Detected::Http1),
            (b"\r\nPOST /x", Detected::Http1),
            (b"PROPFIND /a HTTP/1.1\r\n", Detected::Http1),
            (b"BREW /pot HTTP/1.0\n", Detected::Http1),
            (b"", Detected::Undecided),
            (b"\r", Detected::Undecided),
            (b"\r\n", Detected::Undecided),
            (b"G", Detected::LikelyHttp1),
            (b"\r\nGET", Detected::LikelyHttp1),
            (b"GETS", Detected::Undecided),
            (b"get", Detected::Undecided),
            (b"PRI", Detected::Undecided),
            (b"UPDATE", Detected::LikelyHttp1),
            (b"PROPFIND /a", Detected::LikelyHttp1),
            (b"PROPFIN /a", Detected::Undecided),
            (b"BREW /pot", Detected::Undecided),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Detected::Tcp),
            (b"EHLO mail.example\r\n", Detected::Tcp),
            (b"PING\r\n", Detected::Tcp),
            (b"*1\r\n$4\r\nPING\r\n", Detected::Tcp),
            (b"\x16\x03\x01\x02\x00", Detected::Tcp),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Detected::Tcp),
            (b" GET / HTTP/1.1\r\n", Detected::Tcp),
            (b"\n", Detected::Tcp),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Detected::Tcp),
        ];
        for (bytes, expected) in table {
            assert_eq!(detect(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn an_endless_first_line_is_tcp() {
        let mut line = b"PROPFIND ".to_vec();
        line.resize(LINE_BYTES_MAX, b'a');
        assert_eq!(detect(&line), Detected::Tcp);
        assert_eq!(detect(&[b'a'; LINE_BYTES_MAX]), Detected::Tcp);
        assert_eq!(detect(&[b'a'; LINE_BYTES_MAX - 1]), Detected::Undecided);
    }

    #[test]
    fn a_verdict_does_not_change_with_more_bytes() {
        let whole = b"PROPFIND /a/long/path?and=query HTTP/1.1\r\nHost: a\r\n\r\n";
        let first = (0..=whole.len())
            .map(|end| detect(&whole[..end]))
            .find(|verdict| !matches!(verdict, Detected::Undecided | Detected::LikelyHttp1));
        assert_eq!(first, Some(Detected::Http1));
    }
}
