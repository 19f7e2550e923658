//! What of a policy means nothing for a service that is not called by HTTP.
//!
//! A warning, where it is an error for a TCPRoute: an `Outbound` listener with such a port for its `backend`,
//! and an `Inbound` one of such a service, may detect HTTP all the same (`protocol: Auto`), and forward its
//! requests as the service's policies say.

use crate::compile::findings::Findings;
use crate::compile::in_force::settings::of_requests_alone;
use crate::compile::objects::Item;
use crate::compile::services::{Service, ServicePort};
use crate::language::diagnostic::Diagnostic;
use crate::language::kinds::traffic_policy::{TargetRef, TrafficPolicySpec};

/// Warns of what is about requests alone, where no port that `reference` means may speak HTTP.
pub(super) fn warn_of_bytes(
    policy: &Item<'_, TrafficPolicySpec>,
    reference: &TargetRef,
    path: &str,
    service: &Service<'_>,
    findings: &mut Findings,
) {
    let section = reference.section_name.as_deref();
    let is_meant = |port: &&ServicePort<'_>| section.is_none_or(|name| port.name == Some(name));
    let mut meant = service.ports.iter().filter(is_meant).peekable();
    if meant.peek().is_none() || meant.any(|port| port.speaks.may_be_http()) {
        return;
    }
    for field in of_requests_alone(policy.spec) {
        let message = match section {
            Some(name) => format!(
                "`{field}` means nothing for the target {}, whose port `{name}` does not speak HTTP",
                reference.kind
            ),
            None => format!(
                "`{field}` means nothing for the target {}, none of whose ports speaks HTTP",
                reference.kind
            ),
        };
        let at = policy.declared.place_of(&format!("spec.{field}"));
        let target = policy.declared.place_of(&format!("{path}.name"));
        let ports = service.declared.place_of("spec.ports");
        let help = "it holds for what a listener with `protocol: Auto` finds to be HTTP there alone; if that \
                    is what the port speaks, say `protocol: HTTP` (`appProtocol: http`) of it";
        findings.push(
            Diagnostic::warning(message, at)
                .with_label("this")
                .with_related(target, "and this")
                .with_related(ports, "its ports say so")
                .with_help(help),
        );
    }
}
