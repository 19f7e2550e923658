//! The health thread's part in breakers: it alone says where each stands.
//!
//! Before: workers told that too many requests failed, or how a probe ended; or a time is over. After: the
//! route's board says where its breaker stands. What follows from what is decided in `decide::breaker`.

use std::collections::HashMap;
use std::sync::Arc;

use lateen_snapshot::model::Route;
use lateen_snapshot::model::breaker::CircuitBreaker;

use crate::breaker::Standing;
use crate::decide::breaker::{Event, Stage, after, lasts_ms};
use crate::health::board::BreakerNotice;
use crate::health::thread::{Desktop, Due};
use crate::totals::RouteTotals;

/// The breakers that are not closed, by the names of their routes.
#[derive(Debug, Default)]
pub(super) struct Breaking(HashMap<Arc<str>, (Arc<RouteTotals>, CircuitBreaker)>);

impl Breaking {
    /// A worker tells of something.
    pub(super) fn hear(&mut self, top: &mut Desktop, notice: BreakerNotice) {
        let BreakerNotice { name, totals, rule, turn, event } = notice;
        if totals.breaker.standing().turn == turn {
            self.happen(top, &name, &totals, rule, event);
        }
    }

    /// The time of a turn is over.
    pub(super) fn elapsed(&mut self, top: &mut Desktop, name: &Arc<str>, turn: u64) {
        let Some((totals, rule)) = self.0.get(name).cloned() else { return };
        if totals.breaker.standing().turn == turn {
            self.happen(top, name, &totals, rule, Event::Elapsed);
        }
    }

    fn happen(
        &mut self,
        top: &mut Desktop,
        name: &Arc<str>,
        totals: &Arc<RouteTotals>,
        rule: CircuitBreaker,
        event: Event,
    ) {
        let board = &totals.breaker;
        let Some((stage, lasts_ms)) = after(&rule, board.standing().stage, event) else { return };
        let Standing { turn, .. } = board.move_to(stage);
        tracing::info!(route = %name, stage = stage.as_str(), "circuit breaker");
        if let Some(lasts_ms) = lasts_ms {
            top.set_timer(name, u64::from(lasts_ms) * 1_000_000, Due::Breaker(turn));
        }
        match stage {
            Stage::Closed => drop(self.0.remove(name)),
            _ => drop(self.0.insert(name.clone(), (totals.clone(), rule))),
        }
        let health = &top.metrics.health;
        health.breakers_open.set(self.0.len() as i64);
        health.breaker_transitions[stage as usize].increment();
    }

