//! Rules of a Gateway.

use gateway_api::apis::experimental::gateways::{
    GatewayListeners, GatewayListenersAllowedRoutes,
    GatewayListenersAllowedRoutesNamespacesFrom as From, GatewaySpec,
};

use crate::language::rules::findings::Findings;

pub(super) fn check(gateway: &GatewaySpec, findings: &mut Findings<'_>) {
    let listeners = &gateway.listeners;
    let names = listeners.iter().enumerate().map(|(index, listener)| {
        (format!("spec.listeners[{index}].name"), listener.name.clone(), listener.name.clone())
    });
    findings.unique("the listener", names);
    for (index, listener) in listeners.iter().enumerate() {
        let path = format!("spec.listeners[{index}]");
        if listener.protocol == "TCP" && listener.hostname.is_some() {
            let message = "a TCP listener has no `hostname`: bytes name no host";
            findings.error(&format!("{path}.hostname"), message);
        }
        check_distinct(listeners, index, &path, findings);
        if let Some(allowed) = &listener.allowed_routes {
            check_allowed_routes(listener, allowed, &format!("{path}.allowedRoutes"), findings);
        }
    }
}

/// Listeners of one port speak one protocol, and differ in their host names.
fn check_distinct(
    listeners: &[GatewayListeners],
    index: usize,
    path: &str,
    findings: &mut Findings<'_>,
) {
    let listener = &listeners[index];
    let earlier = listeners[..index].iter().position(|other| {
        other.port == listener.port
            && (other.protocol != listener.protocol || other.hostname == listener.hostname)
    });
    let Some(first) = earlier else { return };
    let message = match listeners[first].protocol == listener.protocol {
        true => format!(
            "two listeners with port {}, protocol {} and the same host name",
            listener.port, listener.protocol
        ),
        false => format!("port {} can't be both HTTP and TCP", listener.port),
    };
    findings.conflict(&format!("{path}.port"), &format!("spec.listeners[{first}].port"), message);
}

fn check_allowed_routes(
    listener: &GatewayListeners,
    allowed: &GatewayListenersAllowedRoutes,
    path: &str,
    findings: &mut Findings<'_>,
) {
    let fitting = if listener.protocol == "TCP" { "TCPRoute" } else { "HTTPRoute" };
    for (index, kind) in allowed.kinds.iter().flatten().enumerate() {
        if kind.kind != fitting {
            let path = format!("{path}.kinds[{index}].kind");
            let message =
                format!("no {} attaches to a listener of {}", kind.kind, listener.protocol);
            findings.error_with_help(&path, message, format!("it can be `{fitting}`"));
        }
    }
    let Some(namespaces) = &allowed.namespaces else { return };
    let by_selector = namespaces.from == Some(From::Selector);
    match &namespaces.selector {
        None if by_selector => {
            findings.error(&format!("{path}.namespaces.from"), "`from: Selector` needs `selector`");
        }
        Some(_) if !by_selector => {
            let path = format!("{path}.namespaces.selector");
            findings.error(&path, "`selector` goes with `from: Selector` alone");
        }
        Some(selector) => {
            for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
                let path = format!("{path}.namespaces.selector.matchExpressions[{index}]");
                let has_values =
                    expression.values.as_ref().is_some_and(|values| !values.is_empty());
                let needs_values = matches!(expression.operator.as_str(), "In" | "NotIn");
                if has_values != needs_values {
                    let verb = if needs_values { "needs" } else { "has no" };
                    let message = format!("`operator: {}` {verb} `values`", expression.operator);
                    findings.error(&format!("{path}.operator"), message);
                }
            }
        }
        None => {}
    }
}
