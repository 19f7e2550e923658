//! HTTP/1.x (RFC 9112), sans-io: strict parsing of heads and chunked bodies, and their rewriting
//! for the other side.
//!
//! Before it: bytes from a connection. After it: bytes for the other connection, and the facts
//! that the conductor decides by. What two implementations could read differently is refused
//! here and never forwarded. Nothing here knows of sockets, time, routes or pools.

pub mod head;
pub mod fields;
pub mod target;
pub mod request;
pub mod response;
pub mod chunked;
pub mod edits;
pub mod rewrite;
pub mod write_request;
pub mod write_response;
pub mod reply;
pub mod redirect;
pub mod rate_limit;
