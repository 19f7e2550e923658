//! Which endpoints get no requests for a while: what workers see of them, what is decided of that, and the
//! probes of who gets none.
//!
//! Before: a try at an endpoint ends ([`tries`]). After: the next choice of an endpoint passes over those
//! that are out of service ([`watch`]). Between them one thread of the process ([`thread`]) decides by what
//! all workers saw together ([`board`]); no worker waits for it, and it sleeps while there is nothing to
//! decide.

pub mod tries;
pub mod watch;
pub mod board;
pub mod thread;
mod ejecting;
mod checking;
mod breaking;
mod orders;
mod probe;
