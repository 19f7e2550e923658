//! How the share of a new endpoint grows.

use serde::{Deserialize, Serialize};

/// An endpoint that is new has `max(min, (age / window)^(1 / aggression))` of its share of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlowStart {
    /// For how long it is new, in milliseconds; more than 0.
    pub window_ms: u32,
    /// In percent; more than 0. 100: the share grows evenly; more: sooner; less: later.
    pub aggression_percent: u32,
    /// Its least share, in percent; 1 to 100.
    pub min_percent: u8,
}
