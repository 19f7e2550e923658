//! What a client is told of limits.
//!
//! Before it: a request is not let through, or its limits are told to whoever they let through. After it:
//! these lines stand in its answer.

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

/// How much is left of a limit that let a request through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left<'a> {
    /// The limit.
    pub quota: Quota<'a>,
    /// So many requests may come at once.
    pub units: u64,
    /// Until as many may as ever, in seconds, if none comes.
    pub full_in_s: u64,
}

/// Appends `RateLimit-Policy` and `RateLimit` of limits that let a request through; as [`put_limit`]. An
/// answer that has some of its own keeps them: the lines of both make one list, and both hold.
pub fn put_left(left: &[Left<'_>], out: &mut Vec<u8>) {
    put_policies(left.iter().map(|limit| limit.quota), out);
    out.extend_from_slice(b"RateLimit: ");
    for (index, limit) in left.iter().enumerate() {
        put_separator(index, out);
        put_label(limit.quota.label, out);
        out.extend_from_slice(b";r=");
        put_number(limit.units, out);
        out.extend_from_slice(b";t=");
        put_number(limit.full_in_s, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends `Retry-After` (RFC 9110 §10.2.3), `RateLimit-Policy` and `RateLimit`
/// (draft-ietf-httpapi-ratelimit-headers-10 §3 and §4: lists of RFC 9651, with the quota `q` of a window of
/// `w` seconds, and of what is there `r`, which lasts `t` seconds).
pub fn put_limit(over: &OverLimit<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Retry-After: ");
    put_number(over.retry_after_s, out);
    out.extend_from_slice(b"\r\n");
    put_policies(over.quotas.iter().copied(), out);
    out.extend_from_slice(b"RateLimit: ");
    put_label(over.label, out);
    out.extend_from_slice(b";r=0;t=");
    put_number(over.retry_after_s, out);
    out.extend_from_slice(b"\r\n");
}

fn put_policies<'a>(quotas: impl Iterator<Item = Quota<'a>>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"RateLimit-Policy: ");
    for (index, quota) in quotas.enumerate() {
        put_separator(index, out);
        put_label(quota.label, out);
        out.extend_from_slice(b";q=");
        put_number(quota.units, out);
        out.extend_from_slice(b";w=");
        put_number(quota.window_s, out);
    }
    out.extend_from_slice(b"\r\n");
}

fn put_separator(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.extend_from_slice(b", ");
    }
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

    #[test]
    fn says_what_is_left_of_each() {
        let left = [("whole", 1_000, 1, 998, 1), ("per-client", 5, 60, 0, 60)].map(
            |(label, quota, window_s, units, full_in_s)| {
                let quota = Quota { label, units: quota, window_s };
                Left { quota, units, full_in_s }
            },
        );
        let mut out = Vec::new();
        put_left(&left, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "RateLimit-Policy: \"whole\";q=1000;w=1, \"per-client\";q=5;w=60\r\n\
             RateLimit: \"whole\";r=998;t=1, \"per-client\";r=0;t=60\r\n"
        );
    }
}
