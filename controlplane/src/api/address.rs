//! Where the API is: `unix:PATH`, or an address of loopback. Pure but for the default, which asks the
//! environment.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use rustix::process::geteuid;

/// Where the API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port of loopback.
    Tcp(SocketAddr),
}

/// What is no address of an API.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not of that form.
    #[error("`{0}` is no address of an API: write `unix:PATH`, or `127.0.0.1:PORT`")]
    Form(String),
    /// Anyone could reach it.
    #[error("{0} can be reached from elsewhere: the API is on a Unix socket or on loopback, such as 127.0.0.1:{port}", port = .0.port())]
    NotLoopback(SocketAddr),
}

impl Address {
    /// Where it is unless told otherwise: `/run/lateen/api.sock` for root, else `lateen/api.sock` in
    /// `$XDG_RUNTIME_DIR`; `None` if there is no such folder.
    pub fn usual() -> Option<Self> {
        let folder = if geteuid().is_root() {
            PathBuf::from("/run")
        } else {
            PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty())?)
        };
        Some(Self::Unix(folder.join("lateen/api.sock")))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let form = || AddressError::Form(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(form()) } else { Ok(Self::Unix(path.into())) };
        }
        // People who have an absolute path at hand mean the same.
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let address: SocketAddr = address.parse().map_err(|_| form())?;
        if !address.ip().is_loopback() {
            return Err(AddressError::NotLoopback(address));
        }
        Ok(Self::Tcp(address))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_sockets_and_loopback_and_nothing_else() {
        let unix = |path: &str| Ok(Address::Unix(path.into()));
        assert_eq!("unix:/run/a.sock".parse(), unix("/run/a.sock"));
        assert_eq!("unix:a.sock".parse(), unix("a.sock"));
        assert_eq!("/run/a.sock".parse(), unix("/run/a.sock"));
        let tcp = |address: &str| Ok(Address::Tcp(address.parse().expect("an address")));
        assert_eq!("127.0.0.1:9".parse(), tcp("127.0.0.1:9"));
        assert_eq!("http://[::1]:9/".parse(), tcp("[::1]:9"));
        for wrong in ["", "unix:", "localhost:9", "127.0.0.1", "a.sock"] {
            assert_eq!(wrong.parse::<Address>(), Err(AddressError::Form(wrong.to_owned())));
        }
        let error = "0.0.0.0:9".parse::<Address>().expect_err("everyone could reach it");
        assert!(error.to_string().contains("such as 127.0.0.1:9"), "{error}");
    }
}
