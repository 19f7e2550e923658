//! What the same forwarder on six ways to do I/O shares: everything but the I/O.
//!
//! Role: answer which costs are the runtime's. Each of the programs `forward-*` does the work of the
//! reference program `floor` in the words of one runtime; what a head means, when a connection is
//! kept, which upstream is taken and how large a buffer is are decided here, once.
//!
//! ```text
//! start ─► accept ─► Request ─► Shared: idle upstream or connect ─► send head, pass body
//! client ◄─ pass body ◄─ send head ◄─ Response ◄──────────────────┘
//!              └─ last byte: upstream back to Shared, next request, or close
//! ```
//!
//! Before it: `lateen-floor`, whose command line, sockets and parser it uses. After it: nothing. No
//! timeouts, limits, chunked bodies or metrics: for a loopback and nothing else. Whatever goes wrong
//! ends the client's connection.

pub mod start;
pub mod message;
pub mod shared;
pub mod buffer;

/// Bytes of every receive buffer in every program: the size that `lateen-proxy` has.
pub const BUFFER_BYTES: usize = 16 * 1024;

/// A body is spliced if this much or more of it is still in the socket, and `--splice true` was said.
pub const SPLICE_FROM_BYTES: u64 = 32 * 1024;

/// The client's connection is over: it closed, or something failed, or a head was refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Over;

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

impl From<lateen_floor::head::Refused> for Over {
    fn from(_: lateen_floor::head::Refused) -> Self {
        Self
    }
}
