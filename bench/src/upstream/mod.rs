//! The upstream: a server quick enough not to be what is measured, which misbehaves when told to.
//!
//! 1. [`arguments`]: what can be asked for. [`run`]: the command, its threads, its end.
//! 2. `connection`: one connection's life. `request`: what was asked. `reply`: what is answered.
//! 3. `misbehaviour`: when, and how badly. `slots`: how many at a time.

pub mod arguments;
pub mod run;
mod connection;
mod request;
mod reply;
mod misbehaviour;
mod slots;
