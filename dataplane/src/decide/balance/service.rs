//! How many endpoints of a cluster are in service, and when these are so few that it counts no longer.
//!
//! Before: an endpoint was found bad, or good again, or is being taken away. After: a choice asks, at the
//! cost of a comparison, whether those that are out of service are to get requests all the same: where most
//! of a cluster is found bad, the few others would be crushed, and the finding is likely to be at fault
//! (Envoy's panic threshold).

use std::cell::Cell;

use super::load::{Load, OutOfService};
use super::positions::Positions;

/// What an endpoint counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It gets requests.
    In,
    /// It was found bad.
    Out,
    /// It is being taken away, or an operator ordered it out: whether it is good is no question.
    Leaving,
}

impl Standing {
    fn of(load: &Load) -> Self {
        if load.is_out_for(OutOfService::Terminating) || load.is_out_for(OutOfService::Ordered) {
            Self::Leaving
        } else if load.is_out_of_service() {
            Self::Out
        } else {
            Self::In
        }
    }
}

/// Counts of one worker's view of a cluster, kept up whenever an endpoint changes.
#[derive(Debug)]
pub struct InService {
    /// Those that are not being taken away.
    counted: Cell<u32>,
    /// Those of them that were found bad.
    out: Cell<u32>,
    threshold_percent: u32,
    /// Who is in service.
    positions: Positions,
}

impl InService {
    /// Counts these. Where less than `threshold_percent` of them are in service, that counts no longer;
    /// 0: it always does.
    pub fn of<'l>(loads: impl Iterator<Item = &'l Load>, threshold_percent: u8) -> Self {
        let (mut counted, mut out) = (0, 0);
        let positions = Positions::of(loads.map(Standing::of).map(|standing| {
            counted += u32::from(standing != Standing::Leaving);
            out += u32::from(standing == Standing::Out);
            standing == Standing::In
        }));
        let threshold_percent = threshold_percent.into();
        Self { counted: Cell::new(counted), out: Cell::new(out), threshold_percent, positions }
    }

    /// Takes an endpoint of the cluster, the one at `index` of its list, out of service for a reason, or
    /// lets that reason go. True if it is in service again.
    pub fn set(&self, index: usize, load: &Load, why: OutOfService, is_out: bool) -> bool {
        let before = Standing::of(load);
        load.set_out_of_service(why, is_out);
        let after = Standing::of(load);
        let change = |count: &Cell<u32>, was: bool, is: bool| {
            count.set(count.get() + u32::from(is) - u32::from(was));
        };
        let counts = |standing| standing != Standing::Leaving;
        change(&self.counted, counts(before), counts(after));
        change(&self.out, before == Standing::Out, after == Standing::Out);
        if (before == Standing::In) != (after == Standing::In) {
            self.positions.set(index, after == Standing::In);
        }
        before != Standing::In && after == Standing::In
    }

    /// Those in service, each once, beginning with the first from `from` on. An endpoint that changed for
    /// another view of the cluster may stand here as it was.
    pub fn round(&self, from: usize) -> impl Iterator<Item = usize> {
        self.positions.round(from)
    }

    /// How many are in service.
    pub fn count(&self) -> u32 {
        self.counted.get() - self.out.get()
    }

    /// How much is in service of what is not being taken away; 0: of nothing.
    pub fn percent(&self) -> u32 {
        let (counted, out) = (u64::from(self.counted.get()), u64::from(self.out.get()));
        ((counted - out) * 100).checked_div(counted).unwrap_or(0) as u32
    }

    /// Whether so few are in service that those which were found bad get requests too.
    #[inline]
    pub fn is_panicking(&self) -> bool {
        let out = self.out.get();
        if out == 0 {
            return false;
        }
        let counted = self.counted.get();
        u64::from(counted - out) * 100 < u64::from(counted) * u64::from(self.threshold_percent)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loads(count: usize) -> Vec<Load> {
        (0..count).map(|_| Load::default()).collect()
    }

    #[test]
    fn it_panics_below_the_threshold_and_not_at_it() {
        for (threshold, panics_from) in [(50, 6), (0, 11), (100, 1), (70, 4), (1, 10)] {
            let loads = loads(10);
            let service = InService::of(loads.iter(), threshold);
            assert!(!service.is_panicking());
            for (index, load) in loads.iter().enumerate() {
                service.set(index, load, OutOfService::Ejected, true);
                assert_eq!(service.is_panicking(), index + 1 >= panics_from, "{threshold} %");
            }
            for (index, load) in loads.iter().enumerate() {
                assert!(service.set(index, load, OutOfService::Ejected, false));
                assert_eq!(service.is_panicking(), 9 - index >= panics_from, "{threshold} %");
            }
        }
    }

    #[test]
    fn the_share_in_service_is_of_what_stays() {
        let loads = loads(4);
        let service = InService::of(loads.iter(), 50);
        assert_eq!(service.percent(), 100);
        service.set(0, &loads[0], OutOfService::Ejected, true);
        assert_eq!(service.percent(), 75);
        service.set(1, &loads[1], OutOfService::Terminating, true);
        assert_eq!(service.percent(), 66);
        for (index, load) in loads.iter().enumerate() {
            service.set(index, load, OutOfService::Terminating, true);
        }
        assert_eq!(service.percent(), 0);
    }

    #[test]
    fn what_is_taken_away_is_no_reason() {
        let loads = loads(10);
        let service = InService::of(loads.iter(), 50);
        for (index, load) in loads[..8].iter().enumerate() {
            service.set(index, load, OutOfService::Terminating, true);
        }
        assert!(!service.is_panicking(), "the two that are left are both in service");
        service.set(8, &loads[8], OutOfService::Unhealthy, true);
        assert!(!service.is_panicking(), "half of them");
        service.set(9, &loads[9], OutOfService::Unhealthy, true);
        assert!(service.is_panicking());
        assert!(!service.set(0, &loads[0], OutOfService::Ejected, true));
    }

    proptest! {
        #[test]
        fn the_counts_are_those_of_a_look_at_all(
            changes in prop::collection::vec((0..8_usize, 0..4_usize, any::<bool>()), 0..64)
        ) {
            let loads = loads(8);
            let service = InService::of(loads.iter(), 50);
            let reasons = [
                OutOfService::Ejected,
                OutOfService::Unhealthy,
                OutOfService::Terminating,
                OutOfService::Ordered,
            ];
            for (endpoint, reason, is_out) in changes {
                service.set(endpoint, &loads[endpoint], reasons[reason], is_out);
                let anew = InService::of(loads.iter(), 50);
                prop_assert_eq!(service.counted.get(), anew.counted.get());
                prop_assert_eq!(service.out.get(), anew.out.get());
                prop_assert!(service.round(3).eq(anew.round(3)));
            }
        }
    }
}
