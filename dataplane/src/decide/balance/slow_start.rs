//! A new endpoint's share grows over a window: caches are cold and code is not compiled yet.
//!
//! Before: a snapshot has an endpoint that the one before had not, or one is found good again. After: a
//! choice that falls on it passes it over, by chance, as often as it is still short of its share. What chance
//! decides is one for a request, so that it is not asked twice about one endpoint.

use std::cell::Cell;

use lateen_snapshot::model::slow_start::SlowStart as Terms;

use super::mix;

/// The endpoints of a cluster that are new, as one worker knows them.
#[derive(Debug)]
pub struct SlowStart {
    terms: Terms,
    /// Beside the endpoints: since when each is there; 0: for long.
    began_ns: Box<[Cell<u64>]>,
    /// When the last of them is new no longer.
    until_ns: Cell<u64>,
}

impl SlowStart {
    /// Of a cluster that is known from now on: none of its endpoints is newer than the others.
    pub fn begin(terms: Terms, count: usize) -> Self {
        Self { terms, began_ns: (0..count).map(|_| Cell::new(0)).collect(), until_ns: Cell::new(0) }
    }

    /// The same of the cluster as another snapshot has it, `stayed` saying where each endpoint stood.
    pub fn follow(
        terms: Terms,
        before: Option<&Self>,
        stayed: &[Option<u32>],
        now_ns: u64,
    ) -> Self {
        let followed = Self::begin(terms, stayed.len());
        for (index, at) in stayed.iter().enumerate() {
            match (at, before) {
                (Some(at), Some(before)) => {
                    followed.began_ns[index].set(before.began_ns[*at as usize].get());
                }
                // It was there before anybody asked for how long.
                (Some(_), None) => {}
                (None, _) => followed.restart(index, now_ns),
            }
        }
        let latest = followed.began_ns.iter().map(Cell::get).max().unwrap_or(0);
        followed.until_ns.set(if latest == 0 { 0 } else { latest + followed.window_ns() });
        followed
    }

    /// An endpoint is as new.
    pub fn restart(&self, index: usize, now_ns: u64) {
        self.began_ns[index].set(now_ns.max(1));
        self.until_ns.set(self.until_ns.get().max(now_ns + self.window_ns()));
    }

    /// Whether any of them is new.
    #[inline]
    pub fn is_active(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns.get()
    }

    /// Whether a choice that fell on an endpoint passes it over. `random` are the bits of the choice.
    #[inline]
    pub fn passes_over(&self, index: u64, random: u64, now_ns: u64) -> bool {
        self.is_active(now_ns) && self.is_short(index, random, now_ns)
    }

    #[cold]
    fn is_short(&self, index: u64, random: u64, now_ns: u64) -> bool {
        let began_ns = self.began_ns[index as usize].get();
        let age_ns = now_ns.saturating_sub(began_ns);
        if began_ns == 0 || age_ns >= self.window_ns() {
            return false;
        }
        let chance = (mix(random ^ mix(index)) >> 11) as f64 / (1_u64 << 53) as f64;
        chance >= self.share(age_ns)
    }

    /// Of the share that it has in the end, at that age.
    fn share(&self, age_ns: u64) -> f64 {
        let through = age_ns as f64 / self.window_ns() as f64;
        let share = match self.terms.aggression_percent {
            100 => through,
            percent => through.powf(100.0 / f64::from(percent)),
        };
        share.max(f64::from(self.terms.min_percent) / 100.0)
    }

    fn window_ns(&self) -> u64 {
        u64::from(self.terms.window_ms) * 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;
    const TERMS: Terms = Terms { window_ms: 10_000, aggression_percent: 100, min_percent: 10 };

    #[test]
    fn a_share_grows_with_age_and_by_aggression() {
        for (aggression_percent, at_half) in [(100, 0.5), (200, 0.5_f64.sqrt()), (50, 0.25)] {
            let slow = SlowStart::begin(Terms { aggression_percent, ..TERMS }, 1);
            assert!((slow.share(5 * SECOND_NS) - at_half).abs() < 1e-3, "{aggression_percent} %");
            assert_eq!(slow.share(0), 0.1);
            assert_eq!(slow.share(10 * SECOND_NS), 1.0);
            let shares: Vec<f64> =
                (0..=100).map(|tenth| slow.share(tenth * SECOND_NS / 10)).collect();
            assert!(shares.is_sorted());
        }
    }

    #[test]
    fn only_what_is_new_is_passed_over_and_only_for_a_window() {
        let old = SlowStart::begin(TERMS, 2);
        assert!(!old.is_active(0));
        let now = 100 * SECOND_NS;
        let slow = SlowStart::follow(TERMS, Some(&old), &[Some(1), None, Some(0)], now);
        let often = |index: u64, now_ns: u64| {
            (0..10_000).filter(|random| slow.passes_over(index, mix(*random), now_ns)).count()
        };
        assert_eq!((often(0, now), often(2, now)), (0, 0));
        assert!((8_800..9_200).contains(&often(1, now)), "{}", often(1, now));
        let half = now + 5 * SECOND_NS;
        assert!((4_700..5_300).contains(&often(1, half)), "{}", often(1, half));
        let over = now + 10 * SECOND_NS;
        assert_eq!(often(1, over), 0);
        assert!(slow.is_active(over - 1) && !slow.is_active(over));

        // It stays new in a snapshot that comes meanwhile, and a return makes new.
        let again = SlowStart::follow(TERMS, Some(&slow), &[Some(1), Some(0)], half);
        let passed = (0..10_000).filter(|random| again.passes_over(0, mix(*random), half)).count();
        assert!((4_700..5_300).contains(&passed));
        assert!(!again.is_active(over));
        again.restart(1, over);
        assert!(again.is_active(over + 9 * SECOND_NS));
    }
}
