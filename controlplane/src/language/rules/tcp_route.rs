//! Rules of a TCPRoute.

use gateway_api::apis::experimental::tcproutes::TcpRouteSpec;

use crate::language::rules::findings::Findings;
use crate::language::rules::route::{check_backend_port, check_parents, check_rule_names};

pub(super) fn check(route: &TcpRouteSpec, findings: &mut Findings<'_>) {
    check_parents(route.parent_refs.as_deref(), findings);
    check_rule_names(route.rules.iter().map(|rule| rule.name.as_ref()), findings);
    for (rule_index, rule) in route.rules.iter().enumerate() {
        for (index, backend) in rule.backend_refs.iter().enumerate() {
            let path = format!("spec.rules[{rule_index}].backendRefs[{index}]");
            check_backend_port(backend.port, &path, findings);
        }
    }
}
