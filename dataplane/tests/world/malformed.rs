//! Requests that must be refused, each with the status that says why.

/// What is wrong with a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    LengthAndChunked,
    LengthTwice,
    LengthSigned,
    CodingUnknown,
    ChunkedInHttp10,
    BareLf,
    Folded,
    SpaceBeforeColon,
    NulInValue,
    NoHost,
    TwoHosts,
    Version2,
    Connect,
    Trace,
    Expectation,
    TargetTooLong,
    HeadTooLarge,
    TooManyFields,
    NominatesLength,
}

impl Malformed {
    pub(crate) const ALL: [Self; 19] = [
        Self::LengthAndChunked,
        Self::LengthTwice,
        Self::LengthSigned,
        Self::CodingUnknown,
        Self::ChunkedInHttp10,
        Self::BareLf,
        Self::Folded,
        Self::SpaceBeforeColon,
        Self::NulInValue,
        Self::NoHost,
        Self::TwoHosts,
        Self::Version2,
        Self::Connect,
        Self::Trace,
        Self::Expectation,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::TooManyFields,
        Self::NominatesLength,
    ];

    /// The status that it is answered with.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::CodingUnknown => 501,
            Self::Version2 => 505,
            Self::Connect | Self::Trace => 405,
            Self::Expectation => 417,
            Self::TargetTooLong => 414,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            _ => 400,
        }
    }

    /// The whole request. The proxy's limits must be those of [`crate::topology`].
    pub(crate) fn bytes(self, id: usize) -> Vec<u8> {
        let host = format!("Host: case{id}.test\r\n");
        let post = format!("POST /r/{id} HTTP/1.1\r\n{host}");
        let get = format!("GET /r/{id} HTTP/1.1\r\n{host}");
        let text = match self {
            Self::LengthAndChunked => {
                format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
            }
            Self::LengthTwice => {
                format!("{post}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx")
            }
            Self::LengthSigned => format!("{post}Content-Length: +1\r\n\r\nx"),
            Self::CodingUnknown => format!("{post}Transfer-Encoding: gzip\r\n\r\n"),
            Self::ChunkedInHttp10 => {
                format!("POST /r/{id} HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n")
            }
            Self::BareLf => format!("GET /r/{id} HTTP/1.1\nHost: case{id}.test\r\n\r\n"),
            Self::Folded => format!("{get}X-Folded: a\r\n b\r\n\r\n"),
            Self::SpaceBeforeColon => format!("{get}X-Space : a\r\n\r\n"),
            Self::NulInValue => format!("{get}X-Nul: a\0b\r\n\r\n"),
            Self::NoHost => format!("GET /r/{id} HTTP/1.1\r\nX-Case: {id}\r\n\r\n"),
            Self::TwoHosts => format!("{get}{host}\r\n"),
            Self::Version2 => format!("GET /r/{id} HTTP/2.0\r\n{host}\r\n"),
            Self::Connect => format!("CONNECT case{id}.test:80 HTTP/1.1\r\n{host}\r\n"),
            Self::Trace => format!("TRACE /r/{id} HTTP/1.1\r\n{host}\r\n"),
            Self::Expectation => format!("{get}Expect: miracles\r\n\r\n"),
            Self::TargetTooLong => {
                format!("GET /r/{id}/{} HTTP/1.1\r\n{host}\r\n", "a".repeat(1_500))
            }
            Self::HeadTooLarge => format!("{get}X-Long: {}\r\n\r\n", "a".repeat(5_000)),
            Self::TooManyFields => format!("{get}{}\r\n", "X-Many: a\r\n".repeat(60)),
            Self::NominatesLength => {
                format!("{post}Connection: content-length\r\nContent-Length: 1\r\n\r\nx")
            }
        };
        text.into_bytes()
    }
}
