//! A cluster of each port of a service: where its endpoints are.
//!
//! Before: services and the policies about them. After: routes point to these clusters. Of a Service of
//! Kubernetes the EndpointSlices say it, by kube-proxy's rules: endpoints that are ready; if there are
//! none, those that still serve while they terminate (KEP-1669), which stay known so that they can finish
//! what they have. Of several addresses of an endpoint,
//! which are all the same to Kubernetes, the first counts.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ServiceSpec as CoreServiceSpec;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use lateen_snapshot::model::{Balancing, Cluster, Endpoint};

use crate::compile::findings::Findings;
use crate::compile::localities::ZONE_LABEL;
use crate::compile::objects::{Item, Objects};
use crate::compile::policy::Settings;
use crate::compile::references::missing_service;
use crate::compile::services::{Service, ServicePort, ServiceSource, Services};
use crate::language::diagnostic::Diagnostic;
use crate::language::kinds::service::ServiceSpec;
use crate::language::object::SERVICE_NAME_LABEL;

/// A cluster of the mesh.
#[derive(Clone, Debug)]
pub(super) struct MeshCluster {
    /// Without endpoints if DNS has them.
    pub(super) cluster: Arc<Cluster>,
    /// Whose addresses the endpoints have.
    pub(super) dns: Option<DnsSource>,
    /// Of each endpoint; empty: none has any.
    pub(super) labels: Vec<BTreeMap<String, String>>,
}

/// A DNS name, and the port of the endpoints at its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DnsSource {
    pub(super) name: Arc<str>,
    pub(super) port: u16,
}

/// An endpoint, as one of the sources says it.
struct Found<'d> {
    address: SocketAddr,
    weight: u32,
    is_terminating: bool,
    labels: Option<Cow<'d, BTreeMap<String, String>>>,
}

type Slices<'d> = HashMap<(&'d str, &'d str), Vec<Item<'d, EndpointSlice>>>;

/// The clusters of all services' ports, in their order, as `settings` are. One that is as it was
/// `before` stays the same.
pub(super) fn collect_clusters<'d>(
    objects: &Objects<'d>,
    services: &Services<'d>,
    settings: &[Settings],
    before: &HashMap<String, Arc<Cluster>>,
    findings: &mut Findings,
) -> Vec<MeshCluster> {
    let slices = slices_by_service(objects, services, findings);
    let mut clusters = Vec::new();
    for service in services.iter() {
        let of_service = slices.get(&(service.namespace(), service.name()));
        let of_service = of_service.map(Vec::as_slice).unwrap_or_default();
        for port in &service.ports {
            debug_assert_eq!(port.cluster.0 as usize, clusters.len(), "services are in order");
            let (endpoints, dns) = match service.source {
                ServiceSource::Own(spec) => own_endpoints(spec, port),
                ServiceSource::Core(spec) => {
                    warn_of_no_slice(service, port, of_service, findings);
                    let stays_near = settings[clusters.len()].locality_percent.is_some();
                    (slice_endpoints(spec, port, of_service, stays_near), None)
                }
            };
            let (cluster, labels) = cluster_of(service, port, endpoints, &settings[clusters.len()]);
            let cluster = match before.get(&cluster.name) {
                Some(same) if **same == cluster => Arc::clone(same),
                _ => Arc::new(cluster),
            };
            clusters.push(MeshCluster { cluster, dns, labels });
        }
    }
    clusters
}

fn cluster_of(
    service: &Service<'_>,
    port: &ServicePort<'_>,
    mut endpoints: Vec<Found<'_>>,
    settings: &Settings,
) -> (Cluster, Vec<BTreeMap<String, String>>) {
    endpoints.sort_unstable_by_key(|found| (found.address, found.weight, found.is_terminating));
    endpoints.dedup_by_key(|found| found.address);
    let weights = match endpoints.iter().all(|found| found.weight == 1) {
        true => Vec::new(),
        false => endpoints.iter().map(|found| found.weight).collect(),
    };
    let balancing = settings.balancing.clone().unwrap_or_default();
    let mut policy = settings.policy.clone();
    if matches!(balancing, Balancing::RingHash(_) | Balancing::Maglev(_)) {
        // Of the service, where its port is balanced otherwise.
        policy.slow_start = None;
    }
    if matches!(balancing, Balancing::Random | Balancing::RingHash(_) | Balancing::Maglev(_)) {
        policy.aperture = None;
    }
    let labels = match endpoints.iter().any(|found| found.labels.is_some()) {
        true => endpoints
            .iter()
            .map(|found| found.labels.as_deref().cloned().unwrap_or_default())
            .collect(),
        false => Vec::new(),
    };
    let terminating = endpoints.iter().zip(0..).filter(|(found, _)| found.is_terminating);
    policy.terminating = terminating.map(|(_, index)| index).collect();
    let cluster = Cluster {
        name: format!("{}/{}:{}", service.namespace(), service.name(), port.number),
        endpoints: endpoints.iter().map(|found| Endpoint { address: found.address }).collect(),
        weights,
        balancing,
        connect_timeout_ms: settings.connect_timeout_ms,
        policy,
    };
    (cluster, labels)
}

