//! The control plane: declared config in, snapshots out. It never touches a packet.
