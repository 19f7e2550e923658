//! Bounds of the proxies' socket, with their units and why they are what they are.

use std::time::Duration;

/// Connections at a time, those that have not said who they are included: the sidecars of one host,
/// several times over. Each takes two threads.
pub const CONNECTIONS_MAX: usize = 1_024;
/// Descriptors that a connection takes at the most: both halves, the one to end it with, and the
/// memory of a snapshot on its way.
pub const CONNECTION_DESCRIPTORS: u64 = 4;
/// Descriptors that are left for the rest of the process: store, API, watched folders.
pub const DESCRIPTORS_RESERVED: u64 = 128;
/// Connections that wait to be accepted. A proxy whose connect fails comes again.
pub const BACKLOG: i32 = 128;
/// Bytes of the kernel's buffer towards a proxy (which doubles it). What lies there unread keeps
/// alive what was sent beside it: a proxy that answers without reading holds about ten snapshots.
pub const SEND_BUFFER_BYTES: usize = 4 * 1024;
/// Bytes of a connection's thread's stack; what is large is on the heap.
pub const THREAD_STACK_BYTES: usize = 512 * 1024;

/// From connecting to the end of the Hello: a proxy says it at once.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// From sending a snapshot to the answer. Preparing the largest takes a proxy about a second.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long accepting rests when the process is out of descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers without a question that a proxy may give between two that were asked for: those that
/// belong to its last connection, of which there are two at the most.
pub const UNASKED_ANSWERS_MAX: u32 = 16;
/// Refused connections that are remembered; the same one again counts as one.
pub const REFUSALS_MAX: usize = 32;

/// Bytes of a socket's path. Source: unix(7), `sun_path`, less the final zero.
pub const PATH_BYTES_MAX: usize = 107;
