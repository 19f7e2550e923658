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
