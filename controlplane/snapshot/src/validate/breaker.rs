//! Checks when a route stops to forward, and what it answers then.

use super::outlier::within;
use super::text::{self, Problem};
use super::{at_most, duration, in_range, positive_duration};
use crate::limits::{FALLBACK_BODY_BYTES_MAX, REQUEST_VOLUME_MAX};
use crate::model::breaker::{CircuitBreaker, Fallback};

pub(super) fn check_breaker(breaker: &CircuitBreaker, clusters: usize) -> Result<(), Problem> {
    within("error_percent", breaker.error_percent, 1, 100)?;
    within("request_volume", breaker.request_volume, 1, REQUEST_VOLUME_MAX)?;
    positive_duration("window_ms", breaker.window_ms)?;
    positive_duration("sleep_ms", breaker.sleep_ms)?;
    duration("ramp_ms", Some(breaker.ramp_ms))?;
    let fallback = match &breaker.fallback {
        None => return Ok(()),
        Some(Fallback::Backend(cluster)) => {
            return in_range("fallback.backend", cluster.0, clusters, "clusters");
        }
        Some(Fallback::Response(response)) => response,
    };
    if !(200..=599).contains(&fallback.status) || matches!(fallback.status, 204 | 205 | 304) {
        let wanted = "a status from 200 to 599 that has a body";
        return Err(Problem::new("fallback.status", fallback.status, wanted));
    }
    text::field_value("fallback.content_type", &fallback.content_type)?;
    at_most(fallback.body.len(), FALLBACK_BODY_BYTES_MAX, "fallback.body")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ClusterId;
    use crate::model::breaker::{BreakerMode, FallbackResponse};

    #[test]
    fn each_bound_is_held() {
        let answer = |status, body: &str| {
            let (content_type, body) = ("text/plain".to_owned(), body.to_owned());
            Some(Fallback::Response(FallbackResponse { status, content_type, body }))
        };
        let right = CircuitBreaker {
            mode: BreakerMode::Automatic,
            error_percent: 50,
            request_volume: 20,
            window_ms: 10_000,
            sleep_ms: 5_000,
            ramp_ms: 0,
            fallback: answer(200, "none"),
        };
        assert!(check_breaker(&right, 0).is_ok());
        let to = |id| Some(Fallback::Backend(ClusterId(id)));
        assert!(check_breaker(&CircuitBreaker { fallback: to(1), ..right.clone() }, 2).is_ok());
        let long = "x".repeat(FALLBACK_BODY_BYTES_MAX + 1);
        let mut torn = answer(200, "");
        if let Some(Fallback::Response(response)) = &mut torn {
            response.content_type = "a\r\nb".to_owned();
        }
        for (wrong, field) in [
            (CircuitBreaker { error_percent: 0, ..right.clone() }, "error_percent"),
            (CircuitBreaker { error_percent: 101, ..right.clone() }, "error_percent"),
            (CircuitBreaker { request_volume: 0, ..right.clone() }, "request_volume"),
            (CircuitBreaker { window_ms: 0, ..right.clone() }, "window_ms"),
            (CircuitBreaker { sleep_ms: 0, ..right.clone() }, "sleep_ms"),
            (CircuitBreaker { fallback: answer(199, ""), ..right.clone() }, "fallback.status"),
            (CircuitBreaker { fallback: answer(204, ""), ..right.clone() }, "fallback.status"),
            (CircuitBreaker { fallback: answer(200, &long), ..right.clone() }, "fallback.body"),
            (CircuitBreaker { fallback: torn, ..right.clone() }, "fallback.content_type"),
            (CircuitBreaker { fallback: to(2), ..right.clone() }, "fallback.backend"),
        ] {
            let problem = check_breaker(&wrong, 2).expect_err(field);
            assert!(format!("{problem:?}").contains(field), "{problem:?}");
        }
    }
}
