//! The codec room: bytes to messages and back, without I/O.
//!
//! Before it on the packet's way: detection decided that a connection speaks HTTP. After it:
//! `decide` picks an upstream by what a head says, and `forward` carries the bytes. Nothing here
//! touches a socket or a clock, and nothing allocates on the usual path beyond appending to a
//! `Vec<u8>` that the caller owns and reuses.

pub mod message;
pub mod proxy_protocol;
pub mod body;
pub mod date;
pub mod http1;
