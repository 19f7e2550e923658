//! `lateen get policies`: what is attached to what, and what comes of it on a route.
//!
//! Before: the API tells facts. After: a table, a line for everything that is said.

use std::fmt::Write as _;

use lateen_control::api::messages::{PoliciesResponse, RoutePoliciesResponse};
use lateen_control::compile::in_force::{
    Level, RouteInForce, RuleInForce, Said, Setting, Standing, Target, WayInForce,
};
use serde_json::Value as Json;

use crate::arguments::{Get, Output};
use crate::client::Client;
use crate::look::query_of;
use crate::overrides;
use crate::problem::Problem;
use crate::show::{print, print_json, table};

/// More of a value is in the JSON.
const VALUE_CHARS_MAX: usize = 60;
const CUT: char = '…';

/// Whether this is what `lateen get` is asked for.
pub(crate) fn are_meant(what: &str) -> bool {
    what.eq_ignore_ascii_case("policies") || what.eq_ignore_ascii_case("policy")
}

pub(crate) fn list(get: &Get) -> Result<(), Problem> {
    let client = Client::new(&get.api, &get.form)?;
    let query = query_of(&[("namespace", get.namespace.as_deref())]);
    let response: PoliciesResponse = client.get(&format!("/v1/policies{query}"))?;
    match get.form.output {
        Output::Json => print_json(&response),
        Output::Text if response.policies.is_empty() => print("no policies\n"),
        Output::Text => {
            let rows = response.policies.iter().flat_map(|policy| {
                policy.targets.iter().map(move |target| {
                    let settings = policy.settings.join(", ");
                    vec![policy.namespace.clone(), policy.name.clone(), shown(target), settings]
                })
            });
            print(&table(&["NAMESPACE", "NAME", "TARGET", "SETTINGS"], rows))
        }
    }
}

/// `Service/cart`, `Service/cart (http)`
fn shown(target: &Target) -> String {
    let section = target.section.as_ref().map(|name| format!(" ({name})"));
    format!("{}/{}{}", target.kind, target.name, section.unwrap_or_default())
}

pub(crate) fn in_force(get: &Get, route: &str) -> Result<(), Problem> {
    let client = Client::new(&get.api, &get.form)?;
    let query = [
        ("route", Some(route)),
        ("namespace", get.namespace.as_deref()),
        ("rule", get.rule.as_deref()),
    ];
    let path = format!("/v1/policies/in-force{}", query_of(&query));
    let response: RoutePoliciesResponse = client.get(&path)?;
    match get.form.output {
        Output::Json => print_json(&response),
        Output::Text => print(&overview(&response)),
    }
}

fn overview(response: &RoutePoliciesResponse) -> String {
    let route = &response.route;
    let mut text = format!(
        "{}/{}/{}, revision {}\n",
        route.kind, route.namespace, route.name, response.revision
    );
    for rule in &route.rules {
        if rule.ways.is_empty() {
            let _ = write!(text, "\n{}", heading(route, rule, &[]));
        }
        for way in &rule.ways {
            let name = (&*route.kind, &*route.namespace, &*route.name);
            let part = (rule.index, rule.name.as_deref());
            let _ = write!(text, "\n{}", way_of(route, rule, way));
            let breaker = overrides::of_breaker(&response.overrides, name, part);
            let breaker = breaker.filter(|_| rule.has_requests);
            let endpoints = overrides::of_endpoints(&response.overrides, &rule.backends);
            for ordered in breaker.into_iter().chain(endpoints) {
                let _ = writeln!(text, "{ordered}");
            }
        }
    }
    if route.rules.is_empty() {
        text.push_str(if is_service(route) { "no ports\n" } else { "no rules\n" });
    }
    text
}

/// Whether it is a service that is called without a route.
fn is_service(route: &RouteInForce) -> bool {
    route.kind == "Service"
}

/// Which rule or port it is, by what it is reached, and what decides in its place.
fn heading(route: &RouteInForce, rule: &RuleInForce, parents: &[String]) -> String {
    let name = rule.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let mut text = match (is_service(route), parents) {
        (true, _) => format!("port {}{name}\n", rule.index),
        (false, []) => format!("rule {}{name}, attached to nothing\n", rule.index),
        (false, parents) => format!("rule {}{name}, from {}\n", rule.index, parents.join(", ")),
    };
    for decides in &rule.decided_by {
        let _ = writeln!(text, "{}", instead(route, decides));
    }
    text
}

