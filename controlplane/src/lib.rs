//! The control plane: declared config in, snapshots out. It never touches a packet.
//!
//! [`publish`]: the socket on which proxies are handed snapshots; [`status`]: what is known of them.

pub mod publish;
pub mod status;
