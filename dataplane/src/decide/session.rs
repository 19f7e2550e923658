//! A client's session, which stays at the endpoint that it began at (GEP-1619): what stands in its cookie or
//! header field, and how long that counts.
//!
//! Before: a request's route keeps sessions. After: the endpoint that its token names gets it, whatever the
//! weights of the route's backends; the response brings a token where there is none, or the endpoint is
//! another one. A token says no address: who forges one can choose an endpoint, which everybody may.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use lateen_snapshot::model::session::Session;
use twox_hash::XxHash64;

use crate::codec::http1::head::Fields;
use crate::decide::request_parts::cookie_value;

/// What a client's cookie or header field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// See [`endpoint_mark`].
    pub endpoint: u64,
    /// When the session began, in seconds since the Unix epoch.
    pub began_s: u64,
    /// When it was last used, as far as that was noted.
    pub used_s: u64,
}

/// What an endpoint of a cluster is called in tokens: the same on every proxy.
pub fn endpoint_mark(cluster: &str, address: SocketAddr) -> u64 {
    let seed = XxHash64::oneshot(0, cluster.as_bytes());
    let mut bytes = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend(address.port().to_be_bytes());
    XxHash64::oneshot(seed, &bytes)
}

/// The token that a request brings, if it brings one.
pub fn brought<'f>(session: &Session, fields: &Fields<'f>) -> Option<&'f [u8]> {
    match session.in_header {
        true => fields.values(session.name.as_bytes()).next(),
        false => cookie_value(fields, session.name.as_bytes()),
    }
}

impl Token {
    /// Reads a token; `None`: it is none of ours, or counts no longer.
    pub fn read(text: &[u8], session: &Session, now_s: u64) -> Option<Self> {
        let mut parts = text.split(|byte| *byte == b'.');
        let mut number = || {
            let digits = parts.next()?;
            let is_hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
            if digits.is_empty() || digits.len() > 16 || !digits.iter().all(is_hex) {
                return None;
            }
            u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
        };
        let token = Self { endpoint: number()?, began_s: number()?, used_s: number()? };
        if parts.next().is_some() {
            return None;
        }
        let is_over = |since_s: u64, timeout_ms: Option<u32>| {
            let age_ms = now_s.saturating_sub(since_s).saturating_mul(1_000);
            timeout_ms.is_some_and(|timeout_ms| age_ms >= timeout_ms.into())
        };
        let is_over = is_over(token.began_s, session.absolute_timeout_ms)
            || is_over(token.used_s, session.idle_timeout_ms);
        (!is_over).then_some(token)
    }

    /// The token for a response to who brought `before`, from this endpoint; `None`: what the client has
    /// is good still.
    pub fn after(
        before: Option<Self>,
        endpoint: u64,
        session: &Session,
        now_s: u64,
    ) -> Option<Self> {
        match before {
            Some(before) if before.endpoint == endpoint => {
                let is_noted = session.idle_timeout_ms.is_none() || before.used_s == now_s;
                (!is_noted).then_some(Self { used_s: now_s, ..before })
            }
            // A session that goes elsewhere begins anew.
            _ => Some(Self { endpoint, began_s: now_s, used_s: now_s }),
        }
    }

