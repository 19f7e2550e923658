//! What the generated types do not say: which values fields take, and which fields Lateen has not.
//!
//! Ported from the Gateway API's definitions (config/crd, v1.5.1) and Kubernetes' validation. What
//! must hold between several fields is in `rules`.

use serde_json::{Value as Json, json};

use crate::language::object::ObjectKind;
use crate::language::text::Format;

/// Keyword for an object's fields that are not supported, each with a reason.
pub(super) const UNSUPPORTED_FIELDS: &str = "x-lateen-unsupported-fields";
/// Keyword for a text's values that are not supported, each with a reason.
pub(super) const UNSUPPORTED_VALUES: &str = "x-lateen-unsupported-values";

/// A bound on one field.
#[derive(Clone, Copy)]
enum Bound {
    /// The text has this form.
    Text(Format),
    /// The text has from so many to so many characters.
    Length(u64, u64),
    /// The number is in this range.
    Range(i64, i64),
    /// The list has from so many to so many items.
    Items(u64, u64),
    /// The text is one of these.
    OneOf(&'static [&'static str]),
    /// The number is one of these.
    Numbers(&'static [i64]),
    /// This text of the API is not supported, and why.
    Without(&'static str, &'static str),
    /// This field of the API is not supported, and why.
    Unsupported(&'static str),
}

use Bound::{Items, Length, Numbers, OneOf, Range, Text, Unsupported, Without};

type Table = &'static [(&'static str, Bound)];

const PORT: Bound = Range(1, 65_535);
const WEIGHT: Bound = Range(0, 1_000_000);

/// Tightens the schema of a kind.
pub(super) fn apply(kind: ObjectKind, schema: &mut Json) {
    apply_table(schema, "metadata", METADATA);
    if kind.is_namespaced() {
        apply_table(schema, "metadata", &[("namespace", Text(Format::Label))]);
    }
    match kind {
        ObjectKind::HttpRoute => {
            apply_table(schema, "spec.parentRefs[]", PARENT_REF);
            apply_table(schema, "spec", HTTP_ROUTE);
            apply_table(schema, "spec.rules[].filters[]", FILTER);
            apply_table(schema, "spec.rules[].filters[].requestMirror.backendRef", BACKEND_REF);
            apply_table(schema, "spec.rules[].backendRefs[]", BACKEND_REF);
            apply_table(schema, "spec.rules[].backendRefs[].filters[]", FILTER_OF_BACKEND);
            for filters in ["spec.rules[].filters[]", "spec.rules[].backendRefs[].filters[]"] {
                for field in ["requestHeaderModifier", "responseHeaderModifier"] {
                    apply_table(schema, &format!("{filters}.{field}"), HEADER_MODIFIER);
                }
            }
        }
        ObjectKind::TcpRoute => {
            apply_table(schema, "spec.parentRefs[]", PARENT_REF);
            apply_table(schema, "spec", TCP_ROUTE);
            apply_table(schema, "spec.rules[].backendRefs[]", BACKEND_REF);
        }
        ObjectKind::Gateway => apply_table(schema, "spec", GATEWAY),
        ObjectKind::ReferenceGrant => apply_table(schema, "spec", REFERENCE_GRANT),
        ObjectKind::Namespace => apply_table(schema, "metadata", &[("name", Text(Format::Label))]),
        ObjectKind::CoreService => {
            apply_table(schema, "metadata", &[("name", Text(Format::Label))]);
            apply_table(schema, "spec", CORE_SERVICE);
        }
        ObjectKind::EndpointSlice => apply_table(schema, "", ENDPOINT_SLICE),
        ObjectKind::Service => {
            apply_table(schema, "metadata", &[("name", Text(Format::Label))]);
            apply_table(schema, "spec", SERVICE);
        }
        ObjectKind::Proxy => apply_table(schema, "spec", PROXY),
        ObjectKind::TrafficPolicy => {
            apply_table(schema, "spec", TRAFFIC_POLICY);
            apply_table(schema, "spec.circuitBreaker.fallback.backendRef", BACKEND_REF);
        }
    }
}

const METADATA: Table = &[
    ("name", Text(Format::Name)),
    ("creationTimestamp", Text(Format::Time)),
    ("generateName", Unsupported("give the object a `name`")),
];

