//! The rules of a host: the first that matches wins.
//!
//! Before it: the host chose these rules. After it: a route. A rule is first held against the
//! beginning of the path, eight bytes at once, which most rules that do not match fail at.

use std::cell::OnceCell;

use lateen_snapshot::model::{FieldMatch, PathMatch, RouteId, RouteMatch, Rule, ValueMatch};
use lateen_snapshot::validate::patterns::Patterns;

use crate::codec::http1::head::Fields;
use crate::decide::request_parts::{query_value, split_target};
use crate::decide::route::hosts::short_word;
use crate::decide::route::regexes::{RegexIndex, Regexes, WorkerRegexes};
use crate::decide::route::{BuildError, Found, RequestView};

/// A request, as rules look at it.
pub(super) struct Target<'a> {
    request: &'a RequestView<'a>,
    /// The first eight bytes of path and query, filled up with zeros, which no path contains.
    start: u64,
    /// Path and query, taken apart when a rule asks for it.
    parts: OnceCell<(&'a [u8], Option<&'a [u8]>)>,
    shared: &'a Regexes,
    own: &'a WorkerRegexes,
}

impl<'a> Target<'a> {
    #[inline]
    pub(super) fn of(
        request: &'a RequestView<'a>,
        shared: &'a Regexes,
        own: &'a WorkerRegexes,
    ) -> Self {
        Self { request, start: first_word(request.target), parts: OnceCell::new(), shared, own }
    }

    #[inline(never)]
    fn path_is_match(&self, index: RegexIndex) -> bool {
        self.own.is_match(self.shared, index, self.parts().0)
    }

    fn parts(&self) -> (&'a [u8], Option<&'a [u8]>) {
        let target = self.request.target;
        *self.parts.get_or_init(|| split_target(target))
    }

    /// The values of all field lines of this name. `Host` is the authority, wherever it stood: a
    /// line beside an absolute target says nothing (RFC 9112 §3.2.2).
    fn field_values<'t>(&'t self, name: &'t [u8]) -> impl Iterator<Item = &'a [u8]> + Clone + 't {
        let is_host = name == b"host";
        let authority = Some(self.request.authority).filter(|text| is_host && !text.is_empty());
        let fields = if is_host { Fields::NONE } else { self.request.fields };
        authority.into_iter().chain(fields.values(name))
    }
}

/// The rules of a host.
#[derive(Debug)]
pub(super) struct Rules {
    /// Of each rule how a path begins that it can match; apart, because most are looked at no further.
    starts: Box<[Start]>,
    rules: Box<[CompiledRule]>,
}

/// What the first eight bytes of a path must be where `mask` is set.
#[derive(Debug)]
struct Start {
    word: u64,
    mask: u64,
}

#[derive(Debug)]
struct CompiledRule {
    path: PathCondition,
    /// All but the path; few rules have any.
    conditions: Option<Box<Conditions>>,
    route: RouteId,
}

#[derive(Debug)]
enum PathCondition {
    All,
    Prefix(Box<[u8]>),
    Exact(Box<[u8]>),
    Regex(RegexIndex),
}

#[derive(Debug)]
struct Conditions {
    method: Option<Box<[u8]>>,
    headers: Box<[FieldCondition]>,
    queries: Box<[FieldCondition]>,
}

#[derive(Debug)]
struct FieldCondition {
    name: Box<[u8]>,
    value: ValueCondition,
}

#[derive(Debug)]
enum ValueCondition {
    Exact(Box<[u8]>),
    Regex(RegexIndex),
}

impl Rules {
    pub(super) fn build(
        rules: &[Rule],
        regexes: &mut Regexes,
        patterns: &mut Patterns,
        place: impl Fn() -> String,
    ) -> Result<Self, BuildError> {
        let mut add = |pattern: &str| {
            regexes.add(pattern, patterns).map_err(|cause| BuildError::Regex {
                place: place(),
                pattern: pattern.to_owned(),
                cause: Box::new(cause),
            })
        };
        let rules: Box<[CompiledRule]> =
            rules.iter().map(|rule| build_rule(rule, &mut add)).collect::<Result<_, _>>()?;
        Ok(Self { starts: rules.iter().map(|rule| rule.path.start()).collect(), rules })
    }

    /// The answer to all requests, if the first rule takes them all.
    pub(super) fn always(&self) -> Option<Found> {
        match self.rules.first()? {
            CompiledRule { path: PathCondition::All, conditions: None, route, .. } => {
                Some(Found { route: *route, prefix_bytes: 0 })
            }
            _ => None,
        }
    }

    #[inline]
    pub(super) fn find(&self, target: &Target<'_>) -> Option<Found> {
        let word = target.start;
        for (index, start) in self.starts.iter().enumerate() {
            if (word ^ start.word) & start.mask == 0
                && let Some(found) = self.rules[index].found(target)
            {
                return Some(found);
            }
        }
        None
    }
}