    /// Goes on by the rules of a new snapshot: where one has changed, what is left of a stage is counted
    /// anew. Forgets those that it has not: they are closed if they come again.
    pub(super) fn tidy(&mut self, top: &mut Desktop, routes: &[Route]) {
        if self.0.is_empty() {
            return;
        }
        // A rule that is attached in several places is a route in each of them, all of one name.
        let mut there: HashMap<&str, Vec<&CircuitBreaker>> = HashMap::new();
        for route in routes {
            if let Some(rule) = route.policy.circuit_breaker.as_deref()
                && self.0.contains_key(route.name.as_str())
            {
                there.entry(&route.name).or_default().push(rule);
            }
        }
        self.0.retain(|name, (totals, rule)| {
            let Some(rules) = there.get(&**name) else {
                totals.breaker.move_to(Stage::Closed);
                return false;
            };
            if rules.contains(&&*rule) {
                return true;
            }
            let new = rules[0];
            let stage = totals.breaker.standing().stage;
            let (before_ms, after_ms) = (lasts_ms(rule, stage), lasts_ms(new, stage));
            *rule = new.clone();
            if let Some(after_ms) = after_ms.filter(|_| after_ms != before_ms) {
                let Standing { turn, .. } = totals.breaker.move_to(stage);
                top.set_timer(name, u64::from(after_ms) * 1_000_000, Due::Breaker(turn));
            }
            true
        });
        top.metrics.health.breakers_open.set(self.0.len() as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Metrics;
    use crate::testing::{breaker_rule, route};
    use lateen_snapshot::model::Action;

    #[test]
    fn what_comes_too_late_changes_nothing() {
        let rule = breaker_rule();
        let (totals, name): (Arc<RouteTotals>, Arc<str>) = (Arc::default(), "r".into());
        let metrics = Metrics::new(1);
        let mut top = Desktop::new(metrics.clone());
        let mut breaking = Breaking::default();
        let mut tell = |turn, event| {
            let (name, totals, rule) = (name.clone(), totals.clone(), rule.clone());
            let notice = BreakerNotice { name, totals: totals.clone(), rule, turn, event };
            match event {
                Event::Elapsed => breaking.elapsed(&mut top, &notice.name, turn),
                _ => breaking.hear(&mut top, notice),
            }
            let Standing { stage, turn } = totals.breaker.standing();
            (stage, turn)
        };
        assert_eq!(tell(0, Event::Tripped), (Stage::Open, 1));
        assert_eq!(tell(0, Event::Tripped), (Stage::Open, 1));
        assert_eq!(tell(1, Event::Elapsed), (Stage::HalfOpen, 2));
        assert_eq!(tell(2, Event::Abandoned), (Stage::HalfOpen, 3));
        assert_eq!(tell(2, Event::Disproven), (Stage::HalfOpen, 3));
        assert_eq!(tell(3, Event::Proven), (Stage::Ramp, 4));
        assert_eq!(tell(1, Event::Elapsed), (Stage::Ramp, 4));
        assert_eq!(tell(4, Event::Elapsed), (Stage::Closed, 5));
        assert_eq!(metrics.health.breakers_open.value(), 0);
        // An open one whose route goes is closed when it comes again.
        assert_eq!(tell(5, Event::Tripped), (Stage::Open, 6));
        breaking.tidy(&mut top, &[]);
        assert_eq!(totals.breaker.standing().stage, Stage::Closed);
        assert_eq!(top.metrics.health.breakers_open.value(), 0);
        let transitions = top.metrics.health.breaker_transitions.each_ref();
        assert_eq!(transitions.map(|it| it.value()), [1, 2, 2, 1]);
    }

    #[test]
    fn a_rule_that_changes_acts_at_once() {
        let (totals, name): (Arc<RouteTotals>, Arc<str>) = (Arc::default(), "route".into());
        let mut top = Desktop::new(Metrics::new(1));
        let mut breaking = Breaking::default();
        let (rule, event) = (breaker_rule(), Event::Tripped);
        breaking.hear(
            &mut top,
            BreakerNotice { name: name.clone(), totals: totals.clone(), rule, turn: 0, event },
        );
        let with_sleep = |sleep_ms| {
            let mut route = route(Action::Respond(500));
            let rule = CircuitBreaker { sleep_ms, ..breaker_rule() };
            route.policy.circuit_breaker = Some(Box::new(rule));
            route
        };
        let standing = || (totals.breaker.standing().stage, totals.breaker.standing().turn);
        breaking.tidy(&mut top, &[with_sleep(breaker_rule().sleep_ms)]);
        assert_eq!(standing(), (Stage::Open, 1), "it is the same");
        breaking.tidy(&mut top, &[with_sleep(1), with_sleep(breaker_rule().sleep_ms)]);
        assert_eq!(standing(), (Stage::Open, 1), "it is one of those of its name");
        breaking.tidy(&mut top, &[with_sleep(1)]);
        assert_eq!(standing(), (Stage::Open, 2));
        breaking.elapsed(&mut top, &name, 1);
        assert_eq!(standing(), (Stage::Open, 2), "the old time means nothing");
        breaking.elapsed(&mut top, &name, 2);
        assert_eq!(standing(), (Stage::HalfOpen, 3));
    }
}
