//! The control plane: declared config in, snapshots out. It never touches a packet.
//!
//! 1. [`source`]: the files of one folder, whenever they change.
//! 2. [`language`]: what they declare, or what is wrong with it and where.
//! 3. [`store`]: every accepted revision of what was declared, and which of them is live.
//! 4. [`compile`]: a snapshot for each proxy, or what does not fit together and where.
//! 5. [`resolver`]: addresses of services that are declared by a DNS name.
//! 6. [`publish`]: the socket on which proxies are handed snapshots; [`status`]: what is known of them.
//! 7. [`serve`]: all of it together, with one owner; [`api`]: how it is asked.

pub mod limits;
pub mod source;
pub mod language;
pub mod store;
pub mod compile;
pub mod resolver;
pub mod publish;
pub mod status;
pub mod serve;
pub mod api;
