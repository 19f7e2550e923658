//! The JSON Schema of each accepted kind.
//!
//! The types give fields and descriptions; [`constraints`](super::constraints) add what values they
//! take and strike what is not supported yet. `controlplane/schemas` holds them for editors.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use gateway_api::apis::experimental::gateways::GatewaySpec;
use gateway_api::apis::experimental::httproutes::HttpRouteSpec;
use gateway_api::apis::experimental::referencegrants::ReferenceGrantSpec;
use gateway_api::apis::experimental::tcproutes::TcpRouteSpec;
use k8s_openapi::api::core::v1::{NamespaceSpec, ServiceSpec as CoreServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value as Json, json};

use crate::language::kinds::proxy::ProxySpec;
use crate::language::kinds::service::ServiceSpec;
use crate::language::kinds::traffic_policy::TrafficPolicySpec;
use crate::language::object::ObjectKind;
use crate::language::schema::constraints;
use crate::language::schema::shape::Shape;

/// What documents of a kind look like.
pub fn shape_of(kind: ObjectKind) -> &'static Shape {
    static SHAPES: LazyLock<BTreeMap<ObjectKind, Shape>> = LazyLock::new(|| {
        ObjectKind::ALL.map(|kind| (kind, Shape::from_json(&json_schema(kind)))).into()
    });
    &SHAPES[&kind]
}

/// The JSON Schema of a kind, as it is published. Cost: generates it anew.
pub fn json_schema(kind: ObjectKind) -> Json {
    let api_versions: Vec<String> = kind
        .versions()
        .iter()
        .map(|version| match kind.group() {
            "" => (*version).to_owned(),
            group => format!("{group}/{version}"),
        })
        .collect();
    let mut metadata = schema_of::<ObjectMeta>();
    metadata["required"] = json!(["name"]);
    if !kind.is_namespaced() {
        remove(&mut metadata["properties"], "namespace");
    }
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.name(),
        "type": "object",
        "properties": {
            "apiVersion": { "type": "string", "enum": api_versions },
            "kind": { "type": "string", "enum": [kind.name()] },
            "metadata": metadata,
        },
        "required": ["apiVersion", "kind", "metadata"],
    });
    let (body, requires_spec) = body_of(kind);
    merge(&mut schema["properties"], &body);
    if requires_spec {
        schema["required"] = json!(["apiVersion", "kind", "metadata", "spec"]);
    }
    if kind == ObjectKind::EndpointSlice {
        schema["required"] = json!(["apiVersion", "kind", "metadata", "addressType", "endpoints"]);
    }
    constraints::apply(kind, &mut schema);
    tidy(&mut schema);
    // Written by controllers, of no meaning here.
    schema["properties"]["status"] = json!({ "description": "Ignored: controllers write it." });
    schema
}

/// What stands beside the metadata, and whether a `spec` must.
fn body_of(kind: ObjectKind) -> (Json, bool) {
    let spec = match kind {
        ObjectKind::HttpRoute => schema_of::<HttpRouteSpec>(),
        ObjectKind::TcpRoute => schema_of::<TcpRouteSpec>(),
        ObjectKind::Gateway => schema_of::<GatewaySpec>(),
        ObjectKind::ReferenceGrant => schema_of::<ReferenceGrantSpec>(),
        ObjectKind::CoreService => schema_of::<CoreServiceSpec>(),
        ObjectKind::Service => schema_of::<ServiceSpec>(),
        ObjectKind::Proxy => schema_of::<ProxySpec>(),
        ObjectKind::TrafficPolicy => schema_of::<TrafficPolicySpec>(),
        ObjectKind::Namespace => return (json!({ "spec": schema_of::<NamespaceSpec>() }), false),
        ObjectKind::EndpointSlice => {
            let mut slice = schema_of::<EndpointSlice>();
            let properties = &mut slice["properties"];
            for name in ["apiVersion", "kind", "metadata"] {
                remove(properties, name);
            }
            return (properties.take(), false);
        }
    };
    (json!({ "spec": spec }), true)
}

fn schema_of<T: JsonSchema>() -> Json {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    for name in ["$schema", "title"] {
        remove(&mut schema, name);
    }
    schema
}

/// Shortens descriptions to their first paragraph, closes objects, and drops what says nothing.
fn tidy(schema: &mut Json) {
    let Some(map) = schema.as_object_mut() else { return };
    if let Some(Json::String(description)) = map.get_mut("description") {
        let paragraph = description.split("\n\n").next().unwrap_or_default();
        *description = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    map.remove("default");
    if map.contains_key("properties") {
        map.insert("additionalProperties".to_owned(), json!(false));
    }
    for name in ["items", "additionalProperties"] {
        map.get_mut(name).into_iter().for_each(tidy);
    }
    for name in ["anyOf", "oneOf"] {
        let alternatives = map.get_mut(name).and_then(Json::as_array_mut);
        alternatives.into_iter().flatten().for_each(tidy);
    }
    let properties = map.get_mut("properties").and_then(Json::as_object_mut);
    properties.into_iter().flatten().for_each(|(_, schema)| tidy(schema));
}

fn remove(object: &mut Json, name: &str) {
    object.as_object_mut().and_then(|map: &mut Map<String, Json>| map.remove(name));
}

fn merge(object: &mut Json, added: &Json) {
    for (name, value) in added.as_object().into_iter().flatten() {
        object[name] = value.clone();
    }
}
