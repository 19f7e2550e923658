//! What policies say about one route, or about a service that is called without one, which of it counts, and
//! where it was said.
//!
//! Before: objects that compile. After: an operator reads it. It looks things up, and compares them, with
//! what the compiler itself goes by ([`policy`](super::policy), [`attach`](super::attach)); what it adds is
//! the memory of who said what. It answers with facts; words and tables are others' work.
//!
//! [`route`] finds who may speak about the rules of a route, [`service`] about the ports of a service;
//! [`settings`] says what comes of it.

mod route;
mod service;
pub mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::compile::attach::attach_routes;
use crate::compile::findings::Findings;
use crate::compile::in_force::route::{Route, Told, find_route};
use crate::compile::in_force::service::{find_service, service_in_force};
use crate::compile::in_force::settings::{Backend, Speaker};
use crate::compile::objects::Objects;
use crate::compile::policy::{Policies, TargetKind};
use crate::compile::references::References;
use crate::compile::services::{Service, ServicePort, Services};
use crate::language::object::{Declared, Object};

/// The kind of what is called without a route.
const SERVICE: &str = "Service";

/// Which route is asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `HTTPRoute`, `TCPRoute` or `Service`; if `None` a route of either kind, or where there is none a service.
    pub kind: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Only this rule: its name, or its position from 0; of a service this port: its name, or its number.
    pub rule: Option<String>,
}

/// What is in force on a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteInForce {
    /// `HTTPRoute` or `TCPRoute`; `Service` for what leads to its ports where no route is attached to them.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its rules, or the one that was asked about; of a service, its ports.
    pub rules: Vec<RuleInForce>,
}

/// What is in force on a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleInForce {
    /// Its position, from 0; of a service's port its number.
    pub index: usize,
    /// Its name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The routes that are attached to a service's port, which decide in its place for whom they are: callers of
    /// their own namespace, or all if that is the service's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decided_by: Vec<String>,
    /// Whether requests come by it, not bytes alone.
    #[serde(default)]
    pub has_requests: bool,
    /// What its `backendRefs` send anything to, each once; of a service's port, itself.
    #[serde(default)]
    pub backends: Vec<BackendPort>,
    /// By the parents that requests come from: those that make no difference are together. None for a service's
    /// port where a route decides for all callers.
    pub ways: Vec<WayInForce>,
}

/// A port of a service that a rule sends something to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendPort {
    /// The service's namespace.
    pub namespace: String,
    /// The service's name.
    pub name: String,
    /// The port's number.
    pub port: u16,
    /// The port's name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_name: Option<String>,
}

/// What is in force on a rule for what comes from some of its parents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WayInForce {
    /// Listeners of Gateways (`Gateway/shop/edge/http`) and ports of services (`Service/shop/cart:80`);
    /// none for a route that is attached to nothing.
    pub parents: Vec<String>,
    /// What anyone says; of the rest, a proxy has its own defaults.
    pub settings: Vec<Setting>,
}

/// One setting: a field of a TrafficPolicy, or of the rule itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Such as `retry` or `timeouts.request`.
    pub setting: String,
    /// The backend that it is of (`Service/shop/cart:80`); without one, it is the same for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// What counts; `null` if nothing of what is said does.
    pub value: Json,
    /// All that is said, the closest first.
    pub said: Vec<Said>,
}

/// What one policy, or the rule itself, says of a setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// As it was written.
    pub value: Json,
    /// How close to a request it is said.
    pub level: Level,
    /// The TrafficPolicy that says it, in the namespace of its target; none for the rule itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What that is attached to.
    pub target: Target,
    /// What it comes to.
    pub standing: Standing,
}

/// What a policy is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// `HTTPRoute`, `TCPRoute` or `Service`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The rule or port of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<String>,
}

/// How close to a request something is said; the closest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The rule itself.
    Rule,
    /// A policy of the rule.
    RulePolicy,
    /// A policy of the route.
    RoutePolicy,
    /// A policy of the port of the service that was called, which the route is attached to.
    ParentPortPolicy,
    /// A policy of the service that was called.
    ParentPolicy,
    /// A policy of a backend's port.
    BackendPortPolicy,
    /// A policy of a backend's service.
    BackendPolicy,
}

/// What a word comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It counts.
    InForce,
    /// A closer one counts.
    Overridden,
    /// The policies of the backends differ, and none of them counts. One that says nothing differs too.
    Differs,
    /// The policies of the backends differ, and another's longer limit counts.
    Shorter,
    /// It says nothing of connections, and a TCPRoute has nothing else.
    NotForTcp,
}

