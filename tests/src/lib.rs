//! What the tests in `tests/tests/` are made of.
//!
//! In reading order: `proxy` runs the built binary and looks at it from outside (its output, its
//! admin endpoint, its access log, its memory), and `control` plays its control plane, where `example`
//! starts a real one; `peer` and `upstream` are a client and a server that send exactly the bytes a test
//! says; `http` reads what came back; `tools` runs the real
//! clients and servers (curl, wrk, nginx, a WebSocket library). `tidy` stands apart: it checks the
//! tree itself. Nothing here is linked into the product.

pub mod binary;
pub mod proxy;
pub mod control;
pub mod example;
pub mod metrics;
pub mod peer;
pub mod http;
pub mod upstream;
pub mod tools;
pub mod wait;
pub mod tidy;
