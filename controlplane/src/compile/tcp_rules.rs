//! What TCPRoutes say, in the words of the snapshot.

use gateway_api::apis::experimental::tcproutes::TcpRouteSpec;
use lateen_snapshot::model::rate_limit::RateLimits;
use lateen_snapshot::model::{TcpBackend, TcpRoute};

use crate::compile::findings::Findings;
use crate::compile::objects::{Item, Objects};
use crate::compile::policy::rate_limit::of_connections;
use crate::compile::policy::{Policies, Settings, TargetKind};
use crate::compile::references::{References, Wanted};
use crate::compile::subsets::Subset;
use crate::language::object::Declared;

/// A TCPRoute.
#[derive(Debug)]
pub(super) struct TcpRule<'d> {
    /// Which endpoints of its backends it is for; `None`: all.
    pub(super) subset: Option<Subset>,
    pub(super) declared: &'d Declared,
    /// Cluster ids are those of the whole mesh. The idle timeout is what policies of the route say.
    pub(super) route: TcpRoute,
    /// What the policies of all backends allow; `None` if one of them says nothing.
    pub(super) backend_idle_timeout_ms: Option<u32>,
    /// What policies of the route say; the limits of its backends are theirs.
    pub(super) rate_limits: Option<Box<RateLimits>>,
}

/// Compiles all TCPRoutes. `settings` are those of the mesh's clusters.
pub(super) fn compile_tcp_routes<'d>(
    objects: &Objects<'d>,
    references: &References<'_, 'd>,
    policies: &Policies<'d>,
    settings: &[Settings],
    findings: &mut Findings,
) -> Vec<TcpRule<'d>> {
    let routes = objects.tcp_routes.iter();
    routes.map(|route| compile(route, references, policies, settings, findings)).collect()
}

fn compile<'d>(
    route: &Item<'d, TcpRouteSpec>,
    references: &References<'_, 'd>,
    policies: &Policies<'d>,
    settings: &[Settings],
    findings: &mut Findings,
) -> TcpRule<'d> {
    let (namespace, name) = (route.namespace(), route.name());
    if route.spec.rules.len() > 1 {
        let message = "a TCPRoute with several rules: nothing says which of them is meant";
        let help = "make it one rule with several `backendRefs`";
        findings.error_with_help(route.declared, "spec.rules[1]", message, help);
    }
    let mut backends = Vec::new();
    let section = route.spec.rules.first().and_then(|rule| rule.name.as_deref());
    for (rule_index, rule) in route.spec.rules.iter().enumerate() {
        for (index, backend) in rule.backend_refs.iter().enumerate() {
            let path = format!("spec.rules[{rule_index}].backendRefs[{index}]");
            let found =
                references.backend(route.declared, &path, backend.into(), Wanted::Bytes, findings);
            if rule_index == 0 {
                backends.push(TcpBackend {
                    cluster: found.map(|(_, port)| port.cluster),
                    weight: backend.weight.map_or(1, i32::unsigned_abs),
                    rate_limits: found.and_then(|(_, port)| {
                        of_connections(&settings[port.cluster.0 as usize].of_requests)
                    }),
                });
            }
        }
    }
    if backends.iter().all(|backend| backend.weight == 0) {
        let message = "a rule whose backends all have weight 0";
        let help = "its connections are reset";
        findings.warn(route.declared, "spec.rules[0].backendRefs", message, help);
        backends.clear();
    }
    let idle_of = |backend: &TcpBackend| settings[backend.cluster?.0 as usize].idle_timeout_ms;
    let said = policies.about(TargetKind::TcpRoute, namespace, name, section);
    TcpRule {
        declared: route.declared,
        subset: said.subset,
        rate_limits: of_connections(&said.of_requests),
        // Of several backends the longest, as with requests.
        backend_idle_timeout_ms: match backends.iter().all(|backend| idle_of(backend).is_some()) {
            true => backends.iter().filter_map(idle_of).max(),
            false => None,
        },
        route: TcpRoute {
            name: format!("TCPRoute/{namespace}/{name}/0"),
            backends,
            idle_timeout_ms: said.idle_timeout_ms,
            connection_ms_max: said.policy.connection_ms_max,
        },
    }
}
