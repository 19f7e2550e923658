//! Where a key leads, and further where that has too much to do.
//!
//! Before: a request's key is hashed, or it has none. After: the endpoint that it leads to, or the next one
//! along the table that may have one more in flight.

use super::load::Load;
use super::{Choice, EndpointIndex, Keyed};
use crate::limits;

impl<E: AsRef<Load>> Choice<'_, E> {
    /// Where the request's key leads; if that is unusable, or has more than its share in flight, where it
    /// leads next.
    pub(super) fn pick_by_key(&self, keyed: &Keyed) -> Option<EndpointIndex> {
        let table = self.balancer.shared.table.as_ref();
        let table = table.expect("a cluster that has endpoints and goes by keys has a table");
        let mut full = None;
        for index in table.walk(self.key.unwrap_or(self.random)).take(limits::KEY_STEPS_MAX) {
            if !self.is_usable(u64::from(index)) {
                continue;
            }
            let most =
                keyed.bound_percent.map_or(u64::MAX, |percent| self.bound(keyed, percent, index));
            if u64::from(self.load(u64::from(index)).in_flight()) < most {
                return Some(EndpointIndex(index));
            }
            full = full.or(Some(EndpointIndex(index)));
        }
        full.or_else(|| self.pick_further())
    }

    /// What one endpoint may have in flight: so many percent of the mean over those that share the load, by
    /// its weight.
    ///
    /// Source: Mirrokni et al., "Consistent Hashing with Bounded Loads", 2016.
    fn bound(&self, keyed: &Keyed, percent: u32, index: u32) -> u64 {
        let among =
            if self.panics { self.endpoints.len() as u64 } else { self.service.count().into() };
        let all = (u64::from(keyed.in_flight.get()) + 1) * u64::from(percent);
        match self.balancer.shared.weights.as_deref() {
            None => all.div_ceil(among.max(1) * 100),
            Some(weights) => {
                let share = weights.over_mean(index.into()) / (among.max(1) * 100) as f64;
                (all as f64 * share).ceil() as u64
            }
        }
    }
}
