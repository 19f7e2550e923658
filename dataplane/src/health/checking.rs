//! The health thread's part in checking endpoints: when each is asked, and what its answers come to.
//!
//! Before: a snapshot says that a cluster's endpoints are checked. After: the cluster's board says who is
//! well. What an answer comes to is decided in `decide::health_check`. What is known of an endpoint survives
//! snapshots that still have it, whatever else they change.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use lateen_snapshot::model::health_check::{HealthCheck, HttpProbe, Probe};
use lateen_snapshot::model::proxy_protocol::ProxyVersion;

use crate::codec::proxy_protocol::put_proxy_header;
use crate::decide::health_check::{Checked, until_next_ns};
use crate::health::probe::{Found, What};
use crate::health::thread::{Desktop, Due, Purpose, Ward};

/// What is held of a cluster's checks.
#[derive(Debug, Default)]
pub(super) struct Checking {
    /// How they are made; `None`: they are not.
    rule: Option<HealthCheck>,
    endpoints: HashMap<SocketAddr, Endpoint>,
}

#[derive(Debug, Default)]
struct Endpoint {
    checked: Checked,
    /// Of the check that is due or under way: what belongs to another one came too late.
    number: u64,
}

impl Ward {
    /// Whether its endpoints are checked.
    pub(super) const fn is_checked(&self) -> bool {
        self.checking.rule.is_some()
    }

    /// Whether an endpoint is checked, and gets no requests for what was found.
    pub(super) fn is_ill(&self, address: SocketAddr) -> bool {
        let is_well = |of: &Endpoint| of.checked.is_well();
        self.is_checked() && !self.checking.endpoints.get(&address).is_some_and(is_well)
    }

    fn ill_count(&self) -> usize {
        self.checking.endpoints.values().filter(|of| !of.checked.is_well()).count()
    }

    /// A snapshot says how endpoints are checked, and which; or has not even the cluster.
    pub(super) fn check_as_told(&mut self, top: &mut Desktop, is_there: bool) {
        let rule = self.spec.policy.health_check.as_deref().filter(|_| is_there).cloned();
        if rule.is_none() && !self.is_checked() {
            return;
        }
        let ill_before = self.ill_count();
        let is_other = rule != self.checking.rule;
        let is_asked = rule.is_some();
        self.checking.rule = rule;
        let addresses = self.spec.endpoints.iter().map(|endpoint| endpoint.address);
        let there: HashSet<SocketAddr> = addresses.filter(|_| is_asked).collect();
        let endpoints = &mut self.checking.endpoints;
        endpoints.retain(|address, _| there.contains(address));
        for address in there {
            let is_new = !endpoints.contains_key(&address);
            let endpoint = endpoints.entry(address).or_default();
            if is_new || is_other {
                endpoint.number = top.number();
                top.set_timer(&self.name, 0, Due::Check(address, endpoint.number));
            }
        }
        self.tell(top, ill_before);
    }

    /// Puts what is known on the board.
    fn tell(&self, top: &Desktop, ill_before: usize) {
        let well = self.is_checked().then(|| {
            let well = self.checking.endpoints.iter().filter(|(_, of)| of.checked.is_well());
            let mut well: Vec<SocketAddr> = well.map(|(address, _)| *address).collect();
            well.sort_unstable();
            well
        });
        self.totals.health.decide(|verdicts| verdicts.well = well);
        let ill = &top.metrics.health.ill;
        ill.set(ill.value() + self.ill_count() as i64 - ill_before as i64);
    }

    /// Asks an endpoint.
    pub(super) fn check(&self, top: &mut Desktop, address: SocketAddr, number: u64) {
        let Some(rule) = &self.checking.rule else { return };
        if self.checking.endpoints.get(&address).is_none_or(|of| of.number != number) {
            return;
        }
        let what = match &rule.probe {
            Probe::Tcp => What::Connect,
            Probe::Http(probe) => {
                What::Http(request(probe, address, self.spec.policy.proxy_protocol))
            }
        };
        let timeout_ns = u64::from(rule.timeout_ms) * 1_000_000;
        top.probe(&self.name, address, (Purpose::Check(number), what), timeout_ns);
    }

