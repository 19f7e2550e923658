//! What must hold between the fields of one object: what no schema says.
//!
//! Before: the document was found to have the shape of its kind. The rules of the Gateway API's kinds
//! are those of its definitions (v1.5.1, `x-kubernetes-validations`).

pub(super) mod check;
mod endpoint_slice;
mod filters;
mod findings;
mod gateway;
mod http_route;
mod ports;
mod proxy;
mod proxy_sources;
mod route;
mod service;
mod session;
mod spans;
mod tcp_route;
mod traffic_policy;
