//! Who can be called: the Services of Kubernetes and of Lateen, and their ports.
//!
//! Both kinds share one set of names: `shop/cart` is one service, whoever declared it, since it is
//! called by one host name. So a reference to the core kind (`group: ""`, the default) also finds a
//! Service of Lateen, which makes the Gateway API's documents work unchanged without Kubernetes; a
//! reference that says `group: lateen.dev` finds no other.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;

use lateen_snapshot::model::ClusterId;

use crate::compile::findings::Findings;
use crate::compile::objects::{Item, Objects};
use crate::language::diagnostic::Diagnostic;
use crate::language::kinds::service::{PortProtocol, ServiceSpec};
use crate::language::object::{Declared, ObjectKind};
use crate::language::schema::check::nearest;
use k8s_openapi::api::core::v1::ServiceSpec as CoreServiceSpec;

/// A service.
#[derive(Debug)]
pub(super) struct Service<'d> {
    pub(super) declared: &'d Declared,
    pub(super) source: ServiceSource<'d>,
    pub(super) ports: Vec<ServicePort<'d>>,
}

/// What its endpoints are known from.
#[derive(Clone, Copy, Debug)]
pub(super) enum ServiceSource<'d> {
    /// EndpointSlices.
    Core(&'d CoreServiceSpec),
    /// Its own document.
    Own(&'d ServiceSpec),
}

/// A port of a service, which is a cluster.
#[derive(Debug)]
pub(super) struct ServicePort<'d> {
    pub(super) number: u16,
    pub(super) name: Option<&'d str>,
    pub(super) speaks: Speaks,
    /// Among those of the whole mesh.
    pub(super) cluster: ClusterId,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP/1.
    Http,
    /// Something else.
    Tcp,
    /// It was not said: a port of Kubernetes without `appProtocol`. HTTP where it is called so.
    Unsaid,
}

impl Speaks {
    pub(super) fn may_be_http(self) -> bool {
        self != Self::Tcp
    }
}

impl<'d> Service<'d> {
    pub(super) fn namespace(&self) -> &'d str {
        &self.declared.key.namespace
    }

    pub(super) fn name(&self) -> &'d str {
        &self.declared.key.name
    }

    /// The port of that number.
    pub(super) fn port(&self, number: u16) -> Option<&ServicePort<'d>> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// "80 and 81", or "none that speaks TCP".
    pub(super) fn list_ports(&self) -> String {
        let numbers: Vec<String> = self.ports.iter().map(|port| port.number.to_string()).collect();
        match numbers.as_slice() {
            [] => "none that speaks TCP".to_owned(),
            [one] => one.clone(),
            [others @ .., last] => format!("{} and {last}", others.join(", ")),
        }
    }
}

/// All services, by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Services<'d> {
    list: Vec<Service<'d>>,
    by_name: HashMap<(&'d str, &'d str), usize>,
    by_namespace: HashMap<&'d str, Range<usize>>,
    /// How often a name was looked for among all others.
    suggested: Cell<usize>,
}

/// So many mistyped names are compared with all others: each costs a look at every service.
const SUGGESTIONS_MAX: usize = 64;

