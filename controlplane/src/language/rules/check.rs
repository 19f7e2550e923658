//! Sends an object to the rules of its kind.

use crate::language::diagnostic::Diagnostic;
use crate::language::object::{Declared, Object};
use crate::language::rules::findings::Findings;
use crate::language::rules::{
    endpoint_slice, gateway, http_route, proxy, service, tcp_route, traffic_policy,
};

/// Adds what breaks a rule to the diagnostics.
pub(in crate::language) fn check(declared: &Declared, diagnostics: &mut Vec<Diagnostic>) {
    let findings = &mut Findings { declared, diagnostics };
    match &declared.object {
        Object::HttpRoute(route) => http_route::check(route, findings),
        Object::TcpRoute(route) => tcp_route::check(route, findings),
        Object::Gateway(gateway) => gateway::check(gateway, findings),
        Object::CoreService(service) => service::check_core(service, findings),
        Object::EndpointSlice(slice) => endpoint_slice::check(slice, findings),
        Object::Service(service) => service::check(service, findings),
        Object::Proxy(proxy) => proxy::check(proxy, findings),
        Object::TrafficPolicy(policy) => traffic_policy::check(policy, findings),
        Object::ReferenceGrant(_) | Object::Namespace => {}
    }
}
