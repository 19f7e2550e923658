//! Who takes part in the demo, and on which ports of 127.0.0.1.
//!
//! Before: nothing. After: [`config`](super::config) writes it down and [`scene`](super::scene) starts it.

use std::fs;
use std::net::TcpListener;
use std::time::{SystemTime, UNIX_EPOCH};

use super::problem::DemoError;

/// The namespace of all objects.
pub(super) const NAMESPACE: &str = "demo";
/// The proxy that clients come in by, and its Gateway.
pub(super) const EDGE: &str = "edge";
/// The service that clients get, in its first version.
pub(super) const SERVICE1: &str = "service1";
/// Its next version, the canary.
pub(super) const SERVICE1_V2: &str = "service1-v2";
/// The service that both versions call.
pub(super) const SERVICE2: &str = "service2";

/// Each service, its replicas, and whether it calls [`SERVICE2`].
const SERVICES: [(&str, usize, bool); 3] =
    [(SERVICE1, 3, true), (SERVICE1_V2, 1, true), (SERVICE2, 1, false)];

/// Ports below this one are often meant for something.
const PORT_LEAST: u16 = 15_000;
/// What Linux begins with when it hands out ports itself, unless told otherwise: ip(7).
const PORT_EPHEMERAL: u16 = 32_768;

/// Who takes part, and where.
#[derive(Debug)]
pub(super) struct Plan {
    /// Where clients come in.
    pub(super) edge: u16,
    /// All replicas of all services.
    pub(super) replicas: Vec<Replica>,
}

/// An app and the sidecar beside it, which share a name.
#[derive(Debug)]
pub(super) struct Replica {
    /// `service1-2`
    pub(super) name: String,
    /// Whose replica it is.
    pub(super) service: &'static str,
    /// Where the sidecar accepts calls to the app.
    pub(super) inbound: u16,
    /// Where it accepts calls from the app, if the app makes any.
    pub(super) outbound: Option<u16>,
    /// Where the app is. The app chooses it, so 0 until it runs.
    pub(super) app: u16,
}

impl Plan {
    /// With ports that are free now.
    ///
    /// # Errors
    /// [`DemoError::Ports`].
    pub(super) fn new() -> Result<Self, DemoError> {
        let needed = 1 + SERVICES
            .iter()
            .map(|(_, replicas, calls)| replicas * (1 + usize::from(*calls)))
            .sum::<usize>();
        let mut ports = free_ports(needed)?.into_iter();
        let mut next = || ports.next().expect("as many were found as are needed");
        let edge = next();
        let mut replicas = Vec::new();
        for (service, count, calls) in SERVICES {
            for number in 1..=count {
                replicas.push(Replica {
                    name: format!("{service}-{number}"),
                    service,
                    inbound: next(),
                    outbound: calls.then(&mut next),
                    app: 0,
                });
            }
        }
        Ok(Self { edge, replicas })
    }

    /// The names of all services, in the order in which a request meets them.
    pub(super) fn services() -> impl Iterator<Item = &'static str> {
        SERVICES.iter().map(|(service, ..)| *service)
    }

    /// The names of all proxies.
    pub(super) fn proxies(&self) -> impl Iterator<Item = &str> {
        std::iter::once(EDGE).chain(self.replicas.iter().map(|replica| &*replica.name))
    }
}

/// Ports that nobody has, and that the system does not give to a client in the next moment.
fn free_ports(needed: usize) -> Result<Vec<u16>, DemoError> {
    let range = PORT_LEAST..ephemeral_begin().max(PORT_LEAST + 1);
    let count = range.end - range.start;
    // Two demos that begin together look in different places first.
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    let first = (now_ns.wrapping_add(std::process::id()) % u32::from(count)) as u16;
    let candidates = (0..count).map(|step| range.start + (first + step) % count);
    // All are held until all are found, so that none is found twice.
    let held: Vec<(u16, TcpListener)> = candidates
        .filter_map(|port| Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?)))
        .take(needed)
        .collect();
    if held.len() < needed {
        return Err(DemoError::Ports { needed, found: held.len() });
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}

/// Where the ports begin that the system hands out itself.
fn ephemeral_begin() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(PORT_EPHEMERAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_port_and_no_name_is_given_twice() {
        let plan = Plan::new().expect("there are free ports");
        let mut ports = BTreeSet::from([plan.edge]);
        let mut names = BTreeSet::from([EDGE]);
        for replica in &plan.replicas {
            assert!(names.insert(&replica.name), "{replica:?}");
            for port in [Some(replica.inbound), replica.outbound].into_iter().flatten() {
                assert!(ports.insert(port), "{replica:?}");
            }
        }
        assert_eq!(names.len(), 6);
        assert_eq!(ports.len(), 10);
    }
}
