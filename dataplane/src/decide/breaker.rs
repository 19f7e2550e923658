//! Whether a route's requests are let through, by how those before them ended (Hystrix's breaker).
//!
//! Before: a request of a route that has one is about to be forwarded, or has ended. After: it is forwarded,
//! or answered at once. What all workers counted is looked at together; nothing here reads a clock.

use lateen_snapshot::model::breaker::CircuitBreaker;

/// A window is looked at in so many parts: as they go by, what is in them is forgotten. Source: Hystrix,
/// `rollingStats.numBuckets`.
pub const PARTS: usize = 10;

/// What was counted in a part of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Which part since the clock's zero.
    pub number: u64,
    /// Requests that ended in it and say something.
    pub requests: u32,
    /// Those that failed.
    pub failures: u32,
}

impl Part {
    /// One more request ended, in the part `number`.
    pub fn note(&mut self, number: u64, has_failed: bool) {
        if self.number != number {
            *self = Self { number, ..Self::default() };
        }
        self.requests = self.requests.saturating_add(1);
        self.failures = self.failures.saturating_add(u32::from(has_failed));
    }
}

/// The part of a window that is going on.
pub fn part_number(rule: &CircuitBreaker, now_ns: u64) -> u64 {
    let part_ns = u64::from(rule.window_ms) * 1_000_000 / PARTS as u64;
    now_ns / part_ns.max(1)
}

/// Whether too many failed, by the parts of all workers, `number` being the one that is going on. `least`: of
/// at least so many requests.
pub fn is_over(
    rule: &CircuitBreaker,
    least: u32,
    parts: impl Iterator<Item = Part>,
    number: u64,
) -> bool {
    let (mut requests, mut failures) = (0, 0);
    let is_recent = |part: &Part| part.number <= number && number - part.number < PARTS as u64;
    for part in parts.filter(is_recent) {
        requests += u64::from(part.requests);
        failures += u64::from(part.failures);
    }
    requests >= u64::from(least.max(1))
        && failures * 100 >= requests * u64::from(rule.error_percent)
}

/// Where a breaker stands.
///
/// ```text
///           too many failed            sleep is over
///  closed ─────────────────▶ open ───────────────────▶ half open
///    ▲                        ▲  ▲                         │
///    │ its time is over       │  └──── the probe failed ───┤
///    └──────────────── ramp ──┴◀───── the probe went well ─┘ or nothing could be one for as long
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// All requests are let through.
    #[default]
    Closed,
    /// None is.
    Open,
    /// One is, to see how it ends.
    HalfOpen,
    /// As many at a time as have been answered well since, and one.
    Ramp,
}

impl Stage {
    /// Every stage, at its index.
    pub const ALL: [Self; 4] = [Self::Closed, Self::Open, Self::HalfOpen, Self::Ramp];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Ramp => "ramp",
        }
    }
}

/// What happens to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Too many requests failed.
    Tripped,
    /// The time that it stays as it is is over.
    Elapsed,
    /// The probe ended well.
    Proven,
    /// It failed.
    Disproven,
    /// Its client left: it says nothing.
    Abandoned,
}

/// Where it stands after an event, and for how many milliseconds if not for ever. `None`: nothing changes, the
/// event came too late.
pub fn after(rule: &CircuitBreaker, stage: Stage, event: Event) -> Option<(Stage, Option<u32>)> {
    match (stage, event) {
        (Stage::Closed | Stage::Ramp, Event::Tripped) | (Stage::HalfOpen, Event::Disproven) => {
            Some((Stage::Open, Some(rule.sleep_ms)))
        }
        (Stage::Open, Event::Elapsed) | (Stage::HalfOpen, Event::Abandoned) => {
            Some((Stage::HalfOpen, Some(rule.sleep_ms)))
        }
        // Nothing that may be repeated came, or the probe takes its time: one at a time of whatever comes.
        (Stage::HalfOpen, Event::Elapsed) => {
            Some((Stage::Ramp, Some(rule.ramp_ms.max(rule.sleep_ms))))
        }
        (Stage::HalfOpen, Event::Proven) if rule.ramp_ms == 0 => Some((Stage::Closed, None)),
        (Stage::HalfOpen, Event::Proven) => Some((Stage::Ramp, Some(rule.ramp_ms))),
        (Stage::Ramp, Event::Elapsed) => Some((Stage::Closed, None)),
        _ => None,
    }
}

