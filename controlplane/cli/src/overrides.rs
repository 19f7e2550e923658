//! Orders about what runs: `lateen eject`, `readmit`, `breaker`, and `get overrides`.
//!
//! Before: [`arguments`](crate::arguments) knows what is ordered. After: it holds on every core of every
//! connected proxy, or the command says what does not, and fails.

use std::fmt::Write as _;

use clap::CommandFactory;
use clap::error::ErrorKind;
use lateen_control::api::messages::Verdict;
use lateen_control::api::messages::overrides::{
    BreakerTo, OrderText, OverrideRequest, OverrideResponse, OverridesResponse,
};
use lateen_control::compile::in_force::BackendPort;
use lateen_control::serve::overrides::{Ordered, Override};
use lateen_control::serve::view::OverrideView;
use lateen_control::status::Outcome;

use crate::arguments::overrides::{Breaker, Eject, OrderArguments, Readmit, To};
use crate::arguments::{Api, Arguments, Form, Get, Output, Wait};
use crate::change::{names, running};
use crate::client::Client;
use crate::problem::Problem;
use crate::show::{count, print, print_json, table};

pub(crate) fn eject(eject: Eject) -> Result<(), Problem> {
    let (service, endpoint) = (eject.which.service, eject.which.endpoint);
    let order = OrderText::Eject { service, endpoint, force: eject.force };
    give(order, String::new(), eject.how)
}

pub(crate) fn readmit(readmit: Readmit) -> Result<(), Problem> {
    let (service, endpoint) = (readmit.which.service, readmit.which.endpoint);
    let done = format!("{endpoint} of {service} is readmitted");
    let Readmit { wait, api, form, .. } = readmit;
    let how = OrderArguments { for_ms: None, message: String::new(), wait, api, form };
    give(OrderText::Readmit { service, endpoint }, done, how)
}