const PARENT_REF: Table = &[
    ("group", OneOf(&["gateway.networking.k8s.io", "", "lateen.dev"])),
    ("kind", OneOf(&["Gateway", "Service"])),
    ("kind", Without("ListenerSet", "attach the route to the Gateway")),
    ("name", Text(Format::Name)),
    ("namespace", Text(Format::Label)),
    ("port", PORT),
    ("sectionName", Text(Format::Name)),
];

const BACKEND_REF: Table = &[
    ("group", OneOf(&["", "lateen.dev"])),
    ("kind", OneOf(&["Service"])),
    ("kind", Without("ServiceImport", "refer to a Service")),
    ("name", Text(Format::Name)),
    ("namespace", Text(Format::Label)),
    ("port", PORT),
];

const USE_DEFAULT_GATEWAYS: Bound = Unsupported("name each Gateway in `parentRefs`");

const HTTP_ROUTE: Table = &[
    ("parentRefs", Items(0, 32)),
    ("hostnames", Items(0, 16)),
    ("hostnames[]", Text(Format::Hostname)),
    ("useDefaultGateways", USE_DEFAULT_GATEWAYS),
    ("rules", Items(1, 16)),
    ("rules[].name", Text(Format::Name)),
    ("rules[].matches", Items(0, 64)),
    ("rules[].matches[].path.value", Length(0, 1024)),
    ("rules[].matches[].headers", Items(0, 16)),
    ("rules[].matches[].headers[].name", Text(Format::HeaderName)),
    ("rules[].matches[].headers[].value", Length(1, 4096)),
    ("rules[].matches[].queryParams", Items(0, 16)),
    ("rules[].matches[].queryParams[].name", Text(Format::HeaderName)),
    ("rules[].matches[].queryParams[].value", Length(1, 1024)),
    ("rules[].filters", Items(0, 16)),
    ("rules[].backendRefs", Items(0, 16)),
    ("rules[].backendRefs[].weight", WEIGHT),
    ("rules[].backendRefs[].filters", Items(0, 16)),
    ("rules[].timeouts.request", Text(Format::Duration)),
    ("rules[].timeouts.backendRequest", Text(Format::Duration)),
    ("rules[].retry.codes", Items(0, 32)),
    ("rules[].retry.codes[]", Range(400, 599)),
    ("rules[].retry.attempts", Range(0, 8)),
    ("rules[].retry.backoff", Text(Format::Duration)),
    ("rules[].sessionPersistence.sessionName", Length(1, 128)),
    ("rules[].sessionPersistence.absoluteTimeout", Text(Format::Duration)),
    ("rules[].sessionPersistence.idleTimeout", Text(Format::Duration)),
];

const FILTER: Table = &[
    ("type", Without("ExtensionRef", "there are no filters beside those of the Gateway API")),
    ("type", Without("ExternalAuth", "authorize requests in the service")),
    ("extensionRef", Unsupported("there are no filters beside those of the Gateway API")),
    ("externalAuth", Unsupported("authorize requests in the service")),
    ("requestMirror.percent", Range(0, 100)),
    ("requestMirror.fraction.numerator", Range(0, i32::MAX as i64)),
    ("requestMirror.fraction.denominator", Range(1, i32::MAX as i64)),
    ("requestRedirect.hostname", Text(Format::PreciseHostname)),
    ("requestRedirect.port", PORT),
    ("requestRedirect.statusCode", Numbers(&[301, 302, 303, 307, 308])),
    ("requestRedirect.path.replaceFullPath", Text(Format::Path)),
    ("requestRedirect.path.replacePrefixMatch", Text(Format::PathPrefix)),
    ("urlRewrite.hostname", Text(Format::PreciseHostname)),
    ("urlRewrite.path.replaceFullPath", Text(Format::Path)),
    ("urlRewrite.path.replacePrefixMatch", Text(Format::PathPrefix)),
    ("cors.allowOrigins", Items(0, 64)),
    ("cors.allowOrigins[]", Text(Format::Origin)),
    ("cors.allowMethods", Items(0, 9)),
    (
        "cors.allowMethods[]",
        OneOf(&[
            "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*",
        ]),
    ),
    ("cors.allowHeaders", Items(0, 64)),
    ("cors.allowHeaders[]", Text(Format::HeaderName)),
    ("cors.exposeHeaders", Items(0, 64)),
    ("cors.exposeHeaders[]", Text(Format::HeaderName)),
    ("cors.maxAge", Range(1, i32::MAX as i64)),
];

/// Why the other filters are refused on a backend.
const ON_THE_RULE: &str = "a backend takes header changes only; put this filter on the rule";

