//! Where the load goes: a URL, taken apart and resolved once.
//!
//! Comes before the first connection. Names are never looked up while something is measured.

use std::fmt;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail};

/// A name with several addresses is tried for this long at each.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
    Tcp,
}

/// A URL's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    /// Without the brackets of IPv6.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query, `/` at least.
    pub(crate) path: String,
}

impl Target {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub(crate) fn parse(url: &str) -> anyhow::Result<Self> {
        let Some((scheme, rest)) = url.split_once("://") else {
            bail!(
                "`{url}` is no URL: write it as http://HOST[:PORT][/PATH], https://… or tcp://HOST:PORT"
            );
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "tcp" => Scheme::Tcp,
            other => bail!("`{other}://` is not spoken here: use http, https or tcp"),
        };
        if let Some(wrong) = url.chars().find(|c| !c.is_ascii_graphic()) {
            bail!("the URL contains {wrong:?}: write it percent-encoded");
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        if authority.contains('@') {
            bail!("the URL contains a user: send it as -H 'Authorization: …'");
        }
        let (host, port) = split_authority(authority)?;
        if host.is_empty() {
            bail!("`{url}` names no host");
        }
        let port = match (port, scheme) {
            (Some(port), _) => port,
            (None, Scheme::Http) => 80,
            (None, Scheme::Https) => 443,
            (None, Scheme::Tcp) => bail!("`{url}` names no port: write it as tcp://HOST:PORT"),
        };
        if scheme == Scheme::Tcp && !matches!(path, "" | "/") {
            bail!("a tcp:// URL has no path, this one has `{path}`");
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { scheme, host: host.to_owned(), port, path: format!("{slash}{path}") })
    }

    /// The address to connect to: of several, the first that accepts.
    ///
    /// # Errors
    /// The name is unknown.
    pub(crate) fn resolve(&self) -> anyhow::Result<SocketAddr> {
        let addresses: Vec<SocketAddr> = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .with_context(|| format!("the host `{}` is unknown", self.host))?
            .collect();
        let first = *addresses.first().context("the host has no address")?;
        if addresses.len() == 1 {
            return Ok(first);
        }
        let accepts =
            |address: &&SocketAddr| TcpStream::connect_timeout(address, PROBE_TIMEOUT).is_ok();
        Ok(addresses.iter().find(accepts).copied().unwrap_or(first))
    }
}

impl fmt::Display for Target {
    /// What stands in `Host`: the port only where it isn't the scheme's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

fn split_authority(authority: &str) -> anyhow::Result<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').context("the URL's `[` has no `]`")?;
            match after.strip_prefix(':') {
                None if after.is_empty() => (host, None),
                None => bail!("`{after}` after the `]` is no port"),
                port => (host, port),
            }
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                bail!("an IPv6 address goes in brackets: [{authority}]")
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None => None,
        Some(text) => match text.parse::<u16>() {
            Ok(port @ 1..) if !text.starts_with('+') => Some(port),
            _ => bail!("`{text}` is no port: from 1 to 65535"),
        },
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_apart() {
        for (url, scheme, host, port, path, shown) in [
            ("http://a.example", Scheme::Http, "a.example", 80, "/", "a.example"),
            ("HTTP://a:8080/b?c=d#e", Scheme::Http, "a", 8080, "/b?c=d", "a:8080"),
            ("https://a?x", Scheme::Https, "a", 443, "/?x", "a"),
            ("http://[::1]:81/", Scheme::Http, "::1", 81, "/", "[::1]:81"),
            ("tcp://127.0.0.1:9", Scheme::Tcp, "127.0.0.1", 9, "/", "127.0.0.1:9"),
        ] {
            let target = Target::parse(url).expect(url);
            let (host, path) = (host.to_owned(), path.to_owned());
            assert_eq!(target, Target { scheme, host, port, path }, "{url}");
            assert_eq!(target.to_string(), shown, "{url}");
        }
    }

    #[test]
    fn refuses_what_is_no_url() {
        for url in [
            "",
            "localhost:80",
            "ftp://a/",
            "http://",
            "http:///x",
            "http://a:0/",
            "http://a:65536/",
            "http://a:/",
            "http://a:+1/",
            "http://::1/",
            "http://[::1/",
            "http://[::1]x/",
            "http://u:p@a/",
            "http://a/b c",
            "http://a/\r\nX: y",
            "http://ä/",
            "tcp://a",
            "tcp://a:1/x",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