/// Why nothing is told of a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTold {
    /// There is no such route.
    #[error("there is no {wanted}{}", did_you_mean(near))]
    NoRoute {
        /// What was asked for.
        wanted: String,
        /// What was probably meant.
        near: Option<String>,
        /// Those of that name, or of the nearest, in other namespaces.
        elsewhere: Vec<String>,
    },
    /// An HTTPRoute and a TCPRoute have that name.
    #[error("there are two of that name: {}", .0.join(" and "))]
    Ambiguous(Vec<String>),
    /// It has no such rule.
    #[error("{route} has no rule {wanted}{}", did_you_mean(near))]
    NoRule {
        /// Which route.
        route: String,
        /// What was asked for.
        wanted: String,
        /// What was probably meant.
        near: Option<String>,
        /// The names of those that have one.
        names: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// It has no such port.
    #[error("{service} has no port {wanted}")]
    NoPort {
        /// Which service.
        service: String,
        /// What was asked for.
        wanted: String,
        /// Those that it has, by number and name.
        ports: Vec<String>,
    },
}

impl NotTold {
    /// The same; where nothing is known that may have been meant, with what another knows.
    fn or_hint_of(self, other: Self) -> Self {
        match (self, other) {
            (
                Self::NoRoute { wanted, near: None, elsewhere },
                Self::NoRoute { near, elsewhere: of_other, .. },
            ) if elsewhere.is_empty() => Self::NoRoute { wanted, near, elsewhere: of_other },
            (own, _) => own,
        }
    }
}

fn did_you_mean(near: &Option<String>) -> String {
    near.as_ref().map(|near| format!("; did you mean {near}?")).unwrap_or_default()
}

/// Tells what is in force on a route of a set of objects that compiles.
///
/// Errors: there is no such route or rule, service or port; the caller's fault.
/// Cost: linear in all objects, their endpoints excepted.
pub fn in_force(declared: &[Arc<Declared>], asked: &Asked) -> Result<RouteInForce, NotTold> {
    let objects = Objects::sort(declared);
    // What is wrong with the set was told when it was given.
    let mut findings = Findings::default();
    let services = Services::collect(&objects, &mut findings);
    let about = About::find(&objects, &services, asked)?;
    let references = References::collect(&objects, &services);
    let policies = Policies::collect(&objects, &services, &references, &mut findings);
    let attachments = attach_routes(&objects, &services, &mut findings);
    match about {
        About::Route(route) => {
            let (objects, services, policies) = (&objects, &services, &policies);
            let told = Told { route, objects, services, policies };
            told.in_force(asked, &attachments, &references)
        }
        About::Service(service) => {
            service_in_force(service, asked, &objects, &policies, &attachments)
        }
    }
}

/// What is asked about.
enum About<'a, 'd> {
    Route(Route<'d>),
    Service(&'a Service<'d>),
}

impl<'a, 'd> About<'a, 'd> {
    fn find(
        objects: &Objects<'d>,
        services: &'a Services<'d>,
        asked: &Asked,
    ) -> Result<Self, NotTold> {
        if asked.kind.as_deref() == Some(SERVICE) {
            return find_service(services, asked).map(Self::Service);
        }
        match find_route(objects, asked) {
            Err(no_route @ NotTold::NoRoute { .. }) if asked.kind.is_none() => {
                let service = find_service(services, asked).map(Self::Service);
                service.map_err(|no_service| no_route.or_hint_of(no_service))
            }
            found => found.map(Self::Route),
        }
    }
}

/// What is said of a port of a service as a backend.
fn words_of_backend<'d>(
    policies: &Policies<'d>,
    (service, port): (&Service<'d>, &ServicePort<'d>),
) -> Backend {
    let levels = [Level::BackendPortPolicy, Level::BackendPolicy];
    let (kind, namespace) = (TargetKind::Service, service.namespace());
    Backend {
        name: port_name(service, port),
        words: words_about_port(policies, service, port, levels),
        compiled: policies.about(kind, namespace, service.name(), port.name),
    }
}

/// Of the policies of a port, and of its service; at these levels.
fn words_about_port<'d>(
    policies: &Policies<'d>,
    service: &Service<'d>,
    port: &ServicePort<'d>,
    [of_port, of_service]: [Level; 2],
) -> Vec<Speaker> {
    let (namespace, name) = (service.namespace(), service.name());
    let about = |section: Option<&str>, level| {
        let policy = policies.policy_of(TargetKind::Service, namespace, name, section)?;
        let target = Target {
            kind: SERVICE.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            section: section.map(str::to_owned),
        };
        speaker(policy, level, target)
    };
    let of_port = port.name.and_then(|name| about(Some(name), of_port));
    [of_port, about(None, of_service)].into_iter().flatten().collect()
}

impl BackendPort {
    fn of((service, port): (&Service<'_>, &ServicePort<'_>)) -> Self {
        Self {
            namespace: service.namespace().to_owned(),
            name: service.name().to_owned(),
            port: port.number,
            port_name: port.name.map(str::to_owned),
        }
    }
}

fn speaker(policy: &Declared, level: Level, target: Target) -> Option<Speaker> {
    let Object::TrafficPolicy(spec) = &policy.object else { return None };
    Some(Speaker::of_policy(spec, &policy.key.name, level, target))
}

/// `Service/shop/cart:80`
fn port_name(service: &Service<'_>, port: &ServicePort<'_>) -> String {
    format!("Service/{}/{}:{}", service.namespace(), service.name(), port.number)
}