const FILTER_OF_BACKEND: Table = &[
    ("type", Without("RequestMirror", ON_THE_RULE)),
    ("type", Without("RequestRedirect", ON_THE_RULE)),
    ("type", Without("URLRewrite", ON_THE_RULE)),
    ("type", Without("CORS", ON_THE_RULE)),
    ("type", Without("ExtensionRef", ON_THE_RULE)),
    ("type", Without("ExternalAuth", ON_THE_RULE)),
    ("requestMirror", Unsupported(ON_THE_RULE)),
    ("requestRedirect", Unsupported(ON_THE_RULE)),
    ("urlRewrite", Unsupported(ON_THE_RULE)),
    ("cors", Unsupported(ON_THE_RULE)),
    ("extensionRef", Unsupported(ON_THE_RULE)),
    ("externalAuth", Unsupported(ON_THE_RULE)),
];

const HEADER_MODIFIER: Table = &[
    ("set", Items(0, 16)),
    ("set[].name", Text(Format::HeaderName)),
    ("set[].value", Text(Format::HeaderValue)),
    ("add", Items(0, 16)),
    ("add[].name", Text(Format::HeaderName)),
    ("add[].value", Text(Format::HeaderValue)),
    ("remove", Items(0, 16)),
    ("remove[]", Text(Format::HeaderName)),
];

const TCP_ROUTE: Table = &[
    ("parentRefs", Items(0, 32)),
    ("useDefaultGateways", USE_DEFAULT_GATEWAYS),
    ("rules", Items(1, 16)),
    ("rules[].name", Text(Format::Name)),
    ("rules[].backendRefs", Items(1, 16)),
    ("rules[].backendRefs[].weight", WEIGHT),
];

const NO_TLS: &str = "listeners are HTTP or TCP";

const GATEWAY: Table = &[
    ("gatewayClassName", Text(Format::Name)),
    ("addresses", Unsupported("a listener of a Proxy says on which address the Gateway is")),
    ("allowedListeners", Unsupported("list all listeners in the Gateway")),
    ("defaultScope", Unsupported("routes name their Gateways in `parentRefs`")),
    ("infrastructure", Unsupported("a Proxy runs the Gateway's listeners")),
    ("tls", Unsupported(NO_TLS)),
    ("listeners", Items(1, 64)),
    ("listeners[].name", Text(Format::Name)),
    ("listeners[].port", PORT),
    ("listeners[].hostname", Text(Format::Hostname)),
    ("listeners[].protocol", OneOf(&["HTTP", "TCP"])),
    ("listeners[].protocol", Without("HTTPS", NO_TLS)),
    ("listeners[].protocol", Without("TLS", NO_TLS)),
    ("listeners[].protocol", Without("UDP", NO_TLS)),
    ("listeners[].tls", Unsupported(NO_TLS)),
    ("listeners[].allowedRoutes.kinds", Items(0, 8)),
    ("listeners[].allowedRoutes.kinds[].group", OneOf(&["gateway.networking.k8s.io"])),
    ("listeners[].allowedRoutes.kinds[].kind", OneOf(&["HTTPRoute", "TCPRoute"])),
    ("listeners[].allowedRoutes.kinds[].kind", Without("GRPCRoute", "use an HTTPRoute")),
    ("listeners[].allowedRoutes.kinds[].kind", Without("TLSRoute", NO_TLS)),
    ("listeners[].allowedRoutes.kinds[].kind", Without("UDPRoute", NO_TLS)),
    (
        "listeners[].allowedRoutes.namespaces.selector.matchExpressions[].operator",
        OneOf(&["In", "NotIn", "Exists", "DoesNotExist"]),
    ),
];

const REFERENCE_GRANT: Table = &[
    ("from", Items(1, 16)),
    ("from[].group", Text(Format::Group)),
    ("from[].kind", Text(Format::Kind)),
    ("from[].namespace", Text(Format::Label)),
    ("to", Items(1, 16)),
    ("to[].group", Text(Format::Group)),
    ("to[].kind", Text(Format::Kind)),
    ("to[].name", Text(Format::Name)),
];

