//! How few of a cluster's endpoints one worker calls.

use serde::{Deserialize, Serialize};

/// Each worker of a proxy calls a part of the cluster, so that connections do not grow with endpoints times
/// workers. All workers together call each endpoint as much as any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Aperture {
    /// A worker's part has at least so many endpoints, or all of them; more than 0.
    pub min_endpoints: u32,
}