fn build_rule(
    rule: &Rule,
    add: &mut impl FnMut(&str) -> Result<RegexIndex, BuildError>,
) -> Result<CompiledRule, BuildError> {
    let RouteMatch { path, method, headers, queries } = &rule.matches;
    let path = match path {
        PathMatch::Prefix(prefix) => match prefix.strip_suffix('/').unwrap_or(prefix).as_bytes() {
            b"" => PathCondition::All,
            prefix => PathCondition::Prefix(prefix.into()),
        },
        PathMatch::Exact(path) => PathCondition::Exact(path.as_bytes().into()),
        PathMatch::Regex(pattern) => PathCondition::Regex(add(pattern)?),
    };
    let has_conditions = method.is_some() || !headers.is_empty() || !queries.is_empty();
    let conditions = if has_conditions {
        Some(Box::new(Conditions {
            method: method.as_ref().map(|method| method.as_bytes().into()),
            headers: build_fields(headers, add)?,
            queries: build_fields(queries, add)?,
        }))
    } else {
        None
    };
    Ok(CompiledRule { path, conditions, route: rule.route })
}

fn build_fields(
    fields: &[FieldMatch],
    add: &mut impl FnMut(&str) -> Result<RegexIndex, BuildError>,
) -> Result<Box<[FieldCondition]>, BuildError> {
    let build = |field: &FieldMatch| {
        let value = match &field.value {
            ValueMatch::Exact(value) => ValueCondition::Exact(value.as_bytes().into()),
            ValueMatch::Regex(pattern) => ValueCondition::Regex(add(pattern)?),
        };
        Ok(FieldCondition { name: field.name.as_bytes().into(), value })
    };
    fields.iter().map(build).collect()
}

impl CompiledRule {
    /// Not inlined: the loop before it keeps its registers.
    #[inline(never)]
    fn found(&self, target: &Target<'_>) -> Option<Found> {
        let prefix_bytes = self.path.matches(target)?;
        let holds = self.conditions.as_ref().is_none_or(|conditions| conditions.hold(target));
        holds.then_some(Found { route: self.route, prefix_bytes })
    }
}

/// The first eight bytes as a word.
#[inline]
fn first_word(text: &[u8]) -> u64 {
    text.first_chunk::<8>().map_or_else(|| short_word(text), |first| u64::from_ne_bytes(*first))
}

impl PathCondition {
    /// Of a path that matches.
    fn start(&self) -> Start {
        let text: &[u8] = match self {
            Self::Prefix(text) | Self::Exact(text) => text,
            Self::All | Self::Regex(_) => &[],
        };
        let ones = [0xff; 8];
        Start { word: first_word(text), mask: first_word(&ones[..text.len().min(8)]) }
    }

    /// The bytes of the prefix, or 0, if the path matches. Path and query need not be taken apart to
    /// see where a prefix ends: `validate` lets no pattern with a `?` in.
    #[inline]
    fn matches(&self, target: &Target<'_>) -> Option<u32> {
        let whole = target.request.target;
        match self {
            Self::All => Some(0),
            Self::Prefix(prefix) => match behind(whole, prefix)? {
                [] | [b'/' | b'?', ..] => Some(prefix.len() as u32),
                _ => None,
            },
            Self::Exact(path) => match behind(whole, path)? {
                [] | [b'?', ..] => Some(0),
                _ => None,
            },
            Self::Regex(index) => target.path_is_match(*index).then_some(0),
        }
    }
}

/// What of a target stands behind its beginning, if that is `start`, of whose first eight bytes it is
/// known. The last eight of up to sixteen are compared as a word: no call for the usual pattern.
#[inline]
fn behind<'t>(whole: &'t [u8], start: &[u8]) -> Option<&'t [u8]> {
    let (own, behind) = whole.split_at_checked(start.len())?;
    let equal = match start.len() {
        0..=8 => true,
        9..=16 => own.last_chunk::<8>() == start.last_chunk::<8>(),
        _ => own == start,
    };
    debug_assert_eq!(equal, own == start, "the first eight bytes were compared");
    equal.then_some(behind)
}

impl Conditions {
    #[inline(never)]
    fn hold(&self, target: &Target<'_>) -> bool {
        let method = self.method.as_ref();
        method.is_none_or(|method| **method == *target.request.method)
            && self.headers.iter().all(|condition| condition.holds_for_header(target))
            && self.queries.iter().all(|condition| condition.holds_for_query(target))
    }
}

impl FieldCondition {
    /// A field of several lines has one value, which is theirs with commas between (RFC 9110 §5.3;
    /// without spaces, as Envoy joins them).
    fn holds_for_header(&self, target: &Target<'_>) -> bool {
        let mut values = target.field_values(&self.name);
        match &self.value {
            ValueCondition::Exact(expected) => equals_joined(expected, values),
            ValueCondition::Regex(index) => {
                let all = values.clone();
                match (values.next(), values.next()) {
                    (None, _) => false,
                    (Some(value), None) => target.own.is_match(target.shared, *index, value),
                    _ => target.own.is_match_joined(target.shared, *index, all),
                }
            }
        }
    }

    fn holds_for_query(&self, target: &Target<'_>) -> bool {
        let Some(query) = target.parts().1 else { return false };
        query_value(query, &self.name).is_some_and(|value| match &self.value {
            ValueCondition::Exact(expected) => **expected == *value,
            ValueCondition::Regex(index) => target.own.is_match(target.shared, *index, value),
        })
    }
}

/// Whether there are values and, joined by commas, they are what is expected.
fn equals_joined<'v>(expected: &[u8], mut values: impl Iterator<Item = &'v [u8]>) -> bool {
    let Some(mut rest) = values.next().and_then(|first| expected.strip_prefix(first)) else {
        return false;
    };
    for value in values {
        match rest.strip_prefix(b",").and_then(|rest| rest.strip_prefix(value)) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    rest.is_empty()
}
