//! The way in: sockets that listen, clients that are let in, and what they speak.

pub mod listener;
pub mod clients;
pub mod proxied;
pub mod detect;
