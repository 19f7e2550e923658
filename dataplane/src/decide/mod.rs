//! What is decided about a connection or a request, without I/O and with `now` as an argument.

pub mod balance;
pub mod breaker;
pub mod cors;
pub mod health_check;
pub mod outlier;
pub mod request_parts;
pub mod route;
