//! What HTTPRoutes say, in the words of the snapshot: conditions, and what happens to a request.
//!
//! Before: services and policies are known. After: `attach` says where a route applies, `precedence`
//! orders its rules among those of others. Cluster ids are those of the whole mesh.

use std::collections::HashSet;

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRules, HttpRouteRulesBackendRefs, HttpRouteRulesMatches,
    HttpRouteRulesMatchesHeadersType as HeaderType, HttpRouteRulesMatchesMethod as Method,
    HttpRouteRulesMatchesPathType as PathType, HttpRouteRulesMatchesQueryParamsType as QueryType,
    HttpRouteSpec,
};
use lateen_snapshot::limits::{REGEX_BYTES_MAX, REGEX_PROGRAM_BYTES_MAX};
use lateen_snapshot::model::{
    Action, FieldMatch, PathMatch, Route, RouteMatch, RoutePolicy, ValueMatch, WeightedBackend,
};
use lateen_snapshot::validate::text::compile_regex;

use crate::compile::contradictions::{Speakers, tell_of_fallback, tell_of_retry, tell_of_rule};
use crate::compile::filters::{compile_backend_filters, compile_filters, leave_to_cors};
use crate::compile::findings::Findings;
use crate::compile::objects::{Item, Objects};
use crate::compile::policy::retry::retry_of_rule;
use crate::compile::policy::{Policies, Settings, TargetKind, either, timeout_ms};
use crate::compile::references::{References, Wanted};
use crate::compile::rule_names::rule_name;
use crate::compile::sessions::session_of;
use crate::compile::subsets::Subset;
use crate::language::diagnostic::Severity;
use crate::language::object::Declared;

/// An HTTPRoute.
#[derive(Debug)]
pub(super) struct HttpRoute<'d> {
    pub(super) declared: &'d Declared,
    pub(super) rules: Vec<HttpRule<'d>>,
}

/// A rule of an HTTPRoute.
#[derive(Debug)]
pub(super) struct HttpRule<'d> {
    /// Any of them; one at least.
    pub(super) matches: Vec<RouteMatch>,
    /// What happens, without a policy: that depends on where the route is attached.
    pub(super) route: Route,
    /// What the rule, and policies about it and its route, say.
    pub(super) said: RoutePolicy,
    /// What the policies about its backends agree on.
    pub(super) of_backends: RoutePolicy,
    /// Which endpoints of its backends it is for; `None`: all.
    pub(super) subset: Option<Subset>,
    /// Who speaks: of policies those about it and its route.
    pub(super) speakers: Speakers<'d>,
    /// Policies about its backends.
    pub(super) backend_policies: Vec<&'d Declared>,
}

/// Compiles all HTTPRoutes. `settings` are those of the mesh's clusters, `speakers` the policies about each.
pub(super) fn compile_http_routes<'d>(
    objects: &Objects<'d>,
    references: &References<'_, 'd>,
    policies: &Policies<'d>,
    settings: &[Settings],
    speakers: &[Vec<&'d Declared>],
    findings: &mut Findings,
) -> Vec<HttpRoute<'d>> {
    let regexes = HashSet::new();
    let mut compiler = RuleCompiler { references, policies, settings, speakers, findings, regexes };
    objects.http_routes.iter().map(|route| compiler.compile(route)).collect()
}

struct RuleCompiler<'a, 's, 'd> {
    references: &'a References<'s, 'd>,
    policies: &'a Policies<'d>,
    settings: &'a [Settings],
    speakers: &'a [Vec<&'d Declared>],
    findings: &'a mut Findings,
    /// Those that were found to be right.
    regexes: HashSet<String>,
}

