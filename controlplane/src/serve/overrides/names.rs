//! What an order is about, as people say it: a service or a port of it, an endpoint, a route or a rule of it.
//!
//! Before: a command line, or a request of the API. After: [`lookup`](super::lookup) finds it. Pure.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::compile::in_force::BackendPort;

/// The namespace of a name without one.
const DEFAULT_NAMESPACE: &str = "default";

/// A service: `shop/cart`; or a port of it, by number or name: `shop/cart:80`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The number or the name of its port; `None`: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
}

/// An endpoint: `10.0.0.7:8080`; or all at an address: `10.0.0.7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointName {
    /// Its address.
    pub address: IpAddr,
    /// Its port; `None`: whichever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// The kinds that routes are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteKind {
    /// An HTTPRoute; its rules have numbers from 0, and names.
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
    /// What leads to a service that no HTTPRoute is attached to; its ports have numbers, and names.
    Service,
}

/// A route: `HTTPRoute/shop/cart`; or a rule of it, by number or name: `HTTPRoute/shop/cart/pay`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteName {
    /// Its kind.
    pub kind: RouteKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// A rule of an HTTPRoute, or a port of a service; `None`: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
}

/// `None` stands for all.
fn covers_part<T: PartialEq>(whole: &Option<T>, part: &Option<T>) -> bool {
    whole.is_none() || whole == part
}

impl ServiceName {
    /// Whether `other` is this or a part of it.
    pub fn covers(&self, other: &Self) -> bool {
        (&self.namespace, &self.name) == (&other.namespace, &other.name)
            && covers_part(&self.port, &other.port)
    }

    /// Whether a port of a service is meant.
    pub fn means(&self, of: &BackendPort) -> bool {
        let is_port =
            |port: &String| of.port_name.as_ref() == Some(port) || port.parse() == Ok(of.port);
        (&self.namespace, &self.name) == (&of.namespace, &of.name)
            && self.port.as_ref().is_none_or(is_port)
    }
}

impl EndpointName {
    /// Whether `other` is this or a part of it.
    pub fn covers(&self, other: &Self) -> bool {
        self.address == other.address && covers_part(&self.port, &other.port)
    }

    /// Whether an endpoint is meant.
    pub fn means(&self, endpoint: SocketAddr) -> bool {
        self.address == endpoint.ip() && self.port.is_none_or(|port| port == endpoint.port())
    }
}

impl RouteKind {
    /// As in the names of routes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HttpRoute => "HTTPRoute",
            Self::Service => "Service",
        }
    }
}

impl RouteName {
    /// Whether `other` is this or a part of it.
    pub fn covers(&self, other: &Self) -> bool {
        (self.kind, &self.namespace, &self.name) == (other.kind, &other.namespace, &other.name)
            && covers_part(&self.part, &other.part)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service/{}/{}", self.namespace, self.name)?;
        self.port.as_ref().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Display for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind.as_str(), self.namespace, self.name)?;
        self.part.as_ref().map_or(Ok(()), |part| write!(f, "/{part}"))
    }
}

/// `[NAMESPACE/]NAME[:PORT]`, also with `Service/` before it, as it is shown.
impl FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no [NAMESPACE/]NAME[:PORT], such as shop/cart:80");
        let (service, port) = match text.split_once(':') {
            Some((service, port)) => (service, Some(port.to_owned())),
            None => (text, None),
        };
        let parts: Vec<&str> = service.split('/').collect();
        let (namespace, name) = match parts[..] {
            [name] => (DEFAULT_NAMESPACE, name),
            [namespace, name] | ["Service", namespace, name] => (namespace, name),
            _ => return Err(wrong()),
        };
        let is_there = |part: &str| !part.is_empty() && !part.contains([':', '/']);
        if !is_there(namespace) || !is_there(name) || port.as_deref().is_some_and(|p| !is_there(p))
        {
            return Err(wrong());
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned(), port })
    }
}

/// `ADDRESS[:PORT]`
impl FromStr for EndpointName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { address, port: None });
        }
        match text.parse::<SocketAddr>() {
            Ok(at) if at.port() != 0 => Ok(Self { address: at.ip(), port: Some(at.port()) }),
            _ => {
                Err(format!("`{text}` is no ADDRESS[:PORT], such as 10.0.0.7:8080 or [fd00::7]:80"))
            }
        }
    }
}

/// `HTTPRoute/NAMESPACE/NAME[/RULE]` or `Service/NAMESPACE/NAME[/PORT]`
impl FromStr for RouteName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no HTTPRoute/NAMESPACE/NAME[/RULE] or Service/NAMESPACE/NAME[/PORT], such \
                 as HTTPRoute/shop/cart/0"
            )
        };
        let parts: Vec<&str> = text.split('/').collect();
        let (kind, namespace, name, part) = match parts[..] {
            [kind, namespace, name] => (kind, namespace, name, None),
            [kind, namespace, name, part] => (kind, namespace, name, Some(part.to_owned())),
            _ => return Err(wrong()),
        };
        let kinds = [RouteKind::HttpRoute, RouteKind::Service];
        let kind = kinds.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(kind));
        let kind = kind.ok_or_else(wrong)?;
        if parts.iter().any(|part| part.is_empty()) {
            return Err(wrong());
        }
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Ok(Self { kind, namespace, name, part })
    }
}