    /// Appends the response's line that brings it to the client.
    pub fn put_line(&self, session: &Session, now_s: u64, out: &mut Vec<u8>) {
        let Self { endpoint, began_s, used_s } = self;
        let name = &session.name;
        // Writing to a vector does not fail.
        let _ = if session.in_header {
            write!(out, "{name}: {endpoint:016x}.{began_s:x}.{used_s:x}\r\n")
        } else {
            write!(out, "Set-Cookie: {name}={endpoint:016x}.{began_s:x}.{used_s:x}; Path=/; ")
        };
        if session.in_header {
            return;
        }
        if let (true, Some(timeout_ms)) = (session.is_permanent, session.absolute_timeout_ms) {
            let left_s =
                (u64::from(timeout_ms) / 1_000).saturating_sub(now_s - now_s.min(*began_s));
            let _ = write!(out, "Max-Age={left_s}; ");
        }
        out.extend_from_slice(b"HttpOnly; SameSite=Lax\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::http1::head::tests::OwnedFields;

    fn session() -> Session {
        Session {
            name: "stick".to_owned(),
            in_header: false,
            absolute_timeout_ms: None,
            idle_timeout_ms: None,
            is_permanent: false,
        }
    }

    fn line(session: &Session, token: Token, now_s: u64) -> String {
        let mut out = Vec::new();
        token.put_line(session, now_s, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_token_is_brought_back_by_cookie_or_header() {
        let token = Token { endpoint: 0xab, began_s: 1_000, used_s: 1_001 };
        let text = "00000000000000ab.3e8.3e9";
        let cookie = format!("Set-Cookie: stick={text}; Path=/; HttpOnly; SameSite=Lax\r\n");
        assert_eq!(line(&session(), token, 1_001), cookie);
        let header = Session { in_header: true, ..session() };
        assert_eq!(line(&header, token, 1_001), format!("stick: {text}\r\n"));
        let permanent =
            Session { is_permanent: true, absolute_timeout_ms: Some(60_000), ..session() };
        assert!(line(&permanent, token, 1_010).contains("; Max-Age=50; "));

        let brings = format!("a=b; stick={text}");
        let owned = OwnedFields::new([("Cookie", brings.as_bytes()), ("Stick", b"other")]);
        let found = brought(&session(), &owned.view()).expect("a cookie");
        assert_eq!(Token::read(found, &session(), 5_000), Some(token));
        assert_eq!(brought(&header, &owned.view()), Some(&b"other"[..]));
    }

    #[test]
    fn what_is_no_token_or_too_old_counts_for_nothing() {
        let timed = Session {
            absolute_timeout_ms: Some(100_000),
            idle_timeout_ms: Some(10_000),
            ..session()
        };
        for (text, now_s, is_good) in [
            ("ab.64.64", 100, true),
            ("ab.64.64", 109, true),
            ("ab.64.64", 110, false),
            ("ab.64.c7", 199, true),
            ("ab.64.c7", 200, false),
            ("ab.64.64", 0, true),
            ("ab.64", 100, false),
            ("ab.64.64.1", 100, false),
            ("AB.64.64", 100, false),
            ("+b.64.64", 100, false),
            (".64.64", 100, false),
            ("", 100, false),
            ("11112222333344445.64.64", 100, false),
        ] {
            assert_eq!(Token::read(text.as_bytes(), &timed, now_s).is_some(), is_good, "{text}");
        }
    }

    #[test]
    fn a_client_is_told_what_it_does_not_know() {
        let (plain, idle) = (session(), Session { idle_timeout_ms: Some(9_000), ..session() });
        let token = Token { endpoint: 1, began_s: 10, used_s: 20 };
        assert_eq!(Token::after(Some(token), 1, &plain, 30), None);
        let used = Token { used_s: 30, ..token };
        assert_eq!(Token::after(Some(token), 1, &idle, 30), Some(used));
        assert_eq!(Token::after(Some(used), 1, &idle, 30), None);
        let anew = Token { endpoint: 2, began_s: 30, used_s: 30 };
        assert_eq!(Token::after(Some(token), 2, &plain, 30), Some(anew));
        assert_eq!(Token::after(None, 2, &plain, 30), Some(anew));
    }

    #[test]
    fn marks_tell_clusters_and_endpoints_apart() {
        let address = |last| SocketAddr::from(([10, 0, 0, last], 80));
        assert_eq!(endpoint_mark("a", address(1)), endpoint_mark("a", address(1)));
        assert_ne!(endpoint_mark("a", address(1)), endpoint_mark("a", address(2)));
        assert_ne!(endpoint_mark("a", address(1)), endpoint_mark("b", address(1)));
    }
}