impl<'d> RuleCompiler<'_, '_, 'd> {
    fn compile(&mut self, route: &Item<'d, HttpRouteSpec>) -> HttpRoute<'d> {
        let rules = route.spec.rules.iter().flatten().enumerate();
        let rules = rules.map(|(index, rule)| self.compile_rule(route.declared, index, rule));
        HttpRoute { rules: rules.collect(), declared: route.declared }
    }

    fn compile_rule(
        &mut self,
        route: &'d Declared,
        index: usize,
        rule: &HttpRouteRules,
    ) -> HttpRule<'d> {
        let path = format!("spec.rules[{index}]");
        let filters = rule.filters.as_deref().unwrap_or_default();
        let filters = compile_filters(route, &path, filters, self.references, self.findings);
        let action = match filters.redirect {
            Some(redirect) => Action::Redirect(Box::new(redirect)),
            None => self.compile_backends(route, &path, rule),
        };
        if let (Some(_), Action::Forward(backends)) = (&filters.cors, &action) {
            for (index, backend) in backends.iter().enumerate() {
                let path = format!("{path}.backendRefs[{index}]");
                leave_to_cors(route, &path, &backend.response_headers, self.findings);
            }
        }
        let (said, subset) = self.said_of(route, index, rule);
        let of_backends = self.agree(route, &path, &action, &said);
        let matches = self.compile_matches(route, &path, rule);
        let (namespace, name) = (&route.key.namespace, &route.key.name);
        let section = rule.name.as_deref();
        let policies = self.policies.speakers(TargetKind::HttpRoute, namespace, name, section);
        let speakers = Speakers { declared: route, path, policies };
        if let Action::Forward(_) = action {
            tell_of_rule(&said, &speakers, self.findings);
            tell_of_retry(&said, &matches, &speakers, Severity::Error, self.findings);
            if subset.is_none() {
                tell_of_fallback(&said, &action, &speakers, Severity::Error, self.findings);
            }
        }
        HttpRule {
            backend_policies: self.backend_policies(&action),
            speakers,
            matches,
            route: Route {
                name: rule_name(namespace, name, index, section),
                action,
                request_headers: filters.request_headers,
                response_headers: filters.response_headers,
                rewrite: filters.rewrite.map(Box::new),
                mirrors: filters.mirrors,
                cors: filters.cors.map(Box::new),
                policy: RoutePolicy::default(),
            },
            said,
            of_backends,
            subset,
        }
    }

    /// Without a backend that gets something the answer is 500 (Gateway API, `backendRefs`).
    fn compile_backends(&mut self, route: &Declared, path: &str, rule: &HttpRouteRules) -> Action {
        let written = rule.backend_refs.as_deref().unwrap_or_default();
        let backends: Vec<_> = written
            .iter()
            .enumerate()
            .map(|(index, backend)| {
                self.compile_backend(route, &format!("{path}.backendRefs[{index}]"), backend)
            })
            .collect();
        if backends.iter().any(|backend| backend.weight > 0) {
            return Action::Forward(backends);
        }
        let message = match written {
            [] => "a rule without backends",
            _ => "a rule whose backends all have weight 0",
        };
        let field =
            if written.is_empty() { path.to_owned() } else { format!("{path}.backendRefs") };
        self.findings.warn(route, &field, message, "its requests are answered 500");
        Action::Respond(500)
    }

    fn compile_backend(
        &mut self,
        route: &Declared,
        path: &str,
        backend: &HttpRouteRulesBackendRefs,
    ) -> WeightedBackend {
        let filters = backend.filters.as_deref().unwrap_or_default();
        let (request_headers, response_headers) =
            compile_backend_filters(route, path, filters, self.findings);
        let found =
            self.references.backend(route, path, backend.into(), Wanted::Http, self.findings);
        WeightedBackend {
            cluster: found.map(|(_, port)| port.cluster),
            weight: backend.weight.map_or(1, i32::unsigned_abs),
            request_headers,
            response_headers,
            rate_limits: found.and_then(|(_, port)| {
                self.settings[port.cluster.0 as usize].of_requests.rate_limits.clone()
            }),
        }
    }

