//! Lateen's I/O engine: one thread per core, nothing shared, one API over three engines.
//!
//! A [`Runtime`] belongs to the thread that made it. It runs `!Send` tasks, first come first served,
//! and drives either io_uring, or epoll where io_uring is not to be had, or a seeded simulation of a
//! network and a clock on which whole proxies are tested.
//!
//! The modules, from the caller down to the kernel:
//!
//! - [`Stream`], [`Listener`], [`splice()`], [`Deadline`], [`mailbox()`]: what tasks use
//! - `runtime`, `task`, `timer`, `pulse`, `work`: the worker's loop
//! - `pages`, `socket`, `buffer`, `chunk`, `boxed`, `heap`: who owns which memory while the kernel uses it
//! - `engine`: io_uring, epoll, and the calls they share; the simulation
//! - [`sim`]: what tests tell the simulation
//!
//! It knows nothing of HTTP, of proxies or of configuration.

pub mod stream;
pub mod listener;
pub mod relay;
pub mod splice;
mod readable;
pub mod deadline;
pub mod mailbox;
pub mod address;
pub mod runtime;
pub mod setup;
pub mod pulse;
pub mod features;
pub mod time;
mod work;
mod task;
mod timer;
mod pages;
mod socket;
pub mod buffer;
pub mod chunk;
pub mod boxed;
mod heap;
mod engine;
pub mod sim;

pub use address::Address;
pub use boxed::{BOXED_BYTES_MAX, Boxed, Room, room};
pub use buffer::Lease;
pub use chunk::{CHUNKS_MAX, Chunk};
pub use deadline::{Deadline, Elapsed, sleep, sleep_until};
pub use features::{Feature, Features, UnknownFeature};
pub use listener::{Binding, Listener};
pub use mailbox::{PostError, Receiver, Sender, mailbox};
pub use pulse::{Pulse, TurnReport};
pub use relay::{Relayed, poll_relay};
pub use runtime::{Held, IDLE_STREAM_BYTES, Runtime, TaskHandle, clock, now, spawn, yield_now};
pub use setup::{Config, EngineChoice, SetupError};
pub use splice::{Moved, Spliced, splice};
pub use stream::{Started, Stream, keep_vector, spare_vector};
pub use time::Instant;
