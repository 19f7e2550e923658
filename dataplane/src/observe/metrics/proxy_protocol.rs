//! What is counted of the PROXY protocol.

use crate::observe::counter::Counter;

/// `proxy_protocol_total{header}`: headers that came, and those that were sent.
#[derive(Debug, Default)]
pub struct ProxyProtocolMetrics {
    /// They named a client.
    pub accepted: Counter,
    /// They named nobody: checks of the sender's own.
    pub local: Counter,
    /// A declared source sent none; its connection was reset.
    pub missing: Counter,
    /// They broke the format or did not become whole; likewise.
    pub refused: Counter,
    /// Sent to endpoints.
    pub sent: Counter,
}

impl ProxyProtocolMetrics {
    /// Each with the label's value.
    pub(in crate::observe) fn by_header(&self) -> [(&'static str, u64); 5] {
        [
            ("accepted", self.accepted.value()),
            ("local", self.local.value()),
            ("missing", self.missing.value()),
            ("refused", self.refused.value()),
            ("sent", self.sent.value()),
        ]
    }
}
