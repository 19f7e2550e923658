//! Which faults a request gets, and how fast a body may pass that is held back.
//!
//! Before: a request's route is known to have faults. After: the conductor delays or aborts it before
//! its first try, and its response's body is paced where it is moved.

use lateen_snapshot::model::faults::{AbortKind, Faults, Share};

use crate::codec::http1::head::Fields;
use crate::limits;

/// What is done to one request; never nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injected {
    /// It waits for so long.
    pub delay_ms: Option<u32>,
    /// Then it ends so.
    pub abort: Option<AbortKind>,
    /// So many bytes of its response's body pass in a second.
    pub bytes_per_s: Option<u64>,
}

/// Draws the faults of a request with these fields. `random` gives 64 evenly spread bits at each call.
/// `None`: it has none.
pub fn draw(
    faults: &Faults,
    fields: &Fields<'_>,
    mut random: impl FnMut() -> u64,
) -> Option<Injected> {
    let has = |(name, value): &(String, String)| {
        fields.values(name.as_bytes()).any(|of_field| of_field == value.as_bytes())
    };
    if !faults.headers.iter().all(has) {
        return None;
    }
    let mut is_drawn = |share: Share| {
        let point = ((random() >> 32) * u64::from(share.denominator)) >> 32;
        point < u64::from(share.numerator)
    };
    let delay = faults.delay.filter(|delay| is_drawn(delay.share));
    let abort = faults.abort.filter(|abort| is_drawn(abort.share));
    let bandwidth = faults.bandwidth.filter(|bandwidth| is_drawn(bandwidth.share));
    let injected = Injected {
        delay_ms: delay.map(|delay| delay.delay_ms),
        abort: abort.map(|abort| abort.kind),
        bytes_per_s: bandwidth.map(|bandwidth| bandwidth.bytes_per_s),
    };
    (delay.is_some() || abort.is_some() || bandwidth.is_some()).then_some(injected)
}

/// How fast the bytes of one body may pass.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    began_ns: u64,
    bytes_per_s: u64,
}

impl Pace {
    /// `bytes_per_s`, which is more than 0, from `now_ns` on.
    pub const fn begin(bytes_per_s: u64, now_ns: u64) -> Self {
        Self { began_ns: now_ns, bytes_per_s }
    }

    /// How many bytes pass as one: what comes in a [`limits::PACE_SLICE`], but one at least.
    pub fn slice_bytes(&self) -> u64 {
        let in_slice = u128::from(self.bytes_per_s) * limits::PACE_SLICE.as_nanos() / NANOS_PER_S;
        (in_slice as u64).max(1)
    }

    /// From when on more may pass, when `passed` bytes have.
    pub fn due_ns(&self, passed: u64) -> u64 {
        let span_ns = u128::from(passed) * NANOS_PER_S / u128::from(self.bytes_per_s);
        self.began_ns.saturating_add(u64::try_from(span_ns).unwrap_or(u64::MAX))
    }
}

const NANOS_PER_S: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use lateen_snapshot::model::faults::{FaultAbort, FaultBandwidth, FaultDelay};

    use super::*;
    use crate::codec::http1::head::tests::OwnedFields;

    fn faults(share: Share) -> Faults {
        Faults {
            headers: Vec::new(),
            delay: Some(FaultDelay { delay_ms: 250, share }),
            abort: Some(FaultAbort { kind: AbortKind::Status(503), share }),
            bandwidth: Some(FaultBandwidth { bytes_per_s: 1_000, share }),
        }
    }

    /// xorshift64*, one for each of so many workers.
    fn sources(workers: u64) -> Vec<impl FnMut() -> u64> {
        let source = |worker: u64| {
            let mut bits = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(worker + 1);
            move || {
                bits ^= bits >> 12;
                bits ^= bits << 25;
                bits ^= bits >> 27;
                bits.wrapping_mul(0x2545_f491_4f6c_dd1d)
            }
        };
        (0..workers).map(source).collect()
    }

    #[test]
    fn each_fault_comes_at_its_share_whatever_the_workers() {
        let fields = OwnedFields::new([]);
        let faults = faults(Share { numerator: 1, denominator: 40 });
        for workers in [1, 2, 16] {
            let mut sources = sources(workers);
            let (mut delayed, mut aborted, mut slowed, mut both) = (0, 0, 0, 0);
            for request in 0..160_000 {
                let source = &mut sources[request % workers as usize];
                let Some(injected) = draw(&faults, &fields.view(), source) else { continue };
                delayed += u32::from(injected.delay_ms == Some(250));
                aborted += u32::from(injected.abort == Some(AbortKind::Status(503)));
                slowed += u32::from(injected.bytes_per_s == Some(1_000));
                both += u32::from(injected.delay_ms.is_some() && injected.abort.is_some());
            }
            for count in [delayed, aborted, slowed] {
                assert!((3_700..4_300).contains(&count), "{count} of 160,000 at 2.5 %");
            }
            assert!((60..140).contains(&both), "{both}: they are drawn on their own");
        }
    }

    #[test]
    fn none_and_all_are_exact() {
        let fields = OwnedFields::new([]);
        for random in [0, 1, u64::MAX / 2, u64::MAX] {
            let none = faults(Share { numerator: 0, denominator: 100 });
            assert_eq!(draw(&none, &fields.view(), || random), None);
            let all = faults(Share { numerator: 100, denominator: 100 });
            let injected = draw(&all, &fields.view(), || random).expect("all have them");
            assert!(injected.delay_ms.is_some() && injected.abort.is_some());
        }
    }

    #[test]
    fn only_requests_with_all_headers_are_meant() {
        let all = Share { numerator: 1, denominator: 1 };
        let mut faults = faults(all);
        faults.headers = vec![("x-fault".to_owned(), "on".to_owned()), ("x-b".into(), "1".into())];
        let drawn = |lines: &[(&'static str, &str)]| {
            let lines = lines.iter().map(|(name, value)| (*name, value.as_bytes()));
            draw(&faults, &OwnedFields::new(lines).view(), || 0).is_some()
        };
        assert!(drawn(&[("X-Fault", "on"), ("X-B", "1")]));
        assert!(drawn(&[("X-Fault", "off"), ("X-Fault", "on"), ("X-B", "1")]));
        assert!(!drawn(&[("X-Fault", "on")]));
        assert!(!drawn(&[("X-Fault", "On"), ("X-B", "1")]));
        assert!(!drawn(&[]));
    }

    #[test]
    fn a_body_takes_as_long_as_its_pace_says() {
        for (rate, bytes, ms) in [
            (1_000, 5_000, 5_000),
            (100_000, 25_000, 250),
            (1, 3, 3_000),
            (1 << 40, 1 << 40, 1_000),
        ] {
            let pace = Pace::begin(rate, 7_000_000);
            let (mut now_ns, mut passed) = (7_000_000_u64, 0);
            while passed < bytes {
                now_ns = now_ns.max(pace.due_ns(passed));
                passed += pace.slice_bytes().min(bytes - passed);
            }
            let end_ns = now_ns.max(pace.due_ns(passed));
            assert_eq!((end_ns - 7_000_000) / 1_000_000, ms, "{bytes} at {rate}/s");
        }
        assert_eq!(Pace::begin(1, 0).due_ns(u64::MAX), u64::MAX);
    }
}
