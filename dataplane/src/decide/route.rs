//! Which route a request takes.
//!
//! Before it: the codec has a whole request head. After it: the conductor has a [`Found`], and by its
//! [`RoutePlan`] knows what to change and where the request goes. The tables are built once for each
//! snapshot, off the workers, and never change; what a worker needs for itself is a
//! [`WorkerRegexes`]. It never does I/O, and finding a route never allocates, but for the first use
//! of a regular expression on a worker.
//!
//! Levels, each in a file of its own: the listener and then the table choose by host ([`hosts`]), the
//! rules of a host are tried in their order ([`rules`]).

pub mod hosts;
pub mod plan;
pub mod regexes;
pub mod rules;
pub mod weights;

use lateen_snapshot::model::rate_limit::RateLimits;
use lateen_snapshot::model::{HostPattern, RouteId, RouteTable, Snapshot};
use lateen_snapshot::validate::patterns::Patterns;

use crate::codec::http1::edits::EditError;
use crate::codec::http1::head::Fields;
use crate::codec::http1::request::RequestHead;
use crate::decide::route::hosts::{HostIndex, port_of, split_authority};
use crate::decide::route::plan::RoutePlan;
use crate::decide::route::regexes::{Regexes, WorkerRegexes};
use crate::decide::route::rules::{Rules, Target};
use crate::decide::route::weights::Weights;

/// Position in [`Snapshot::listeners`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerIndex(pub u32);

/// What a request is routed by.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// As sent.
    pub method: &'a [u8],
    /// Host and perhaps port; empty where the request names none (HTTP/1.0), which is on nobody's
    /// list of hosts.
    pub authority: &'a [u8],
    /// Path and query, or `*`.
    pub target: &'a [u8],
    /// All field lines, hop-by-hop ones included.
    pub fields: Fields<'a>,
}

impl<'a> RequestView<'a> {
    /// Of a parsed head.
    #[inline]
    pub fn of(head: &RequestHead<'a>) -> Self {
        Self {
            method: head.method_text,
            authority: head.authority.unwrap_or(b""),
            target: head.path,
            fields: head.fields,
        }
    }
}

/// The route of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The route.
    pub route: RouteId,
    /// Bytes of the path that the rule's prefix took, without a slash at its end: what
    /// [`PathRewrite::Prefix`](lateen_snapshot::model::PathRewrite) replaces. 0 for `/`, and for a
    /// rule that matches otherwise.
    pub prefix_bytes: u32,
}

/// Why a snapshot can't be run: it is not as the model promises, the fault of whoever made it.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An index that points behind the end of its list.
    #[error("{place}: {kind} {index} is not in the snapshot")]
    Dangling {
        /// Where it stands.
        place: String,
        /// What it points to.
        kind: &'static str,
        /// The index.
        index: u32,
    },
    /// A regular expression that does not compile within the limits.
    #[error("{place}: {pattern:?}: {cause}")]
    Regex {
        /// Where it stands.
        place: String,
        /// The expression.
        pattern: String,
        /// What is wrong with it.
        cause: Box<regex::Error>,
    },
    /// An edit that must not be made.
    #[error("{place}: {cause}")]
    Edit {
        /// Where it stands.
        place: String,
        /// What is wrong with it.
        cause: EditError,
    },
    /// Backends none of which has a share.
    #[error("{place}: the weights of its backends add up to 0")]
    Weights {
        /// Where they stand.
        place: String,
    },
}

/// The look-up tables of one snapshot; shared by all workers.
#[derive(Debug)]
pub struct RouteTables {
    listeners: Box<[ListenerRoutes]>,
    tables: Box<[Table]>,
    plans: Box<[RoutePlan]>,
    limits: Vec<RateLimits>,
    regexes: Regexes,
}

#[derive(Debug)]
struct ListenerRoutes {
    /// The answer, where it is the same for every request: one table for all hosts, in which the
    /// first rule for all hosts takes everything. What a config from flags comes to.
    always: Option<Found>,
    /// The table, where it is the same for all hosts.
    table: Option<u32>,
    /// Hosts to positions in [`RouteTables::tables`].
    hosts: HostIndex<u32>,
    tcp: Option<Weights>,
}

#[derive(Debug)]
struct Table {
    /// Hosts to ranges of `entries`.
    hosts: HostIndex<Range>,
    /// Of each host those with a port, then the one without.
    entries: Box<[HostEntry]>,
    rules: Box<[Rules]>,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    start: u32,
    end: u32,
}

#[derive(Clone, Copy, Debug)]
struct HostEntry {
    port: Option<u16>,
    /// Position in [`Table::rules`].
    rules: u32,
}

const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<RouteTables>();
};

impl RouteTables {
    /// Builds the tables. `patterns` are those that the snapshot was validated with. Cost: linear in
    /// the snapshot.
    ///
    /// # Errors
    /// See [`BuildError`]; none for a snapshot that passed `validate`.
    pub fn build(snapshot: &Snapshot, patterns: &mut Patterns) -> Result<Self, BuildError> {
        let mut regexes = Regexes::default();
        let tables = snapshot
            .route_tables
            .iter()
            .map(|table| build_table(table, snapshot, &mut regexes, patterns))
            .collect::<Result<Box<[Table]>, BuildError>>()?;
        let listeners = (0..snapshot.listeners.len())
            .map(|index| build_listener(snapshot, index, &tables))
            .collect::<Result<_, _>>()?;
        let mut limits = Vec::new();
        let plans = snapshot
            .routes
            .iter()
            .map(|route| RoutePlan::build(route, snapshot.clusters.len(), &mut limits))
            .collect::<Result<_, _>>()?;
        Ok(Self { listeners, tables, plans, limits, regexes })
    }

