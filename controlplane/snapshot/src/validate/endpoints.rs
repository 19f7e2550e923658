//! Checks how the endpoints of a cluster are treated.

use super::text::{self, Problem};
use super::{in_range, positive_duration};
use crate::limits::{AGGRESSION_PERCENT_MAX, ENDPOINTS_MAX};
use crate::model::{Balancing, Cluster};

pub(super) fn check_policy(cluster: &Cluster) -> Result<(), Problem> {
    let policy = &cluster.policy;
    if let Some(whole) = &policy.part_of {
        text::name(whole)?;
    }
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
    if let Some(aperture) = policy.aperture {
        if matches!(
            cluster.balancing,
            Balancing::Random | Balancing::RingHash(_) | Balancing::Maglev(_)
        ) {
            let wanted = "none where chance alone or keys decide";
            return Err(Problem::new("aperture", "given", wanted));
        }
        if !(1..=ENDPOINTS_MAX as u32).contains(&aperture.min_endpoints) {
            let wanted = format!("from 1 to {ENDPOINTS_MAX}");
            return Err(Problem::new("aperture.min_endpoints", aperture.min_endpoints, wanted));
        }
    }
    check_positions("terminating", &policy.terminating, cluster.endpoints.len())?;
    check_positions("ordered_out", &policy.ordered_out, cluster.endpoints.len())
}

fn check_positions(
    field: &'static str,
    positions: &[u32],
    endpoints: usize,
) -> Result<(), Problem> {
    if !positions.is_sorted_by(|one, other| one < other) {
        return Err(Problem::new(field, "out of order", "positions in their order"));
    }
    match positions.last() {
        Some(last) if *last as usize >= endpoints => {
            Err(Problem::new(field, last, format!("there are only {endpoints} endpoints")))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::aperture::Aperture;
    use crate::model::failover::Failover;
    use crate::model::slow_start::SlowStart;
    use crate::model::{ClusterId, ClusterPolicy, Endpoint, HashKey, Hashing};

    fn cluster() -> Cluster {
        let address = |last: u8| ([10, 0, 0, last], 80).into();
        Cluster {
            name: "c".into(),
            endpoints: (1..4).map(|last| Endpoint { address: address(last) }).collect(),
            weights: Vec::new(),
            balancing: Balancing::default(),
            connect_timeout_ms: None,
            policy: ClusterPolicy {
                panic_threshold_percent: Some(0),
                slow_start: Some(Box::new(SlowStart {
                    window_ms: 1,
                    aggression_percent: 1,
                    min_percent: 1,
                })),
                aperture: Some(Aperture { min_endpoints: 1 }),
                terminating: vec![0, 2],
                ordered_out: vec![1, 2],
                failover: Some(Failover { to: ClusterId(1), threshold_percent: 50 }),
                ..ClusterPolicy::default()
            },
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_named() {
        let check =
            |cluster: &Cluster| check_policy(cluster).and_then(|()| check_failover(0, cluster, 2));
        assert!(check(&cluster()).is_ok());
        type Spoil = fn(&mut ClusterPolicy);
        let slow: fn(&mut ClusterPolicy) -> &mut SlowStart =
            |policy| policy.slow_start.as_mut().expect("it has one");
        let spoiled = |spoil: &dyn Fn(&mut ClusterPolicy)| {
            let mut cluster = cluster();
            spoil(&mut cluster.policy);
            check(&cluster).expect_err("it is wrong").at(&"cluster").field
        };
        let table: [(Spoil, &str); 10] = [
            (|policy| policy.panic_threshold_percent = Some(101), "panic_threshold_percent"),
            (
                |policy| policy.aperture = Some(Aperture { min_endpoints: 0 }),
                "aperture.min_endpoints",
            ),
            (|policy| policy.terminating = vec![2, 0], "terminating"),
            (|policy| policy.terminating = vec![3], "terminating"),
            (|policy| policy.ordered_out = vec![2, 0], "ordered_out"),
            (|policy| policy.ordered_out = vec![1, 1], "ordered_out"),
            (|policy| policy.ordered_out = vec![0, 3], "ordered_out"),
            (
                |policy| {
                    policy.failover = Some(Failover { to: ClusterId(2), threshold_percent: 50 });
                },
                "policy.failover.to",
            ),
            (
                |policy| {
                    policy.failover = Some(Failover { to: ClusterId(0), threshold_percent: 50 });
                },
                "policy.failover.to",
            ),
            (
                |policy| {
                    policy.failover = Some(Failover { to: ClusterId(1), threshold_percent: 0 });
                },
                "policy.failover.threshold_percent",
            ),
        ];
        for (spoil, field) in table {
            assert_eq!(spoiled(&spoil), field);
        }
        assert_eq!(spoiled(&|policy| slow(policy).window_ms = 0), "slow_start.window_ms");
        let aggression = spoiled(&|policy| slow(policy).aggression_percent = 0);
        assert_eq!(aggression, "slow_start.aggression_percent");
        assert_eq!(spoiled(&|policy| slow(policy).min_percent = 101), "slow_start.min_percent");
        let mut keyed = cluster();
        keyed.balancing =
            Balancing::Maglev(Box::new(Hashing { keys: vec![HashKey::Path], bound_percent: None }));
        assert_eq!(check(&keyed).expect_err("keys decide").at(&"cluster").field, "slow_start");
        keyed.policy.slow_start = None;
        assert_eq!(check(&keyed).expect_err("keys decide").at(&"cluster").field, "aperture");
        keyed.balancing = Balancing::Random;
        assert_eq!(check(&keyed).expect_err("chance decides").at(&"cluster").field, "aperture");
        keyed.policy.aperture = None;
        assert!(check(&keyed).is_ok());
    }
}
