//! Checks how endpoints are asked whether they are well.

use super::outlier::within;
use super::text::{self, Problem};
use super::{at_most, duration, positive_duration};
use crate::limits::{
    CHECK_INTERVAL_MS_LEAST, CHECK_STATUSES_MAX, CONSECUTIVE_MAX, DURATION_MS_MAX,
};
use crate::model::health_check::{HealthCheck, HttpProbe, Probe};

pub(super) fn check_health_check(check: &HealthCheck) -> Result<(), Problem> {
    within("interval_ms", check.interval_ms, CHECK_INTERVAL_MS_LEAST, DURATION_MS_MAX)?;
    positive_duration("timeout_ms", check.timeout_ms)?;
    duration("timeout_ms", Some(check.timeout_ms))?;
    within("unhealthy_threshold", check.unhealthy_threshold, 1, CONSECUTIVE_MAX)?;
    within("healthy_threshold", check.healthy_threshold, 1, CONSECUTIVE_MAX)?;
    let Probe::Http(probe) = &check.probe else { return Ok(()) };
    let HttpProbe { path, host, statuses } = &**probe;
    text::path("path", path)?;
    if let Some(host) = host {
        text::host("host", host)?;
    }
    at_most(statuses.len(), CHECK_STATUSES_MAX, "statuses")?;
    if statuses.is_empty() {
        return Err(Problem::new("statuses", 0, "at least one range"));
    }
    match statuses.iter().find(|(from, to)| *from < 100 || *to > 599 || from > to) {
        None => Ok(()),
        Some((from, to)) => {
            let wanted = "from 100 to 599, the lower one first";
            Err(Problem::new("statuses", format_args!("{from} to {to}"), wanted))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_held() {
        let http = |path: &str, statuses: &[(u16, u16)]| {
            let (path, statuses) = (path.to_owned(), statuses.to_vec());
            Probe::Http(Box::new(HttpProbe { path, host: Some("a.example".to_owned()), statuses }))
        };
        let right = HealthCheck {
            probe: http("/healthz", &[(200, 299), (404, 404)]),
            interval_ms: 10_000,
            timeout_ms: 1_000,
            unhealthy_threshold: 3,
            healthy_threshold: 1,
        };
        assert!(check_health_check(&right).is_ok());
        assert!(check_health_check(&HealthCheck { probe: Probe::Tcp, ..right.clone() }).is_ok());
        let with = |probe| HealthCheck { probe, ..right.clone() };
        for (wrong, field) in [
            (HealthCheck { interval_ms: 99, ..right.clone() }, "interval_ms"),
            (HealthCheck { timeout_ms: 0, ..right.clone() }, "timeout_ms"),
            (HealthCheck { unhealthy_threshold: 0, ..right.clone() }, "unhealthy_threshold"),
            (HealthCheck { healthy_threshold: 0, ..right.clone() }, "healthy_threshold"),
            (with(http("healthz", &[(200, 200)])), "path"),
            (with(http("/a b", &[(200, 200)])), "path"),
            (with(http("/", &[])), "statuses"),
            (with(http("/", &[(99, 200)])), "statuses"),
            (with(http("/", &[(200, 600)])), "statuses"),
            (with(http("/", &[(300, 200)])), "statuses"),
        ] {
            let problem = check_health_check(&wrong).expect_err(field);
            assert!(format!("{problem:?}").contains(field), "{problem:?}");
        }
    }
}
