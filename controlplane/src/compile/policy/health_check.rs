//! What a policy says of checking endpoints; what it does not say is filled in.

use lateen_snapshot::model::health_check as model;

use crate::compile::policy::outlier::span_ms;
use crate::language::kinds::traffic_policy::health_check::{HealthCheck, HealthCheckType};

/// Source: FEATURES, Defaults.
const INTERVAL_MS: u32 = 10_000;
const TIMEOUT_MS: u32 = 1_000;
const UNHEALTHY_THRESHOLD: u32 = 3;
const HEALTHY_THRESHOLD: u32 = 1;

pub(super) fn health_check_of(written: &HealthCheck) -> model::HealthCheck {
    let probe = match written.r#type {
        HealthCheckType::Tcp => model::Probe::Tcp,
        HealthCheckType::Http => {
            let http = written.http.clone().unwrap_or_default();
            let ranges = http.expected_statuses.iter().flatten();
            let mut statuses: Vec<(u16, u16)> = ranges.map(|of| (of.from, of.to)).collect();
            if statuses.is_empty() {
                statuses.push((200, 299));
            }
            let path = http.path.unwrap_or_else(|| "/".to_owned());
            model::Probe::Http(Box::new(model::HttpProbe { path, host: http.host, statuses }))
        }
    };
    model::HealthCheck {
        probe,
        interval_ms: span_ms(written.interval.as_ref(), INTERVAL_MS),
        timeout_ms: span_ms(written.timeout.as_ref(), TIMEOUT_MS),
        unhealthy_threshold: written.unhealthy_threshold.unwrap_or(UNHEALTHY_THRESHOLD),
        healthy_threshold: written.healthy_threshold.unwrap_or(HEALTHY_THRESHOLD),
    }
}
