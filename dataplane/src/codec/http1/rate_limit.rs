//! What a client is told that is over a limit.
//!
//! Before it: a request is not let through. After it: these lines stand in its 429.

use crate::codec::http1::fields::put_number;

/// A limit that holds for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota<'a> {
    /// Its name; letters, digits and hyphens.
    pub label: &'a str,
    /// So many requests …
    pub units: u64,
    /// … in that many seconds.
    pub window_s: u64,
}

/// Which limits hold for a request, and which of them it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverLimit<'a> {
    /// All that hold.
    pub quotas: Vec<Quota<'a>>,
    /// The name of the one.
    pub label: &'a str,
    /// Until the next request can be let through, in seconds.
    pub retry_after_s: u64,
}

/// Appends `Retry-After` (RFC 9110 §10.2.3), `RateLimit-Policy` and `RateLimit`
/// (draft-ietf-httpapi-ratelimit-headers-10 §3 and §4: lists of RFC 9651, with the quota `q` of a window of
/// `w` seconds, and of what is there `r`, which lasts `t` seconds).
pub fn put_limit(over: &OverLimit<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Retry-After: ");
    put_number(over.retry_after_s, out);
    out.extend_from_slice(b"\r\nRateLimit-Policy: ");
    for (index, quota) in over.quotas.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        put_label(quota.label, out);
        out.extend_from_slice(b";q=");
        put_number(quota.units, out);
        out.extend_from_slice(b";w=");
        put_number(quota.window_s, out);
    }
    out.extend_from_slice(b"\r\nRateLimit: ");
    put_label(over.label, out);
    out.extend_from_slice(b";r=0;t=");
    put_number(over.retry_after_s, out);
    out.extend_from_slice(b"\r\n");
}

fn put_label(label: &str, out: &mut Vec<u8>) {
    for part in [b"\"", label.as_bytes(), b"\""] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_all_that_hold_and_the_one_that_is_reached() {
        let quotas = vec![
            Quota { label: "whole", units: 1_000, window_s: 1 },
            Quota { label: "per-client", units: 5, window_s: 60 },
        ];
        let mut out = Vec::new();
        put_limit(&OverLimit { quotas, label: "per-client", retry_after_s: 12 }, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "Retry-After: 12\r\n\
             RateLimit-Policy: \"whole\";q=1000;w=1, \"per-client\";q=5;w=60\r\n\
             RateLimit: \"per-client\";r=0;t=12\r\n"
        );
    }
}
