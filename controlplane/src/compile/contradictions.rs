//! What policies say together of some requests, and what of it can never act.
//!
//! Before: the language held each policy against itself, and what several say was put together field by
//! field. An error where one author said all of it, about a service or about a route; a warning where the
//! policy of a service meets a route, since both may be right for everything else.

use lateen_snapshot::model::breaker::Fallback;
use lateen_snapshot::model::retry::{HedgeAfter, Retry};
use lateen_snapshot::model::{Action, RouteMatch, RoutePolicy};

use crate::compile::findings::Findings;
use crate::language::diagnostic::{Diagnostic, Severity};
use crate::language::kinds::traffic_policy::retry::RetryCondition;
use crate::language::object::{Declared, Object};
use crate::language::place::Place;

/// Source: RFC 9110 §9.2.2.
const IDEMPOTENT_METHODS: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];

/// A setting that never acts, because of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contradiction {
    /// The second request is sent when all is over.
    HedgeAfterRequest,
    /// The same of a single try.
    HedgeAfterTry,
    /// Whoever is delayed on purpose is never forwarded.
    DelayAfterRequest,
    /// A retry after a limit that is not there.
    NoTryLimit,
}

/// Who speaks about some requests.
#[derive(Clone, Debug)]
pub(super) struct Speakers<'d> {
    /// The route that they are of, or the service where there is none.
    pub(super) declared: &'d Declared,
    /// The rule or the ports in it.
    pub(super) path: String,
    /// Policies about them; who counts comes first.
    pub(super) policies: Vec<&'d Declared>,
}

/// Of a rule, by what it says itself, and policies about it and its route.
pub(super) fn tell_of_rule(said: &RoutePolicy, speakers: &Speakers<'_>, findings: &mut Findings) {
    // Whether a try has a limit is known where the policies of services are.
    let found = contradictions_of(said).into_iter();
    for found in found.filter(|found| *found != Contradiction::NoTryLimit) {
        findings.push(found.tell(speakers, Severity::Error));
    }
}

/// Of a rule where it is attached: what is so only by `policy`, in which everyone has spoken.
pub(super) fn tell_of_attached(
    policy: &RoutePolicy,
    said: &RoutePolicy,
    speakers: &Speakers<'_>,
    findings: &mut Findings,
) {
    let told = contradictions_of(said);
    for found in contradictions_of(policy) {
        let severity = match found {
            Contradiction::NoTryLimit if speakers.rule_says("retry") => continue,
            Contradiction::NoTryLimit if said.retry.is_some() => Severity::Error,
            _ if told.contains(&found) => continue,
            _ => Severity::Warning,
        };
        findings.push(found.tell(speakers, severity));
    }
}

/// Of a port of a service, by all policies about it.
pub(super) fn tell_of_port(policy: &RoutePolicy, speakers: &Speakers<'_>, findings: &mut Findings) {
    for found in contradictions_of(policy) {
        findings.push(found.tell(speakers, Severity::Error));
    }
}

/// A retry that nothing of a rule's requests can lead to: none may be repeated once it was seen.
pub(super) fn tell_of_retry(
    policy: &RoutePolicy,
    matches: &[RouteMatch],
    speakers: &Speakers<'_>,
    severity: Severity,
    findings: &mut Findings,
) {
    let retry = policy.retry.as_deref();
    let Some(retry) = retry.filter(|retry| retry.attempts > 0 && !retry.non_idempotent) else {
        return;
    };
    let is_repeatable = |of: &RouteMatch| {
        of.method.as_deref().is_none_or(|method| IDEMPOTENT_METHODS.contains(&method))
    };
    if matches.iter().any(is_repeatable) {
        return;
    }
    let codes = "retry.codes";
    let (path, message) = match (speakers.rule_says(codes), retry.on.connect_failure) {
        (true, _) => (
            format!("{}.{codes}", speakers.path),
            "the requests of this rule are not repeated after an answer",
        ),
        (false, true) => return,
        (false, false) => {
            (speakers.path.clone(), "nothing of this rule's requests can lead to another try")
        }
    };
    let help = "their methods may have acted already; say `nonIdempotent: true` in `retry` of a \
                TrafficPolicy, or leave it";
    let mut found = with_severity(severity, message, speakers.declared.place_of(&path));
    if let Some(place) = speakers.place_of("retry").filter(|_| !speakers.rule_says("retry")) {
        found = found.with_related(place, "by this policy");
    }
    findings.push(found.with_help(help));
}

/// A breaker whose fallback is where the requests go that it holds off. A subset is another cluster than the
/// whole.
pub(super) fn tell_of_fallback(
    policy: &RoutePolicy,
    action: &Action,
    speakers: &Speakers<'_>,
    severity: Severity,
    findings: &mut Findings,
) {
    let breaker = policy.circuit_breaker.as_deref();
    let Some(Fallback::Backend(fallback)) = breaker.and_then(|of| of.fallback.as_ref()) else {
        return;
    };
    let Action::Forward(backends) = action else { return };
    let mut used = backends.iter().filter(|backend| backend.weight > 0);
    if !used.all(|backend| backend.cluster == Some(*fallback)) {
        return;
    }
    let message =
        "the fallback is the only backend of this rule, whose requests are not let through";
    let place = speakers.place_of("circuitBreaker.fallback.backendRef.name");
    let place = place.unwrap_or_else(|| speakers.place());
    let backends = speakers.declared.place_of(&format!("{}.backendRefs", speakers.path));
    findings.push(
        with_severity(severity, message, place)
            .with_related(backends, "this rule's requests")
            .with_help("name another Service, or another port"),
    );
}

