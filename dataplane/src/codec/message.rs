//! The vocabulary of a message head: methods, versions, status codes, limits.
//!
//! Role: the words that both HTTP versions, the conductors and the access log share. Before it:
//! nothing. After it: `codec::http1` parses into these words. It never looks at raw messages.

/// What a head may cost before it is refused.
///
/// The relation `target_bytes_max < head_bytes_max` and `headers_max <= FIELDS_MAX` are the
/// caller's to check when flags are read; a larger `headers_max` acts as `FIELDS_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of a head from its first line to its empty line; more is a 431.
    pub head_bytes_max: usize,
    /// Field lines of a head; more is a 431.
    pub headers_max: usize,
    /// Bytes of a request target; more is a 414.
    pub target_bytes_max: usize,
    /// Whether TRACE is forwarded; else it is a 405.
    pub trace_allowed: bool,
}

/// A request method that the proxy treats by name (RFC 9110 §9.3, RFC 5789).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD: the response has no body, whatever its fields say.
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// PATCH
    Patch,
    /// OPTIONS
    Options,
    /// TRACE
    Trace,
    /// CONNECT
    Connect,
    /// Any other token; it is forwarded as it came.
    Other,
}

impl Method {
    /// The method of these bytes; methods are case-sensitive (RFC 9110 §9.1).
    #[inline]
    pub fn from_bytes(text: &[u8]) -> Self {
        match text {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"PATCH" => Self::Patch,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// Whether the client asks for no change on the server (RFC 9110 §9.2.1).
    #[inline]
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Whether sending it twice means the same as once (RFC 9110 §9.2.2): what a replay on
    /// another connection needs. An unknown method is never idempotent.
    #[inline]
    pub fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}

/// The HTTP/1 minor version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no chunked coding, no interim responses, closes unless asked to stay.
    Http10,
    /// HTTP/1.1
    Http11,
}

impl Version {
    /// As it stands in a start line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// The scheme that the client used to reach the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plaintext.
    Http,
    /// TLS ended at the proxy.
    Https,
}

/// What the proxy tells a peer about the connection after this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The connection carries another message.
    KeepAlive,
    /// The connection closes after this message.
    Close,
    /// The connection becomes a tunnel (a 101 that answers an Upgrade request).
    Upgrade,
}

/// Whether a status is interim (RFC 9110 §15.2): another response follows. 101 is not: it ends
/// HTTP on its connection.
#[inline]
pub fn is_interim(status: u16) -> bool {
    (100..200).contains(&status) && status != 101
}

/// Whether a response of this status never has a body, whatever its fields say
/// (RFC 9112 §6.3 rule 1).
#[inline]
pub fn is_bodyless(status: u16) -> bool {
    (100..200).contains(&status) || status == 204 || status == 304
}

/// The reason phrase of a status that the proxy may answer itself (RFC 9110 §15); `Unknown` for
/// all others.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

/// The longest `X-Request-Id` that is kept, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// Whether a request id from a client may be kept: 1 to [`REQUEST_ID_BYTES_MAX`] bytes, each a
/// token character (RFC 9110 §5.6.2) or one of `:/=@`. So it needs no escaping in a log line and
/// can't be a list of two.
#[inline]
pub fn valid_request_id(id: &[u8]) -> bool {
    !id.is_empty()
        && id.len() <= REQUEST_ID_BYTES_MAX
        && id.iter().all(|&byte| is_token_byte(byte) || matches!(byte, b':' | b'/' | b'=' | b'@'))
}

/// Whether a byte is a `tchar` (RFC 9110 §5.6.2).
#[inline]
pub fn is_token_byte(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let punctuation = b"!#$%&'*+-.^_`|~";
        let mut index = 0;
        while index < punctuation.len() {
            table[punctuation[index] as usize] = true;
            index += 1;
        }
        table
    };
    TOKEN[byte as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_case_sensitive() {
        assert_eq!(Method::from_bytes(b"GET"), Method::Get);
        assert_eq!(Method::from_bytes(b"get"), Method::Other);
        assert_eq!(Method::from_bytes(b"PROPFIND"), Method::Other);
    }

    #[test]
    fn only_idempotent_methods_may_be_replayed() {
        use Method::{Connect, Delete, Get, Head, Options, Other, Patch, Post, Put, Trace};
        for method in [Get, Head, Options, Trace, Put, Delete] {
            assert!(method.is_idempotent(), "{method:?}");
        }
        for method in [Post, Patch, Connect, Other] {
            assert!(!method.is_idempotent(), "{method:?}");
        }
        assert!(!Put.is_safe() && !Delete.is_safe() && Get.is_safe());
    }

    #[test]
    fn only_101_is_a_1xx_that_is_not_interim() {
        assert!(is_interim(100) && is_interim(103) && is_interim(199));
        assert!(!is_interim(101) && !is_interim(200) && !is_interim(99));
        assert!(is_bodyless(101) && is_bodyless(204) && is_bodyless(304));
        assert!(!is_bodyless(200) && !is_bodyless(205) && !is_bodyless(404));
    }

    #[test]
    fn keeps_request_ids_that_need_no_escaping() {
        for id in ["a", "550e8400-e29b-41d4-a716-446655440000", "Root=1-67891233:x/y@z"] {
            assert!(valid_request_id(id.as_bytes()), "{id}");
        }
        assert!(valid_request_id(&[b'x'; 128]));
    }

    #[test]
    fn refuses_request_ids_that_are_empty_long_or_not_visible() {
        assert!(!valid_request_id(&[b'x'; 129]));
        for id in ["", "a b", "a,b", "a\"b", "a\\b", "a\tb", "\u{e9}", "a\u{7f}", "<a>"] {
            assert!(!valid_request_id(id.as_bytes()), "{id:?}");
        }
    }
}
