//! Typed objects, what they are called, and where each of their fields stands.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use gateway_api::apis::experimental::gateways::GatewaySpec;
use gateway_api::apis::experimental::httproutes::HttpRouteSpec;
use gateway_api::apis::experimental::referencegrants::ReferenceGrantSpec;
use gateway_api::apis::experimental::tcproutes::TcpRouteSpec;
use k8s_openapi::api::core::v1::ServiceSpec as CoreServiceSpec;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::language::document::{Document, Node, Value};
use crate::language::kinds::proxy::ProxySpec;
use crate::language::kinds::service::ServiceSpec;
use crate::language::kinds::traffic_policy::TrafficPolicySpec;
use crate::language::place::{Place, Span};

/// The kinds that can be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// `gateway.networking.k8s.io/v1` `HTTPRoute`.
    HttpRoute,
    /// `gateway.networking.k8s.io/v1alpha2` `TCPRoute`.
    TcpRoute,
    /// `gateway.networking.k8s.io/v1` `Gateway`.
    Gateway,
    /// `gateway.networking.k8s.io/v1` `ReferenceGrant`.
    ReferenceGrant,
    /// `v1` `Namespace`, for its labels.
    Namespace,
    /// `v1` `Service`, that of Kubernetes.
    CoreService,
    /// `discovery.k8s.io/v1` `EndpointSlice`.
    EndpointSlice,
    /// `lateen.dev/v1alpha1` `Service`.
    Service,
    /// `lateen.dev/v1alpha1` `Proxy`.
    Proxy,
    /// `lateen.dev/v1alpha1` `TrafficPolicy`.
    TrafficPolicy,
}

impl ObjectKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::HttpRoute,
        Self::TcpRoute,
        Self::Gateway,
        Self::ReferenceGrant,
        Self::Namespace,
        Self::CoreService,
        Self::EndpointSlice,
        Self::Service,
        Self::Proxy,
        Self::TrafficPolicy,
    ];

    /// The API group; empty for Kubernetes' core.
    pub const fn group(self) -> &'static str {
        match self {
            Self::HttpRoute | Self::TcpRoute | Self::Gateway | Self::ReferenceGrant => {
                "gateway.networking.k8s.io"
            }
            Self::Namespace | Self::CoreService => "",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::Service | Self::Proxy | Self::TrafficPolicy => "lateen.dev",
        }
    }

    /// The versions that are read, the preferred one first.
    pub const fn versions(self) -> &'static [&'static str] {
        match self {
            Self::HttpRoute | Self::Gateway | Self::ReferenceGrant => &["v1", "v1beta1"],
            Self::TcpRoute => &["v1alpha2"],
            Self::Namespace | Self::CoreService | Self::EndpointSlice => &["v1"],
            Self::Service | Self::Proxy | Self::TrafficPolicy => &["v1alpha1"],
        }
    }

    /// As in a document's `kind`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HttpRoute => "HTTPRoute",
            Self::TcpRoute => "TCPRoute",
            Self::Gateway => "Gateway",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::Namespace => "Namespace",
            Self::CoreService | Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Proxy => "Proxy",
            Self::TrafficPolicy => "TrafficPolicy",
        }
    }

    /// As in a document's `apiVersion`, with the preferred version.
    pub fn api_version(self) -> String {
        match self.group() {
            "" => self.versions()[0].to_owned(),
            group => format!("{group}/{}", self.versions()[0]),
        }
    }

    /// Whether an object of this kind has a namespace.
    pub const fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace)
    }
}

/// The name of the kind; Kubernetes' own Service as `Service (core)`.
impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CoreService => f.write_str("Service (core)"),
            kind => f.write_str(kind.name()),
        }
    }
}

/// The label that names the Service an EndpointSlice belongs to.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// What no two objects of a set share. A clone shares the texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its namespace, `default` where it names none; empty for a [`ObjectKind::Namespace`].
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// `HTTPRoute/shop/cart`.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{}/{}", self.kind, self.name),
            namespace => write!(f, "{}/{namespace}/{}", self.kind, self.name),
        }
    }
}

/// What an object says.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// Routes of HTTP.
    HttpRoute(Box<HttpRouteSpec>),
    /// Routes of bytes.
    TcpRoute(Box<TcpRouteSpec>),
    /// Listeners to the outside.
    Gateway(Box<GatewaySpec>),
    /// Leave to refer from one namespace to another.
    ReferenceGrant(Box<ReferenceGrantSpec>),
    /// A namespace; what counts are its labels, in the metadata.
    Namespace,
    /// A service of Kubernetes.
    CoreService(Box<CoreServiceSpec>),
    /// Endpoints of a service of Kubernetes.
    EndpointSlice(Box<EndpointSlice>),
    /// A service without Kubernetes.
    Service(Box<ServiceSpec>),
    /// What a proxy does.
    Proxy(Box<ProxySpec>),
    /// How requests are treated.
    TrafficPolicy(Box<TrafficPolicySpec>),
}

/// The part of an object's metadata that means something here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// When Kubernetes made it, as RFC 3339 in UTC and whole seconds, so that texts compare as times
    /// do; what is not from Kubernetes has none. The Gateway API prefers the older of two routes.
    pub created: Option<String>,
}

/// An object, and the document it is from.
#[derive(Clone, Debug)]
pub struct Declared {
    /// What it is called.
    pub key: ObjectKey,
    /// Labels and the like.
    pub metadata: Metadata,
    /// What it says.
    pub object: Object,
    /// Where it says so.
    pub document: Document,
}

impl Declared {
    /// Where a field stands, by a path such as `spec.rules[0].backendRefs[1].name`. Of a field that
    /// is not there, the closest thing around it that is.
    pub fn place_of(&self, path: &str) -> Place {
        let mut node = &self.document.root;
        let mut span = node.span;
        for step in steps(path) {
            let Some((next, next_span)) = step_into(node, step) else { break };
            node = next;
            span = next_span.unwrap_or(span);
        }
        self.document.place(span)
    }

    /// What is written at a path.
    pub(crate) fn node_at(&self, path: &str) -> Option<&Node> {
        steps(path).try_fold(&self.document.root, |node, step| Some(step_into(node, step)?.0))
    }
}

/// The names and positions of a path.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    let steps = path.split(['.', '[']).filter(|step| !step.is_empty());
    steps.map(|step| step.trim_end_matches(']'))
}

/// A field or an item of a node, and what a message about it points to.
fn step_into<'a>(node: &'a Node, step: &str) -> Option<(&'a Node, Option<Span>)> {
    if let Value::List(nodes) = &node.value {
        let item = nodes.get(step.parse::<usize>().ok()?)?;
        return Some((item, Some(item.span).filter(|span| !span.is_empty())));
    }
    let field = node.field(step)?;
    Some((&field.node, Some(field.value_span())))
}
