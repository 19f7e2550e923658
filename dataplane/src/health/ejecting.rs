//! The health thread's part in ejecting endpoints: from notices to verdicts, and back.
//!
//! Before: a worker saw an endpoint fail, or an interval is over. After: the cluster's board says who is
//! ejected. Whether and for how long is decided in `decide::outlier`; here it is carried out.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use lateen_snapshot::model::Endpoint;
use lateen_snapshot::model::outlier::OutlierDetection;

use crate::decide::outlier::sweep::{Counts, sweep};
use crate::decide::outlier::{Cause, Census, Ejections, Runs, Verdict};
use crate::health::board::Counted;
use crate::health::probe::{Found, What};
use crate::health::thread::{Desktop, Due, Purpose, Ward};
use crate::limits;
use crate::observe::metrics::health::Readmission;

/// What is held of a cluster's ejections.
#[derive(Debug, Default)]
pub(super) struct Ejecting {
    ejections: Ejections<SocketAddr>,
    /// Connects to ejected endpoints that were made or begun, of those that are connected to at all.
    reconnects: HashMap<SocketAddr, Reconnects>,
    /// When the next return is looked after, if that is due.
    return_ns: Option<u64>,
    /// What was counted up to the last comparison.
    counted: HashMap<SocketAddr, Counted>,
    /// Another comparison is to come: there was traffic since.
    compares: bool,
    /// What tells the comparison that is to come from others.
    sweep: u64,
}

/// Connects to one ejected endpoint.
#[derive(Clone, Copy, Debug)]
struct Reconnects {
    /// What tells them from those of an earlier ejection.
    number: u64,
    count: u32,
}

impl Ward {
    fn detection(&self) -> OutlierDetection {
        self.spec.policy.outlier.as_deref().cloned().unwrap_or_default()
    }

    /// Whether something is held of it, or to come.
    pub(super) fn is_needed(&self) -> bool {
        let Ejecting { ejections, counted, compares, .. } = &self.ejecting;
        !ejections.is_empty() || *compares || !counted.is_empty() || self.is_checked()
    }

    /// A worker says that an endpoint has failed often enough.
    pub(super) fn endpoint_fails(&mut self, top: &mut Desktop, address: SocketAddr) {
        let Some(seen) = self.totals.health.seen_if_any(address) else { return };
        let (runs, on_trial) = seen.sum();
        match runs.cause(&self.detection(), on_trial) {
            Some(cause) => self.eject(top, address, cause, runs),
            // It has answered since.
            None => seen.forget_told(),
        }
    }

    /// Ejects an endpoint, if that may be; `runs`: what it did last, in a row.
    fn eject(&mut self, top: &mut Desktop, address: SocketAddr, cause: Cause, runs: Runs) {
        if !self.spec.endpoints.iter().any(|endpoint| endpoint.address == address) {
            // A worker may know of it before this thread does.
            if let Some(seen) = self.totals.health.seen_if_any(address) {
                seen.forget_told();
            }
            return;
        }
        let detection = self.detection();
        let endpoints = self.spec.endpoints.len();
        let in_service = endpoints.saturating_sub(self.out_of_service());
        let census = Census { endpoints, in_service };
        let waits = runs.is_refused_for(cause);
        let ejections = &mut self.ejecting.ejections;
        match ejections.eject(&detection, address, census, waits, top.now_ns) {
            Verdict::Ejected => {}
            Verdict::Declined => return top.metrics.health.ejections_declined.increment(),
            Verdict::Already => return,
        }
        tracing::info!(cluster = %self.name, %address, cause = cause.as_str(), "endpoint ejected");
        if runs.local > 0 {
            // Who reset may have gone: then it refuses, and is back when it does not.
            let number = top.number();
            self.ejecting.reconnects.insert(address, Reconnects { number, count: 0 });
            let after_ns = if waits { limits::REPROBE_AFTER.as_nanos() as u64 } else { 0 };
            top.set_timer(&self.name, after_ns, Due::Reconnect(address, number));
        }
        self.publish();
        // Who sees it counted may rely on it.
        top.metrics.health.ejections[cause as usize].increment();
        top.metrics.health.ejected.increment();
        self.await_return(top);
    }

    /// Endpoints that get no requests, for whatever reason.
    fn out_of_service(&self) -> usize {
        let ordered_out = &self.spec.policy.ordered_out;
        let endpoints = self.spec.endpoints.iter().zip(0..);
        let is_out = |(endpoint, at): &(&Endpoint, u32)| {
            ordered_out.binary_search(at).is_ok()
                || self.ejecting.ejections.is_out(endpoint.address)
                || self.is_ill(endpoint.address)
        };
        endpoints.filter(is_out).count()
    }

    fn publish(&self) {
        let ejected = self.ejecting.ejections.out();
        self.totals.health.decide(|verdicts| verdicts.ejected = ejected);
    }

