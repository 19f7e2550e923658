//! What is counted of tries beyond the first.

use crate::decide::retry::RetryReason;
use crate::observe::counter::Counter;

/// Why a try that was asked for is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RetryDenied {
    /// There were as many as the route allows.
    Attempts,
    /// The service's budget is empty.
    Budget,
    /// The service has as many retries at a time as it may.
    Bulkhead,
    /// The request would be over before it began.
    Deadline,
    /// The answer asks to wait for longer than anybody does here.
    RetryAfter,
}

impl RetryDenied {
    /// Every one, at its index.
    pub const ALL: [Self; 5] =
        [Self::Attempts, Self::Budget, Self::Bulkhead, Self::Deadline, Self::RetryAfter];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Budget => "budget",
            Self::Bulkhead => "bulkhead",
            Self::Deadline => "deadline",
            Self::RetryAfter => "retry_after",
        }
    }
}

/// What one worker counts of them.
#[derive(Debug, Default)]
pub struct RetryMetrics {
    /// `retry_total{reason}`: tries beyond the first, by [`RetryReason`].
    pub made: [Counter; RetryReason::ALL.len()],
    /// `retry_denied_total{why}`: those that were not made, by [`RetryDenied`].
    pub denied: [Counter; RetryDenied::ALL.len()],
    /// `retry_success_total`: requests that were answered below 500 after more than one try.
    pub success: Counter,
}

/// What became of a second request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HedgeEnd {
    /// Its answer was the first, or the first that was no failure.
    Won,
    /// The first request was answered first; on HTTP/1 breaking the second off closes its connection.
    Lost,
    /// It came to nothing by itself.
    Failed,
}

impl HedgeEnd {
    /// Every one, at its index.
    pub const ALL: [Self; 3] = [Self::Won, Self::Lost, Self::Failed];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Failed => "failed",
        }
    }
}

/// What one worker counts of second requests.
#[derive(Debug, Default)]
pub struct HedgeMetrics {
    /// `hedge_total{end}`: those that were paid for, by [`HedgeEnd`]. One that won or lost cost the
    /// connection of the slower request.
    pub ended: [Counter; HedgeEnd::ALL.len()],
    /// `hedge_denied_total`: slow requests for which no second one was paid.
    pub denied: Counter,
}
