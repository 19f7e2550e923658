//! What a snapshot does with a request, by the words of `lateen_snapshot::model` and nothing else.

use lateen_snapshot::model::{
    FieldMatch, HostPattern, Listener, PathMatch, Route, RouteMatch, Snapshot, ValueMatch,
    VirtualHost,
};
use lateen_snapshot::validate::text::compile_regex;

/// A request as far as routes look at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// Without the port.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) queries: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
}

/// The route of a request; `None` stands for 404.
pub(crate) fn route_of<'s>(
    snapshot: &'s Snapshot,
    listener: &Listener,
    request: &Request,
) -> Option<&'s Route> {
    let entries = listener.http.iter().filter(|entry| covers(&entry.host, &request.host));
    let entry = entries.max_by_key(|entry| closeness(&entry.host))?;
    let table = &snapshot.route_tables[entry.table.0 as usize];
    let port = request.port.unwrap_or(80);
    let mut hosts: Vec<(&HostPattern, &VirtualHost)> = table
        .hosts
        .iter()
        .filter(|host| host.port.is_none_or(|wanted| wanted == port))
        .flat_map(|host| host.hosts.iter().map(move |pattern| (pattern, host)))
        .filter(|(pattern, _)| covers(pattern, &request.host))
        .collect();
    hosts.sort_by_key(|(pattern, host)| {
        (std::cmp::Reverse(closeness(pattern)), host.port.is_none())
    });
    let rules = hosts.iter().flat_map(|(_, host)| &host.rules);
    let rule = rules.into_iter().find(|rule| matches(&rule.matches, request))?;
    Some(&snapshot.routes[rule.route.0 as usize])
}

fn covers(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(name) => name == host,
        HostPattern::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
    }
}

fn closeness(pattern: &HostPattern) -> (u8, usize) {
    match pattern {
        HostPattern::Any => (0, 0),
        HostPattern::Suffix(suffix) => (1, suffix.len()),
        HostPattern::Exact(_) => (2, 0),
    }
}

fn matches(conditions: &RouteMatch, request: &Request) -> bool {
    let path = &*request.path;
    let path_matches = match &conditions.path {
        PathMatch::Exact(wanted) => wanted == path,
        PathMatch::Prefix(prefix) if prefix == "/" => true,
        PathMatch::Prefix(prefix) => path
            .strip_prefix(&**prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        PathMatch::Regex(pattern) => is_match(pattern, path),
    };
    path_matches
        && conditions.method.as_ref().is_none_or(|method| *method == request.method)
        && conditions.headers.iter().all(|field| holds(field, &request.headers))
        && conditions.queries.iter().all(|field| holds(field, &request.queries))
}

fn holds(condition: &FieldMatch, fields: &[(String, String)]) -> bool {
    let Some((_, value)) = fields.iter().find(|(name, _)| *name == condition.name) else {
        return false;
    };
    match &condition.value {
        ValueMatch::Exact(wanted) => wanted == value,
        ValueMatch::Regex(pattern) => is_match(pattern, value),
    }
}

fn is_match(pattern: &str, text: &str) -> bool {
    compile_regex(pattern).expect("the snapshot is valid").is_match(text.as_bytes())
}
