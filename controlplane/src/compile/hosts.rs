//! Host names of routes and listeners, and where they meet.
//!
//! Source: Gateway API, `HTTPRouteSpec.hostnames`.

use lateen_snapshot::model::HostPattern;

/// The pattern of a host name as it is written: `*.example.com`, `example.com`, or none for any.
pub(super) fn pattern(hostname: Option<&str>) -> HostPattern {
    match hostname {
        None => HostPattern::Any,
        Some(name) => match name.strip_prefix('*') {
            Some(suffix) => HostPattern::Suffix(suffix.to_owned()),
            None => HostPattern::Exact(name.to_owned()),
        },
    }
}

/// Which hosts both names stand for, if any: the narrower of the two.
pub(super) fn intersect(listener: Option<&str>, route: Option<&str>) -> Option<HostPattern> {
    let (Some(one), Some(other)) = (listener, route) else {
        return Some(pattern(listener.or(route)));
    };
    if covers(one, other) {
        return Some(pattern(route));
    }
    covers(other, one).then(|| pattern(listener))
}

/// Whether the first name stands for all that the second stands for.
fn covers(wide: &str, narrow: &str) -> bool {
    match wide.strip_prefix('*') {
        // `*.b` covers `a.b`, `*.a.b` and `*.b`; not `b`, which lacks the label before the dot.
        Some(suffix) => narrow.ends_with(suffix) && narrow.len() > suffix.len(),
        None => wide == narrow,
    }
}

/// How closely a route's own host name fits; the greater comes first. For a request of one host, the
/// number of characters of an exact name counts before that of any (Gateway API).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct HostRank {
    exact_characters: usize,
    characters: usize,
}

impl HostRank {
    pub(super) fn of(hostname: Option<&str>) -> Self {
        let characters = hostname.map_or(0, str::len);
        let is_exact = hostname.is_some_and(|name| !name.starts_with('*'));
        Self { exact_characters: if is_exact { characters } else { 0 }, characters }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(name: &str) -> Option<HostPattern> {
        Some(HostPattern::Exact(name.to_owned()))
    }

    fn suffix(name: &str) -> Option<HostPattern> {
        Some(HostPattern::Suffix(name.to_owned()))
    }

    #[test]
    fn names_meet_as_the_gateway_api_says() {
        for (listener, route, expected) in [
            (None, None, Some(HostPattern::Any)),
            (None, Some("a.com"), exact("a.com")),
            (None, Some("*.a.com"), suffix(".a.com")),
            (Some("a.com"), None, exact("a.com")),
            (Some("*.a.com"), None, suffix(".a.com")),
            (Some("test.example.com"), Some("test.example.com"), exact("test.example.com")),
            (Some("test.example.com"), Some("*.example.com"), exact("test.example.com")),
            (Some("test.example.com"), Some("*.com"), exact("test.example.com")),
            (Some("test.example.com"), Some("other.example.com"), None),
            (Some("*.example.com"), Some("*.example.com"), suffix(".example.com")),
            (Some("*.example.com"), Some("test.example.com"), exact("test.example.com")),
            (Some("*.example.com"), Some("foo.test.example.com"), exact("foo.test.example.com")),
            (Some("*.example.com"), Some("*.test.example.com"), suffix(".test.example.com")),
            (Some("*.test.example.com"), Some("*.example.com"), suffix(".test.example.com")),
            (Some("*.example.com"), Some("example.com"), None),
            (Some("*.example.com"), Some("test.example.net"), None),
            (Some("*.example.com"), Some("badexample.com"), None),
            (Some("*.example.com"), Some("*.ample.com"), None),
            (Some("example.com"), Some("*.example.com"), None),
        ] {
            assert_eq!(intersect(listener, route), expected, "{listener:?} and {route:?}");
        }
    }

    #[test]
    fn closer_names_rank_higher() {
        let names =
            [None, Some("*.com"), Some("*.much-longer.example.com"), Some("a.com"), Some("ab.com")];
        let ranks = names.map(HostRank::of);
        assert!(ranks.is_sorted_by(|one, other| one < other), "{ranks:?}");
    }
}
