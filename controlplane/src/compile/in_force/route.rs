//! What is in force on the rules of a route.
//!
//! Before: a route was asked about. After: for each of its rules, by the parents that requests come from, what
//! the rule itself, the policies of it, of its parent and of its backends come to.

use std::collections::HashSet;

use gateway_api::apis::experimental::httproutes::{HttpRouteRules, HttpRouteSpec};
use gateway_api::apis::experimental::tcproutes::{TcpRouteRules, TcpRouteSpec};
use lateen_snapshot::model::ClusterId;

use crate::compile::attach::{Attachments, ListenerKey};
use crate::compile::findings::Findings;
use crate::compile::in_force::settings::{Backend, Speaker, Way, settle};
use crate::compile::in_force::{
    Asked, BackendPort, Level, NotTold, RouteInForce, RuleInForce, Target, WayInForce, port_name,
    speaker, words_about_port, words_of_backend,
};
use crate::compile::objects::{Item, Objects};
use crate::compile::policy::{Policies, TargetKind};
use crate::compile::references::{BackendRef, References, Wanted};
use crate::compile::services::{Service, ServicePort, Services};
use crate::language::object::Declared;
use crate::language::schema::check::nearest;

/// A route of either kind: its position among those of its kind, and what it says.
#[derive(Clone, Copy)]
pub(super) enum Route<'d> {
    Http(usize, Item<'d, HttpRouteSpec>),
    Tcp(usize, Item<'d, TcpRouteSpec>),
}

/// A rule of either kind.
enum Rule<'d> {
    Http(&'d HttpRouteRules),
    Tcp(&'d TcpRouteRules),
}

pub(super) fn find_route<'d>(objects: &Objects<'d>, asked: &Asked) -> Result<Route<'d>, NotTold> {
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
pub(super) struct Told<'a, 'd> {
    pub(super) route: Route<'d>,
    pub(super) objects: &'a Objects<'d>,
    pub(super) services: &'a Services<'d>,
    pub(super) policies: &'a Policies<'d>,
}

impl<'a, 'd> Told<'a, 'd> {
    pub(super) fn in_force(
        &self,
        asked: &Asked,
        attachments: &Attachments,
        references: &References<'a, 'd>,
    ) -> Result<RouteInForce, NotTold> {
        let parents = self.parents(attachments);
        let rules = self.asked_rules(asked)?.into_iter().map(|index| {
            let backends = self.backends(index, references);
            RuleInForce {
                index,
                name: self.rule_name(index).map(str::to_owned),
                has_requests: matches!(self.route, Route::Http(..)),
                decided_by: Vec::new(),
                ways: self.ways(index, &parents, &backends),
                backends: backends.into_iter().map(BackendPort::of).collect(),
            }
        });
        Ok(RouteInForce {
            kind: self.kind_name().to_owned(),
            namespace: self.declared().key.namespace.to_string(),
            name: self.declared().key.name.to_string(),
            rules: rules.collect(),
        })
    }

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
        let backends: Vec<Backend> =
            backends.iter().map(|of| words_of_backend(self.policies, *of)).collect();
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
                words_about_port(self.policies, service, port, levels)
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
}

fn redirects(rule: &HttpRouteRules) -> bool {
    rule.filters.iter().flatten().any(|filter| filter.request_redirect.is_some())
}
