//! Rules of what is said about tries beyond the first.

use super::at_most;
use super::text::{self, Problem};
use crate::limits::{
    DURATION_MS_MAX, HEDGE_PERCENTILES, RETRIES_MAX, RETRIES_PER_SECOND_MAX, RETRY_FIELDS_MAX,
    RETRY_PERCENT_MAX, RETRY_STATUSES_MAX,
};
use crate::model::retry::{HedgeAfter, Retry, RetryBudget};

pub(super) fn check_retry(retry: &Retry) -> Result<(), Problem> {
    if retry.attempts > RETRIES_MAX {
        let wanted = format!("at most {RETRIES_MAX} are possible");
        return Err(Problem::new("attempts", retry.attempts, wanted));
    }
    at_most(retry.statuses.len(), RETRY_STATUSES_MAX, "statuses")?;
    if let Some(status) = retry.statuses.iter().find(|status| !(400..=599).contains(*status)) {
        return Err(Problem::new("statuses", status, "a status from 400 to 599 is needed"));
    }
    at_most(retry.headers.len(), RETRY_FIELDS_MAX, "headers")?;
    for field in &retry.headers {
        text::field_name("headers", &field.name)?;
        text::field_value("headers", field.value.as_deref().unwrap_or_default())?;
    }
    let (base_ms, most_ms) = (retry.backoff_base_ms, retry.backoff_max_ms);
    if base_ms == 0 || base_ms > most_ms || most_ms > DURATION_MS_MAX {
        let wanted = format!("at least 1, and not more than backoff_max_ms ({most_ms})");
        return Err(Problem::new("backoff_base_ms", base_ms, wanted));
    }
    Ok(())
}

pub(super) fn check_hedging(after: HedgeAfter) -> Result<(), Problem> {
    match after {
        HedgeAfter::DelayMs(1..=DURATION_MS_MAX) => Ok(()),
        HedgeAfter::DelayMs(delay_ms) => {
            Err(Problem::new("delay_ms", delay_ms, format!("from 1 to {DURATION_MS_MAX}")))
        }
        HedgeAfter::Percentile(percentile) if HEDGE_PERCENTILES.contains(&percentile) => Ok(()),
        HedgeAfter::Percentile(percentile) => {
            let (least, most) = HEDGE_PERCENTILES.into_inner();
            Err(Problem::new("percentile", percentile, format!("from {least} to {most}")))
        }
    }
}

pub(super) fn check_retry_budget(budget: RetryBudget) -> Result<(), Problem> {
    if budget.percent > RETRY_PERCENT_MAX {
        let wanted = format!("at most {RETRY_PERCENT_MAX}");
        return Err(Problem::new("percent", budget.percent, wanted));
    }
    if budget.min_per_second > RETRIES_PER_SECOND_MAX {
        let wanted = format!("at most {RETRIES_PER_SECOND_MAX}");
        return Err(Problem::new("min_per_second", budget.min_per_second, wanted));
    }
    Ok(())
}
