//! The engine's clock: nanoseconds on a monotonic axis whose zero is the engine's own.
//!
//! A worker reads the real clock once a turn and hands out that reading (`now`), because most users
//! only need to know which side of a deadline they are on. The simulation engine supplies a virtual
//! clock through the same type, so code above never sees which one runs.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the engine's monotonic clock, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// A deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The instant `ns` nanoseconds after the clock's zero.
    #[must_use]
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the clock's zero.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole microseconds from `earlier` to `self`; zero if `earlier` is later.
    #[inline]
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }

    /// So many milliseconds later. What knows no seconds had better not ask for their sum with a [`Duration`],
    /// which is made of seconds.
    #[inline]
    #[must_use]
    pub const fn plus_millis(self, ms: u64) -> Self {
        self.plus_nanos(ms.saturating_mul(1_000_000))
    }

    /// So many nanoseconds later. Saturates, as the sum with a [`Duration`] does.
    #[inline]
    #[must_use]
    pub const fn plus_nanos(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at [`Instant::NEVER`]: a timeout of centuries means no timeout.
    #[inline]
    fn add(self, duration: Duration) -> Self {
        // 64 bits throughout: this runs several times a request.
        let whole_ns = duration.as_secs().saturating_mul(1_000_000_000);
        self.plus_nanos(whole_ns).plus_nanos(duration.subsec_nanos().into())
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// Reads the kernel's monotonic clock (a vDSO call, no system call).
pub(crate) fn monotonic() -> Instant {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Instant(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_the_same_whatever_is_added_and_never_wraps() {
        let at = Instant::from_nanos(5);
        assert_eq!(at.plus_millis(1_500), at + Duration::from_millis(1_500));
        assert_eq!(at.plus_nanos(7), at + Duration::from_nanos(7));
        assert_eq!(at.plus_millis(u64::MAX), Instant::NEVER);
        assert_eq!(at + Duration::MAX, Instant::NEVER);
    }
}
