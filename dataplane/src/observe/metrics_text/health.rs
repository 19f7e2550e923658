//! The scrape's part about endpoints that are out of service.

use std::fmt::Error;

use crate::decide::breaker::Stage;
use crate::decide::outlier::Cause;
use crate::observe::metrics::health::Readmission;
use crate::observe::metrics_text::Page;

impl Page<'_, '_> {
    pub(super) fn breakers(&mut self) -> Result<(), Error> {
        let health = &self.metrics.health;
        let transitions = Stage::ALL.map(|stage| {
            ([("to", stage.as_str())], health.breaker_transitions[stage as usize].value())
        });
        self.counters("breaker_transitions", "Circuit breakers that changed", transitions)?;
        let open = health.breakers_open.value();
        self.gauges("breakers_open", "Circuit breakers that are not closed", [([], open)])?;
        let forced = [
            ([("to", "open")], health.forced_open.value()),
            ([("to", "closed")], health.forced_closed.value()),
        ];
        let help = "Routes whose circuit breaker is open or closed by a policy or by order";
        self.gauges("breakers_forced", help, forced)?;
        let rejected = self.sum(|worker| worker.breaker.rejected.value());
        self.counter("breaker_rejected", "Requests that no breaker let through", rejected)?;
        let fallback = [
            ([("to", "response")], self.sum(|worker| worker.breaker.fallback_response.value())),
            ([("to", "backend")], self.sum(|worker| worker.breaker.fallback_backend.value())),
        ];
        self.counters("breaker_fallback", "Those that a fallback answered, by which", fallback)?;
        let probes = self.sum(|worker| worker.breaker.probes.value());
        self.counter("breaker_probes", "Requests let through to see how they end", probes)
    }

    pub(super) fn health(&mut self) -> Result<(), Error> {
        let health = &self.metrics.health;
        let ejections = Cause::ALL
            .map(|cause| ([("cause", cause.as_str())], health.ejections[cause as usize].value()));
        self.counters("ejections", "Endpoints ejected, by cause", ejections)?;
        let help = "Endpoints that were not ejected, because too few would be left";
        self.counter("ejections_declined", help, health.ejections_declined.value())?;
        let readmissions = Readmission::ALL
            .map(|how| ([("by", how.as_str())], health.readmissions[how as usize].value()));
        self.counters("readmissions", "Ejected endpoints that came back, by what", readmissions)?;
        self.gauges("endpoints_ejected", "Endpoints ejected now", [([], health.ejected.value())])?;
        let ordered_out = health.ordered_out.value();
        let help = "Endpoints that get no requests by an operator's order";
        self.gauges("endpoints_ordered_out", help, [([], ordered_out)])?;
        let checks = [
            ([("result", "pass")], health.checks_passed.value()),
            ([("result", "fail")], health.checks_failed.value()),
        ];
        self.counters("health_checks", "Health checks that ended, by result", checks)?;
        let changes = [
            ([("to", "healthy")], health.became_well.value()),
            ([("to", "unhealthy")], health.became_ill.value()),
        ];
        self.counters("health_changes", "Endpoints that became healthy or unhealthy", changes)?;
        let help = "Checked endpoints that do not pass";
        self.gauges("endpoints_unhealthy", help, [([], health.ill.value())])
    }
}
