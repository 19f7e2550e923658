//! Lateen's data plane: the proxy that carries a mesh's calls.
//!
//! A packet's way, and the order in which to read this crate:
//!
//! 1. [`bootstrap`]: flags become one immutable config.
//! 2. [`supervise`]: the main thread binds, starts a [`worker`] per core, watches, drains.
//!    [`subscription`] hears from the control plane, [`rollout`] brings a change to every worker.
//! 3. [`accept`]: clients are let in, and what they speak is detected.
//! 4. [`connection`]: the L4 conductor; [`request`]: the L7 conductor. They own the branching.
//!    [`reach`] finds an upstream for a client that is not HTTP.
//!    [`judge`] finds out what a request head asks for and where that goes.
//! 5. [`codec`]: heads and bodies, sans-io. [`decide`]: which endpoint, pure.
//! 6. [`forward`]: pools, connects, transfers, tunnels.
//! 7. [`health`]: which endpoints get nothing for a while.
//! 8. [`observe`]: counters, log lines, the admin endpoint.
//!
//! What the process runs on is [`loaded`] once; each worker has a [`live`] view of it, and what it
//! knows of [`cluster`]s, and what it was lent of their caps ([`bulkhead`]) and of limited rates
//! ([`rate_limit`]). What a worker owns stands in [`shard`]; nothing on the packet's way is shared
//! between workers, but [`totals`] that they draw on in batches.

pub mod bootstrap;
pub mod supervise;
pub mod rollout;
pub mod subscription;
pub mod last_good;
pub mod worker;
pub mod shard;
pub mod loaded;
pub mod live;
pub mod cluster;
pub mod totals;
pub mod rate_limit;
pub mod bulkhead;
pub mod health;
pub mod accept;
pub mod client;
pub mod connection;
pub mod reach;
pub mod request;
pub mod judge;
pub mod sessions;
pub mod breaker;
pub mod fallback;
pub mod overload;
pub mod lag;
pub mod pressure;
pub mod exchange;
pub mod in_flight;
pub mod tries;
pub mod hedging;
pub mod attempt;
pub mod hedged;
pub mod failure;
pub mod limits;
pub mod codec;
pub mod decide;
pub mod forward;
pub mod observe;
pub mod first_try;
pub mod program;
#[doc(hidden)]
pub mod plant;
#[cfg(test)]
mod testing;
