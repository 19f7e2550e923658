//! What limits of rates decided.

use crate::observe::counter::Counter;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Limited {
    /// Requests.
    Request,
    /// Connections that are not HTTP.
    Connection,
    /// Bytes of bodies, and of connections that are not HTTP.
    Byte,
}

impl Limited {
    /// All, at their index.
    pub const ALL: [Self; 3] = [Self::Request, Self::Connection, Self::Byte];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Connection => "connection",
            Self::Byte => "byte",
        }
    }
}

/// What was decided of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LimitOutcome {
    /// All limits that it is subject to let it through.
    Admitted,
    /// One did not; of bytes, those that passed after a wait.
    Limited,
    /// One would not have, but only counts.
    DryRun,
}

impl LimitOutcome {
    /// Every outcome, at its index.
    pub const ALL: [Self; 3] = [Self::Admitted, Self::Limited, Self::DryRun];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Limited => "limited",
            Self::DryRun => "dry_run",
        }
    }
}

/// The counters of one worker.
#[derive(Debug, Default)]
pub struct RateLimitMetrics {
    /// `rate_limit_total{unit, outcome}`. What only a dry run would not have let through is counted as
    /// that, and as admitted.
    decided: [[Counter; LimitOutcome::ALL.len()]; Limited::ALL.len()],
    /// `rate_limit_overflow_total`: loans of a limit to keys that share a bucket because too many are
    /// busy.
    pub overflow: Counter,
    /// `rate_limit_delay_total`: waits of bytes for a limit.
    pub delays: Counter,
}

impl RateLimitMetrics {
    /// How often it was decided so.
    #[inline]
    pub fn decided(&self, unit: Limited, outcome: LimitOutcome) -> &Counter {
        &self.decided[unit as usize][outcome as usize]
    }
}
