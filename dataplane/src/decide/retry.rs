//! Whether a try that came to nothing is followed by another, and how soon.
//!
//! Before: a try ended in a failure, or in an answer that asks for another. After: `tries` pays for it
//! from the [`budget`] and makes it. Pure: chance and the time come as arguments.

use std::time::{Duration, SystemTime};

use lateen_snapshot::model::retry::Retry;

use crate::codec::http1::head::Fields;
use crate::codec::message::Method;
use crate::limits;

pub mod budget;

/// Why a request is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RetryReason {
    /// No connection could be made.
    ConnectFailure,
    /// The connection broke before a byte of the answer came.
    Reset,
    /// The try took too long.
    PerTryTimeout,
    /// The answer's status.
    Status,
    /// A field of the answer.
    Header,
    /// A pooled connection had died before it was used: the same endpoint is asked on a new one.
    PoolReplay,
}

impl RetryReason {
    /// Every reason, at its index.
    pub const ALL: [Self; 6] = [
        Self::ConnectFailure,
        Self::Reset,
        Self::PerTryTimeout,
        Self::Status,
        Self::Header,
        Self::PoolReplay,
    ];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectFailure => "connect_failure",
            Self::Reset => "reset",
            Self::PerTryTimeout => "per_try_timeout",
            Self::Status => "status",
            Self::Header => "header",
            Self::PoolReplay => "pool_replay",
        }
    }
}

/// Whether a failure is one after which the request is tried again. Another method than an idempotent
/// one is repeated only if the endpoint has seen nothing of it, or config says so (RFC 9110 §9.2.2).
pub fn wants_after_failure(retry: &Retry, method: Method, reason: RetryReason) -> bool {
    let is_listed = match reason {
        RetryReason::ConnectFailure => return retry.on.connect_failure,
        RetryReason::Reset => retry.on.reset_before_response,
        RetryReason::PerTryTimeout => retry.on.per_try_timeout,
        RetryReason::Status | RetryReason::Header | RetryReason::PoolReplay => false,
    };
    is_listed && may_repeat(retry, method)
}

/// The same for an answer.
pub fn wants_after_answer(
    retry: &Retry,
    method: Method,
    status: u16,
    fields: Fields<'_>,
) -> Option<RetryReason> {
    let by_status = (retry.on.server_error && (500..=599).contains(&status))
        || (retry.on.gateway_error && matches!(status, 502..=504))
        || retry.statuses.contains(&status);
    let by_field = || {
        retry.headers.iter().any(|wanted| {
            let mut values = fields.values(wanted.name.as_bytes());
            values.any(|found| wanted.value.as_ref().is_none_or(|of| of.as_bytes() == found))
        })
    };
    let reason = match by_status {
        true => RetryReason::Status,
        false if by_field() => RetryReason::Header,
        false => return None,
    };
    may_repeat(retry, method).then_some(reason)
}

/// Whether what an endpoint may have acted on is sent again.
pub fn may_repeat(retry: &Retry, method: Method) -> bool {
    method.is_idempotent() || retry.non_idempotent
}

/// How long to wait before the try after `made` ones: any time up to `base` before the second, up to
/// twice as long before each further one (full jitter: M. Brooker, "Exponential Backoff And Jitter",
/// AWS Architecture Blog, 2015).
pub fn backoff(retry: &Retry, made: u32, random: u64) -> Duration {
    let doublings = made.saturating_sub(1).min(31);
    let most_ms = u64::from(retry.backoff_base_ms) << doublings;
    let most_ns = most_ms.min(retry.backoff_max_ms.into()) * 1_000_000;
    Duration::from_nanos(((u128::from(random) * u128::from(most_ns)) >> 64) as u64)
}

/// How long an answer asks to wait (`Retry-After`, RFC 9110 §10.2.3); zero if it does not ask.
/// `None`: for longer than anybody waits here, or in words that nobody understands: the client had
/// better see the answer.
pub fn wait_asked_for(fields: Fields<'_>, unix_us: u64) -> Option<Duration> {
    let mut asked = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"retry-after"));
    let Some(field) = asked.next() else { return Some(Duration::ZERO) };
    let text = std::str::from_utf8(field.value).ok()?;
    let wait = match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Duration::from_secs(text.parse().ok()?),
        false => {
            let at = httpdate::parse_http_date(text).ok()?;
            let at_us = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_micros();
            Duration::from_micros(u64::try_from(at_us).ok()?.saturating_sub(unix_us))
        }
    };
    (wait <= limits::RETRY_AFTER_MAX).then_some(wait)
}

#[cfg(test)]
mod tests;