fn own_endpoints<'d>(
    spec: &'d ServiceSpec,
    port: &ServicePort<'_>,
) -> (Vec<Found<'d>>, Option<DnsSource>) {
    // The language checked that one of the two is there for each port of the service.
    let by_name = |ports: &Option<BTreeMap<String, u16>>| {
        ports.as_ref().and_then(|ports| ports.get(port.name?).copied())
    };
    if let Some(dns) = &spec.dns {
        let number = dns.port.or_else(|| by_name(&dns.ports)).unwrap_or(port.number);
        let source = DnsSource { name: Arc::from(dns.name.as_str()), port: number };
        return (Vec::new(), Some(source));
    }
    let endpoints = spec.endpoints.iter().flatten();
    let addresses = endpoints.map(|endpoint| {
        let number = endpoint.port.or_else(|| by_name(&endpoint.ports)).unwrap_or(port.number);
        Found {
            address: SocketAddr::new(endpoint.address, number),
            weight: endpoint.weight.unwrap_or(1),
            is_terminating: false,
            labels: endpoint.labels.as_ref().map(Cow::Borrowed),
        }
    });
    (addresses.collect(), None)
}

fn slices_by_service<'d>(
    objects: &Objects<'d>,
    services: &Services<'d>,
    findings: &mut Findings,
) -> Slices<'d> {
    let mut slices: Slices<'d> = HashMap::new();
    for slice in &objects.slices {
        let Some(name) = slice.declared.metadata.labels.get(SERVICE_NAME_LABEL) else { continue };
        let namespace = slice.namespace();
        match services.named(namespace, name) {
            Some(Service { source: ServiceSource::Core(_), .. }) => {
                slices.entry((namespace, name)).or_default().push(*slice);
            }
            Some(own) => findings.push(
                Diagnostic::error(
                    format!("the Service `{name}` of lateen.dev has no EndpointSlices"),
                    slice.declared.place_of("metadata.labels"),
                )
                .with_related(own.declared.place_of("metadata.name"), "this one")
                .with_help("its endpoints are listed in itself"),
            ),
            None => {
                let missing = services.find("", namespace, name).expect_err("there is none");
                let place = slice.declared.place_of("metadata.labels");
                findings.push(missing_service(missing, namespace, name, place));
            }
        }
    }
    slices
}

/// The slice's port of that name, as its endpoints listen on it.
fn slice_port(slice: &EndpointSlice, port: &ServicePort<'_>) -> Option<u16> {
    let is_of_port = |of_slice: &&k8s_openapi::api::discovery::v1::EndpointPort| {
        of_slice.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
            && of_slice.name.as_deref().unwrap_or_default() == port.name.unwrap_or_default()
    };
    let found = slice.ports.iter().flatten().find(is_of_port)?;
    // Without a number it stands for every port, so for the one that is called.
    Some(found.port.and_then(|number| u16::try_from(number).ok()).unwrap_or(port.number))
}

fn slice_endpoints(
    service: &CoreServiceSpec,
    port: &ServicePort<'_>,
    slices: &[Item<'_, EndpointSlice>],
    stays_near: bool,
) -> Vec<Found<'static>> {
    let mut found = Vec::new();
    let family = primary_family(service, slices);
    let of_family = slices.iter().filter(|slice| slice.spec.address_type == family);
    for slice in of_family {
        let Some(number) = slice_port(slice.spec, port) else { continue };
        for endpoint in &slice.spec.endpoints {
            let first = endpoint.addresses.first();
            let Some(address) = first.and_then(|text| text.parse::<IpAddr>().ok()) else {
                continue;
            };
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let is_terminating = !conditions.ready.unwrap_or(true);
            let serves_still =
                conditions.serving.unwrap_or(true) && conditions.terminating == Some(true);
            if !is_terminating || serves_still {
                let address = SocketAddr::new(address, number);
                let zone = endpoint.zone.clone().filter(|_| stays_near);
                let labels = zone.map(|zone| BTreeMap::from([(ZONE_LABEL.to_owned(), zone)]));
                let labels = labels.map(Cow::Owned);
                found.push(Found { address, weight: 1, is_terminating, labels });
            }
        }
    }
    found
}

/// A service with addresses of both families has each endpoint once for each: one of them is enough.
fn primary_family<'s>(
    service: &'s CoreServiceSpec,
    slices: &'s [Item<'_, EndpointSlice>],
) -> &'s str {
    let has = |family: &str| slices.iter().any(|slice| slice.spec.address_type == family);
    let preferred = service.ip_families.iter().flatten().map(String::as_str);
    preferred.chain(["IPv4", "IPv6"]).find(|family| has(family)).unwrap_or("IPv4")
}

fn warn_of_no_slice(
    service: &Service<'_>,
    port: &ServicePort<'_>,
    slices: &[Item<'_, EndpointSlice>],
    findings: &mut Findings,
) {
    if slices.iter().any(|slice| slice_port(slice.spec, port).is_some()) {
        return;
    }
    let (what, help) = match slices.first() {
        None => (
            "has no EndpointSlice".to_owned(),
            format!("one with the label `{SERVICE_NAME_LABEL}: {}` lists them", service.name()),
        ),
        Some(slice) => {
            let names = slice.spec.ports.iter().flatten();
            let names: Vec<&str> =
                names.map(|port| port.name.as_deref().unwrap_or("\"\"")).collect();
            let wanted = port.name.unwrap_or("\"\"");
            let help = format!("the EndpointSlice `{}` has {}", slice.name(), names.join(", "));
            (format!("has no EndpointSlice with a port named `{wanted}`"), help)
        }
    };
    let message = format!(
        "port {} of the Service `{}` {what}: it has no endpoints",
        port.number,
        service.name()
    );
    findings.warn(service.declared, "spec.ports", message, help);
}
