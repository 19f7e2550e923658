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
    pub(super) path: &'h [u8],
    /// The authority of an absolute form.
    pub(super) authority: Option<&'h [u8]>,
}

/// Takes a target apart; `None` when it is invalid for the method. CONNECT is not for this.
///
/// Refused beside what the grammar refuses: fragments, bytes outside ASCII, schemes other than
/// `http` and `https`, and a query right after the authority, where readers disagree on the path.
#[inline]
pub(super) fn parse_target(target: &[u8], method: Method) -> Option<Target<'_>> {
    if !is_plain(target) {
        return None;
    }
    match target.first()? {
        b'/' => Some(Target { path: target, authority: None }),
        b'*' if target.len() == 1 && method == Method::Options => {
            Some(Target { path: target, authority: None })
        }
        _ => parse_absolute(target, method),
    }
}

/// Whether a target that was cut from a request line has neither `#` nor bytes outside ASCII. Eight
/// bytes at a time: a byte that equals `#` becomes 0, and taking 1 from it borrows into bit 7.
#[inline]
fn is_plain(target: &[u8]) -> bool {
    const HASHES: u64 = u64::from_ne_bytes([b'#'; 8]);
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let (words, rest) = target.as_chunks::<8>();
    let mut odd = 0;
    for word in words {
        let word = u64::from_ne_bytes(*word);
        odd |= word | (word ^ HASHES).wrapping_sub(ONES);
    }
    // A borrow may mark a byte beside a `#` too, and only beside one: the verdict stays right.
    odd & HIGH == 0 && rest.iter().all(|&byte| byte.is_ascii() && byte != b'#')
}

fn parse_absolute(target: &[u8], method: Method) -> Option<Target<'_>> {
    let scheme = target.iter().position(|&byte| byte == b':')?;
    let rest = target[scheme..].strip_prefix(b"://")?;
    if !is(&target[..scheme], b"http") && !is(&target[..scheme], b"https") {
        return None;
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = match (rest.split_at(end), method) {
        // RFC 9112 §3.2.4: the last proxy turns a pathless OPTIONS into `*`.
        ((authority, []), Method::Options) => (authority, b"*".as_slice()),
        ((authority, []), _) => (authority, b"/".as_slice()),
        (parts, _) => parts,
    };
    if path[0] == b'?' || !is_valid_authority(authority) {
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
    let is_odd = |byte: &u8| HOST[usize::from(*byte)] != PLAIN;
    match authority.iter().position(is_odd) {
        None => !authority.is_empty(),
        // The usual end of a host: all before it is plain.
        Some(colon) if authority[colon] == b':' => {
            colon > 0 && is_valid_port_part(&authority[colon..])
        }
        Some(_) => is_valid_odd_authority(authority),
    }
}

#[cold]
fn is_valid_odd_authority(authority: &[u8]) -> bool {
    let classes = authority.iter().fold(0, |classes, &byte| classes | HOST[usize::from(byte)]);
    let colon = authority.iter().position(|&byte| byte == b':').unwrap_or(authority.len());
    let (host, port) = authority.split_at(colon);
    classes & INVALID == 0
        && !host.is_empty()
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
        let get: Method = Method::Get;
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
            assert_eq!(
                parse_target(text.as_bytes(), method),
                Some(Target { path: path.as_bytes(), authority: authority.map(str::as_bytes) }),
                "{text}"
            );
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
            "/long-enough#fragment",
            "/long-enough-\u{e9}-path",
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
            assert_eq!(parse_target(text.as_bytes(), Method::Get), None, "{text}");
        }
        assert_eq!(parse_target(b"*x", Method::Options), None);
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