/// What is about Kubernetes' own way to a Service (`clusterIP`, `selector`, `nodePort`, …) stays: a
/// proxy sends to the endpoints themselves.
const CORE_SERVICE: Table = &[
    ("ports[].name", Text(Format::Label)),
    ("ports[].port", PORT),
    ("ports[].protocol", OneOf(&["TCP", "UDP", "SCTP"])),
    ("type", OneOf(&["ClusterIP", "NodePort", "LoadBalancer"])),
    ("type", Without("ExternalName", "use a lateen.dev Service with `dns`")),
    ("externalName", Unsupported("use a lateen.dev Service with `dns`")),
    ("sessionAffinity", OneOf(&["None"])),
    ("sessionAffinity", Without("ClientIP", "each request is balanced on its own")),
    ("sessionAffinityConfig", Unsupported("each request is balanced on its own")),
    ("internalTrafficPolicy", OneOf(&["Cluster"])),
    ("internalTrafficPolicy", Without("Local", "all endpoints are equal")),
    ("trafficDistribution", Unsupported("all endpoints are equal")),
];

const ENDPOINT_SLICE: Table = &[
    ("addressType", OneOf(&["IPv4", "IPv6"])),
    ("addressType", Without("FQDN", "use a lateen.dev Service with `dns`")),
    ("endpoints", Items(0, 1000)),
    ("endpoints[].addresses", Items(1, 100)),
    ("endpoints[].addresses[]", Text(Format::Ip)),
    ("ports", Items(0, 20_000)),
    ("ports[].port", PORT),
    ("ports[].protocol", OneOf(&["TCP", "UDP", "SCTP"])),
];

const SERVICE: Table = &[
    ("ports", Items(1, 64)),
    ("ports[].name", Text(Format::Label)),
    ("ports[].port", PORT),
    ("endpoints", Items(0, 10_000)),
    ("endpoints[].address", Text(Format::Ip)),
    ("endpoints[].port", PORT),
    ("endpoints[].ports{}", PORT),
    ("endpoints[].weight", Range(1, 1_000)),
    ("dns.name", Text(Format::PreciseHostname)),
    ("dns.port", PORT),
    ("dns.ports{}", PORT),
];

const PROXY: Table = &[
    ("listeners", Items(1, 256)),
    ("listeners[].name", Text(Format::Label)),
    ("listeners[].address", Text(Format::Ip)),
    ("listeners[].port", PORT),
    ("listeners[].service", Text(Format::Label)),
    ("listeners[].maxConnectionDuration", Text(Format::Duration)),
    ("listeners[].proxyProtocol.from", Items(1, 64)),
    ("listeners[].proxyProtocol.from[]", Length(1, 64)),
    ("listeners[].target.address", Text(Format::Ip)),
    ("listeners[].target.port", PORT),
    ("listeners[].backend.group", OneOf(&["", "lateen.dev"])),
    ("listeners[].backend.name", Text(Format::Label)),
    ("listeners[].backend.namespace", Text(Format::Label)),
    ("listeners[].backend.port", PORT),
    ("listeners[].gateway.name", Text(Format::Name)),
    ("listeners[].gateway.namespace", Text(Format::Label)),
    ("listeners[].portOffset", Range(0, 65_534)),
    ("locality.zone", Length(1, 63)),
    ("locality.region", Length(1, 63)),
    ("outbound.services", Items(0, 10_000)),
    ("outbound.services[].name", Text(Format::Label)),
    ("outbound.services[].namespace", Text(Format::Label)),
    ("outbound.namespaces", Items(0, 10_000)),
    ("outbound.namespaces[]", Text(Format::NamespaceOrAll)),
];

const RATE: Bound = Range(1, 1_000_000_000);

