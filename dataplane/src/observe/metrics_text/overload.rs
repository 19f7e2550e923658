//! The scrape's part about who was turned away.

use std::fmt::Error;

use crate::observe::metrics::overload::{PRIORITIES, ShedCause};
use crate::observe::metrics_text::Page;

impl Page<'_, '_> {
    pub(super) fn overload(&mut self) -> Result<(), Error> {
        let mut shed = Vec::new();
        for cause in ShedCause::ALL {
            for (priority, label) in PRIORITIES {
                let count = self.sum(|worker| worker.overload.shed(cause, priority).value());
                shed.push(([("cause", cause.as_str()), ("priority", label)], count));
            }
        }
        self.counters("overload_shed", "Who was turned away so that others are answered", shed)?;
        let limits = self.metrics.overload.limits();
        let limits = limits
            .iter()
            .map(|(cluster, limit)| ([("cluster", cluster.as_str())], i64::from(*limit)));
        let help = "Requests at a time that a service is found to work on";
        self.gauges("overload_concurrency_limit", help, limits)?;
        let lagging = self.metrics.workers().map(|worker| worker.overload.lagging.value()).sum();
        let levels = self.metrics.overload.pressure.levels();
        let active = [
            ([("cause", "lag")], lagging),
            ([("cause", "memory")], levels.memory as i64),
            ([("cause", "descriptors")], levels.descriptors as i64),
        ];
        let help = "Workers that can't keep up; or 1: little is left, 2: next to nothing";
        self.gauges("overload_active", help, active)?;
        let held = self.sum(|worker| worker.overload.held.value());
        self.counter("overload_held", "Requests that waited for a worker to keep up", held)?;
        let paused = self.sum(|worker| worker.overload.accept_paused.value());
        self.counter("overload_accept_paused", "Times that a listener let nobody in", paused)
    }
}
