//! Which of several rules that match a request is taken.
//!
//! The Gateway API's order (`HTTPRouteRule.matches`, `HTTPRouteSpec.hostnames`), as a sort key: the
//! least comes first. Where the API leaves it open, a regular expression of a path comes after exact
//! paths and before prefixes, the longer pattern first: it says more than a prefix does, and nothing
//! else could ever precede the prefix `/` of the same host.
//!
//! | field | less, so earlier |
//! |---|---|
//! | `host` | the route's host name that fits closest |
//! | `path` | exact, then expressions, then prefixes; of two of these the longer |
//! | `has_method` | with a method |
//! | `headers` | more of them |
//! | `queries` | more of them |
//! | `created` | the older route; one without a time comes last |
//! | `name` | `namespace/name` as text |
//! | `rule`, `matched` | the order in which the route lists them |

use std::cmp::Reverse;

use lateen_snapshot::model::{PathMatch, RouteMatch};

use crate::compile::hosts::HostRank;
use crate::language::object::Declared;

/// The sort key of one match of one rule of one route.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Precedence<'a> {
    host: Reverse<HostRank>,
    path: PathRank,
    has_method: Reverse<bool>,
    headers: Reverse<usize>,
    queries: Reverse<usize>,
    age: Age<'a>,
    rule: usize,
    matched: usize,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Exact,
    Regex(Reverse<usize>),
    Prefix(Reverse<usize>),
}

impl<'a> Precedence<'a> {
    pub(super) fn of(
        host: HostRank,
        route: &'a Declared,
        (rule, matched): (usize, usize),
        matches: &RouteMatch,
    ) -> Self {
        Self {
            host: Reverse(host),
            path: match &matches.path {
                PathMatch::Exact(_) => PathRank::Exact,
                PathMatch::Regex(pattern) => PathRank::Regex(Reverse(pattern.chars().count())),
                PathMatch::Prefix(prefix) => PathRank::Prefix(Reverse(prefix.chars().count())),
            },
            has_method: Reverse(matches.method.is_some()),
            headers: Reverse(matches.headers.len()),
            queries: Reverse(matches.queries.len()),
            age: Age::of(route),
            rule,
            matched,
        }
    }
}

/// The order of routes that nothing else tells apart: the least is taken.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age<'a> {
    has_no_time: bool,
    created: Option<&'a str>,
    name: String,
}

impl<'a> Age<'a> {
    pub(super) fn of(route: &'a Declared) -> Self {
        let created = route.metadata.created.as_deref();
        let name = format!("{}/{}", route.key.namespace, route.key.name);
        Self { has_no_time: created.is_none(), created, name }
    }
}