const TRAFFIC_POLICY: Table = &[
    ("targetRefs", Items(1, 16)),
    ("targetRefs[].group", OneOf(&["lateen.dev", "", "gateway.networking.k8s.io"])),
    ("targetRefs[].kind", OneOf(&["Service", "HTTPRoute", "TCPRoute"])),
    ("targetRefs[].name", Text(Format::Name)),
    ("targetRefs[].sectionName", Text(Format::Name)),
    ("timeouts.connect", Text(Format::Duration)),
    ("timeouts.request", Text(Format::Duration)),
    ("timeouts.backendRequest", Text(Format::Duration)),
    ("timeouts.idle", Text(Format::Duration)),
    ("timeouts.maxConnectionDuration", Text(Format::Duration)),
    ("loadBalancing.peakEwma.defaultRtt", Text(Format::Duration)),
    ("loadBalancing.peakEwma.decay", Text(Format::Duration)),
    ("loadBalancing.hash.keys", Items(1, 16)),
    ("loadBalancing.hash.keys[].name", Length(1, 256)),
    ("loadBalancing.hash.boundPercent", Range(101, 10_000)),
    ("retry.attempts", Range(0, 8)),
    ("retry.on", Items(0, 8)),
    ("retry.statuses", Items(0, 32)),
    ("retry.statuses[]", Range(400, 599)),
    ("retry.headers", Items(1, 8)),
    ("retry.headers[].name", Text(Format::HeaderName)),
    ("retry.headers[].value", Length(1, 4096)),
    ("retry.backoff.base", Text(Format::Duration)),
    ("retry.backoff.max", Text(Format::Duration)),
    ("hedging.percentile", Range(50, 99)),
    ("hedging.delay", Text(Format::Duration)),
    ("retryBudget.percent", Range(0, 1_000)),
    ("retryBudget.minPerSecond", Range(0, 1_000_000)),
    ("loadBalancing.locality.failoverThresholdPercent", Range(1, 100)),
    ("loadBalancing.panicThresholdPercent", Range(0, 100)),
    ("loadBalancing.slowStart.window", Text(Format::Duration)),
    ("loadBalancing.slowStart.aggressionPercent", Range(1, 10_000)),
    ("loadBalancing.slowStart.minPercent", Range(1, 100)),
    ("loadBalancing.aperture.minEndpoints", Range(1, 1_048_576)),
    ("proxyProtocol.version", Numbers(&[1, 2])),
    ("faults.headers", Items(1, 16)),
    ("faults.headers[].name", Text(Format::HeaderName)),
    ("faults.headers[].value", Text(Format::HeaderValue)),
    ("faults.delay.duration", Text(Format::Duration)),
    ("faults.delay.fraction.denominator", Range(1, 1_000_000)),
    ("faults.abort.status", Range(400, 599)),
    ("faults.abort.fraction.denominator", Range(1, 1_000_000)),
    ("faults.responseBandwidth.bytesPerSecond", Range(1, 1 << 40)),
    ("faults.responseBandwidth.fraction.denominator", Range(1, 1_000_000)),
    ("bulkhead.maxConnections", Range(1, 1_000_000)),
    ("bulkhead.maxPending", Range(0, 1_000_000)),
    ("bulkhead.maxRequests", Range(1, 1_000_000)),
    ("bulkhead.maxRetries", Range(0, 1_000_000)),
    ("bulkhead.queueTimeout", Text(Format::Duration)),
    ("overload.queueDelay.target", Text(Format::Duration)),
    ("overload.queueDelay.interval", Text(Format::Duration)),
    ("overload.concurrency.minimum", Range(1, 1_000_000)),
    ("overload.concurrency.maximum", Range(1, 1_000_000)),
    ("rateLimits", Items(0, 8)),
    ("rateLimits[].name", Text(Format::Label)),
    ("rateLimits[].requests", RATE),
    ("rateLimits[].connections", RATE),
    ("rateLimits[].bytes", Range(1, 1_000_000_000_000)),
    ("rateLimits[].per", Text(Format::Duration)),
    ("rateLimits[].burst", Range(1, 1_000_000_000_000)),
    ("rateLimits[].key.name", Length(1, 256)),
    ("rateLimits[].key.ipv4PrefixLength", Range(0, 32)),
    ("rateLimits[].key.ipv6PrefixLength", Range(0, 128)),
    ("rateLimits[].key.trustedHops", Range(0, 16)),
    ("rateLimits[].maxKeys", Range(1, 1_000_000)),
    ("outlierDetection.consecutiveLocalOriginFailures", Range(0, 1_000)),
    ("outlierDetection.consecutiveGatewayErrors", Range(0, 1_000)),
    ("outlierDetection.consecutive5xxErrors", Range(0, 1_000)),
    ("outlierDetection.interval", Text(Format::Duration)),
    ("outlierDetection.baseEjectionTime", Text(Format::Duration)),
    ("outlierDetection.maxEjectionTime", Text(Format::Duration)),
    ("outlierDetection.maxEjectionPercent", Range(1, 100)),
    ("outlierDetection.successRate.stdevFactor", Range(1, 10_000)),
    ("outlierDetection.successRate.minimumHosts", Range(2, 1_000_000)),
    ("outlierDetection.successRate.requestVolume", Range(1, 1_000_000)),
    ("outlierDetection.failurePercentage.threshold", Range(1, 100)),
    ("outlierDetection.failurePercentage.requestVolume", Range(1, 1_000_000)),
    ("outlierDetection.latency.factorPercent", Range(101, 10_000)),
    ("outlierDetection.latency.margin", Text(Format::Duration)),
    ("outlierDetection.latency.requestVolume", Range(1, 1_000_000)),
    ("circuitBreaker.errorPercent", Range(1, 100)),
    ("circuitBreaker.requestVolume", Range(1, 1_000_000)),
    ("circuitBreaker.window", Text(Format::Duration)),
    ("circuitBreaker.sleep", Text(Format::Duration)),
    ("circuitBreaker.ramp", Text(Format::Duration)),
    ("circuitBreaker.fallback.response.status", Range(200, 599)),
    ("healthCheck.http.path", Text(Format::Path)),
    ("healthCheck.http.host", Text(Format::PreciseHostname)),
    ("healthCheck.http.expectedStatuses", Items(1, 16)),
    ("healthCheck.http.expectedStatuses[].from", Range(100, 599)),
    ("healthCheck.http.expectedStatuses[].to", Range(100, 599)),
    ("healthCheck.interval", Text(Format::Duration)),
    ("healthCheck.timeout", Text(Format::Duration)),
    ("healthCheck.unhealthyThreshold", Range(1, 1_000)),
    ("healthCheck.healthyThreshold", Range(1, 1_000)),
];