    /// Those about the ports that get something.
    fn backend_policies(&self, action: &Action) -> Vec<&'d Declared> {
        let Action::Forward(backends) = action else { return Vec::new() };
        let used = backends.iter().filter(|backend| backend.weight > 0);
        let ports = used.filter_map(|backend| backend.cluster);
        ports.flat_map(|port| self.speakers[port.0 as usize].iter().copied()).collect()
    }

    fn said_of(
        &mut self,
        route: &Declared,
        index: usize,
        rule: &HttpRouteRules,
    ) -> (RoutePolicy, Option<Subset>) {
        let (namespace, name) = (&route.key.namespace, &route.key.name);
        let written = rule.timeouts.as_ref();
        let mut time_limit = |text: Option<&String>, field: &str| {
            let path = format!("spec.rules[{index}].timeouts.{field}");
            timeout_ms(route, text.map(String::as_str), &path, self.findings)
        };
        let own = RoutePolicy {
            request_timeout_ms: time_limit(written.and_then(|all| all.request.as_ref()), "request"),
            backend_request_timeout_ms: time_limit(
                written.and_then(|all| all.backend_request.as_ref()),
                "backendRequest",
            ),
            retry: rule.retry.as_ref().map(retry_of_rule),
            hedging: None,
            session: rule.session_persistence.as_ref().map(|session| {
                session_of(session, &rule_name(namespace, name, index, rule.name.as_deref()))
            }),
            ..RoutePolicy::default()
        };
        let section = rule.name.as_deref();
        let of_route = self.policies.about(TargetKind::HttpRoute, namespace, name, section);
        (either(own, &of_route.of_requests), of_route.subset)
    }

    /// A rule has one limit of each sort, whichever backend is chosen: where its backends' policies
    /// differ it must not be too short for any of them.
    fn agree(
        &mut self,
        route: &Declared,
        path: &str,
        action: &Action,
        said: &RoutePolicy,
    ) -> RoutePolicy {
        let Action::Forward(backends) = action else { return RoutePolicy::default() };
        let all = self.settings;
        let of_backends: Vec<&RoutePolicy> = backends
            .iter()
            .filter(|backend| backend.weight > 0)
            .filter_map(|backend| Some(&all[backend.cluster?.0 as usize].of_requests))
            .collect();
        let mut agree = |field: &str, is_said: bool, limit: fn(&RoutePolicy) -> Option<u32>| {
            let limits: Vec<Option<u32>> = of_backends.iter().map(|of| limit(of)).collect();
            let (agreed, is_unanimous) = longest(&limits);
            if !is_unanimous && !is_said {
                let message =
                    format!("the policies of these backends differ in `timeouts.{field}`");
                let help = "the longest counts; say it in this rule's `timeouts`, or in a \
                            TrafficPolicy of this route";
                self.findings.warn(route, &format!("{path}.backendRefs"), message, help);
            }
            agreed
        };
        let (request, backend_request) =
            (said.request_timeout_ms.is_some(), said.backend_request_timeout_ms.is_some());
        let request_timeout_ms = agree("request", request, |all| all.request_timeout_ms);
        let backend_request_timeout_ms =
            agree("backendRequest", backend_request, |all| all.backend_request_timeout_ms);
        let place = format!("{path}.backendRefs");
        let same = Unanimous { of_backends: &of_backends, route, place: &place };
        RoutePolicy {
            request_timeout_ms,
            backend_request_timeout_ms,
            retry: same.find("retry", said.retry.is_some(), |all| &all.retry, self.findings),
            hedging: same.find(
                "hedging",
                said.hedging.is_some(),
                |all| &all.hedging,
                self.findings,
            ),
            faults: same.find("faults", said.faults.is_some(), |all| &all.faults, self.findings),
            session: None,
            // Each backend keeps its own.
            rate_limits: None,
            circuit_breaker: same.find(
                "circuitBreaker",
                said.circuit_breaker.is_some(),
                |all| &all.circuit_breaker,
                self.findings,
            ),
            priority: same.find(
                "priority",
                said.priority.is_some(),
                |all| &all.priority,
                self.findings,
            ),
        }
    }

    fn compile_matches(
        &mut self,
        route: &Declared,
        path: &str,
        rule: &HttpRouteRules,
    ) -> Vec<RouteMatch> {
        let written = rule.matches.as_deref().unwrap_or_default();
        if written.is_empty() {
            return vec![match_all()];
        }
        let written = written.iter().enumerate();
        written
            .map(|(index, matches)| {
                self.compile_match(route, &format!("{path}.matches[{index}]"), matches)
            })
            .collect()
    }

    fn compile_match(
        &mut self,
        route: &Declared,
        path: &str,
        written: &HttpRouteRulesMatches,
    ) -> RouteMatch {
        let mut compiled = match_all();
        compiled.method = written.method.as_ref().map(|method| method_name(method).to_owned());
        if let Some(matched) = &written.path {
            let value = matched.value.as_deref().unwrap_or("/");
            compiled.path = match matched.r#type.as_ref().unwrap_or(&PathType::PathPrefix) {
                PathType::Exact => PathMatch::Exact(value.to_owned()),
                PathType::PathPrefix => PathMatch::Prefix(normal_prefix(value).to_owned()),
                PathType::RegularExpression => {
                    self.check_regex(route, &format!("{path}.path.value"), value);
                    PathMatch::Regex(value.to_owned())
                }
            };
        }
        for (index, header) in written.headers.iter().flatten().enumerate() {
            let is_regex = header.r#type == Some(HeaderType::RegularExpression);
            let value_path = format!("{path}.headers[{index}].value");
            let value = self.compile_value(route, &value_path, &header.value, is_regex);
            compiled.headers.push(FieldMatch { name: header.name.to_ascii_lowercase(), value });
        }
        for (index, query) in written.query_params.iter().flatten().enumerate() {
            let is_regex = query.r#type == Some(QueryType::RegularExpression);
            let value_path = format!("{path}.queryParams[{index}].value");
            let value = self.compile_value(route, &value_path, &query.value, is_regex);
            compiled.queries.push(FieldMatch { name: query.name.clone(), value });
        }
        compiled
    }

    fn compile_value(
        &mut self,
        route: &Declared,
        path: &str,
        value: &str,
        is_regex: bool,
    ) -> ValueMatch {
        if is_regex {
            self.check_regex(route, path, value);
            return ValueMatch::Regex(value.to_owned());
        }
        if value.chars().any(char::is_control) {
            let message = "a value with control characters matches nothing";
            self.findings.error(route, path, message);
        }
        ValueMatch::Exact(value.to_owned())
    }

    /// As a proxy compiles it: anchored, and within its bounds, which are closer than the language's.
    fn check_regex(&mut self, route: &Declared, path: &str, pattern: &str) {
        if self.regexes.contains(pattern) {
            return;
        }
        let problem = match compile_regex(pattern) {
            _ if pattern.len() > REGEX_BYTES_MAX => {
                format!("it has {} bytes, at most {REGEX_BYTES_MAX} are possible", pattern.len())
            }
            Ok(_) => {
                self.regexes.insert(pattern.to_owned());
                return;
            }
            Err(regex::Error::CompiledTooBig(_)) => {
                format!("it takes more than {REGEX_PROGRAM_BYTES_MAX} bytes of memory")
            }
            Err(_) => "it can't be put between anchors, since it ends in a comment".to_owned(),
        };
        let message = format!("this regular expression can't be matched: {problem}");
        self.findings.error(route, path, message);
    }
}

