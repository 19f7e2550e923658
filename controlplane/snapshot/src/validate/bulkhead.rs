//! Checks the caps of a cluster.

use super::positive_duration;
use super::text::Problem;
use crate::limits::CAP_MAX;
use crate::model::bulkhead::Caps;

pub(super) fn check_caps(caps: Option<&Caps>) -> Result<(), Problem> {
    let Some(caps) = caps else { return Ok(()) };
    let check = |field: &'static str, cap: Option<u32>, least: u32| match cap {
        Some(cap) if !(least..=CAP_MAX).contains(&cap) => {
            Err(Problem::new(field, cap, format!("from {least} to {CAP_MAX}")))
        }
        _ => Ok(()),
    };
    check("bulkhead.connections_max", Some(caps.connections_max), 1)?;
    check("bulkhead.pending_max", Some(caps.pending_max), 0)?;
    check("bulkhead.requests_max", caps.requests_max, 1)?;
    check("bulkhead.retries_max", caps.retries_max, 0)?;
    positive_duration("bulkhead.queue_timeout_ms", caps.queue_timeout_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut Caps);

    #[test]
    fn refuses_bad_caps() {
        let good = Caps {
            connections_max: 1,
            pending_max: 0,
            requests_max: None,
            retries_max: Some(0),
            queue_timeout_ms: 1,
        };
        assert!(check_caps(Some(&good)).is_ok() && check_caps(None).is_ok());
        let cases: [(Change, &str); 5] = [
            (|it| it.connections_max = 0, "connections_max: 0: from 1 to 1000000"),
            (|it| it.pending_max = 1_000_001, "pending_max: 1000001: from 0 to 1000000"),
            (|it| it.requests_max = Some(0), "requests_max: 0: from 1 to 1000000"),
            (|it| it.retries_max = Some(1_000_001), "retries_max: 1000001: from 0 to"),
            (|it| it.queue_timeout_ms = 0, "queue_timeout_ms: 0: at least 1"),
        ];
        for (change, expected) in cases {
            let mut caps = good;
            change(&mut caps);
            let invalid = check_caps(Some(&caps)).expect_err("refused").at(&"cluster 0");
            let expected = format!("cluster 0: bulkhead.{expected}");
            assert!(invalid.to_string().starts_with(&expected), "{invalid}, not {expected}");
        }
    }
}
