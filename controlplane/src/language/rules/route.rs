//! What HTTPRoute and TCPRoute have in common: what they attach to, and what they lead to.

use gateway_api::apis::experimental::httproutes::HttpRouteParentRefs;
use gateway_api::apis::experimental::tcproutes::TcpRouteParentRefs;

use crate::language::rules::findings::Findings;

/// What a route attaches to.
#[derive(Clone, Copy)]
pub(super) struct ParentRef<'a> {
    group: &'a str,
    kind: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
    section_name: Option<&'a str>,
    port: Option<i32>,
}

/// Two route kinds, one form; the crate generates a type for each.
macro_rules! parent_ref_from {
    ($written:ty) => {
        impl<'a> From<&'a $written> for ParentRef<'a> {
            fn from(parent: &'a $written) -> Self {
                Self {
                    group: parent.group.as_deref().unwrap_or("gateway.networking.k8s.io"),
                    kind: parent.kind.as_deref().unwrap_or("Gateway"),
                    namespace: parent.namespace.as_deref(),
                    name: &parent.name,
                    section_name: parent.section_name.as_deref(),
                    port: parent.port,
                }
            }
        }
    };
}

parent_ref_from!(HttpRouteParentRefs);
parent_ref_from!(TcpRouteParentRefs);

/// The parents are of a kind that can be one, and distinct as the API has it.
pub(super) fn check_parents<'a, P: 'a>(parents: Option<&'a [P]>, findings: &mut Findings<'_>)
where
    ParentRef<'a>: From<&'a P>,
{
    let parents: Vec<ParentRef<'a>> =
        parents.unwrap_or_default().iter().map(ParentRef::from).collect();
    let own_namespace = findings.declared.key.namespace.clone();
    for (index, parent) in parents.iter().enumerate() {
        let path = format!("spec.parentRefs[{index}]");
        if (parent.kind == "Gateway") != (parent.group == "gateway.networking.k8s.io") {
            let help = "a Gateway is in `gateway.networking.k8s.io`; a Service in `\"\"` or `lateen.dev`, and its group must be written";
            let message = format!("there is no {} in the group `{}`", parent.kind, parent.group);
            findings.error_with_help(&path, message, help);
        }
        let same_object = |other: &ParentRef<'_>| {
            let key = |parent: &ParentRef<'_>| {
                let namespace = parent.namespace.unwrap_or(&own_namespace).to_owned();
                (parent.group.to_owned(), parent.kind.to_owned(), namespace, parent.name.to_owned())
            };
            key(other) == key(parent)
        };
        let Some(first) = parents[..index].iter().position(same_object) else { continue };
        let part = |parent: &ParentRef<'_>| (parent.section_name.map(str::to_owned), parent.port);
        let is_again =
            parents[..index].iter().any(|other| same_object(other) && part(other) == part(parent));
        let differs_in_fields = {
            let first = &parents[first];
            first.section_name.is_some() != parent.section_name.is_some()
                || first.port.is_some() != parent.port.is_some()
        };
        if is_again || differs_in_fields {
            let message = format!(
                "{} `{}` is a parent twice; each time must name another `sectionName` or `port`",
                parent.kind, parent.name
            );
            findings.conflict(&path, &format!("spec.parentRefs[{first}]"), message);
        }
    }
}

/// A reference to a Service says which of its ports is meant.
pub(super) fn check_backend_port(port: Option<i32>, path: &str, findings: &mut Findings<'_>) {
    if port.is_none() {
        let message = format!("`{path}.port` is missing");
        findings.error_with_help(path, message, "a Service is referred to with one of its ports");
    }
}

/// No two rules have one name.
pub(super) fn check_rule_names<'a>(
    names: impl Iterator<Item = Option<&'a String>>,
    findings: &mut Findings<'_>,
) {
    let named = names.enumerate().filter_map(|(index, name)| {
        let name = name?.clone();
        Some((format!("spec.rules[{index}].name"), name.clone(), name))
    });
    findings.unique("the rule", named);
}
