//! The declared objects by kind, sorted by namespace and name.
//!
//! Before: objects in whatever order files and the API had them. After: every later step walks them in
//! this order, so that one set of objects makes one snapshot, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gateway_api::apis::experimental::gateways::GatewaySpec;
use gateway_api::apis::experimental::httproutes::HttpRouteSpec;
use gateway_api::apis::experimental::referencegrants::ReferenceGrantSpec;
use gateway_api::apis::experimental::tcproutes::TcpRouteSpec;
use k8s_openapi::api::core::v1::ServiceSpec as CoreServiceSpec;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::language::kinds::proxy::ProxySpec;
use crate::language::kinds::service::ServiceSpec;
use crate::language::kinds::traffic_policy::TrafficPolicySpec;
use crate::language::object::{Declared, Object};

/// An object of one kind.
#[derive(Debug)]
pub(super) struct Item<'d, S> {
    /// The object as it was declared, for its key and for places.
    pub(super) declared: &'d Declared,
    /// What it says.
    pub(super) spec: &'d S,
}

impl<S> Clone for Item<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Item<'_, S> {}

impl<'d, S> Item<'d, S> {
    pub(super) fn namespace(&self) -> &'d str {
        &self.declared.key.namespace
    }

    pub(super) fn name(&self) -> &'d str {
        &self.declared.key.name
    }
}

/// All objects.
#[derive(Debug, Default)]
pub(super) struct Objects<'d> {
    pub(super) http_routes: Vec<Item<'d, HttpRouteSpec>>,
    pub(super) tcp_routes: Vec<Item<'d, TcpRouteSpec>>,
    pub(super) gateways: Vec<Item<'d, GatewaySpec>>,
    pub(super) grants: Vec<Item<'d, ReferenceGrantSpec>>,
    pub(super) core_services: Vec<Item<'d, CoreServiceSpec>>,
    pub(super) slices: Vec<Item<'d, EndpointSlice>>,
    pub(super) services: Vec<Item<'d, ServiceSpec>>,
    pub(super) proxies: Vec<Item<'d, ProxySpec>>,
    pub(super) policies: Vec<Item<'d, TrafficPolicySpec>>,
    /// Labels of the namespaces that are declared.
    pub(super) namespace_labels: BTreeMap<&'d str, &'d BTreeMap<String, String>>,
    /// Every namespace that is declared, or that some object is in.
    pub(super) namespaces: BTreeSet<&'d str>,
}

impl<'d> Objects<'d> {
    /// Sorts them. Of two objects with one key, which the language refuses, either is taken.
    pub(super) fn sort(declared: &'d [Arc<Declared>]) -> Self {
        let mut sorted: Vec<&Declared> = declared.iter().map(|declared| &**declared).collect();
        sorted.sort_by(|one, other| one.key.cmp(&other.key));
        sorted.dedup_by(|one, other| one.key == other.key);
        let mut objects = Self::default();
        for declared in sorted {
            objects.add(declared);
        }
        objects
    }

    fn add(&mut self, declared: &'d Declared) {
        if declared.key.kind.is_namespaced() {
            self.namespaces.insert(&declared.key.namespace);
        }
        match &declared.object {
            Object::HttpRoute(spec) => self.http_routes.push(Item { declared, spec }),
            Object::TcpRoute(spec) => self.tcp_routes.push(Item { declared, spec }),
            Object::Gateway(spec) => self.gateways.push(Item { declared, spec }),
            Object::ReferenceGrant(spec) => self.grants.push(Item { declared, spec }),
            Object::CoreService(spec) => self.core_services.push(Item { declared, spec }),
            Object::EndpointSlice(spec) => self.slices.push(Item { declared, spec }),
            Object::Service(spec) => self.services.push(Item { declared, spec }),
            Object::Proxy(spec) => self.proxies.push(Item { declared, spec }),
            Object::TrafficPolicy(spec) => self.policies.push(Item { declared, spec }),
            Object::Namespace => {
                self.namespaces.insert(&declared.key.name);
                self.namespace_labels.insert(&declared.key.name, &declared.metadata.labels);
            }
        }
    }
}