fn apply_table(schema: &mut Json, prefix: &str, table: Table) {
    for (path, bound) in table {
        let path = match prefix {
            "" => (*path).to_owned(),
            prefix => format!("{prefix}.{path}"),
        };
        apply_bound(schema, &path, *bound);
    }
}

fn apply_bound(schema: &mut Json, path: &str, bound: Bound) {
    if let Unsupported(reason) = bound {
        let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
        let Some(object) = find(schema, parent) else { return missing(path) };
        object["properties"].as_object_mut().and_then(|fields| fields.remove(name));
        object[UNSUPPORTED_FIELDS][name] = json!(reason);
        return;
    }
    let Some(field) = find(schema, path) else { return missing(path) };
    match bound {
        Text(format) => {
            field["format"] = json!(format.name());
            if let Some(pattern) = format.pattern() {
                field["pattern"] = json!(pattern);
            }
            if let Some(length_max) = format.length_max() {
                field["maxLength"] = json!(length_max);
            }
        }
        Length(min, max) => {
            field["minLength"] = json!(min);
            field["maxLength"] = json!(max);
        }
        Range(min, max) => {
            field["minimum"] = json!(min);
            field["maximum"] = json!(max);
        }
        Items(min, max) => {
            field["minItems"] = json!(min);
            field["maxItems"] = json!(max);
        }
        OneOf(values) => field["enum"] = json!(values),
        Numbers(values) => field["enum"] = json!(values),
        Without(value, reason) => {
            if let Some(values) = field.get_mut("enum").and_then(Json::as_array_mut) {
                values.retain(|allowed| allowed != value);
            }
            if let Some(values) = field.get_mut("oneOf").and_then(Json::as_array_mut) {
                values.retain(|allowed| allowed["const"] != value);
            }
            field[UNSUPPORTED_VALUES][value] = json!(reason);
        }
        Unsupported(_) => {}
    }
}

/// The tables are wrong; the test that compares the committed schemas stops here.
fn missing(path: &str) {
    debug_assert!(false, "no field `{path}` in the schema");
}

/// The schema at a path of field names, `[]` for the items of a list and `{}` for the values of a
/// mapping.
fn find<'a>(schema: &'a mut Json, path: &str) -> Option<&'a mut Json> {
    let mut schema = schema;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        let name = step.trim_end_matches("[]").trim_end_matches("{}");
        schema = not_null(schema).get_mut("properties")?.get_mut(name)?;
        if step.ends_with("[]") {
            schema = not_null(schema).get_mut("items")?;
        }
        if step.ends_with("{}") {
            schema = not_null(schema).get_mut("additionalProperties")?;
        }
    }
    Some(not_null(schema))
}

/// Of "this or null", this.
fn not_null(schema: &mut Json) -> &mut Json {
    let alternatives = schema["anyOf"].as_array();
    let index = alternatives.and_then(|all| all.iter().position(|one| one["type"] != "null"));
    match index {
        Some(index) => &mut schema["anyOf"][index],
        None => schema,
    }
}
