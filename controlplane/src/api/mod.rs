//! The API behind the CLI: HTTP/1 and JSON, on a Unix socket of its owner's, or on loopback with a token.
//!
//! Before: a request of `lateen`, or of whatever else speaks HTTP. After: an order to the control plane,
//! or a look at what it stores and knows. In reading order:
//!
//! 1. [`address`]: where it is. [`listen`]: serving there.
//! 2. [`routes`]: which request is which.
//! 3. [`changes`]: a change, and what became of it at every proxy.
//! 4. [`policies`]: what is in force on a route. [`overrides`]: what operators order of what runs.
//! 5. [`messages`]: what goes over it, both ways; the CLI uses the same types.
//! 6. [`error`]: what is answered when something is not done.
//! 7. [`limits`]: its bounds.

pub mod address;
pub mod listen;
pub mod routes;
pub mod changes;
pub mod policies;
pub mod overrides;
pub mod messages;
pub mod error;
pub mod limits;
