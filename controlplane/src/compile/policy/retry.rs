//! What is said about tries beyond the first, in the words of the snapshot.

use gateway_api::apis::experimental::httproutes::HttpRouteRulesRetry;
use lateen_snapshot::limits::{DURATION_MS_MAX, RETRIES_MAX};
use lateen_snapshot::model::retry::{HedgeAfter, RetriableField, Retry, RetryBudget, RetryOn};

use crate::language::kinds::traffic_policy::retry as written;
use crate::language::kinds::traffic_policy::retry::RetryCondition;
use crate::language::text::duration_ms;

/// Source: FEATURES, Defaults.
const ATTEMPTS: u32 = 2;
const STATUS: u16 = 503;
/// Source: Envoy's `base_interval`, and its `max_interval` of ten times that.
const BACKOFF_BASE_MS: u32 = 25;
const BACKOFF_MAX_OVER_BASE: u32 = 10;
/// Source: Finagle's `BackupRequestFilter` at one percent of extra load.
const HEDGE_PERCENTILE: u32 = 99;
/// Of a rule that says nothing. Source: GEP-1731.
const GATEWAY_API_STATUSES: [u16; 4] = [500, 502, 503, 504];

pub(super) fn retry_of(written: &written::Retry) -> Box<Retry> {
    let conditions = written.on.as_deref();
    let on = |condition: RetryCondition, otherwise: bool| {
        conditions.map_or(otherwise, |all| all.contains(&condition))
    };
    let usual = conditions.is_none() && written.headers.is_none();
    let statuses = written.statuses.clone();
    let backoff = written.backoff.as_ref();
    let (backoff_base_ms, backoff_max_ms) = backoff_of(
        backoff.and_then(|backoff| backoff.base.as_deref()),
        backoff.and_then(|backoff| backoff.max.as_deref()),
    );
    let headers = written.headers.iter().flatten().map(|header| RetriableField {
        name: header.name.to_ascii_lowercase(),
        value: header.value.clone(),
    });
    Box::new(Retry {
        attempts: written.attempts.unwrap_or(ATTEMPTS),
        on: RetryOn {
            connect_failure: on(RetryCondition::ConnectFailure, true),
            reset_before_response: on(RetryCondition::ResetBeforeResponse, true),
            per_try_timeout: on(RetryCondition::PerTryTimeout, false),
            server_error: on(RetryCondition::ServerError, false),
            gateway_error: on(RetryCondition::GatewayError, false),
        },
        statuses: statuses.unwrap_or_else(|| if usual { vec![STATUS] } else { Vec::new() }),
        headers: headers.collect(),
        backoff_base_ms,
        backoff_max_ms,
        non_idempotent: written.non_idempotent.unwrap_or(false),
    })
}

/// Of the rule of an HTTPRoute: a connection that fails, breaks or takes too long is always a reason
/// (GEP-1731).
pub(in crate::compile) fn retry_of_rule(written: &HttpRouteRulesRetry) -> Box<Retry> {
    let statuses = written.codes.as_ref().map(|codes| {
        // The language saw to their range.
        codes.iter().filter_map(|&code| u16::try_from(code).ok()).collect()
    });
    let attempts = written.attempts.and_then(|attempts| u32::try_from(attempts).ok());
    let (backoff_base_ms, backoff_max_ms) = backoff_of(written.backoff.as_deref(), None);
    Box::new(Retry {
        attempts: attempts.unwrap_or(ATTEMPTS).min(RETRIES_MAX),
        on: RetryOn {
            connect_failure: true,
            reset_before_response: true,
            per_try_timeout: true,
            ..RetryOn::default()
        },
        statuses: statuses.unwrap_or_else(|| GATEWAY_API_STATUSES.to_vec()),
        headers: Vec::new(),
        backoff_base_ms,
        backoff_max_ms,
        non_idempotent: false,
    })
}

fn backoff_of(base: Option<&str>, most: Option<&str>) -> (u32, u32) {
    // The language saw to it that both are durations, and more than 0.
    let span_ms = |text: &str| duration_ms(text).map(|ms| ms.min(DURATION_MS_MAX.into()) as u32);
    let base_ms = base.and_then(span_ms).unwrap_or(BACKOFF_BASE_MS).max(1);
    let most_ms = most.and_then(span_ms);
    let usual_ms = base_ms.saturating_mul(BACKOFF_MAX_OVER_BASE).min(DURATION_MS_MAX);
    (base_ms, most_ms.unwrap_or(usual_ms).max(base_ms))
}

pub(super) fn hedging_of(written: &written::Hedging) -> HedgeAfter {
    // The language saw to it that it is a duration, and more than 0.
    let delay_ms = written.delay.as_deref().and_then(duration_ms);
    match delay_ms {
        Some(delay_ms) => HedgeAfter::DelayMs(delay_ms.clamp(1, DURATION_MS_MAX.into()) as u32),
        None => HedgeAfter::Percentile(written.percentile.unwrap_or(HEDGE_PERCENTILE)),
    }
}

pub(super) fn budget_of(written: &written::RetryBudget) -> RetryBudget {
    let usual = RetryBudget::default();
    RetryBudget {
        percent: written.percent.unwrap_or(usual.percent),
        min_per_second: written.min_per_second.unwrap_or(usual.min_per_second),
    }
}
