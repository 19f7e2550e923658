//! Checks the faults of a route.

use super::text::{self, Problem};
use super::{at_most, positive_duration};
use crate::limits::*;
use crate::model::faults::{AbortKind, Faults, Share};

pub(super) fn check(faults: &Faults) -> Result<(), Problem> {
    at_most(faults.headers.len(), MATCH_FIELDS_MAX, "headers")?;
    for (name, value) in &faults.headers {
        text::field_name("headers", name)?;
        text::field_value("headers", value)?;
    }
    if faults.delay.is_none() && faults.abort.is_none() && faults.bandwidth.is_none() {
        return Err(Problem::new("faults", "none", "a delay, an abort or a bandwidth is needed"));
    }
    if let Some(delay) = &faults.delay {
        positive_duration("delay_ms", delay.delay_ms)?;
        check_share(delay.share).map_err(|problem| problem.inside("delay"))?;
    }
    if let Some(abort) = &faults.abort {
        if let AbortKind::Status(status) = abort.kind
            && !(400..=599).contains(&status)
        {
            return Err(Problem::new("abort", status, "a status from 400 to 599 is needed"));
        }
        check_share(abort.share).map_err(|problem| problem.inside("abort"))?;
    }
    if let Some(bandwidth) = &faults.bandwidth {
        let rate = bandwidth.bytes_per_s;
        if !(1..=BYTES_PER_S_MAX).contains(&rate) {
            let wanted = format!("from 1 to {BYTES_PER_S_MAX}");
            return Err(Problem::new("bytes_per_s", rate, wanted));
        }
        check_share(bandwidth.share).map_err(|problem| problem.inside("bandwidth"))?;
    }
    Ok(())
}

fn check_share(share: Share) -> Result<(), Problem> {
    let Share { numerator, denominator } = share;
    if !(1..=DENOMINATOR_MAX).contains(&denominator) {
        let wanted = format!("a number from 1 to {DENOMINATOR_MAX} is needed");
        return Err(Problem::new("denominator", denominator, wanted));
    }
    if numerator > denominator {
        let wanted = format!("at most its denominator, {denominator}");
        return Err(Problem::new("numerator", numerator, wanted));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::faults::{FaultAbort, FaultBandwidth, FaultDelay};

    #[test]
    fn what_makes_no_sense_is_refused_and_named() {
        let share = Share { numerator: 1, denominator: 100 };
        let good = Faults {
            headers: vec![("x-a".into(), "1".into())],
            delay: Some(FaultDelay { delay_ms: 1, share }),
            abort: Some(FaultAbort { kind: AbortKind::Status(503), share }),
            bandwidth: Some(FaultBandwidth { bytes_per_s: 1, share }),
        };
        assert!(check(&good).is_ok());
        type Spoil = fn(&mut Faults);
        let over = |faults: &mut Faults| {
            faults.delay.as_mut().expect("it has one").share.numerator = 101;
        };
        let table: [(Spoil, &str); 8] = [
            (|faults| faults.headers[0].0 = "X-A".into(), "headers"),
            (|faults| faults.headers[0].1 = " 1".into(), "headers"),
            (|faults| faults.delay.as_mut().expect("it has one").delay_ms = 0, "delay_ms"),
            (over, "delay.numerator"),
            (
                |faults| faults.abort.as_mut().expect("it has one").share.denominator = 0,
                "abort.denominator",
            ),
            (
                |faults| faults.abort.as_mut().expect("it has one").kind = AbortKind::Status(200),
                "abort",
            ),
            (
                |faults| faults.bandwidth.as_mut().expect("it has one").bytes_per_s = 0,
                "bytes_per_s",
            ),
            (
                |faults| {
                    *faults = Faults { delay: None, abort: None, bandwidth: None, ..faults.clone() }
                },
                "faults",
            ),
        ];
        for (spoil, field) in table {
            let mut faults = good.clone();
            spoil(&mut faults);
            let invalid = check(&faults).expect_err(field).at(&"route");
            assert_eq!(invalid.field, field);
        }
    }
}
