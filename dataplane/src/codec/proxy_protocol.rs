//! The PROXY protocol's header, versions 1 and 2: who a connection that comes through another proxy was
//! opened by. Sans-io, strict.
//!
//! Before: a connection came from a declared source, or one to an endpoint that wants a header was just
//! opened. After: the client's address is known; what follows the header are the connection's own bytes.
//!
//! Source: W. Tarreau, "The PROXY protocol, Versions 1 & 2", HAProxy, 2020-03-05.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lateen_snapshot::model::proxy_protocol::ProxyVersion;

/// Bytes of the longest header of version 1, its line end included. Source: §2.1.
pub const V1_BYTES_MAX: usize = 107;
/// Bytes of a header of version 2 behind its fixed part, further fields (TLVs) included. Source: §2.2
/// allows 65,535; what is known to be sent (a certificate's names, a cloud's ids) stays far below this.
pub const V2_PAYLOAD_BYTES_MAX: usize = 4_096;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;

/// Who is connected to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub source: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its bytes.
    pub consumed: usize,
    /// Who is behind the connection; `None`: the proxy itself (a check of its own), or somebody that it
    /// does not know by an address.
    pub ends: Option<Ends>,
}

/// The bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// They begin otherwise.
    #[error("no PROXY header")]
    Missing,
    /// It does not follow the format.
    #[error("a PROXY header that breaks its format")]
    Invalid,
    /// It is longer than allowed.
    #[error("a PROXY header that is too long")]
    TooLong,
}

/// Reads the header at the start of a connection's bytes. `None`: it is not whole.
///
/// # Errors
/// [`ProxyHeaderError`]; the sender's fault.
pub fn parse_proxy_header(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let begins = |start: &[u8]| {
        let seen = bytes.len().min(start.len());
        bytes[..seen] == start[..seen]
    };
    if begins(V1_START) {
        parse_v1(bytes)
    } else if begins(V2_START) {
        parse_v2(bytes)
    } else {
        Err(ProxyHeaderError::Missing)
    }
}

/// A line of text.
fn parse_v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let seen = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return match seen.len() {
            V1_BYTES_MAX => Err(ProxyHeaderError::TooLong),
            _ => Ok(None),
        };
    };
    let consumed = end + 2;
    let line = seen.get(V1_START.len()..end).ok_or(ProxyHeaderError::Invalid)?;
    let line = str::from_utf8(line).map_err(|_| ProxyHeaderError::Invalid)?;
    let mut words = line.split(' ');
    let family = words.next();
    // What follows is of no meaning then.
    if family == Some("UNKNOWN") {
        return Ok(Some(ProxyHeader { consumed, ends: None }));
    }
    let mut address = || {
        let word = words.next()?;
        match family? {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, destination) = (address(), address());
    let mut port = || words.next().and_then(parse_port);
    let (source_port, destination_port) = (port(), port());
    let ends = source.zip(destination).zip(source_port.zip(destination_port)).map(
        |((source, destination), (source_port, destination_port))| Ends {
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
        },
    );
    match (ends, words.next()) {
        (Some(ends), None) => Ok(Some(ProxyHeader { consumed, ends: Some(ends) })),
        _ => Err(ProxyHeaderError::Invalid),
    }
}

/// Digits alone, without a zero before others (§2.1).
fn parse_port(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let has_zero = word.len() > 1 && word.starts_with('0');
    if is_plain && !has_zero { word.parse().ok() } else { None }
}

/// Fixed fields, then addresses, then fields of no meaning here.
fn parse_v2(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let Some(fixed) = bytes.get(V2_START.len()..V2_FIXED_BYTES) else {
        // A version or command that is unknown is no matter of waiting.
        return match bytes.get(V2_START.len()) {
            Some(0x20 | 0x21) | None => Ok(None),
            Some(_) => Err(ProxyHeaderError::Invalid),
        };
    };
    let [command, family, high, low] = *fixed else { unreachable!("the slice has four bytes") };
    if !matches!(command, 0x20 | 0x21) {
        return Err(ProxyHeaderError::Invalid);
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_PAYLOAD_BYTES_MAX {
        return Err(ProxyHeaderError::TooLong);
    }
    let consumed = V2_FIXED_BYTES + length;
    let Some(payload) = bytes.get(V2_FIXED_BYTES..consumed) else { return Ok(None) };
    if command == 0x20 {
        return Ok(Some(ProxyHeader { consumed, ends: None }));
    }
    let port = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    let ends = match (family, length) {
        // AF_UNSPEC, and a Unix socket, which has no address of the kind that counts.
        (0x00, _) | (0x31, 216..) => None,
        (0x11, 12..) => {
            let ip = |at: usize| {
                let octets: [u8; 4] = payload[at..at + 4].try_into().expect("four bytes");
                IpAddr::from(octets)
            };
            Some(Ends {
                source: SocketAddr::new(ip(0), port(8)),
                destination: SocketAddr::new(ip(4), port(10)),
            })
        }
        (0x21, 36..) => {
            let ip = |at: usize| {
                let octets: [u8; 16] = payload[at..at + 16].try_into().expect("sixteen bytes");
                IpAddr::from(octets)
            };
            Some(Ends {
                source: SocketAddr::new(ip(0), port(32)),
                destination: SocketAddr::new(ip(16), port(34)),
            })
        }
        // Datagrams do not come over a stream.
        _ => return Err(ProxyHeaderError::Invalid),
    };
    Ok(Some(ProxyHeader { consumed, ends }))
}

/// Appends a header. `None`: the connection is the proxy's own.
pub fn put_proxy_header(version: ProxyVersion, ends: Option<Ends>, out: &mut Vec<u8>) {
    let ends = ends.map(of_one_family);
    match version {
        ProxyVersion::V1 => put_v1(ends, out),
        ProxyVersion::V2 => put_v2(ends, out),
    }
}

/// A header has one family for both.
fn of_one_family(ends: Ends) -> Ends {
    let (source, destination) = (canonical(ends.source), canonical(ends.destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return Ends { source, destination };
    }
    let wide = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), address.port()),
        IpAddr::V6(_) => address,
    };
    Ends { source: wide(source), destination: wide(destination) }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn put_v1(ends: Option<Ends>, out: &mut Vec<u8>) {
    let line = match ends {
        None => "PROXY UNKNOWN\r\n".to_owned(),
        Some(Ends { source, destination }) => format!(
            "PROXY {} {} {} {} {}\r\n",
            if source.is_ipv4() { "TCP4" } else { "TCP6" },
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        ),
    };
    debug_assert!(line.len() <= V1_BYTES_MAX);
    out.extend_from_slice(line.as_bytes());
}

fn put_v2(ends: Option<Ends>, out: &mut Vec<u8>) {
    out.extend_from_slice(V2_START);
    let Some(Ends { source, destination }) = ends else {
        return out.extend_from_slice(&[0x20, 0x00, 0, 0]);
    };
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
        (source, destination) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&octets(source));
            out.extend_from_slice(&octets(destination));
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

#[cfg(test)]
#[path = "proxy_protocol_tests.rs"]
mod tests;
