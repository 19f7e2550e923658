//! Request targets and authorities (RFC 9112 §3.2, RFC 3986 §3.2).
//!
//! Before it: a request line with a target, and perhaps a `Host`. After it: the path to forward
//! and the authority to route by. It never normalises: a path goes on byte for byte.

use crate::codec::http1::fields::is;
use crate::codec::message::Method;

/// A target taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'h> {
    /// Origin form (begins with `/`), or `*`.
    pub(super) path: &'h str,
    /// The authority of an absolute form.
    pub(super) authority: Option<&'h str>,
}

/// Takes a target apart; `None` when it is invalid for the method. CONNECT is not for this.
///
/// Refused beside what the grammar refuses: fragments, bytes outside ASCII, schemes other than
/// `http` and `https`, and a query right after the authority, where readers disagree on the path.
#[inline]
pub(super) fn parse_target(text: &str, method: Method) -> Option<Target<'_>> {
    let bytes = text.as_bytes();
    let mut odd = 0_u8;
    for &byte in bytes {
        odd |= byte & 0x80 | u8::from(byte == b'#') | u8::from(byte == 0x7f);
    }
    if odd != 0 {
        return None;
    }
    match bytes.first()? {
        b'/' => Some(Target { path: text, authority: None }),
        b'*' if bytes.len() == 1 && method == Method::Options => {
            Some(Target { path: text, authority: None })
        }
        _ => parse_absolute(text, method),
    }
}

fn parse_absolute(text: &str, method: Method) -> Option<Target<'_>> {
    let (scheme, rest) = text.split_once("://")?;
    if !is(scheme.as_bytes(), b"http") && !is(scheme.as_bytes(), b"https") {
        return None;
    }
    let (authority, path) = match rest.find(['/', '?']) {
        Some(end) => rest.split_at(end),
        // RFC 9112 §3.2.4: the last proxy turns a pathless OPTIONS into `*`.
        None if method == Method::Options => (rest, "*"),
        None => (rest, "/"),
    };
    if path.starts_with('?') || !is_valid_authority(authority.as_bytes()) {
        return None;
    }
    Some(Target { path, authority: Some(authority) })
}

/// Whether this is `uri-host [ ":" port ]` with a host that is not empty and a port from 1 to
/// 65535; no userinfo.
#[inline]
pub(super) fn is_valid_authority(authority: &[u8]) -> bool {
    if authority.first() == Some(&b'[') {
        return is_valid_ip_literal(authority);
    }
    let mut classes = 0;
    let mut host_bytes = 0;
    for &byte in authority {
        let class = HOST[byte as usize];
        if class == COLON {
            break;
        }
        classes |= class;
        host_bytes += 1;
    }
    let (host, port) = authority.split_at(host_bytes);
    host_bytes > 0
        && classes & INVALID == 0
        && (classes & PERCENT == 0 || percents_are_valid(host))
        && is_valid_port_part(port)
}

const PLAIN: u8 = 0;
const INVALID: u8 = 1;
const PERCENT: u8 = 2;
const COLON: u8 = 4;

/// Classes of the bytes of a `reg-name` (RFC 3986 §3.2.2).
const HOST: [u8; 256] = {
    let mut table = [INVALID; 256];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = PLAIN;
        }
        byte += 1;
    }
    let plain = b"-._~!$&'()*+,;=";
    let mut index = 0;
    while index < plain.len() {
        table[plain[index] as usize] = PLAIN;
        index += 1;
    }
    table[b'%' as usize] = PERCENT;
    table[b':' as usize] = COLON;
    table
};

#[cold]
fn percents_are_valid(host: &[u8]) -> bool {
    host.iter().enumerate().filter(|&(_, &byte)| byte == b'%').all(|(at, _)| {
        host.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Nothing, or a colon and a port.
#[inline]
fn is_valid_port_part(part: &[u8]) -> bool {
    let [b':', digits @ ..] = part else { return part.is_empty() };
    if digits.is_empty() || digits.len() > 5 {
        return false;
    }
    let mut port = 0_u32;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return false;
        }
        port = port * 10 + u32::from(byte - b'0');
    }
    (1..=65_535).contains(&port)
}

#[cold]
fn is_valid_ip_literal(authority: &[u8]) -> bool {
    let Some(end) = authority.iter().position(|&byte| byte == b']') else { return false };
    let address = core::str::from_utf8(&authority[1..end]).ok();
    address.is_some_and(|address| address.parse::<core::net::Ipv6Addr>().is_ok())
        && is_valid_port_part(&authority[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_origin_absolute_and_asterisk_forms_apart() {
        let get = Method::Get;
        for (text, method, path, authority) in [
            ("/", get, "/", None),
            ("/a/../b?c=d%20", get, "/a/../b?c=d%20", None),
            ("//host/path", get, "//host/path", None),
            ("*", Method::Options, "*", None),
            ("http://example.com", get, "/", Some("example.com")),
            ("http://example.com", Method::Options, "*", Some("example.com")),
            ("HTTP://example.com:8080/x?y", get, "/x?y", Some("example.com:8080")),
            ("https://[::1]:443/", get, "/", Some("[::1]:443")),
            ("http://a/http://b/", get, "/http://b/", Some("a")),
        ] {
            assert_eq!(parse_target(text, method), Some(Target { path, authority }), "{text}");
        }
    }

    #[test]
    fn refuses_targets_that_can_be_read_in_two_ways() {
        for text in [
            "",
            "*",
            "**",
            "path",
            "example.com:443",
            "/a#b",
            "/\u{e9}",
            "ftp://a/",
            "http:///path",
            "http://",
            "http://a?b",
            "http://user@a/",
            "http://user:secret@a/",
            "http://a:0/",
            "http://a b/",
            "://a/",
        ] {
            assert_eq!(parse_target(text, Method::Get), None, "{text}");
        }
        assert_eq!(parse_target("*x", Method::Options), None);
    }

    #[test]
    fn accepts_hosts_with_and_without_ports() {
        for text in
            ["a", "A.b-c_d~e", "127.0.0.1:1", "x:65535", "[::1]", "[2001:db8::1]:80", "%41b", "a,b"]
        {
            assert!(is_valid_authority(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn refuses_hosts_with_userinfo_bad_ports_or_foreign_bytes() {
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:123456",
            "a:8o",
            "a:+1",
            "a:-1",
            "a:1:2",
            "u@a",
            "u:p@a",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a\tb",
            "\u{e9}",
            "a%",
            "a%4",
            "a%4g",
            "[::1",
            "[]",
            "[::1]x",
            "[::1]:",
            "[::g]",
            "[fe80::1%25eth0]",
            "::1",
            "[127.0.0.1]",
            "a\"",
            "<a>",
            "a|b",
            "a^b",
            "a`b",
            "{a}",
            "a[b",
        ] {
            assert!(!is_valid_authority(text.as_bytes()), "{text}");
        }
    }
}
