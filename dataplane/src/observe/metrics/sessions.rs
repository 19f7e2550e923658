//! What is counted of sessions that stay at their endpoints.

use crate::observe::counter::Counter;

/// `session_total{outcome}`: responses to requests of routes that keep sessions.
#[derive(Debug, Default)]
pub struct SessionMetrics {
    /// A session began.
    pub began: Counter,
    /// It was answered by its endpoint.
    pub kept: Counter,
    /// Its endpoint was not to be had: it goes on at another.
    pub moved: Counter,
    /// What the client brought was no token, or too old; counted beside the session that began then.
    pub invalid: Counter,
}

impl SessionMetrics {
    /// Each with the label's value.
    pub(in crate::observe) fn by_outcome(&self) -> [(&'static str, u64); 4] {
        [
            ("began", self.began.value()),
            ("kept", self.kept.value()),
            ("moved", self.moved.value()),
            ("invalid", self.invalid.value()),
        ]
    }
}
