//! What is decided about a connection or a request, without I/O and with `now` as an argument.

pub mod balance;
pub mod breaker;
pub mod cors;
pub mod hedge;
pub mod fault;
pub mod lease;
pub mod lasting;
pub mod limit_key;
pub mod health_check;
pub mod outlier;
pub mod overload;
pub mod request_parts;
pub mod retry;
pub mod route;
pub mod session;
