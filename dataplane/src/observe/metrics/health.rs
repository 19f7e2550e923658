//! What is counted of endpoints that are out of service; written by the health thread alone.

use crate::decide::breaker::Stage;
use crate::decide::outlier::Cause;
use crate::observe::counter::{Counter, Gauge};

/// How an ejected endpoint came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Readmission {
    /// Its time was over.
    Time,
    /// It took a connection.
    Connect,
}

impl Readmission {
    /// Both, at their index.
    pub const ALL: [Self; 2] = [Self::Time, Self::Connect];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Connect => "connect",
        }
    }
}

/// Counts and sums of the process.
#[derive(Debug, Default)]
pub struct HealthMetrics {
    /// `ejections_total`, by [`Cause`].
    pub ejections: [Counter; Cause::ALL.len()],
    /// `ejections_declined_total`: too many others were ejected, or it was the last in service.
    pub ejections_declined: Counter,
    /// `readmissions_total`, by [`Readmission`].
    pub readmissions: [Counter; Readmission::ALL.len()],
    /// `endpoints_ejected`: at present.
    pub ejected: Gauge,
    /// `endpoints_ordered_out`: by an operator, at present.
    pub ordered_out: Gauge,
    /// `health_checks_total{result="pass"}`.
    pub checks_passed: Counter,
    /// `health_checks_total{result="fail"}`.
    pub checks_failed: Counter,
    /// `health_changes_total{to="healthy"}`.
    pub became_well: Counter,
    /// `health_changes_total{to="unhealthy"}`.
    pub became_ill: Counter,
    /// `endpoints_unhealthy`: of those that are checked, and have not passed yet or no longer.
    pub ill: Gauge,
    /// `breaker_transitions_total{to}`, by [`Stage`].
    pub breaker_transitions: [Counter; Stage::ALL.len()],
    /// `breakers_open`: that are not closed now.
    pub breakers_open: Gauge,
    /// `breakers_forced{to="open"}`: routes that forward nothing, by a policy or by order.
    pub forced_open: Gauge,
    /// `breakers_forced{to="closed"}`: routes that forward everything, likewise.
    pub forced_closed: Gauge,
}
