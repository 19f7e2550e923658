//! Rules of a TrafficPolicy's `circuitBreaker`.

use lateen_snapshot::limits::FALLBACK_BODY_BYTES_MAX;

use crate::language::kinds::traffic_policy::breaker::{BreakerMode, CircuitBreaker};
use crate::language::rules::findings::Findings;
use crate::language::rules::spans::{check_length, check_span};
use crate::language::text::Format;

pub(super) fn check_breaker(breaker: &CircuitBreaker, findings: &mut Findings<'_>) {
    for (field, text) in [("window", &breaker.window), ("sleep", &breaker.sleep)] {
        let path = format!("spec.circuitBreaker.{field}");
        check_span(text.as_deref(), &path, field, "at least `1ms`", findings);
    }
    check_length(breaker.ramp.as_deref(), "spec.circuitBreaker.ramp", "ramp", findings);
    let said = [
        ("errorPercent", breaker.error_percent.is_some()),
        ("requestVolume", breaker.request_volume.is_some()),
        ("window", breaker.window.is_some()),
        ("sleep", breaker.sleep.is_some()),
        ("ramp", breaker.ramp.is_some()),
        ("fallback", breaker.fallback.is_some() && breaker.mode == BreakerMode::ForcedClosed),
    ];
    if breaker.mode != BreakerMode::Automatic {
        for (field, _) in said.into_iter().filter(|(_, is_said)| *is_said) {
            findings.conflict(
                &format!("spec.circuitBreaker.{field}"),
                "spec.circuitBreaker.mode",
                format!("`{field}` says nothing for the mode `{:?}`", breaker.mode),
            );
        }
    }
    let Some(fallback) = &breaker.fallback else { return };
    let at = "spec.circuitBreaker.fallback";
    match (&fallback.response, &fallback.backend_ref) {
        (Some(_), Some(_)) => findings.conflict(
            &format!("{at}.backendRef"),
            &format!("{at}.response"),
            "a fallback is a response or a backend",
        ),
        (None, None) => {
            let help = "`response` is an answer of the proxy's own, `backendRef` another Service";
            findings.error_with_help(at, "a fallback without `response` and `backendRef`", help);
        }
        _ => {}
    }
    let Some(response) = &fallback.response else { return };
    let path = |field: &str| format!("{at}.response.{field}");
    if let Some(status @ (204 | 205 | 304)) = response.status {
        let message = format!("an answer of the status {status} has no body");
        findings.error_with_help(&path("status"), message, "200 is a usual one");
    }
    if let Some(content_type) = &response.content_type {
        findings.format(&path("contentType"), content_type, Format::HeaderValue);
    }
    if response.body.as_ref().is_some_and(|body| body.len() > FALLBACK_BODY_BYTES_MAX) {
        let message = "this body is too long";
        let help = format!("at most {FALLBACK_BODY_BYTES_MAX} bytes");
        findings.error_with_help(&path("body"), message, help);
    }
}
