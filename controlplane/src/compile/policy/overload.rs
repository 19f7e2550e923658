//! What a policy says of turning requests away; what it does not say is filled in.

use lateen_snapshot::model::overload as model;

use crate::compile::policy::outlier::span_ms;
use crate::language::kinds::traffic_policy::overload::{Overload, Priority};

/// Source: issue; RFC 8289 §4.3 and §4.4, whose values do for requests as for packets.
const TARGET_MS: u32 = 5;
const INTERVAL_MS: u32 = 100;
/// With a single one at a time nothing could be told from how long it takes.
const CONCURRENCY_MIN: u32 = 2;
/// Source: Envoy's `max_concurrency_limit`.
const CONCURRENCY_MAX: u32 = 1_000;

pub(super) fn overload_of(written: &Overload) -> model::Overload {
    let delay = written.queue_delay.clone().unwrap_or_default();
    model::Overload {
        queue_delay: model::QueueDelay {
            target_ms: span_ms(delay.target.as_ref(), TARGET_MS),
            interval_ms: span_ms(delay.interval.as_ref(), INTERVAL_MS),
        },
        concurrency: written.concurrency.as_ref().map(|bounds| {
            let minimum = bounds.minimum.unwrap_or(CONCURRENCY_MIN);
            let maximum = bounds.maximum.unwrap_or(CONCURRENCY_MAX.max(minimum));
            model::Concurrency { minimum, maximum }
        }),
    }
}

pub(super) const fn priority_of(written: Priority) -> model::Priority {
    match written {
        Priority::Critical => model::Priority::Critical,
        Priority::Default => model::Priority::Default,
        Priority::Sheddable => model::Priority::Sheddable,
    }
}
