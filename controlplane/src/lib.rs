//! The control plane: declared config in, snapshots out. It never touches a packet.
//!
//! [`store`]: every accepted revision of what was declared, and which of them is live.

pub mod store;