    fn await_return(&mut self, top: &mut Desktop) {
        let next = self.ejecting.ejections.next_ns();
        let is_new = |next_ns: &u64| self.ejecting.return_ns.is_none_or(|set| *next_ns < set);
        if let Some(next_ns) = next.filter(is_new) {
            self.ejecting.return_ns = Some(next_ns);
            let after_ns = next_ns.saturating_sub(top.now_ns);
            top.set_timer(&self.name, after_ns, Due::Return);
        }
    }

    /// The time of some ejections is over.
    pub(super) fn end_ejections(&mut self, top: &mut Desktop) {
        self.ejecting.return_ns = None;
        for address in self.ejecting.ejections.due(top.now_ns) {
            self.bring_back(top, address, Readmission::Time);
        }
        self.await_return(top);
    }

    fn bring_back(&mut self, top: &mut Desktop, address: SocketAddr, how: Readmission) {
        if !self.ejecting.ejections.bring_back(address, top.now_ns) {
            return;
        }
        self.ejecting.reconnects.remove(&address);
        tracing::info!(cluster = %self.name, %address, by = how.as_str(), "endpoint back");
        // Before it gets requests: what they say is the first that counts.
        if let Some(seen) = self.totals.health.seen_if_any(address) {
            seen.come_back();
        }
        self.publish();
        top.metrics.health.readmissions[how as usize].increment();
        top.metrics.health.ejected.decrement();
    }

    /// Connects to an ejected endpoint.
    pub(super) fn reconnect(&mut self, top: &mut Desktop, address: SocketAddr, number: u64) {
        let known = self.ejecting.reconnects.get_mut(&address);
        let Some(known) = known.filter(|known| known.number == number) else { return };
        known.count = known.count.saturating_add(1);
        let timeout_ns = limits::REPROBE_AFTER.as_nanos() as u64;
        let purpose = (Purpose::Reconnect(number), What::Connect);
        top.probe(&self.name, address, purpose, timeout_ns);
    }

    /// It was connected to.
    pub(super) fn reconnected(
        &mut self,
        top: &mut Desktop,
        address: SocketAddr,
        number: u64,
        found: Found,
    ) {
        let ejections = &mut self.ejecting.ejections;
        let known = self.ejecting.reconnects.get(&address).copied();
        let Some(Reconnects { count, .. }) = known.filter(|known| known.number == number) else {
            return;
        };
        if !ejections.is_out(address) {
            return;
        }
        match found {
            Found::Connected if ejections.waits_for_connect(address) => {
                return self.bring_back(top, address, Readmission::Connect);
            }
            // It was ejected for resets, and takes connections: time brings it back.
            Found::Connected | Found::Status(_) | Found::Untried => {}
            Found::Refused | Found::Broken | Found::TimedOut => ejections.wait_for_connect(address),
        }
        let after = limits::REPROBE_AFTER.saturating_mul(count).min(limits::REPROBE_AFTER_MOST);
        top.set_timer(&self.name, after.as_nanos() as u64, Due::Reconnect(address, number));
    }

    /// There is traffic: endpoints are compared after an interval, by what comes after the last comparison.
    /// Before the first, that is all there is: the request that told of it counts.
    pub(super) fn begin_comparing(&mut self, top: &mut Desktop) {
        if !self.ejecting.compares {
            self.totals.health.set_compared(true);
            self.ejecting.compares = true;
            self.await_sweep(top);
        }
    }

    fn await_sweep(&mut self, top: &mut Desktop) {
        self.ejecting.sweep = top.number();
        let after_ns = u64::from(self.detection().interval_ms) * 1_000_000;
        top.set_timer(&self.name, after_ns, Due::Sweep(self.ejecting.sweep));
    }

    fn ejecting_counted(&self) -> HashMap<SocketAddr, Counted> {
        let addresses = self.spec.endpoints.iter().map(|endpoint| endpoint.address);
        let counted = addresses.filter_map(|address| {
            Some((address, self.totals.health.seen_if_any(address)?.counted()))
        });
        counted.collect()
    }

    /// An interval is over: endpoints that stand out are ejected.
    pub(super) fn compare(&mut self, top: &mut Desktop, sweep_number: u64) {
        if !self.ejecting.compares || self.ejecting.sweep != sweep_number {
            return;
        }
        let detection = self.detection();
        let now = self.ejecting_counted();
        let before = std::mem::take(&mut self.ejecting.counted);
        let nothing = Counted::default();
        let in_service = now.iter().filter(|(at, _)| !self.ejecting.ejections.is_out(**at));
        let (addresses, counts): (Vec<SocketAddr>, Vec<Counts>) = in_service
            .map(|(at, counted)| (*at, counted.since(before.get(at).unwrap_or(&nothing))))
            .unzip();
        self.ejecting.counted = now;
        for (index, cause) in sweep(&detection, &counts) {
            self.eject(top, addresses[index], cause, Runs::default());
        }
        if counts.iter().all(|of| of.tries == 0) || !detection.compares() {
            // Nobody calls: whoever does next tells of it.
            self.ejecting.compares = false;
            self.totals.health.set_compared(false);
        } else {
            self.await_sweep(top);
        }
    }

