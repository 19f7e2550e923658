//! What would change for which proxy, part by part. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use lateen_snapshot::model::{Action, ClusterId, Listener, Route, Snapshot, TcpBackend, TcpRoute};
use serde::{Deserialize, Serialize};

use crate::serve::plan::Snapshots;
use crate::store::diff::ChangeKind;

/// What would change for one proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyChange {
    /// Its name.
    pub proxy: String,
    /// Whether it would come, go, or get something else.
    pub change: ChangeKind,
    /// By name.
    pub listeners: PartChanges,
    /// By where they are declared, such as `HTTPRoute/shop/cart/0`.
    pub routes: PartChanges,
    /// By service and port, such as `shop/cart:80`.
    pub clusters: PartChanges,
}

/// What would change in one list of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartChanges {
    /// Only there afterwards.
    pub added: Vec<String>,
    /// Only there before.
    pub removed: Vec<String>,
    /// There in both, and not the same.
    pub changed: Vec<String>,
}

/// Every proxy whose snapshot differs.
pub fn compare(before: &Snapshots, after: &Snapshots) -> Vec<ProxyChange> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let nothing = Arc::new(Snapshot::default());
    names
        .into_iter()
        .filter_map(|name| {
            let (old, new) = (before.get(name), after.get(name));
            let change = match (old, new) {
                (None, _) => ChangeKind::Added,
                (_, None) => ChangeKind::Removed,
                (Some(old), Some(new)) if Arc::ptr_eq(old, new) || old == new => return None,
                _ => ChangeKind::Changed,
            };
            let old = Parts::of(old.unwrap_or(&nothing));
            let new = Parts::of(new.unwrap_or(&nothing));
            Some(ProxyChange {
                proxy: name.clone(),
                change,
                listeners: changes(&old.listeners, &new.listeners),
                routes: changes(&old.routes, &new.routes),
                clusters: changes(&old.clusters, &new.clusters),
            })
        })
        .collect()
}

/// The parts of a snapshot by name, each written out without positions, which move.
struct Parts {
    listeners: BTreeMap<String, String>,
    routes: BTreeMap<String, String>,
    clusters: BTreeMap<String, String>,
}

impl Parts {
    fn of(snapshot: &Snapshot) -> Self {
        let clusters = snapshot.clusters.iter().map(|c| (c.name.clone(), format!("{c:?}")));
        let listeners = snapshot.listeners.iter();
        Self {
            listeners: listeners.map(|l| (l.name.clone(), write_listener(snapshot, l))).collect(),
            routes: write_routes(snapshot),
            clusters: clusters.collect(),
        }
    }
}

