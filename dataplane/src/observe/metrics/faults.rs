//! What is counted of faults that were put into requests on purpose.

use crate::observe::counter::Counter;

/// `fault_total{type}`: requests that got a fault.
#[derive(Debug, Default)]
pub struct FaultMetrics {
    /// They waited before they were forwarded.
    pub delay: Counter,
    /// They were answered or cut off instead.
    pub abort: Counter,
    /// Their responses were held back.
    pub bandwidth: Counter,
}

impl FaultMetrics {
    /// Each with the label's value.
    pub(in crate::observe) fn by_type(&self) -> [(&'static str, u64); 3] {
        [
            ("delay", self.delay.value()),
            ("abort", self.abort.value()),
            ("bandwidth", self.bandwidth.value()),
        ]
    }
}