    /// The limits of those routes and backends that have some.
    pub fn limits(&self) -> &[RateLimits] {
        &self.limits
    }

    /// The route of a request that came to this listener; `None`: nobody's, a 404.
    ///
    /// `regexes` is this worker's, made for these tables. Cost: a few instructions where a listener
    /// has one route for all; else one hash of the host, one more for each length of suffix that the
    /// table has, and a comparison of eight bytes for each rule before the one that matches.
    #[inline]
    pub fn find(
        &self,
        listener: ListenerIndex,
        request: &RequestView<'_>,
        regexes: &WorkerRegexes,
    ) -> Option<Found> {
        let routes = &self.listeners[listener.0 as usize];
        if routes.always.is_some() {
            return routes.always;
        }
        self.search(routes, request, regexes)
    }

    fn search(
        &self,
        routes: &ListenerRoutes,
        request: &RequestView<'_>,
        regexes: &WorkerRegexes,
    ) -> Option<Found> {
        let (host, port_digits) = split_authority(request.authority);
        let table = routes.table.or_else(|| routes.hosts.find_map(host, |table| Some(*table)))?;
        let table = &self.tables[table as usize];
        let target = Target::of(request, &self.regexes, regexes);
        table.hosts.find_map(host, |range| {
            table.entries[range.start as usize..range.end as usize]
                .iter()
                .filter(|entry| entry.port.is_none_or(|own| own == port_of(port_digits)))
                .find_map(|entry| table.rules[entry.rules as usize].find(&target))
        })
    }

    /// What happens to the requests of a route.
    #[inline]
    pub fn plan(&self, route: RouteId) -> &RoutePlan {
        &self.plans[route.0 as usize]
    }

    /// The position in [`TcpRoute::backends`](lateen_snapshot::model::TcpRoute) of the one that
    /// takes a connection; `None`: nobody does.
    #[inline]
    pub fn choose_tcp_backend(&self, listener: ListenerIndex, random: u64) -> Option<usize> {
        let weights = self.listeners[listener.0 as usize].tcp.as_ref()?;
        Some(weights.choose(random))
    }
}

fn build_listener(
    snapshot: &Snapshot,
    index: usize,
    tables: &[Table],
) -> Result<ListenerRoutes, BuildError> {
    let listener = &snapshot.listeners[index];
    let place = || format!("listener {:?}", listener.name);
    let mut entries = Vec::with_capacity(listener.http.len());
    for entry in &listener.http {
        let table = entry.table.0;
        if table as usize >= tables.len() {
            return Err(BuildError::Dangling { place: place(), kind: "route table", index: table });
        }
        entries.push((&entry.host, table));
    }
    let always = match &*listener.http {
        [entry] if entry.host == HostPattern::Any => tables[entry.table.0 as usize].always(),
        _ => None,
    };
    let tcp = match &listener.tcp {
        Some(route) if !route.backends.is_empty() => {
            let weights = Weights::of(route.backends.iter().map(|backend| backend.weight));
            Some(weights.ok_or_else(|| BuildError::Weights { place: place() })?)
        }
        _ => None,
    };
    let hosts = HostIndex::build(entries);
    Ok(ListenerRoutes { always, table: hosts.only_any(), hosts, tcp })
}

fn build_table(
    table: &RouteTable,
    snapshot: &Snapshot,
    regexes: &mut Regexes,
    patterns: &mut Patterns,
) -> Result<Table, BuildError> {
    let place = || format!("route table {:?}", table.name);
    let mut rules = Vec::with_capacity(table.hosts.len());
    let mut hosts = Vec::new();
    for (index, host) in table.hosts.iter().enumerate() {
        for rule in &host.rules {
            let route = rule.route.0;
            if route as usize >= snapshot.routes.len() {
                return Err(BuildError::Dangling { place: place(), kind: "route", index: route });
            }
        }
        let entry = HostEntry { port: host.port, rules: index as u32 };
        hosts.extend(host.hosts.iter().map(|pattern| (pattern, entry)));
        rules.push(Rules::build(&host.rules, regexes, patterns, place)?);
    }

    // Entries of one pattern stand together, those with a port first. The sort is stable: of two that
    // should not both be there the first counts.
    hosts.sort_by_key(|(pattern, entry)| (pattern_key(pattern), entry.port.is_none()));
    let mut ranges: Vec<(&HostPattern, Range)> = Vec::with_capacity(hosts.len());
    for (index, (pattern, _)) in hosts.iter().enumerate() {
        let end = index as u32 + 1;
        match ranges.last_mut() {
            Some((last, range)) if last == pattern => range.end = end,
            _ => ranges.push((pattern, Range { start: index as u32, end })),
        }
    }
    Ok(Table {
        hosts: HostIndex::build(ranges),
        entries: hosts.iter().map(|(_, entry)| *entry).collect(),
        rules: rules.into(),
    })
}

fn pattern_key(pattern: &HostPattern) -> (u8, &str) {
    match pattern {
        HostPattern::Any => (0, ""),
        HostPattern::Exact(host) => (1, host),
        HostPattern::Suffix(suffix) => (2, suffix),
    }
}

impl Table {
    /// The one answer to all requests, if there is one.
    fn always(&self) -> Option<Found> {
        match (&*self.entries, self.hosts.only_any()) {
            ([HostEntry { port: None, rules }], Some(_)) => self.rules[*rules as usize].always(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod reference;
