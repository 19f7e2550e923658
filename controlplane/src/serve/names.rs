//! How users name objects: `httproute/cart`, `services/cart`, `service.core/cart`. Pure.

use crate::language::object::{ObjectKey, ObjectKind};
use crate::serve::intent::Content;
use crate::serve::order::ObjectName;
use crate::serve::refusal::Refusal;

/// The one object that a user means.
///
/// # Errors
/// [`Refusal::NoSuchKind`], [`Refusal::NoSuchObject`] and [`Refusal::Ambiguous`].
pub fn find(content: &Content, wanted: &ObjectName) -> Result<ObjectKey, Refusal> {
    let kinds = kinds_named(&wanted.kind);
    if kinds.is_empty() {
        return Err(Refusal::NoSuchKind(wanted.kind.clone()));
    }
    let namespace = wanted.namespace.as_deref().unwrap_or("default");
    let named = |key: &&ObjectKey| kinds.contains(&key.kind) && *key.name == *wanted.name;
    let here = |key: &&ObjectKey| !key.kind.is_namespaced() || *key.namespace == *namespace;
    let found: Vec<&ObjectKey> = content.declared.keys().filter(named).filter(here).collect();
    match &found[..] {
        [key] => Ok((*key).clone()),
        [] => {
            let others = content.declared.keys().filter(named).map(ToString::to_string).collect();
            let namespace = match kinds.iter().any(|kind| kind.is_namespaced()) {
                true => format!("{namespace}/"),
                false => String::new(),
            };
            let wanted = format!("{}/{namespace}{}", wanted.kind, wanted.name);
            Err(Refusal::NoSuchObject { wanted, others })
        }
        several => Err(Refusal::Ambiguous(several.iter().map(ToString::to_string).collect())),
    }
}

/// The kinds that a user may mean: `service` is both of them, `service.core` is Kubernetes' own.
pub fn kinds_named(name: &str) -> Vec<ObjectKind> {
    let (name, group) = match name.split_once('.') {
        Some((name, group)) => (name, Some(group)),
        None => (name, None),
    };
    let is_meant = |kind: &ObjectKind| {
        let singular = kind.name().to_ascii_lowercase();
        let asked = name.to_ascii_lowercase();
        let is_plural =
            asked.strip_suffix("ies").is_some_and(|stem| format!("{stem}y") == singular)
                || asked.strip_suffix("es").is_some_and(|stem| stem == singular)
                || asked.strip_suffix('s').is_some_and(|stem| stem == singular);
        let is_group = group.is_none_or(|group| match kind.group() {
            "" => group.is_empty() || group == "core",
            own => group == own,
        });
        (asked == singular || is_plural) && is_group
    };
    ObjectKind::ALL.into_iter().filter(is_meant).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::intent::FileCache;

    #[test]
    fn kinds_go_by_names_that_people_type() {
        use ObjectKind::*;
        for (name, expected) in [
            ("HTTPRoute", &[HttpRoute][..]),
            ("httproutes", &[HttpRoute]),
            ("trafficpolicies", &[TrafficPolicy]),
            ("proxies", &[Proxy]),
            ("service", &[CoreService, Service]),
            ("service.core", &[CoreService]),
            ("services.lateen.dev", &[Service]),
            ("gateway.lateen.dev", &[]),
            ("s", &[]),
            ("", &[]),
        ] {
            assert_eq!(kinds_named(name), expected, "{name}");
        }
    }

    #[test]
    fn an_object_is_found_or_what_is_near_is_named() {
        let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n\
            apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\n\
            spec: {ports: [{port: 80}]}\n---\n\
            apiVersion: lateen.dev/v1alpha1\nkind: Service\nmetadata: {name: s, namespace: shop}\n\
            spec: {ports: [{name: http, port: 80}], endpoints: [{address: 127.0.0.1, port: 1}]}\n";
        let (parsed, content) = FileCache::default().parse([("f.yaml", text)].into_iter());
        assert_eq!(parsed.diagnostics, []);
        let found = |kind: &str, namespace: Option<&str>, name: &str| {
            let namespace = namespace.map(str::to_owned);
            let wanted = ObjectName { kind: kind.into(), namespace, name: name.into() };
            find(&content, &wanted).map_or_else(|e| e.to_string(), |key| key.to_string())
        };
        assert_eq!(found("namespace", None, "a"), "Namespace/a");
        assert_eq!(found("service.core", Some("shop"), "s"), "Service (core)/shop/s");
        assert_eq!(
            found("service", Some("shop"), "s"),
            "there are several: Service (core)/shop/s, Service/shop/s"
        );
        assert_eq!(
            found("service.core", None, "s"),
            "there is no service.core/default/s; there is Service (core)/shop/s"
        );
        assert_eq!(found("pod", None, "s"), "there is no kind pod");
    }
}
