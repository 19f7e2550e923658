//! Where the requests of a cluster go while too few of its endpoints are in service.

use serde::{Deserialize, Serialize};

use crate::model::ClusterId;

/// A cluster that stands in for another: the same service, further away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failover {
    /// It comes behind the other in the snapshot, so that no way leads round.
    pub to: ClusterId,
    /// Where fewer than so many percent of the other's endpoints are in service; 1 to 100.
    pub threshold_percent: u8,
}