/// Why there is no such service.
#[derive(Debug)]
pub(super) enum Missing<'s> {
    /// There is none of that name; this one was probably meant.
    Name { near: Option<&'s str> },
    /// There is none of that name in that namespace, but in this one.
    Namespace(&'s str),
    /// There is one, of Kubernetes, and one of Lateen was asked for.
    Group,
}

impl<'d> Services<'d> {
    pub(super) fn collect(objects: &Objects<'d>, findings: &mut Findings) -> Self {
        let mut clusters = (0..).map(ClusterId);
        let mut list: Vec<Service<'d>> = Vec::new();
        list.extend(objects.core_services.iter().map(core_service));
        list.extend(objects.services.iter().map(own_service));
        list.sort_by_key(|service| (service.namespace(), service.name()));
        list.dedup_by(|second, first| {
            let is_again = (first.namespace(), first.name()) == (second.namespace(), second.name());
            if is_again {
                findings.push(declared_twice(first, second));
            }
            is_again
        });
        let mut services = Self { list, ..Self::default() };
        for (index, service) in services.list.iter_mut().enumerate() {
            for port in &mut service.ports {
                port.cluster = clusters.next().expect("a set of files has fewer ports than 2^32");
            }
            services.by_name.insert((service.namespace(), service.name()), index);
            let range = services.by_namespace.entry(service.namespace()).or_insert(index..index);
            range.end = index + 1;
        }
        services
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Service<'d>> {
        self.list.iter()
    }

    pub(super) fn of_namespace(&self, namespace: &str) -> &[Service<'d>] {
        self.by_namespace.get(namespace).map_or(&[], |range| &self.list[range.clone()])
    }

    /// The service of that name, whoever declared it.
    pub(super) fn named(&self, namespace: &str, name: &str) -> Option<&Service<'d>> {
        self.by_name.get(&(namespace, name)).map(|&index| &self.list[index])
    }

    /// The service that a reference means.
    pub(super) fn find(
        &self,
        group: &str,
        namespace: &str,
        name: &str,
    ) -> Result<&Service<'d>, Missing<'_>> {
        match self.named(namespace, name) {
            Some(service) if is_of_group(service, group) => Ok(service),
            Some(_) => Err(Missing::Group),
            None => Err(self.missing(namespace, name)),
        }
    }

    fn missing(&self, namespace: &str, name: &str) -> Missing<'_> {
        let suggested = self.suggested.replace(self.suggested.get() + 1);
        let among = if suggested < SUGGESTIONS_MAX { self.of_namespace(namespace) } else { &[] };
        let names = among.iter().map(Service::name);
        if let Some(near) = nearest(name, names) {
            return Missing::Name { near: Some(near) };
        }
        match self.list.iter().find(|service| service.name() == name) {
            Some(service) => Missing::Namespace(service.namespace()),
            None => Missing::Name { near: None },
        }
    }
}

fn is_of_group(service: &Service<'_>, group: &str) -> bool {
    group.is_empty() || service.declared.key.kind.group() == group
}

fn declared_twice(first: &Service<'_>, second: &Service<'_>) -> Diagnostic {
    let message = format!(
        "the Service `{}` of the namespace `{}` is declared twice",
        second.name(),
        second.namespace()
    );
    let of = |service: &Service<'_>| match service.declared.key.kind {
        ObjectKind::CoreService => "this one is of Kubernetes",
        _ => "this one is of lateen.dev",
    };
    Diagnostic::error(message, second.declared.place_of("metadata.name"))
        .with_label(of(second))
        .with_related(first.declared.place_of("metadata.name"), of(first))
        .with_help("both kinds share their names, because both are called by one host name")
}

fn core_service<'d>(item: &Item<'d, CoreServiceSpec>) -> Service<'d> {
    let ports = item.spec.ports.iter().flatten();
    let ports = ports.filter(|port| port.protocol.as_deref().is_none_or(|name| name == "TCP"));
    let ports = ports.filter_map(|port| {
        let speaks = match port.app_protocol.as_deref() {
            None => Speaks::Unsaid,
            Some("http" | "kubernetes.io/ws") => Speaks::Http,
            Some(_) => Speaks::Tcp,
        };
        let name = port.name.as_deref().filter(|name| !name.is_empty());
        let number = u16::try_from(port.port).ok()?;
        Some(ServicePort { number, name, speaks, cluster: ClusterId(0) })
    });
    Service {
        declared: item.declared,
        source: ServiceSource::Core(item.spec),
        ports: ports.collect(),
    }
}

fn own_service<'d>(item: &Item<'d, ServiceSpec>) -> Service<'d> {
    let ports = item.spec.ports.iter().map(|port| ServicePort {
        number: port.port,
        name: port.name.as_deref(),
        speaks: match port.protocol {
            PortProtocol::Http => Speaks::Http,
            PortProtocol::Tcp => Speaks::Tcp,
        },
        cluster: ClusterId(0),
    });
    Service {
        declared: item.declared,
        source: ServiceSource::Own(item.spec),
        ports: ports.collect(),
    }
}