    /// Another snapshot has other endpoints, or not even the cluster.
    pub(super) fn ejecting_tidy(&mut self, top: &mut Desktop, is_there: bool) {
        let detection = self.detection();
        if !is_there {
            // Where it comes again its traffic is told of anew.
            self.ejecting.compares = false;
            self.totals.health.set_compared(false);
        }
        let there: HashSet<SocketAddr> =
            self.spec.endpoints.iter().map(|endpoint| endpoint.address).collect();
        let Ejecting { ejections, reconnects, counted, .. } = &mut self.ejecting;
        let out_before = ejections.out_count();
        let is_known = |address| is_there && there.contains(&address);
        counted.retain(|address, _| is_known(*address));
        if ejections.tidy(&detection, top.now_ns, is_known) {
            reconnects.retain(|address, _| ejections.is_out(*address));
            for _ in ejections.out_count()..out_before {
                top.metrics.health.ejected.decrement();
            }
            self.publish();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lateen_snapshot::model::Cluster;
    use lateen_snapshot::model::outlier::FailurePercentage;

    use super::*;
    use crate::decide::outlier::Ending;
    use crate::health::board::Seen;
    use crate::observe::metrics::Metrics;
    use crate::testing::clusters;
    use crate::totals::Totals;

    /// Three endpoints that are compared by their share of failures.
    fn compared() -> (Desktop, Ward, Vec<Arc<Seen>>) {
        let mut cluster = Cluster::clone(&clusters(&[("a", &[1, 2, 3])]).clusters[0]);
        let share = FailurePercentage { threshold: 85, request_volume: 50 };
        let detection = OutlierDetection { failure_percentage: Some(share), ..Default::default() };
        cluster.policy.outlier = Some(Box::new(detection));
        let totals = Totals::default().of_cluster("a");
        let seen = |endpoint: &Endpoint| totals.health.seen(endpoint.address, 1);
        let seen = cluster.endpoints.iter().map(seen).collect();
        (Desktop::new(Metrics::new(1)), Ward::new(&Arc::new(cluster), totals.clone()), seen)
    }

    fn tries(seen: &Seen, count: usize, ending: Ending) {
        (0..count).for_each(|_| seen.count(0, ending, None));
    }

    fn sweep_now(ward: &mut Ward, top: &mut Desktop) {
        ward.compare(top, ward.ejecting.sweep);
    }

    #[test]
    fn who_is_compared_again_after_a_pause_is_judged_by_what_came_since() {
        let (mut top, mut ward, seen) = compared();
        for of in &seen[1..] {
            tries(of, 100, Ending::Answered);
        }
        tries(&seen[0], 100, Ending::GatewayError);
        tries(&seen[0], 30, Ending::Answered);
        ward.begin_comparing(&mut top);
        sweep_now(&mut ward, &mut top);
        assert_eq!(ward.ejecting.ejections.out_count(), 0, "100 of 130 are too few");
        sweep_now(&mut ward, &mut top);
        assert!(!ward.ejecting.compares, "nobody called");
        assert!(ward.is_needed(), "what was counted is remembered");
        tries(&seen[0], 49, Ending::GatewayError);
        ward.begin_comparing(&mut top);
        sweep_now(&mut ward, &mut top);
        assert_eq!(ward.ejecting.ejections.out_count(), 0, "49 are too few");
        tries(&seen[0], 50, Ending::GatewayError);
        sweep_now(&mut ward, &mut top);
        assert!(ward.ejecting.ejections.is_out(ward.spec.endpoints[0].address));
    }

    #[test]
    fn an_interval_ends_once() {
        let (mut top, mut ward, seen) = compared();
        ward.begin_comparing(&mut top);
        let earlier = ward.ejecting.sweep;
        ward.ejecting_tidy(&mut top, false);
        ward.begin_comparing(&mut top);
        tries(&seen[0], 50, Ending::GatewayError);
        ward.compare(&mut top, earlier);
        assert_eq!(ward.ejecting.ejections.out_count(), 0, "that of before is over");
        sweep_now(&mut ward, &mut top);
        assert_eq!(ward.ejecting.ejections.out_count(), 1);
    }

    #[test]
    fn who_refuses_is_connected_to_again_whatever_limit_that_meets() {
        let (mut top, mut ward, seen) = compared();
        let mut spec = Cluster::clone(&ward.spec);
        let detection = spec.policy.outlier.as_mut().expect("it was set");
        detection.consecutive_gateway_errors = 3;
        ward.spec = Arc::new(spec);
        for _ in 0..3 {
            seen[0].note(0, Ending::ConnectFailed);
        }
        let address = ward.spec.endpoints[0].address;
        ward.endpoint_fails(&mut top, address);
        assert!(ward.ejecting.ejections.waits_for_connect(address));
        assert_eq!(ward.ejecting.reconnects.len(), 1);
        let number = ward.ejecting.reconnects[&address].number;
        ward.reconnected(&mut top, address, number - 1, Found::Connected);
        assert!(ward.ejecting.ejections.is_out(address), "that was of an earlier ejection");
        ward.reconnected(&mut top, address, number, Found::Connected);
        assert!(!ward.ejecting.ejections.is_out(address));
    }
}
