//! What a policy says of breaking; what it does not say is filled in.

use lateen_snapshot::limits::DURATION_MS_MAX;
use lateen_snapshot::model::breaker as model;

use crate::compile::policy::outlier::span_ms;
use crate::language::kinds::traffic_policy::breaker::{BreakerMode, CircuitBreaker};
use crate::language::text::duration_ms;

/// Source: FEATURES, Hystrix's.
const ERROR_PERCENT: u32 = 50;
const REQUEST_VOLUME: u32 = 20;
const WINDOW_MS: u32 = 10_000;
const SLEEP_MS: u32 = 5_000;
/// Source: issue.
const RAMP_MS: u32 = 10_000;

pub(super) fn breaker_of(written: &CircuitBreaker) -> model::CircuitBreaker {
    let ramp = written.ramp.as_deref().and_then(duration_ms);
    model::CircuitBreaker {
        mode: match written.mode {
            BreakerMode::Automatic => model::BreakerMode::Automatic,
            BreakerMode::ForcedOpen => model::BreakerMode::ForcedOpen,
            BreakerMode::ForcedClosed => model::BreakerMode::ForcedClosed,
        },
        error_percent: written.error_percent.unwrap_or(ERROR_PERCENT),
        request_volume: written.request_volume.unwrap_or(REQUEST_VOLUME),
        window_ms: span_ms(written.window.as_ref(), WINDOW_MS),
        sleep_ms: span_ms(written.sleep.as_ref(), SLEEP_MS),
        ramp_ms: ramp.map_or(RAMP_MS, |ms| ms.min(DURATION_MS_MAX.into()) as u32),
        fallback: written.fallback.as_ref().map(|fallback| {
            let response = fallback.response.clone();
            let content_type = response.content_type.unwrap_or_else(|| "text/plain".to_owned());
            model::FallbackResponse {
                status: response.status.unwrap_or(200),
                content_type,
                body: response.body.unwrap_or_default(),
            }
        }),
    }
}
