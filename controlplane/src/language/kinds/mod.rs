//! The kinds of `lateen.dev/v1alpha1`: what Kubernetes and the Gateway API have no words for.
//!
//! Plain types as they are written, their descriptions and their JSON Schemas. What values they take
//! is in `schema::constraints`, what must hold between fields in `rules`.

pub mod proxy;
pub mod service;
pub mod traffic_policy;