pub(crate) fn breaker(breaker: Breaker) -> Result<(), Problem> {
    let Breaker { to, route, how } = breaker;
    if to == To::Auto && how.for_ms.is_some() {
        let message = "--for is for `open` and `close`: `auto` ends what was ordered";
        Arguments::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let done = format!("the breaker of {route} decides by itself");
    let to = match to {
        To::Open => BreakerTo::Open,
        To::Close => BreakerTo::Closed,
        To::Auto => BreakerTo::Auto,
    };
    give(OrderText::Breaker { route, to }, done, how)
}

/// `taken_back`: what to say where no order stands after it.
fn give(order: OrderText, taken_back: String, how: OrderArguments) -> Result<(), Problem> {
    let OrderArguments { for_ms, message, wait: Wait { wait: wait_s }, api, form } = how;
    let client = Client::new(&api, &form)?;
    let request = OverrideRequest { order, for_ms, message, wait_s };
    let response: OverrideResponse = client.post("/v1/overrides", &request, wait_s)?;
    match form.output {
        Output::Json => print_json(&response)?,
        Output::Text => print(&words(&response, taken_back))?,
    }
    match response.verdict.is_as_asked() {
        true => Ok(()),
        false => Err(problem(&response, wait_s)),
    }
}

fn words(response: &OverrideResponse, taken_back: String) -> String {
    let what = match &response.order {
        None => taken_back,
        Some(OverrideView { order, .. }) => format!("{}{}", order.ordered, until(order)),
    };
    let epoch = response.epoch.map(|epoch| epoch.to_string()).unwrap_or_default();
    let mut text = match response.verdict {
        Verdict::Live => format!("{what}{}\n", running(&response.proxies, &epoch)),
        Verdict::NotWaited => {
            format!("{what}: published as epoch {epoch}; the proxies were not waited for\n")
        }
        _ => String::new(),
    };
    if let Some(why) = response.order.as_ref().and_then(|order| order.why_none.as_ref()) {
        let _ = writeln!(text, "it changes nothing at present: {why}");
    }
    text
}

/// `, until 2026-01-31T23:59:59Z`
fn until(order: &Override) -> String {
    match (order.until, &order.ordered) {
        (Some(until), _) => format!(" until {until}"),
        (None, Ordered::Ejected { .. }) => " until `lateen readmit`".to_owned(),
        (None, Ordered::Breaker { .. }) => " until `lateen breaker auto`".to_owned(),
    }
}

/// What does not hold.
fn problem(response: &OverrideResponse, wait_s: u64) -> Problem {
    let mut message = String::new();
    for (name, outcome) in &response.proxies {
        if let Outcome::Rejected { epoch, reason } = outcome {
            let lead = if message.is_empty() { "" } else { "\nerror: " };
            let _ = write!(message, "{lead}proxy {name} refused epoch {epoch}: {reason}");
        }
    }
    if !message.is_empty() {
        return Problem::new(message)
            .with_help("it keeps what it ran; the order stands, and others keep to it");
    }
    let of = |wanted| names(&response.proxies, |outcome| *outcome == wanted).join(", ");
    let (silent, left) = (of(Outcome::Unanswered), of(Outcome::Left));
    message = format!("the order stands, but not everywhere: after {wait_s} s");
    if !silent.is_empty() {
        let _ = write!(message, " these have not said that they keep to it: {silent}");
    }
    if !left.is_empty() {
        let and = if silent.is_empty() { "" } else { ", and" };
        let _ = write!(message, "{and} these went away when they were told: {left}");
    }
    Problem::new(message).with_help("`lateen status` shows when they do")
}

/// Whether this is what `lateen get` is asked for.
pub(crate) fn are_meant(what: &str) -> bool {
    what.eq_ignore_ascii_case("overrides") || what.eq_ignore_ascii_case("override")
}

pub(crate) fn list(get: &Get) -> Result<(), Problem> {
    let Get { api, form, namespace, .. } = get;
    let mut response = all(api, form)?;
    if let Some(namespace) = namespace {
        response.overrides.retain(|of| namespace_of(&of.order.ordered) == namespace);
    }
    match form.output {
        Output::Json => print_json(&response),
        Output::Text if response.overrides.is_empty() => print("no overrides\n"),
        Output::Text => {
            let header = ["ORDERED", "UNTIL", "BY", "SINCE", "EFFECT", "MESSAGE"];
            print(&table(&header, response.overrides.iter().map(row)))
        }
    }
}

fn all(api: &Api, form: &Form) -> Result<OverridesResponse, Problem> {
    Client::new(api, form)?.get("/v1/overrides")
}

fn namespace_of(ordered: &Ordered) -> &str {
    match ordered {
        Ordered::Ejected { service, .. } => &service.namespace,
        Ordered::Breaker { route, .. } => &route.namespace,
    }
}

fn row(view: &OverrideView) -> Vec<String> {
    let order = &view.order;
    vec![
        order.ordered.to_string(),
        order.until.map_or_else(|| "no end".to_owned(), |until| until.to_string()),
        order.author.clone(),
        order.since.to_string(),
        match &view.why_none {
            None => format!("on {}", count(view.proxies, "proxy")),
            Some(why) => format!("none: {why}"),
        },
        order.message.lines().next().unwrap_or_default().to_owned(),
    ]
}

/// What is ordered of the breaker of a route, where its policies are shown; `rule`: its number and its name.
pub(crate) fn of_breaker(
    overrides: &[OverrideView],
    route: (&str, &str, &str),
    (index, name): (usize, Option<&str>),
) -> Option<String> {
    let (kind, namespace, of_name) = route;
    let is_about = |view: &&OverrideView| match &view.order.ordered {
        Ordered::Ejected { .. } => false,
        Ordered::Breaker { route, .. } => {
            let part = route.part.as_deref();
            (route.kind.as_str(), &*route.namespace, &*route.name) == (kind, namespace, of_name)
                && part.is_none_or(|part| Some(part) == name || part == index.to_string())
        }
    };
    // The one that was ordered last counts.
    let view = overrides.iter().rfind(is_about)?;
    let Ordered::Breaker { held, .. } = view.order.ordered else { return None };
    Some(format!("its circuit breaker is held {}{}", held.as_str(), by_order(view)))
}

/// What is ordered of the endpoints of these services.
pub(crate) fn of_endpoints(overrides: &[OverrideView], backends: &[BackendPort]) -> Vec<String> {
    let said = overrides.iter().filter_map(|view| match &view.order.ordered {
        Ordered::Ejected { service, .. } if backends.iter().any(|port| service.means(port)) => {
            Some(format!("{}{}", view.order.ordered, by_order(view)))
        }
        _ => None,
    });
    said.collect()
}

/// ` by order of ann since 2026-01-31T23:59:59Z until `lateen readmit`: its disk is full`, and why that changes
/// nothing, if so.
fn by_order(OverrideView { order, why_none, .. }: &OverrideView) -> String {
    let why = match &*order.message {
        "" => String::new(),
        message => format!(": {}", message.lines().next().unwrap_or_default()),
    };
    let none = why_none.as_ref().map(|why| format!("; it changes nothing at present: {why}"));
    let (author, since, until) = (&order.author, order.since, until(order));
    format!(" by order of {author} since {since}{until}{why}{}", none.unwrap_or_default())
}
