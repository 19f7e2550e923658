//! Where a stream leads: an Internet address, or a Unix socket's path.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use socket2::{Domain, SockAddr};

/// An address to bind or to connect to, or one end of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// IPv4 or IPv6 and a port.
    Inet(SocketAddr),
    /// A Unix stream socket; empty for one that has no name.
    Unix(PathBuf),
}

impl Address {
    pub(crate) fn to_socket_address(&self) -> io::Result<SockAddr> {
        match self {
            Self::Inet(address) => Ok(SockAddr::from(*address)),
            Self::Unix(path) => SockAddr::unix(path),
        }
    }

    pub(crate) fn from_socket_address(address: &SockAddr) -> Self {
        match address.as_socket() {
            Some(inet) => Self::Inet(inet),
            None => Self::Unix(address.as_pathname().map(PathBuf::from).unwrap_or_default()),
        }
    }

    pub(crate) fn domain(&self) -> Domain {
        match self {
            Self::Inet(SocketAddr::V4(_)) => Domain::IPV4,
            Self::Inet(SocketAddr::V6(_)) => Domain::IPV6,
            Self::Unix(_) => Domain::UNIX,
        }
    }

    /// The Internet address, unless this is a Unix socket's.
    #[must_use]
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
