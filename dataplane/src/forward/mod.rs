//! The way to the upstream: connections kept and made, requests exchanged, bytes moved.

pub mod received;
pub mod connect;
pub mod introduce;
pub mod pool;
pub mod fault;
pub mod mirror;
pub mod obtain;
pub mod transfer;
pub mod held;
pub mod leaving;
pub mod request_body;
pub mod response;
pub mod tunnel;
