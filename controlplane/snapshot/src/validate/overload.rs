//! Checks when requests to a cluster are turned away.

use super::positive_duration;
use super::text::Problem;
use crate::limits::CAP_MAX;
use crate::model::overload::Overload;

pub(super) fn check_overload(overload: Option<&Overload>) -> Result<(), Problem> {
    let Some(Overload { queue_delay, concurrency }) = overload else { return Ok(()) };
    positive_duration("overload.queue_delay.target_ms", queue_delay.target_ms)?;
    positive_duration("overload.queue_delay.interval_ms", queue_delay.interval_ms)?;
    let (target_ms, interval_ms) = (queue_delay.target_ms, queue_delay.interval_ms);
    if interval_ms < target_ms {
        let wanted = format!("not shorter than target_ms ({target_ms})");
        return Err(Problem::new("overload.queue_delay.interval_ms", interval_ms, wanted));
    }
    let Some(bounds) = concurrency else { return Ok(()) };
    let (minimum, maximum) = (bounds.minimum, bounds.maximum);
    if !(1..=CAP_MAX).contains(&maximum) {
        let wanted = format!("from 1 to {CAP_MAX}");
        return Err(Problem::new("overload.concurrency.maximum", maximum, wanted));
    }
    if !(1..=maximum).contains(&minimum) {
        let wanted = format!("from 1 to the maximum ({maximum})");
        return Err(Problem::new("overload.concurrency.minimum", minimum, wanted));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::overload::{Concurrency, QueueDelay};

    type Change = fn(&mut QueueDelay, &mut Concurrency);

    #[test]
    fn refuses_what_could_never_be_met() {
        let queue_delay = QueueDelay { target_ms: 5, interval_ms: 5 };
        let bounds = Concurrency { minimum: 7, maximum: 7 };
        let good = Overload { queue_delay, concurrency: Some(bounds) };
        assert!(check_overload(Some(&good)).is_ok() && check_overload(None).is_ok());
        let cases: [(Change, &str); 6] = [
            (|delay, _| delay.target_ms = 0, "queue_delay.target_ms: 0: at least 1"),
            (|delay, _| delay.interval_ms = 0, "queue_delay.interval_ms: 0: at least 1"),
            (|delay, _| delay.interval_ms = 4, "queue_delay.interval_ms: 4: not shorter than"),
            (|_, bounds| bounds.minimum = 0, "concurrency.minimum: 0: from 1 to the maximum (7)"),
            (|_, bounds| bounds.minimum = 8, "concurrency.minimum: 8: from 1 to the maximum (7)"),
            (|_, bounds| bounds.maximum = 1_000_001, "concurrency.maximum: 1000001: from 1 to"),
        ];
        for (change, expected) in cases {
            let (mut delay, mut bounds) = (queue_delay, bounds);
            change(&mut delay, &mut bounds);
            let bad = Overload { queue_delay: delay, concurrency: Some(bounds) };
            let invalid = check_overload(Some(&bad)).expect_err("refused").at(&"cluster 0");
            let expected = format!("cluster 0: overload.{expected}");
            assert!(invalid.to_string().starts_with(&expected), "{invalid}, not {expected}");
        }
    }
}
