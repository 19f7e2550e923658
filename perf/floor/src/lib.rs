//! Reference programs that `lateen-proxy` is measured against.
//!
//! Role: say what the kernel alone costs, so that a proxy's own share can be named. `floor` is the
//! smallest forwarder that still parses heads and pools upstreams, `pipe` moves bytes and parses
//! nothing, `upstream` answers, `load` asks.
//!
//! Before them: `perf/measure` builds and starts them. After them: nothing; no product code may
//! depend on this package. They have no timers, no limits against hostile peers and no metrics, so
//! none of them may ever face a network that is not a loopback.

pub mod args;
pub mod epoll;
pub mod epochs;
pub mod head;
pub mod net;
pub mod leases;
pub mod socket;
pub mod splice;