fn contradictions_of(policy: &RoutePolicy) -> Vec<Contradiction> {
    let request_ms = policy.request_timeout_ms.filter(|&limit_ms| limit_ms > 0);
    let try_ms = policy.backend_request_timeout_ms.filter(|&limit_ms| limit_ms > 0);
    let hedge_ms = match policy.hedging {
        Some(HedgeAfter::DelayMs(delay_ms)) => Some(delay_ms),
        Some(HedgeAfter::Percentile(_)) | None => None,
    };
    let delay_ms = policy.faults.as_ref().and_then(|faults| faults.delay).map(|of| of.delay_ms);
    let is_late = |after: Option<u32>, limit: Option<u32>| {
        after.zip(limit).is_some_and(|(after_ms, limit_ms)| after_ms >= limit_ms)
    };
    let waits_for_try =
        |retry: &Retry| retry.attempts > 0 && retry.on.per_try_timeout && try_ms.is_none();
    let all = [
        (is_late(hedge_ms, request_ms), Contradiction::HedgeAfterRequest),
        (is_late(hedge_ms, try_ms), Contradiction::HedgeAfterTry),
        (is_late(delay_ms, request_ms), Contradiction::DelayAfterRequest),
        (policy.retry.as_deref().is_some_and(waits_for_try), Contradiction::NoTryLimit),
    ];
    all.into_iter().filter_map(|(is_so, found)| is_so.then_some(found)).collect()
}

impl Contradiction {
    fn tell(self, speakers: &Speakers<'_>, severity: Severity) -> Diagnostic {
        let (field, limit) = match self {
            Self::HedgeAfterRequest => ("hedging.delay", "request"),
            Self::HedgeAfterTry => ("hedging.delay", "backendRequest"),
            Self::DelayAfterRequest => ("faults.delay.duration", "request"),
            Self::NoTryLimit => return no_try_limit(speakers, severity),
        };
        let (_, name) = field.rsplit_once('.').unwrap_or(("", field));
        let message =
            format!("`{name}` must be shorter than `timeouts.{limit}`: the request is over then");
        let place = speakers.place_of(field).unwrap_or_else(|| speakers.place());
        let mut diagnostic = with_severity(severity, message, place).with_label("this");
        if let Some(place) = speakers.place_of_limit(limit) {
            diagnostic = diagnostic.with_related(place, "and this");
        }
        if severity == Severity::Error {
            return diagnostic;
        }
        let effect = match self {
            Self::DelayAfterRequest => "those of these requests that are delayed are answered 504",
            _ => "it never acts on these requests",
        };
        diagnostic.with_help(format!("{effect}; a TrafficPolicy of their route can say otherwise"))
    }
}

fn no_try_limit(speakers: &Speakers<'_>, severity: Severity) -> Diagnostic {
    let message = "there is no limit for a single try that could pass";
    let place = speakers.policies.iter().find_map(|policy| {
        let Object::TrafficPolicy(spec) = &policy.object else { return None };
        let on = spec.retry.as_ref()?.on.as_ref()?;
        let index = on.iter().position(|on| *on == RetryCondition::PerTryTimeout)?;
        Some(policy.place_of(&format!("spec.retry.on[{index}]")))
    });
    let at = speakers.place();
    let diagnostic = with_severity(severity, message, place.unwrap_or_else(|| at.clone()));
    let help = "give the policy `timeouts.backendRequest`";
    diagnostic.with_related(at, "for these requests").with_help(help)
}

fn with_severity(severity: Severity, message: impl Into<String>, place: Place) -> Diagnostic {
    match severity {
        Severity::Error => Diagnostic::error(message, place),
        Severity::Warning => Diagnostic::warning(message, place),
    }
}

impl Speakers<'_> {
    /// Of what they speak about.
    fn place(&self) -> Place {
        self.declared.place_of(&self.path)
    }

    /// Of a field of the first policy that has it.
    fn place_of(&self, field: &str) -> Option<Place> {
        let path = format!("spec.{field}");
        let says = |policy: &&&Declared| policy.node_at(&path).is_some();
        self.policies.iter().find(says).map(|policy| policy.place_of(&path))
    }

    /// Of a limit, which a rule says itself too.
    fn place_of_limit(&self, limit: &str) -> Option<Place> {
        let field = format!("timeouts.{limit}");
        match self.rule_says(&field) {
            true => Some(self.declared.place_of(&format!("{}.{field}", self.path))),
            false => self.place_of(&field),
        }
    }

    /// Whether the rule itself has a field. Its `retry` is one after too long a try always (GEP-1731).
    fn rule_says(&self, field: &str) -> bool {
        self.declared.node_at(&format!("{}.{field}", self.path)).is_some()
    }
}
