//! When the upstream misbehaves, and how: without I/O, by time and by a seeded chance.

use super::arguments::UpstreamArguments;
use crate::clock::as_ns;

/// What was asked for, the same for all threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Misbehaviour {
    delay_ns: u64,
    jitter_ns: u64,
    error_rate: f64,
    stall: Option<Stall>,
}

#[derive(Clone, Copy, Debug)]
struct Stall {
    from_ns: u64,
    every_ns: u64,
    for_ns: u64,
}

/// Seeded chance: splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Misbehaviour {
    /// Stalls are counted from `start_ns` on.
    pub(crate) fn new(arguments: &UpstreamArguments, start_ns: u64) -> Self {
        Self {
            delay_ns: as_ns(arguments.delay),
            jitter_ns: as_ns(arguments.jitter),
            error_rate: arguments.error_rate,
            stall: arguments.stall_every.map(|every| Stall {
                from_ns: start_ns,
                every_ns: as_ns(every),
                for_ns: as_ns(arguments.stall_for),
            }),
        }
    }

    /// Whether it does anything at all: the quick way needs no look at the clock.
    pub(crate) fn is_none(&self) -> bool {
        self.delay_ns == 0 && self.jitter_ns == 0 && self.error_rate == 0.0 && self.stall.is_none()
    }

    /// When an answer to a request that came at `now_ns` may leave, if not at once.
    pub(crate) fn hold_until(&self, now_ns: u64, chance: &mut Chance) -> Option<u64> {
        let jitter_ns = (self.jitter_ns as f64 * chance.share()) as u64;
        let ready_ns = now_ns + self.delay_ns + jitter_ns;
        let free_ns = self.stall.map_or(ready_ns, |stall| stall.free_at(ready_ns));
        (free_ns > now_ns).then_some(free_ns)
    }

    /// Whether an answer is an error.
    pub(crate) fn fails(&self, chance: &mut Chance) -> bool {
        self.error_rate > 0.0 && chance.share() < self.error_rate
    }
}

impl Stall {
    /// The first moment from `ns` on that is in no stall; the first stall comes after `every_ns`.
    fn free_at(&self, ns: u64) -> u64 {
        let since_ns = ns.saturating_sub(self.from_ns);
        let into_ns = since_ns % self.every_ns;
        if since_ns < self.every_ns || into_ns >= self.for_ns {
            return ns;
        }
        ns - into_ns + self.for_ns
    }
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 to below 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Misbehaviour =
        Misbehaviour { delay_ns: 0, jitter_ns: 0, error_rate: 0.0, stall: None };

    #[test]
    fn a_stall_holds_what_falls_into_it() {
        let stall = Stall { from_ns: 1_000, every_ns: 100, for_ns: 30 };
        let asked = Misbehaviour { stall: Some(stall), ..NONE };
        let mut chance = Chance::new(1);
        for (now_ns, held) in [
            (1_000, None),
            (1_029, None),
            (1_099, None),
            (1_100, Some(1_130)),
            (1_129, Some(1_130)),
            (1_130, None),
            (1_250, None),
            (1_310, Some(1_330)),
        ] {
            assert_eq!(asked.hold_until(now_ns, &mut chance), held, "at {now_ns}");
        }
        let delayed = Misbehaviour { delay_ns: 50, ..asked };
        assert_eq!(delayed.hold_until(1_060, &mut chance), Some(1_130));
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_repeats_by_seed() {
        let asked = Misbehaviour { delay_ns: 100, jitter_ns: 50, ..NONE };
        let run = |seed| {
            let mut chance = Chance::new(seed);
            (0..1000).filter_map(|_| asked.hold_until(0, &mut chance)).collect::<Vec<_>>()
        };
        assert!(run(1).iter().all(|held| (100..150).contains(held)));
        assert!(run(1).iter().any(|&held| held < 105) && run(1).iter().any(|&held| held >= 145));
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn errors_come_at_their_rate() {
        let mut chance = Chance::new(7);
        let asked = Misbehaviour { error_rate: 0.1, ..NONE };
        let failed = (0..10_000).filter(|_| asked.fails(&mut chance)).count();
        assert!((900..1100).contains(&failed), "{failed}");
        assert!(!(0..1000).any(|_| NONE.fails(&mut chance)));
        let always = Misbehaviour { error_rate: 1.0, ..NONE };
        assert!((0..1000).all(|_| always.fails(&mut chance)));
    }
}