fn way_of(route: &RouteInForce, rule: &RuleInForce, way: &WayInForce) -> String {
    let mut text = heading(route, rule, &way.parents);
    if way.settings.is_empty() {
        text.push_str("nobody says anything: a proxy's defaults hold\n");
        return text;
    }
    let is_direct = is_service(route);
    let rows = way.settings.iter().flat_map(|setting| {
        setting.said.iter().map(move |said| {
            let state = match said.standing {
                // Nothing comes by this route.
                Standing::InForce if way.parents.is_empty() => "would be in force",
                standing => standing_word(standing),
            };
            let mut row = vec![setting.setting.clone(), short(&said.value), state.to_owned()];
            if !is_direct {
                row.push(setting.backend.clone().unwrap_or_else(|| "all backends".to_owned()));
            }
            row.push(source(said, is_direct));
            row
        })
    });
    text.push_str(&match is_direct {
        true => table(&["SETTING", "VALUE", "STATE", "SAID BY"], rows),
        false => table(&["SETTING", "VALUE", "STATE", "FOR", "SAID BY"], rows),
    });
    let mut said = way.settings.iter().flat_map(|setting| &setting.said);
    if said.any(|said| short(&said.value).ends_with(CUT)) {
        let _ = writeln!(text, "what ends in {CUT} is whole with --output json");
    }
    for note in way.settings.iter().filter_map(note) {
        let _ = writeln!(text, "{note}");
    }
    text
}

/// What a route that is attached to the port of a service does to who calls it.
fn instead(service: &RouteInForce, route: &str) -> String {
    let mut parts = route.split('/');
    let (kind, namespace) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let name = parts.next().unwrap_or_default();
    let whom = match namespace == service.namespace {
        true => String::new(),
        false => format!(" for callers of the namespace {namespace}"),
    };
    let kind = kind.to_ascii_lowercase();
    format!(
        "{route} counts instead{whom}: see `lateen get policies --route {kind}/{name} -n {namespace}`"
    )
}

const fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::InForce => "in force",
        Standing::Overridden => "overridden",
        Standing::Differs => "does not count",
        Standing::Shorter => "shorter",
        Standing::NotForTcp => "not for TCP",
    }
}

/// Who says it: `the rule itself`, `policy slow of the route`; `is_direct`: of a service that is called without one.
fn source(said: &Said, is_direct: bool) -> String {
    let Some(policy) = &said.policy else { return "the rule itself".to_owned() };
    let Target { namespace, name, section, .. } = &said.target;
    let port = section.as_deref().unwrap_or_default();
    let of = match said.level {
        Level::Rule | Level::RulePolicy => "the rule".to_owned(),
        Level::RoutePolicy => "the route".to_owned(),
        Level::ParentPortPolicy => format!("port {port} of the parent Service/{namespace}/{name}"),
        Level::ParentPolicy => format!("the parent Service/{namespace}/{name}"),
        Level::BackendPortPolicy if is_direct => format!("port {port}"),
        Level::BackendPolicy if is_direct => "the service".to_owned(),
        Level::BackendPortPolicy => {
            format!("port {port} of the backend Service/{namespace}/{name}")
        }
        Level::BackendPolicy => format!("the backend Service/{namespace}/{name}"),
    };
    format!("policy {policy} of {of}")
}

/// What a word beside the table is needed for.
fn note(setting: &Setting) -> Option<String> {
    let has = |standing| setting.said.iter().any(|said| said.standing == standing);
    let name = &setting.setting;
    if has(Standing::Differs) {
        return Some(match name.starts_with("timeouts.") {
            true => format!(
                "{name}: a backend has no policy about it, so that a proxy's default counts for all; say it in \
                 a TrafficPolicy of this route"
            ),
            false => format!(
                "{name}: the policies of the backends differ, and none of them counts; say it in a \
                 TrafficPolicy of this route"
            ),
        });
    }
    has(Standing::Shorter)
        .then(|| format!("{name}: the policies of the backends differ, and the longest counts"))
}

/// In one line, as YAML has it; cut where it is long.
fn short(value: &Json) -> String {
    let text = match value {
        Json::Object(fields) if !fields.is_empty() => fields_of(fields),
        value => flow(value),
    };
    if text.chars().count() <= VALUE_CHARS_MAX {
        return text;
    }
    text.chars().take(VALUE_CHARS_MAX - 1).chain([CUT]).collect()
}

fn flow(value: &Json) -> String {
    match value {
        // In quotes and escaped where it would break the line.
        Json::String(text) if !text.chars().any(char::is_control) => text.clone(),
        Json::Array(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Json::Object(fields) => format!("{{{}}}", fields_of(fields)),
        value => value.to_string(),
    }
}

fn fields_of(fields: &serde_json::Map<String, Json>) -> String {
    let fields = fields.iter().map(|(name, value)| format!("{name}: {}", flow(value)));
    fields.collect::<Vec<_>>().join(", ")
}
