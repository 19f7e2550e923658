//! Whether an endpoint is well, by how its checks ended, and when it is checked next.
//!
//! Before: the health thread has checked it. After: it gets requests or it does not. Nothing here reads a
//! clock or asks anybody.

use lateen_snapshot::model::health_check::HealthCheck;

/// An endpoint, as its checks show it.
///
/// ```text
///  new ──pass──► well ──unhealthy_threshold failures in a row──► ill
///   │             ▲                                               │
///   │             └──────healthy_threshold passes in a row────────┤
///   └──unhealthy_threshold failures in a row──────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    stage: Stage,
    /// Checks in a row that spoke against the stage.
    contrary: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// It has not passed yet.
    #[default]
    New,
    Well,
    Ill,
}

impl Checked {
    /// Whether it gets requests.
    pub const fn is_well(&self) -> bool {
        matches!(self.stage, Stage::Well)
    }

    /// A check ended. Returns whether the endpoint gets requests now that it did not get before, or the other
    /// way round.
    pub fn note(&mut self, rule: &HealthCheck, has_passed: bool) -> bool {
        let (is_contrary, needed, next) = match self.stage {
            Stage::New if has_passed => (true, 1, Stage::Well),
            Stage::New => (true, rule.unhealthy_threshold, Stage::Ill),
            Stage::Well => (!has_passed, rule.unhealthy_threshold, Stage::Ill),
            Stage::Ill => (has_passed, rule.healthy_threshold, Stage::Well),
        };
        self.contrary = if is_contrary { self.contrary.saturating_add(1) } else { 0 };
        if self.contrary < needed {
            return false;
        }
        let was_well = self.is_well();
        *self = Self { stage: next, contrary: 0 };
        self.is_well() != was_well
    }
}

/// From the end of a check to the next one: the interval, give or take a tenth, so that many proxies don't
/// check at the same time.
pub fn until_next_ns(rule: &HealthCheck, random: u64) -> u64 {
    let interval_ns = u64::from(rule.interval_ms) * 1_000_000;
    let spread_ns = interval_ns / 5;
    let share = ((u128::from(random) * u128::from(spread_ns)) >> 64) as u64;
    interval_ns - spread_ns / 2 + share
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_snapshot::model::health_check::Probe;

    fn rule(unhealthy_threshold: u32, healthy_threshold: u32) -> HealthCheck {
        let probe = Probe::Tcp;
        let (interval_ms, timeout_ms) = (10_000, 1_000);
        HealthCheck { probe, interval_ms, timeout_ms, unhealthy_threshold, healthy_threshold }
    }

    /// Whether it gets requests after each of these checks.
    fn history(rule: &HealthCheck, checks: &str) -> String {
        let mut checked = Checked::default();
        let is_well = checks.chars().map(|check| {
            checked.note(rule, check == '+');
            if checked.is_well() { 'w' } else { '.' }
        });
        is_well.collect()
    }

    #[test]
    fn a_new_one_serves_after_one_pass_and_others_by_their_thresholds() {
        let table = [
            (3, 1, "+--+---+", "wwwwww.w"),
            (3, 2, "+---+-++", "www....w"),
            (1, 1, "-+-+", ".w.w"),
            (3, 3, "--+", "..w"),
        ];
        for (unhealthy, healthy, checks, expected) in table {
            assert_eq!(history(&rule(unhealthy, healthy), checks), expected, "{checks}");
        }
    }

    #[test]
    fn a_new_one_that_fails_too_often_needs_as_many_passes_as_any() {
        let rule = rule(3, 2);
        let mut checked = Checked::default();
        assert_eq!([false; 3].map(|it| checked.note(&rule, it)), [false; 3]);
        assert!(!checked.note(&rule, true));
        assert!(checked.note(&rule, true));
    }

    #[test]
    fn it_says_once_that_something_changed() {
        let rule = rule(2, 1);
        let mut checked = Checked::default();
        let changes: Vec<bool> =
            [true, true, false, false, false, true].map(|it| checked.note(&rule, it)).into();
        assert_eq!(changes, [true, false, false, true, false, true]);
    }

    #[test]
    fn the_next_check_comes_within_a_tenth_of_the_interval() {
        let rule = rule(3, 1);
        assert_eq!(until_next_ns(&rule, 0), 9_000_000_000);
        assert_eq!(until_next_ns(&rule, 1 << 63), 10_000_000_000);
        let latest = until_next_ns(&rule, u64::MAX);
        assert!((10_999_000_000..=11_000_000_000).contains(&latest), "{latest}");
    }
}