    /// It answered, or did not.
    pub(super) fn checked(
        &mut self,
        top: &mut Desktop,
        address: SocketAddr,
        number: u64,
        found: Found,
    ) {
        let Checking { rule: Some(rule), endpoints } = &mut self.checking else { return };
        let Some(endpoint) = endpoints.get_mut(&address).filter(|of| of.number == number) else {
            return;
        };
        top.set_timer(&self.name, until_next_ns(rule, top.random()), Due::Check(address, number));
        let Some(has_passed) = has_passed(&rule.probe, found) else { return };
        let health = &top.metrics.health;
        if has_passed { &health.checks_passed } else { &health.checks_failed }.increment();
        if !endpoint.checked.note(rule, has_passed) {
            return;
        }
        let is_well = endpoint.checked.is_well();
        tracing::info!(cluster = %self.name, %address, is_well, ?found, "endpoint's health changed");
        // Not counted before: most checks change nothing, and there may be very many.
        let ill_now = self.ill_count();
        self.tell(top, if is_well { ill_now + 1 } else { ill_now - 1 });
        let health = &top.metrics.health;
        if is_well { &health.became_well } else { &health.became_ill }.increment();
    }
}

/// `None`: it says nothing.
fn has_passed(probe: &Probe, found: Found) -> Option<bool> {
    match (probe, found) {
        (_, Found::Untried) => None,
        (Probe::Tcp, found) => Some(found == Found::Connected),
        (Probe::Http(probe), Found::Status(status)) => {
            Some(probe.statuses.iter().any(|(from, to)| (*from..=*to).contains(&status)))
        }
        (Probe::Http(_), _) => Some(false),
    }
}

fn request(probe: &HttpProbe, address: SocketAddr, version: Option<ProxyVersion>) -> Arc<[u8]> {
    let host = probe.host.clone().unwrap_or_else(|| address.to_string());
    let path = &probe.path;
    let text = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: lateen-health-check\r\n\
         Connection: close\r\n\r\n"
    );
    let mut bytes = Vec::new();
    if let Some(version) = version {
        put_proxy_header(version, None, &mut bytes);
    }
    bytes.extend_from_slice(text.as_bytes());
    Arc::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::clusters;
    use crate::totals::Totals;
    use lateen_snapshot::model::{Cluster, Snapshot};

    fn checked_cluster(endpoints: &[u8], interval_ms: u32) -> Arc<Cluster> {
        let Snapshot { clusters, .. } = clusters(&[("a", endpoints)]);
        let mut cluster = Cluster::clone(&clusters[0]);
        cluster.policy.health_check = Some(Box::new(HealthCheck {
            probe: Probe::Tcp,
            interval_ms,
            timeout_ms: 1_000,
            unhealthy_threshold: 2,
            healthy_threshold: 1,
        }));
        Arc::new(cluster)
    }

    fn told(ward: &Ward) -> Option<Vec<SocketAddr>> {
        ward.totals.health.verdicts().well.clone()
    }

    #[test]
    fn what_is_known_of_an_endpoint_survives_snapshots() {
        let at = |last: u8| SocketAddr::from(([10, 0, 1, last], 80));
        let mut top = Desktop::new(crate::observe::metrics::Metrics::new(1));
        let spec = checked_cluster(&[1, 2], 10_000);
        let mut ward = Ward::new(&spec, Totals::default().of_cluster("a"));
        ward.check_as_told(&mut top, true);
        assert_eq!(told(&ward), Some(vec![]), "nobody has passed yet");
        let number = |ward: &Ward, last: u8| ward.checking.endpoints[&at(last)].number;
        let first = number(&ward, 1);
        ward.checked(&mut top, at(1), first, Found::Connected);
        ward.checked(&mut top, at(2), first, Found::Connected);
        assert_eq!(told(&ward), Some(vec![at(1)]), "of another check than the one that is due");

        // Another endpoint and another interval: what passed serves on, what is new does not yet.
        ward.spec = checked_cluster(&[1, 3], 5_000);
        ward.check_as_told(&mut top, true);
        assert_eq!(told(&ward), Some(vec![at(1)]));
        assert_eq!(top.metrics.health.ill.value(), 1);
        assert_ne!(number(&ward, 1), first, "it is checked by the new rule at once");
        let now = number(&ward, 1);
        for (found, serves) in [
            (Found::TimedOut, true),
            (Found::Untried, true),
            (Found::Refused, false),
            (Found::Connected, true),
        ] {
            ward.checked(&mut top, at(1), now, found);
            assert_eq!(told(&ward).expect("it is checked").contains(&at(1)), serves, "{found:?}");
        }

        // Without a rule nobody is held back.
        ward.spec = clusters(&[("a", &[1, 3])]).clusters[0].clone();
        ward.check_as_told(&mut top, true);
        assert_eq!((told(&ward), top.metrics.health.ill.value()), (None, 0));
        assert!(!ward.is_needed());
    }
}
