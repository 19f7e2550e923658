//! What a policy says of breaking; what it does not say is filled in.

use lateen_snapshot::limits::DURATION_MS_MAX;
use lateen_snapshot::model::breaker as model;

use crate::compile::findings::Findings;
use crate::compile::objects::Item;
use crate::compile::policy::outlier::span_ms;
use crate::compile::references::{BackendRef, References, Wanted};
use crate::compile::services::{Service, ServicePort};
use crate::language::diagnostic::Diagnostic;
use crate::language::kinds::traffic_policy::TrafficPolicySpec;
use crate::language::kinds::traffic_policy::breaker::{BreakerMode, CircuitBreaker, Fallback};
use crate::language::text::duration_ms;

/// Source: FEATURES, Hystrix's.
const ERROR_PERCENT: u32 = 50;
const REQUEST_VOLUME: u32 = 20;
const WINDOW_MS: u32 = 10_000;
const SLEEP_MS: u32 = 5_000;
/// Source: issue.
const RAMP_MS: u32 = 10_000;

/// The breaker of a policy; a fallback that leads nowhere is told of.
pub(super) fn breaker_of(
    policy: &Item<'_, TrafficPolicySpec>,
    written: &CircuitBreaker,
    references: &References<'_, '_>,
    findings: &mut Findings,
) -> model::CircuitBreaker {
    let ramp = written.ramp.as_deref().and_then(duration_ms);
    let fallback = written.fallback.as_ref();
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
        fallback: fallback.and_then(|of| fallback_of(policy, of, references, findings)),
    }
}

/// A breaker as it is where nobody says anything of it.
pub(crate) fn usual(mode: model::BreakerMode) -> model::CircuitBreaker {
    model::CircuitBreaker {
        mode,
        error_percent: ERROR_PERCENT,
        request_volume: REQUEST_VOLUME,
        window_ms: WINDOW_MS,
        sleep_ms: SLEEP_MS,
        ramp_ms: RAMP_MS,
        fallback: None,
    }
}

fn fallback_of(
    policy: &Item<'_, TrafficPolicySpec>,
    written: &Fallback,
    references: &References<'_, '_>,
    findings: &mut Findings,
) -> Option<model::Fallback> {
    if let Some(response) = written.response.clone() {
        let content_type = response.content_type.unwrap_or_else(|| "text/plain".to_owned());
        return Some(model::Fallback::Response(model::FallbackResponse {
            status: response.status.unwrap_or(200),
            content_type,
            body: response.body.unwrap_or_default(),
        }));
    }
    let reference = BackendRef::from(written.backend_ref.as_ref()?);
    let path = "spec.circuitBreaker.fallback.backendRef";
    let found = references.backend(policy.declared, path, reference, Wanted::Http, findings);
    let (service, port) = found?;
    if let Some(index) = calls_itself(policy, service, port) {
        let message = format!(
            "the fallback of the Service `{}` is the port itself whose requests are not let through",
            service.name()
        );
        let target = policy.declared.place_of(&format!("spec.targetRefs[{index}].name"));
        findings.push(
            Diagnostic::error(message, policy.declared.place_of(&format!("{path}.name")))
                .with_related(target, "this one's requests")
                .with_help("name another Service, or another port"),
        );
    }
    Some(model::Fallback::Backend(port.cluster))
}

/// The position of a target that is this very port: what its breaker holds off would come all the same.
fn calls_itself(
    policy: &Item<'_, TrafficPolicySpec>,
    service: &Service<'_>,
    port: &ServicePort<'_>,
) -> Option<usize> {
    policy.spec.target_refs.iter().position(|target| {
        let is_service = target.kind == "Service"
            && target.name == service.name()
            && policy.namespace() == service.namespace();
        is_service
            && match target.section_name.as_deref() {
                Some(section) => port.name == Some(section),
                None => service.ports.len() == 1,
            }
    })
}
