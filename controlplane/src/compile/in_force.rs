//! What policies say about one route, which of it counts, and where it was said.
//!
//! Before: objects that compile. After: an operator reads it. It looks things up, and compares them, with
//! what the compiler itself goes by ([`policy`](super::policy), [`attach`](super::attach)); what it adds is
//! the memory of who said what. It answers with facts; words and tables are others' work.

pub mod settings;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use gateway_api::apis::experimental::httproutes::{HttpRouteRules, HttpRouteSpec};
use gateway_api::apis::experimental::tcproutes::{TcpRouteRules, TcpRouteSpec};
use lateen_snapshot::model::ClusterId;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::compile::attach::{Attachments, ListenerKey, attach_routes};
use crate::compile::findings::Findings;
use crate::compile::in_force::settings::{Backend, Speaker, Way, settle};
use crate::compile::objects::{Item, Objects};
use crate::compile::policy::{Policies, TargetKind};
use crate::compile::references::{BackendRef, References, Wanted};
use crate::compile::services::{Service, ServicePort, Services};
use crate::language::object::{Declared, Object};
use crate::language::schema::check::nearest;

/// Which route is asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `HTTPRoute` or `TCPRoute`; either if `None`.
    pub kind: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Only this rule: its name, or its position from 0.
    pub rule: Option<String>,
}

/// What is in force on a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteInForce {
    /// `HTTPRoute` or `TCPRoute`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its rules, or the one that was asked about.
    pub rules: Vec<RuleInForce>,
}

/// What is in force on a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleInForce {
    /// Its position, from 0.
    pub index: usize,
    /// Its name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it sends anything to, each once.
    pub backends: Vec<BackendPort>,
    /// By the parents that requests come from: those that make no difference are together.
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
}

fn did_you_mean(near: &Option<String>) -> String {
    near.as_ref().map(|near| format!("; did you mean {near}?")).unwrap_or_default()
}

/// Tells what is in force on a route of a set of objects that compiles.
///
/// Errors: there is no such route or rule; the caller's fault.
/// Cost: linear in all objects, their endpoints excepted.
pub fn in_force(declared: &[Arc<Declared>], asked: &Asked) -> Result<RouteInForce, NotTold> {
    let objects = Objects::sort(declared);
    let route = find(&objects, asked)?;
    // What is wrong with the set was told when it was given.
    let mut findings = Findings::default();
    let services = Services::collect(&objects, &mut findings);
    let references = References::collect(&objects, &services);
    let policies = Policies::collect(&objects, &services, &references, &mut findings);
    let attachments = attach_routes(&objects, &services, &mut findings);
    let route = Told { route, objects: &objects, services: &services, policies: &policies };
    let parents = route.parents(&attachments);
    let rules = route.asked_rules(asked)?;
    let rules = rules.into_iter().map(|index| {
        let backends = route.backends(index, &references);
        RuleInForce {
            index,
            name: route.rule_name(index).map(str::to_owned),
            ways: route.ways(index, &parents, &backends),
            backends: backends.into_iter().map(BackendPort::of).collect(),
        }
    });
    Ok(RouteInForce {
        kind: route.kind_name().to_owned(),
        namespace: route.declared().key.namespace.to_string(),
        name: route.declared().key.name.to_string(),
        rules: rules.collect(),
    })
}

/// A route of either kind: its position among those of its kind, and what it says.
#[derive(Clone, Copy)]
enum Route<'d> {
    Http(usize, Item<'d, HttpRouteSpec>),
    Tcp(usize, Item<'d, TcpRouteSpec>),
}

/// A rule of either kind.
enum Rule<'d> {
    Http(&'d HttpRouteRules),
    Tcp(&'d TcpRouteRules),
}

fn find<'d>(objects: &Objects<'d>, asked: &Asked) -> Result<Route<'d>, NotTold> {
    let http = objects.http_routes.iter().enumerate().map(|(at, item)| Route::Http(at, *item));
    let tcp = objects.tcp_routes.iter().enumerate().map(|(at, item)| Route::Tcp(at, *item));
    let is_of_kind = |route: &Route<'_>| {
        let kind = route.declared().key.kind.name();
        asked.kind.as_deref().is_none_or(|wanted| wanted == kind)
    };
    let routes: Vec<Route<'d>> = http.chain(tcp).filter(is_of_kind).collect();
    let is_here = |route: &&Route<'_>| *route.declared().key.namespace == *asked.namespace;
    let is_named = |route: &&Route<'_>| *route.declared().key.name == *asked.name;
    let found: Vec<&Route<'d>> = routes.iter().filter(is_here).filter(is_named).collect();
    match found[..] {
        [route] => Ok(*route),
        [] => {
            let names = routes.iter().filter(is_here).map(|route| &*route.declared().key.name);
            let near = nearest(&asked.name, names);
            // Elsewhere: of that name, else of the nearest, unless that is here.
            let all = || routes.iter().map(|route| &*route.declared().key.name);
            let other = match near.is_some() || all().any(|name| name == asked.name) {
                true => Some(&*asked.name),
                false => nearest(&asked.name, all()),
            };
            let others = routes.iter().filter(|route| Some(&*route.declared().key.name) == other);
            let kind = asked.kind.as_deref().unwrap_or("route");
            Err(NotTold::NoRoute {
                wanted: format!("{kind} {}/{}", asked.namespace, asked.name),
                near: near.map(str::to_owned),
                elsewhere: others.map(|route| route.declared().key.to_string()).collect(),
            })
        }
        ref several => {
            let names = several.iter().map(|route| route.declared().key.to_string());
            Err(NotTold::Ambiguous(names.collect()))
        }
    }
}

