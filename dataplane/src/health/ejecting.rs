//! The health thread's part in ejecting endpoints: from notices to verdicts, and back.
//!
//! Before: a worker saw an endpoint fail, or an interval is over. After: the cluster's board says who is
//! ejected. Whether and for how long is decided in `decide::outlier`; here it is carried out.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use lateen_snapshot::model::Endpoint;
use lateen_snapshot::model::outlier::OutlierDetection;

use crate::decide::outlier::sweep::{Counts, sweep};
use crate::decide::outlier::{Cause, Census, Ejections, Verdict};
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
    /// How many endpoints were connected to so far.
    reconnected: u64,
    /// When the next return is looked after, if that is due.
    return_ns: Option<u64>,
    /// What was counted up to the last comparison; `None`: nothing is compared at present.
    compared: Option<HashMap<SocketAddr, Counted>>,
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
        let Ejecting { ejections, compared, .. } = &self.ejecting;
        !ejections.is_empty() || compared.is_some() || self.is_checked()
    }

    /// A worker says that an endpoint has failed often enough.
    pub(super) fn endpoint_fails(&mut self, top: &mut Desktop, address: SocketAddr) {
        let Some(seen) = self.totals.health.seen_if_any(address) else { return };
        let (runs, on_trial) = seen.sum();
        match runs.cause(&self.detection(), on_trial) {
            Some(cause) => self.eject(top, address, cause, runs.refused > 0),
            // It has answered since.
            None => seen.set_told(false),
        }
    }

    fn eject(&mut self, top: &mut Desktop, address: SocketAddr, cause: Cause, refused: bool) {
        if !self.spec.endpoints.iter().any(|endpoint| endpoint.address == address) {
            return self.look_again(address);
        }
        let detection = self.detection();
        let endpoints = self.spec.endpoints.len();
        let in_service = endpoints.saturating_sub(self.out_of_service());
        let census = Census { endpoints, in_service };
        let waits = cause == Cause::LocalOrigin && refused;
        let ejections = &mut self.ejecting.ejections;
        match ejections.eject(&detection, address, census, waits, top.now_ns) {
            Verdict::Ejected => {}
            Verdict::Declined => {
                top.metrics.health.ejections_declined.increment();
                let after_ns = u64::from(detection.interval_ms) * 1_000_000;
                return top.set_timer(&self.name, after_ns, Due::Relook(address));
            }
            Verdict::Already => return,
        }
        tracing::info!(cluster = %self.name, %address, cause = cause.as_str(), "endpoint ejected");
        if cause == Cause::LocalOrigin {
            // Who reset may have gone: then it refuses, and is back when it does not.
            self.ejecting.reconnected += 1;
            let number = self.ejecting.reconnected;
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
        let purpose = (Purpose::Reconnect, What::Connect);
        top.probe(&self.name, address, purpose, timeout_ns);
    }

    /// It was connected to.
    pub(super) fn reconnected(&mut self, top: &mut Desktop, address: SocketAddr, found: Found) {
        let ejections = &mut self.ejecting.ejections;
        let known = self.ejecting.reconnects.get(&address).copied();
        let Some(Reconnects { number, count }) = known else { return };
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

    /// An endpoint that could not be ejected may be told of again.
    pub(super) fn look_again(&self, address: SocketAddr) {
        if !self.ejecting.ejections.is_out(address)
            && let Some(seen) = self.totals.health.seen_if_any(address)
        {
            seen.set_told(false);
        }
    }

    /// There is traffic: endpoints are compared after an interval.
    pub(super) fn begin_comparing(&mut self, top: &mut Desktop) {
        if self.ejecting.compared.is_none() {
            self.totals.health.set_compared(true);
            // The request that told of it counts.
            let nothing = self.ejecting_counted().into_keys().map(|at| (at, Counted::default()));
            self.ejecting.compared = Some(nothing.collect());
            self.await_sweep(top);
        }
    }

    fn await_sweep(&self, top: &mut Desktop) {
        let after_ns = u64::from(self.detection().interval_ms) * 1_000_000;
        top.set_timer(&self.name, after_ns, Due::Sweep);
    }

    fn ejecting_counted(&self) -> HashMap<SocketAddr, Counted> {
        let addresses = self.spec.endpoints.iter().map(|endpoint| endpoint.address);
        let counted = addresses.filter_map(|address| {
            Some((address, self.totals.health.seen_if_any(address)?.counted()))
        });
        counted.collect()
    }

    /// An interval is over: endpoints that stand out are ejected.
    pub(super) fn compare(&mut self, top: &mut Desktop) {
        let Some(before) = self.ejecting.compared.take() else { return };
        let detection = self.detection();
        let now = self.ejecting_counted();
        let nothing = Counted::default();
        let in_service = now.iter().filter(|(at, _)| !self.ejecting.ejections.is_out(**at));
        let (addresses, counts): (Vec<SocketAddr>, Vec<Counts>) = in_service
            .map(|(at, counted)| (*at, counted.since(before.get(at).unwrap_or(&nothing))))
            .unzip();
        for (index, cause) in sweep(&detection, &counts) {
            self.eject(top, addresses[index], cause, false);
        }
        if counts.iter().all(|of| of.tries == 0) || !detection.compares() {
            // Nobody calls: whoever does next tells of it.
            self.totals.health.set_compared(false);
        } else {
            self.ejecting.compared = Some(now);
            self.await_sweep(top);
        }
    }

    /// Another snapshot has other endpoints, or not even the cluster.
    pub(super) fn ejecting_tidy(&mut self, top: &mut Desktop, is_there: bool) {
        let detection = self.detection();
        if !is_there {
            // Where it comes again its traffic is told of anew.
            self.ejecting.compared = None;
            self.totals.health.set_compared(false);
        }
        let there: HashSet<SocketAddr> =
            self.spec.endpoints.iter().map(|endpoint| endpoint.address).collect();
        let Ejecting { ejections, reconnects, .. } = &mut self.ejecting;
        let out_before = ejections.out_count();
        let is_known = |address| is_there && there.contains(&address);
        if ejections.tidy(&detection, top.now_ns, is_known) {
            reconnects.retain(|address, _| ejections.is_out(*address));
            for _ in ejections.out_count()..out_before {
                top.metrics.health.ejected.decrement();
            }
            self.publish();
        }
    }
}
