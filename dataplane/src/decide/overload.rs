//! What is turned away so that the rest is answered in time, and when.
//!
//! Before: somebody waits for room at a service ([`codel`]), requests to one were answered ([`gradient`]), a
//! worker's turn took long ([`lag`]), or memory and descriptors were looked at ([`pressure`]). After: the
//! least important requests are answered 503 at once, a service gets no more at a time than it works on, and
//! a worker or a process that can't keep up takes nothing new. Nothing here reads a clock.

pub mod codel;
pub mod gradient;
pub mod lag;
pub mod pressure;
