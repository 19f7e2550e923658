//! Checks how the endpoints of a cluster are treated.

use super::text::Problem;
use super::{in_range, positive_duration};
use crate::limits::AGGRESSION_PERCENT_MAX;
use crate::model::{Balancing, Cluster};

pub(super) fn check_policy(cluster: &Cluster) -> Result<(), Problem> {
    let policy = &cluster.policy;
    if let Some(percent) = policy.panic_threshold_percent
        && percent > 100
    {
        return Err(Problem::new("panic_threshold_percent", percent, "at most 100"));
    }
    if let Some(slow) = &policy.slow_start {
        if matches!(cluster.balancing, Balancing::RingHash(_) | Balancing::Maglev(_)) {
            return Err(Problem::new("slow_start", "given", "none where keys decide"));
        }
        positive_duration("slow_start.window_ms", slow.window_ms)?;
        if !(1..=AGGRESSION_PERCENT_MAX).contains(&slow.aggression_percent) {
            let wanted = format!("from 1 to {AGGRESSION_PERCENT_MAX}");
            let value = slow.aggression_percent;
            return Err(Problem::new("slow_start.aggression_percent", value, wanted));
        }
        if !(1..=100).contains(&slow.min_percent) {
            return Err(Problem::new("slow_start.min_percent", slow.min_percent, "from 1 to 100"));
        }
    }
    let terminating = &policy.terminating;
    if !terminating.is_sorted_by(|one, other| one < other) {
        return Err(Problem::new("terminating", "out of order", "positions in their order"));
    }
    match terminating.last() {
        Some(last) if *last as usize >= cluster.endpoints.len() => {
            let wanted = format!("there are only {} endpoints", cluster.endpoints.len());
            Err(Problem::new("terminating", last, wanted))
        }
        _ => Ok(()),
    }
}

/// A way that leads on only can't lead round.
pub(super) fn check_failover(
    index: usize,
    cluster: &Cluster,
    clusters: usize,
) -> Result<(), Problem> {
    let Some(failover) = cluster.policy.failover else { return Ok(()) };
    in_range("policy.failover.to", failover.to.0, clusters, "clusters")?;
    if failover.to.0 as usize <= index {
        return Err(Problem::new("policy.failover.to", failover.to.0, "a cluster behind this one"));
    }
    match failover.threshold_percent {
        1..=100 => Ok(()),
        percent => Err(Problem::new("policy.failover.threshold_percent", percent, "from 1 to 100")),
    }
}