impl<'d> Route<'d> {
    fn declared(&self) -> &'d Declared {
        match self {
            Self::Http(_, item) => item.declared,
            Self::Tcp(_, item) => item.declared,
        }
    }

    fn rules(&self) -> Vec<Rule<'d>> {
        match self {
            Self::Http(_, item) => item.spec.rules.iter().flatten().map(Rule::Http).collect(),
            Self::Tcp(_, item) => item.spec.rules.iter().map(Rule::Tcp).collect(),
        }
    }
}

impl<'d> Rule<'d> {
    fn name(&self) -> Option<&'d str> {
        match self {
            Self::Http(rule) => rule.name.as_deref(),
            Self::Tcp(rule) => rule.name.as_deref(),
        }
    }
}

/// A parent that the route is attached to, and the port of a service that it is.
struct Parent<'a, 'd> {
    name: String,
    port: Option<(&'a Service<'d>, &'a ServicePort<'d>)>,
}

/// The route that is told of, and what there is beside it.
struct Told<'a, 'd> {
    route: Route<'d>,
    objects: &'a Objects<'d>,
    services: &'a Services<'d>,
    policies: &'a Policies<'d>,
}

impl<'a, 'd> Told<'a, 'd> {
    fn declared(&self) -> &'d Declared {
        self.route.declared()
    }

    fn kind_name(&self) -> &'static str {
        self.declared().key.kind.name()
    }

    fn target_kind(&self) -> TargetKind {
        match self.route {
            Route::Http(..) => TargetKind::HttpRoute,
            Route::Tcp(..) => TargetKind::TcpRoute,
        }
    }

    fn rule_name(&self, index: usize) -> Option<&'d str> {
        self.route.rules().get(index).and_then(Rule::name)
    }

    fn asked_rules(&self, asked: &Asked) -> Result<Vec<usize>, NotTold> {
        let rules = self.route.rules();
        let Some(wanted) = &asked.rule else { return Ok((0..rules.len()).collect()) };
        let by_name = rules.iter().position(|rule| rule.name() == Some(wanted));
        let by_number = || wanted.parse().ok().filter(|&index: &usize| index < rules.len());
        if let Some(index) = by_name.or_else(by_number) {
            return Ok(vec![index]);
        }
        let names = || rules.iter().filter_map(Rule::name);
        Err(NotTold::NoRule {
            route: self.declared().key.to_string(),
            wanted: wanted.clone(),
            near: nearest(wanted, names()).map(str::to_owned),
            names: names().map(str::to_owned).collect(),
            count: rules.len(),
        })
    }

    /// Gateways' listeners first, in the objects' order.
    fn parents(&self, attachments: &Attachments) -> Vec<Parent<'a, 'd>> {
        let mut listeners: Vec<ListenerKey> = match self.route {
            Route::Http(at, _) => {
                let all = attachments.http_listeners.iter();
                all.filter(|(_, on)| on.iter().any(|one| one.route == at))
                    .map(|(k, _)| *k)
                    .collect()
            }
            Route::Tcp(at, _) => {
                let all = attachments.tcp_listeners.iter();
                all.filter(|(_, on)| on.contains(&at)).map(|(key, _)| *key).collect()
            }
        };
        listeners.sort_unstable();
        let listeners = listeners.into_iter().map(|(gateway, listener)| {
            let gateway = &self.objects.gateways[gateway];
            let listener = &gateway.spec.listeners[listener].name;
            Parent { name: format!("{}/{listener}", gateway.declared.key), port: None }
        });
        let (ports, at) = match self.route {
            Route::Http(at, _) => (&attachments.http_ports, at),
            Route::Tcp(at, _) => (&attachments.tcp_ports, at),
        };
        let ports: HashSet<ClusterId> =
            ports.iter().filter(|(_, on)| on.contains(&at)).map(|(port, _)| *port).collect();
        let services = self.services.iter();
        let all =
            services.flat_map(|service| service.ports.iter().map(move |port| (service, port)));
        let called = all.filter(|(_, port)| ports.contains(&port.cluster));
        listeners
            .chain(called.map(|(service, port)| Parent {
                name: port_name(service, port),
                port: Some((service, port)),
            }))
            .collect()
    }

    fn ways(
        &self,
        index: usize,
        parents: &[Parent<'a, 'd>],
        backends: &[(&'a Service<'d>, &'a ServicePort<'d>)],
    ) -> Vec<WayInForce> {
        let own = self.own_words(index);
        let backends: Vec<Backend> = backends.iter().map(|of| self.words_of(*of)).collect();
        let settings = |parent: &[Speaker]| {
            settle(&Way { kind: self.target_kind(), own: &own, parent, backends: &backends })
        };
        if parents.is_empty() {
            return vec![WayInForce { parents: Vec::new(), settings: settings(&[]) }];
        }
        let mut ways: Vec<WayInForce> = Vec::new();
        for Parent { name, port } in parents {
            let words = port.map(|(service, port)| {
                let levels = [Level::ParentPortPolicy, Level::ParentPolicy];
                self.words_about_port(service, port, levels)
            });
            let settings = settings(&words.unwrap_or_default());
            match ways.iter_mut().find(|way| way.settings == settings) {
                Some(same) => same.parents.push(name.clone()),
                None => ways.push(WayInForce { parents: vec![name.clone()], settings }),
            }
        }
        ways
    }

    /// Of the rule itself, and of the policies of it and of its route.
    fn own_words(&self, index: usize) -> Vec<Speaker> {
        let (key, kind) = (&self.declared().key, self.target_kind());
        let name = self.rule_name(index);
        let target = |section: Option<&str>| Target {
            kind: self.kind_name().to_owned(),
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            section: section.map(str::to_owned),
        };
        let rule = match &self.route.rules()[index] {
            Rule::Http(rule) => Some(Speaker::of_rule(rule, target(name))),
            Rule::Tcp(_) => None,
        };
        let about = |section| self.policies.policy_of(kind, &key.namespace, &key.name, section);
        let of_rule = name.and_then(|name| about(Some(name)));
        let of_rule = of_rule.and_then(|of| speaker(of, Level::RulePolicy, target(name)));
        let of_route = about(None).and_then(|of| speaker(of, Level::RoutePolicy, target(None)));
        [rule, of_rule, of_route].into_iter().flatten().collect()
    }

    /// Of the policies of a port, and of its service; at these levels.
    fn words_about_port(
        &self,
        service: &Service<'d>,
        port: &ServicePort<'d>,
        [of_port, of_service]: [Level; 2],
    ) -> Vec<Speaker> {
        let (namespace, name) = (service.namespace(), service.name());
        let about = |section: Option<&str>, level| {
            let kind = TargetKind::Service;
            let policy = self.policies.policy_of(kind, namespace, name, section)?;
            let target = Target {
                kind: "Service".to_owned(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                section: section.map(str::to_owned),
            };
            speaker(policy, level, target)
        };
        let of_port = port.name.and_then(|name| about(Some(name), of_port));
        [of_port, about(None, of_service)].into_iter().flatten().collect()
    }

    /// The backends that a rule sends anything to, each once.
    fn backends(
        &self,
        index: usize,
        references: &References<'a, 'd>,
    ) -> Vec<(&'a Service<'d>, &'a ServicePort<'d>)> {
        // Of a TCPRoute also those without weight: the compiler asks for their limits too.
        let (written, wanted): (Vec<BackendRef<'_>>, Wanted) = match self.route.rules()[index] {
            Rule::Http(rule) if redirects(rule) => (Vec::new(), Wanted::Http),
            Rule::Http(rule) => {
                let all = rule.backend_refs.iter().flatten();
                (all.filter(|of| of.weight != Some(0)).map(Into::into).collect(), Wanted::Http)
            }
            Rule::Tcp(rule) => (rule.backend_refs.iter().map(Into::into).collect(), Wanted::Bytes),
        };
        let mut seen = HashSet::new();
        let mut findings = Findings::default();
        let path = format!("spec.rules[{index}].backendRefs");
        let found = written.into_iter().filter_map(|reference| {
            references.backend(self.declared(), &path, reference, wanted, &mut findings)
        });
        found.filter(|(_, port)| seen.insert(port.cluster)).collect()
    }

    fn words_of(&self, (service, port): (&Service<'d>, &ServicePort<'d>)) -> Backend {
        let levels = [Level::BackendPortPolicy, Level::BackendPolicy];
        let (kind, namespace) = (TargetKind::Service, service.namespace());
        Backend {
            name: port_name(service, port),
            words: self.words_about_port(service, port, levels),
            compiled: self.policies.about(kind, namespace, service.name(), port.name),
        }
    }
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

fn redirects(rule: &HttpRouteRules) -> bool {
    rule.filters.iter().flatten().any(|filter| filter.request_redirect.is_some())
}

fn speaker(policy: &Declared, level: Level, target: Target) -> Option<Speaker> {
    let Object::TrafficPolicy(spec) = &policy.object else { return None };
    Some(Speaker::of_policy(spec, &policy.key.name, level, target))
}

/// `Service/shop/cart:80`
fn port_name(service: &Service<'_>, port: &ServicePort<'_>) -> String {
    format!("Service/{}/{}:{}", service.namespace(), service.name(), port.number)
}