/// How long it stays as it is, in milliseconds, if not for ever.
pub const fn lasts_ms(rule: &CircuitBreaker, stage: Stage) -> Option<u32> {
    match stage {
        Stage::Closed => None,
        Stage::Open | Stage::HalfOpen => Some(rule.sleep_ms),
        // One that follows no good probe takes its time even where others have no ramp.
        Stage::Ramp => Some(if rule.ramp_ms == 0 { rule.sleep_ms } else { rule.ramp_ms }),
    }
}

/// Whether another request is let through in a ramp.
pub const fn fits_ramp(in_flight: u64, answered_well: u64) -> bool {
    in_flight < answered_well + 1
}

/// Requests after which a ramp is given up if too many of them failed: fewer than opened it.
pub const fn ramp_volume(rule: &CircuitBreaker) -> u32 {
    rule.request_volume.div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::breaker_rule as rule;

    #[test]
    fn it_opens_by_what_all_workers_saw_within_the_window() {
        const SECOND_NS: u64 = 1_000_000_000;
        for workers in [1, 2, 16] {
            let mut parts = vec![[Part::default(); PARTS]; workers];
            let is_open = |parts: &[[Part; PARTS]], now_ns| {
                let number = part_number(&rule(), now_ns);
                is_over(&rule(), 20, parts.iter().flatten().copied(), number)
            };
            let mut now_ns = 100 * SECOND_NS;
            for request in 0..20_usize {
                assert!(!is_open(&parts, now_ns), "{request} requests, {workers} workers");
                let number = part_number(&rule(), now_ns);
                let part = &mut parts[request % workers][number as usize % PARTS];
                part.note(number, request % 4 >= 2);
                now_ns += SECOND_NS / 10;
            }
            assert!(is_open(&parts, now_ns));
            assert!(is_open(&parts, 109 * SECOND_NS + 900_000_000));
            assert!(!is_open(&parts, 110 * SECOND_NS), "the oldest are forgotten");
        }
    }

    #[test]
    fn too_few_failures_of_many_don_t_open_it() {
        let part = |requests, failures| Part { number: 7, requests, failures };
        let is_over = |parts: &[Part]| is_over(&rule(), 20, parts.iter().copied(), 7);
        assert!(!is_over(&[part(100, 49)]));
        assert!(is_over(&[part(100, 50)]));
        assert!(!is_over(&[part(19, 19)]));
        assert!(!is_over(&[part(10, 10), Part { number: 8, requests: 90, failures: 90 }]));
    }

    #[test]
    fn each_event_leads_where_it_should_and_late_ones_nowhere() {
        use Event::*;
        use Stage::*;
        let told = [
            (Closed, Tripped, Open, Some(5_000)),
            (Open, Elapsed, HalfOpen, Some(5_000)),
            (HalfOpen, Disproven, Open, Some(5_000)),
            (HalfOpen, Abandoned, HalfOpen, Some(5_000)),
            (HalfOpen, Elapsed, Ramp, Some(10_000)),
            (HalfOpen, Proven, Ramp, Some(10_000)),
            (Ramp, Tripped, Open, Some(5_000)),
            (Ramp, Elapsed, Closed, None),
        ];
        for stage in Stage::ALL {
            for event in [Tripped, Elapsed, Proven, Disproven, Abandoned] {
                let row = told.iter().find(|row| (row.0, row.1) == (stage, event));
                let expected = row.map(|row| (row.2, row.3));
                assert_eq!(after(&rule(), stage, event), expected, "{stage:?} {event:?}");
            }
        }
        let at_once = CircuitBreaker { ramp_ms: 0, ..rule() };
        assert_eq!(after(&at_once, HalfOpen, Proven), Some((Closed, None)));
    }

    #[test]
    fn a_ramp_refuses_little_in_simulated_time() {
        // 1,000 requests/s that are answered after 10 ms, for the 30 s after the probe.
        let (mut answered, mut refused) = (0_u64, 0_u64);
        let mut ends: std::collections::VecDeque<u64> = std::collections::VecDeque::new();
        for now_ms in 0..30_000 {
            while ends.front().is_some_and(|end| *end <= now_ms) {
                ends.pop_front();
                answered += 1;
            }
            if now_ms >= 10_000 || fits_ramp(ends.len() as u64, answered) {
                ends.push_back(now_ms + 10);
            } else {
                refused += 1;
            }
        }
        assert!(refused * 100 <= 30_000, "{refused} of 30,000 were refused");
        assert_eq!((ramp_volume(&rule()), refused > 0), (5, true));
    }
}
