//! The health thread's part in orders: how much of what runs is so because somebody ordered it, for the scrape.
//!
//! Before: every worker runs a snapshot. After: the gauges say what of it is out, open or closed whatever
//! happens. Orders themselves stand in the snapshot: workers follow that, not this.

use lateen_snapshot::model::Snapshot;
use lateen_snapshot::model::breaker::BreakerMode;

use crate::observe::metrics::health::HealthMetrics;

/// Sets the gauges. An endpoint counts once for each cluster that it is ordered out of.
pub(super) fn count(metrics: &HealthMetrics, snapshot: &Snapshot) {
    let clusters = snapshot.clusters.iter();
    let ordered_out: usize = clusters.map(|cluster| cluster.policy.ordered_out.len()).sum();
    metrics.ordered_out.set(ordered_out as i64);
    let breakers = || snapshot.routes.iter().filter_map(|it| it.policy.circuit_breaker.as_deref());
    let forced = |mode| breakers().filter(|breaker| breaker.mode == mode).count() as i64;
    metrics.forced_open.set(forced(BreakerMode::ForcedOpen));
    metrics.forced_closed.set(forced(BreakerMode::ForcedClosed));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{breaker_rule, clusters, route};
    use lateen_snapshot::model::Action;

    #[test]
    fn what_is_ordered_is_counted_and_goes_with_the_snapshot() {
        let metrics = HealthMetrics::default();
        let mut snapshot = clusters(&[("a", &[1, 2, 3]), ("b", &[1])]);
        Arc::make_mut(&mut snapshot.clusters[0]).policy.ordered_out = vec![0, 2];
        Arc::make_mut(&mut snapshot.clusters[1]).policy.ordered_out = vec![0];
        let held = |mode| {
            let mut breaker = breaker_rule();
            breaker.mode = mode;
            let mut route = route(Action::Respond(500));
            route.policy.circuit_breaker = Some(Box::new(breaker));
            route
        };
        use BreakerMode::{Automatic, ForcedClosed, ForcedOpen};
        snapshot.routes = [ForcedOpen, Automatic, ForcedClosed, ForcedOpen].map(held).into();
        let told = || {
            let HealthMetrics { ordered_out, forced_open, forced_closed, .. } = &metrics;
            [ordered_out, forced_open, forced_closed].map(|gauge| gauge.value())
        };
        count(&metrics, &snapshot);
        assert_eq!(told(), [3, 2, 1]);
        count(&metrics, &Snapshot::default());
        assert_eq!(told(), [0, 0, 0]);
    }
}
