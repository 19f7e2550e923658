//! References to services: whether there is such a service, such a port, and leave to refer to it.
//!
//! Leave is needed from a route or a policy to a service of another namespace; a ReferenceGrant there gives it. A
//! grant for Services of either group holds for a reference that could mean that group.

use std::collections::HashMap;

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesBackendRefs, HttpRouteRulesFiltersRequestMirrorBackendRef,
};
use gateway_api::apis::experimental::referencegrants::ReferenceGrantSpec;
use gateway_api::apis::experimental::tcproutes::TcpRouteRulesBackendRefs;

use crate::compile::findings::Findings;
use crate::compile::objects::Objects;
use crate::compile::services::{Missing, Service, ServicePort, Services};
use crate::language::diagnostic::Diagnostic;
use crate::language::kinds::traffic_policy::breaker::FallbackBackendRef;
use crate::language::object::Declared;
use crate::language::place::Place;

/// A reference to a port of a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackendRef<'a> {
    group: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
    port: Option<i32>,
}

/// Several kinds of it, one form; the crate generates a type for each.
macro_rules! backend_ref_from {
    ($written:ty) => {
        impl<'a> From<&'a $written> for BackendRef<'a> {
            fn from(written: &'a $written) -> Self {
                Self {
                    group: written.group.as_deref().unwrap_or_default(),
                    namespace: written.namespace.as_deref(),
                    name: &written.name,
                    port: written.port,
                }
            }
        }
    };
}

backend_ref_from!(HttpRouteRulesBackendRefs);
backend_ref_from!(HttpRouteRulesFiltersRequestMirrorBackendRef);
backend_ref_from!(TcpRouteRulesBackendRefs);

impl<'a> From<&'a FallbackBackendRef> for BackendRef<'a> {
    fn from(written: &'a FallbackBackendRef) -> Self {
        Self {
            group: written.group.as_deref().unwrap_or_default(),
            namespace: written.namespace.as_deref(),
            name: &written.name,
            port: Some(written.port.into()),
        }
    }
}

/// What a reference must lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A port that may speak HTTP.
    Http,
    /// Any port.
    Bytes,
}

/// All that references can lead to.
#[derive(Debug)]
pub(super) struct References<'s, 'd> {
    services: &'s Services<'d>,
    grants: HashMap<&'d str, Vec<&'d ReferenceGrantSpec>>,
}

impl<'s, 'd> References<'s, 'd> {
    pub(super) fn collect(objects: &Objects<'d>, services: &'s Services<'d>) -> Self {
        let mut grants: HashMap<&str, Vec<&ReferenceGrantSpec>> = HashMap::new();
        for grant in &objects.grants {
            grants.entry(grant.namespace()).or_default().push(grant.spec);
        }
        Self { services, grants }
    }

    /// The port that the reference of a route, or of a policy, at `path` leads to.
    pub(super) fn backend(
        &self,
        route: &Declared,
        path: &str,
        reference: BackendRef<'_>,
        wanted: Wanted,
        findings: &mut Findings,
    ) -> Option<(&'s Service<'d>, &'s ServicePort<'d>)> {
        let namespace = reference.namespace.unwrap_or(&route.key.namespace);
        let service = match self.services.find(reference.group, namespace, reference.name) {
            Ok(service) => service,
            Err(missing) => {
                let place = route.place_of(&format!("{path}.name"));
                findings.push(missing_service(missing, namespace, reference.name, place));
                return None;
            }
        };
        if *namespace != *route.key.namespace && !self.is_granted(route, service, reference) {
            findings.push(not_granted(route, path, service, reference));
        }
        let number = u16::try_from(reference.port?).ok()?;
        let Some(port) = service.port(number) else {
            findings.push(no_such_port(service, number, route.place_of(&format!("{path}.port"))));
            return None;
        };
        if wanted == Wanted::Http && !port.speaks.may_be_http() {
            let place = route.place_of(&format!("{path}.port"));
            findings.push(not_http(service, number, place));
            return None;
        }
        Some((service, port))
    }

    fn is_granted(
        &self,
        route: &Declared,
        service: &Service<'_>,
        reference: BackendRef<'_>,
    ) -> bool {
        let from = &route.key;
        let grants = self.grants.get(service.namespace()).into_iter().flatten();
        let groups = [reference.group, service.declared.key.kind.group()];
        grants.into_iter().any(|grant| {
            grant.from.iter().any(|one| {
                one.group == from.kind.group()
                    && one.kind == from.kind.name()
                    && *one.namespace == *from.namespace
            }) && grant.to.iter().any(|one| {
                groups.contains(&one.group.as_str())
                    && one.kind == "Service"
                    && one.name.as_deref().is_none_or(|name| name == service.name())
            })
        })
    }
}

/// There is no such service.
pub(super) fn missing_service(
    missing: Missing<'_>,
    namespace: &str,
    name: &str,
    place: Place,
) -> Diagnostic {
    let message = format!("there is no Service `{name}` in the namespace `{namespace}`");
    match missing {
        Missing::Name { near: Some(near) } => {
            Diagnostic::error(message, place).with_label(format!("did you mean `{near}`?"))
        }
        Missing::Name { near: None } => {
            Diagnostic::error(message, place).with_label("not declared")
        }
        Missing::Namespace(other) => Diagnostic::error(message, place)
            .with_help(format!("there is one in the namespace `{other}`")),
        Missing::Group => {
            let message = format!(
                "there is no Service `{name}` of the group `lateen.dev` in the namespace `{namespace}`"
            );
            Diagnostic::error(message, place)
                .with_help("there is one of Kubernetes: its group is `\"\"`")
        }
    }
}

/// The service has no such port.
pub(super) fn no_such_port(service: &Service<'_>, number: u16, place: Place) -> Diagnostic {
    let message = format!("the Service `{}` has no port {number}", service.name());
    let ports = service.declared.place_of("spec.ports");
    Diagnostic::error(message, place)
        .with_related(ports, format!("its ports: {}", service.list_ports()))
}

/// The port speaks something else.
pub(super) fn not_http(service: &Service<'_>, number: u16, place: Place) -> Diagnostic {
    let message = format!("port {number} of the Service `{}` does not speak HTTP", service.name());
    Diagnostic::error(message, place)
        .with_related(service.declared.place_of("spec.ports"), "its ports say so")
        .with_help("use a TCPRoute, or say `protocol: HTTP` (`appProtocol: http`) of the port")
}

fn not_granted(
    route: &Declared,
    path: &str,
    service: &Service<'_>,
    reference: BackendRef<'_>,
) -> Diagnostic {
    let (from, namespace) = (&route.key, service.namespace());
    let message = format!(
        "the {} `{}` may not refer to a Service of the namespace `{namespace}`",
        from.kind, from.name
    );
    Diagnostic::error(message, route.place_of(&format!("{path}.namespace"))).with_help(format!(
        "a ReferenceGrant in `{namespace}` gives leave: `from: [{{group: {}, kind: {}, namespace: \
         {}}}]`, `to: [{{group: \"{}\", kind: Service, name: {}}}]`",
        from.kind.group(),
        from.kind.name(),
        from.namespace,
        reference.group,
        service.name()
    ))
}

/// `what: "a", "b"`, or that there are none.
pub(super) fn list_names(what: &str, names: &[&str]) -> String {
    match names {
        [] => format!("{what}: none"),
        names => format!("{what}: `{}`", names.join("`, `")),
    }
}
