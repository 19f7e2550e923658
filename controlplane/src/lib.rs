//! The control plane: declared config in, snapshots out. It never touches a packet.

pub mod limits;
pub mod language;