/// What the policies about a rule's backends say, where they say the same.
struct Unanimous<'a> {
    of_backends: &'a [&'a RoutePolicy],
    route: &'a Declared,
    place: &'a str,
}

impl Unanimous<'_> {
    /// One field of them; nothing where they differ, which is told unless the rule says it itself.
    fn find<T: Clone + PartialEq>(
        &self,
        field: &str,
        is_said: bool,
        value: fn(&RoutePolicy) -> &Option<T>,
        findings: &mut Findings,
    ) -> Option<T> {
        let (first, others) = self.of_backends.split_first()?;
        if others.iter().all(|other| value(other) == value(first)) {
            return value(first).clone();
        }
        if !is_said {
            let message = format!("the policies of these backends differ in `{field}`");
            let help = "none of them counts; say it in a TrafficPolicy of this route";
            findings.warn(self.route, self.place, message, help);
        }
        None
    }
}

/// Every request.
pub(super) fn match_all() -> RouteMatch {
    RouteMatch {
        path: PathMatch::Prefix("/".to_owned()),
        method: None,
        headers: Vec::new(),
        queries: Vec::new(),
    }
}

/// `/a/` stands for what `/a` stands for.
fn normal_prefix(value: &str) -> &str {
    match value.strip_suffix('/') {
        Some(rest) if !rest.is_empty() => rest,
        _ => value,
    }
}

/// The longest of some limits, and whether they are all the same. `None` is a proxy's own, of which
/// nothing is known here; 0 is none at all.
pub(super) fn longest(limits: &[Option<u32>]) -> (Option<u32>, bool) {
    let is_unanimous = limits.windows(2).all(|pair| pair[0] == pair[1]);
    let agreed = match limits {
        [] => None,
        limits if limits.contains(&Some(0)) => Some(0),
        limits if limits.contains(&None) => None,
        limits => limits.iter().copied().max().flatten(),
    };
    (agreed, is_unanimous)
}

fn method_name(method: &Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
    }
}
