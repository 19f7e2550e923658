//! HTTP/1 messages as a test sees them: the first line, the fields as they came, the body.
//!
//! Written apart from the proxy's codec on purpose, so that both don't share a mistake. It takes
//! well-formed messages only, and panics on any other: the proxy must send nothing else.

use crate::peer::{Ending, Peer};

/// A request's or a response's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The first line.
    pub start: String,
    /// Names as they came, and values without the white space around them.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// Parses a head with its empty line.
    ///
    /// # Panics
    /// Where it is malformed.
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let mut lines =
            text.strip_suffix("\r\n\r\n").expect("a head ends with an empty line").split("\r\n");
        let start = lines.next().expect("a head has a first line").to_owned();
        let fields = lines
            .map(|line| {
                assert!(!line.contains(['\r', '\n']), "bare CR or LF in {line:?}");
                let (name, value) =
                    line.split_once(':').unwrap_or_else(|| panic!("no colon in {line:?}"));
                assert!(!name.is_empty() && !name.contains([' ', '\t']), "bad name in {line:?}");
                (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
            })
            .collect();
        Self { start, fields }
    }

    /// The values of every field of this name, joined as RFC 9110 §5.3 joins them; `None` where
    /// there is none.
    pub fn value(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self.values(name).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The values of every field of this name, one by one.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let is_named = move |(found, _): &&(String, String)| found.eq_ignore_ascii_case(name);
        self.fields.iter().filter(is_named).map(|(_, value)| value.as_str())
    }

    /// True where a list-valued field has this element.
    pub fn lists(&self, name: &str, element: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(','))
            .any(|found| found.trim().eq_ignore_ascii_case(element))
    }

    fn body_framing(&self) -> Framing {
        assert!(self.values("content-length").count() <= 1, "two Content-Length in {self:?}");
        match (self.value("transfer-encoding"), self.value("content-length")) {
            (Some(_), Some(_)) => panic!("Transfer-Encoding with Content-Length in {self:?}"),
            (Some(coding), None) => {
                assert_eq!(coding, "chunked");
                Framing::Chunked
            }
            (None, Some(length)) => Framing::Length(length.parse().expect("a length is a number")),
            (None, None) => Framing::None,
        }
    }
}

enum Framing {
    None,
    Length(usize),
    Chunked,
}

/// A whole request, as an upstream got it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its head.
    pub head: Head,
    /// Its body, without chunk sizes.
    pub body: Vec<u8>,
    /// Fields after a chunked body.
    pub trailers: Vec<(String, String)>,
    /// Which of the upstream's connections it came on, from 0.
    pub connection: usize,
}

impl Request {
    /// The method and the target.
    pub fn target(&self) -> &str {
        self.head.start.split(' ').nth(1).expect("a request line has three parts")
    }
}

/// A whole response, as a client got it.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Its head.
    pub head: Head,
    /// Its body, without chunk sizes.
    pub body: Vec<u8>,
    /// Fields after a chunked body.
    pub trailers: Vec<(String, String)>,
}

/// Reads the next request with its body; `None` where the connection ends before one begins.
pub fn read_request(peer: &mut Peer, connection: usize) -> Option<Request> {
    let head = Head::parse(&peer.read_until(b"\r\n\r\n")?);
    let (body, trailers) = match head.body_framing() {
        Framing::None => Default::default(),
        framing => read_body(peer, &framing),
    };
    Some(Request { head, body, trailers, connection })
}

/// Reads the next response's head, interim ones included; `None` where the connection ends before.
pub fn read_response_head(peer: &mut Peer) -> Option<(u16, Head)> {
    let head = Head::parse(&peer.read_until(b"\r\n\r\n")?);
    let status = head.start.split(' ').nth(1).and_then(|code| code.parse().ok());
    Some((status.unwrap_or_else(|| panic!("no status in {:?}", head.start)), head))
}

/// Reads the next final response to a request with this method, with its body.
///
/// # Panics
/// When there is none, or it is cut.
pub fn read_response(peer: &mut Peer, method: &str) -> Response {
    let (status, head) = loop {
        let (status, head) = read_response_head(peer).expect("a response");
        if status >= 200 || status == 101 {
            break (status, head);
        }
    };
    let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
    let (body, trailers) = match head.body_framing() {
        _ if bodiless => Default::default(),
        Framing::None => {
            let (body, ending) = peer.read_to_end();
            assert_eq!(
                ending,
                Ending::Closed,
                "a body that ends with the connection must end well"
            );
            (body, Vec::new())
        }
        framing => read_body(peer, &framing),
    };
    Response { status, head, body, trailers }
}

/// Sends a request and reads the answer to it.
pub fn exchange(peer: &mut Peer, request: &str) -> Response {
    peer.send(request);
    let method = request.trim_start().split(' ').next().unwrap_or_default();
    read_response(peer, method)
}

/// `GET target`, on a connection of its own that stays open.
pub fn get(address: std::net::SocketAddr, target: &str) -> Response {
    exchange(
        &mut Peer::connect(address),
        &format!("GET {target} HTTP/1.1\r\nHost: lateen.test\r\n\r\n"),
    )
}

fn read_body(peer: &mut Peer, framing: &Framing) -> (Vec<u8>, Vec<(String, String)>) {
    match framing {
        Framing::None => Default::default(),
        Framing::Length(length) => (peer.read_exactly(*length), Vec::new()),
        Framing::Chunked => read_chunked(peer),
    }
}

fn read_chunked(peer: &mut Peer) -> (Vec<u8>, Vec<(String, String)>) {
    let mut body = Vec::new();
    loop {
        let line = peer.read_until(b"\r\n").expect("a chunk size");
        let line = String::from_utf8(line).expect("a chunk size is text");
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let size =
            usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("chunk size {line:?}"));
        if size == 0 {
            break;
        }
        body.extend(peer.read_exactly(size));
        assert_eq!(peer.read_exactly(2), b"\r\n", "a chunk ends with CRLF");
    }
    let mut trailers = Vec::new();
    loop {
        let line = peer.read_until(b"\r\n").expect("the end of a chunked body");
        let line = String::from_utf8(line).expect("a trailer is text");
        let Some((name, value)) = line.trim_end().split_once(':') else {
            assert_eq!(line, "\r\n");
            return (body, trailers);
        };
        trailers.push((name.to_owned(), value.trim().to_owned()));
    }
}