fn changes(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> PartChanges {
    let without = |from: &BTreeMap<String, String>, other: &BTreeMap<String, String>| {
        from.keys().filter(|name| !other.contains_key(*name)).cloned().collect()
    };
    PartChanges {
        added: without(new, old),
        removed: without(old, new),
        changed: new
            .iter()
            .filter(|(name, text)| old.get(*name).is_some_and(|old| old != *text))
            .map(|(name, _)| name.clone())
            .collect(),
    }
}

fn write_listener(snapshot: &Snapshot, listener: &Listener) -> String {
    let mut text = format!("{:?} {} {:?}", listener.direction, listener.address, listener.protocol);
    let _ = write!(text, " {:?}", listener.connection_ms_max);
    for hosts in &listener.http {
        let table = snapshot.route_tables.get(hosts.table.0 as usize).map(|table| &table.name);
        let _ = write!(text, " {:?} {table:?}", hosts.host);
    }
    if let Some(tcp) = &listener.tcp {
        let TcpRoute { name, idle_timeout_ms, connection_ms_max, .. } = tcp;
        let _ = write!(text, " {name} {idle_timeout_ms:?} {connection_ms_max:?}");
        for backend in &tcp.backends {
            let TcpBackend { cluster: to, weight, rate_limits } = backend;
            let _ = write!(text, " {:?} {weight} {rate_limits:?}", cluster(snapshot, *to));
        }
    }
    text
}

/// Each route with all the requests that lead to it, and their places in the order of precedence.
fn write_routes(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    let of_route: Vec<String> =
        snapshot.routes.iter().map(|route| write_route(snapshot, route)).collect();
    for table in &snapshot.route_tables {
        for host in &table.hosts {
            // What comes before a rule may be renumbered by others; only its own words count.
            for rule in &host.rules {
                let index = rule.route.0 as usize;
                let Some(route) = snapshot.routes.get(index) else { continue };
                let text: &mut String = texts.entry(route.name.clone()).or_default();
                let _ = write!(
                    text,
                    "{} {:?} {:?} {:?} {};",
                    table.name, host.hosts, host.port, rule.matches, of_route[index]
                );
            }
        }
    }
    texts
}

fn write_route(snapshot: &Snapshot, route: &Route) -> String {
    let mut text = String::new();
    match &route.action {
        Action::Forward(backends) => {
            for backend in backends {
                let _ = write!(
                    text,
                    "{:?} {} {:?} {:?} {:?} ",
                    cluster(snapshot, backend.cluster),
                    backend.weight,
                    backend.request_headers,
                    backend.response_headers,
                    backend.rate_limits
                );
            }
        }
        action => {
            let _ = write!(text, "{action:?} ");
        }
    }
    for mirror in &route.mirrors {
        let to = cluster(snapshot, Some(mirror.cluster));
        let _ = write!(text, "{to:?} {}/{} ", mirror.numerator, mirror.denominator);
    }
    let _ = write!(
        text,
        "{:?} {:?} {:?} {:?} {:?}",
        route.request_headers, route.response_headers, route.rewrite, route.cors, route.policy
    );
    text
}

fn cluster(snapshot: &Snapshot, id: Option<ClusterId>) -> Option<&str> {
    snapshot.clusters.get(id?.0 as usize).map(|cluster| cluster.name.as_str())
}

#[cfg(test)]
mod tests {
    use lateen_snapshot::model::{Balancing, Cluster, ClusterPolicy};
    use lateen_snapshot::model::{Direction, Endpoint, Protocol};

    use super::*;

    fn snapshot(clusters: &[(&str, u16)], to: u32) -> Arc<Snapshot> {
        let cluster = |&(name, port): &(&str, u16)| {
            let endpoints = vec![Endpoint { address: ([127, 0, 0, 1], port).into() }];
            Arc::new(Cluster {
                name: name.into(),
                endpoints,
                weights: Vec::new(),
                balancing: Balancing::Random,
                connect_timeout_ms: None,
                policy: ClusterPolicy::default(),
            })
        };
        let tcp = TcpRoute {
            name: "t".into(),
            backends: vec![TcpBackend {
                cluster: Some(ClusterId(to)),
                weight: 1,
                rate_limits: None,
            }],
            idle_timeout_ms: None,
            connection_ms_max: None,
        };
        let listener = Listener {
            name: "l".into(),
            direction: Direction::Outbound,
            address: ([127, 0, 0, 1], 1).into(),
            protocol: Protocol::Tcp,
            proxy_sources: Vec::new(),
            connection_ms_max: None,
            http: Vec::new(),
            tcp: Some(tcp),
        };
        Arc::new(Snapshot {
            listeners: vec![listener],
            clusters: clusters.iter().map(cluster).collect(),
            ..Snapshot::default()
        })
    }

    #[test]
    fn positions_that_move_are_no_change() {
        let before = Snapshots::from([("p".into(), snapshot(&[("b", 2)], 0))]);
        let after = Snapshots::from([("p".into(), snapshot(&[("a", 1), ("b", 2)], 1))]);
        let [change] = &compare(&before, &after)[..] else { panic!("one proxy") };
        assert_eq!(change.change, ChangeKind::Changed);
        assert_eq!(change.clusters.added, ["a"]);
        assert_eq!(
            (&change.listeners, &change.clusters.changed),
            (&PartChanges::default(), &vec![])
        );
        assert_eq!(compare(&before, &before), []);
    }

    #[test]
    fn proxies_come_and_go() {
        let before = Snapshots::from([("old".into(), snapshot(&[("b", 2)], 0))]);
        let after = Snapshots::from([("new".into(), snapshot(&[("b", 3)], 0))]);
        let seen: Vec<_> =
            compare(&before, &after).into_iter().map(|c| (c.proxy, c.change)).collect();
        assert_eq!(
            seen,
            [("new".to_owned(), ChangeKind::Added), ("old".to_owned(), ChangeKind::Removed)]
        );
    }
}
