//! Measures what a proxy costs, and lets anyone check it: a load generator, an upstream for it, a
//! comparison of proxies on one machine, and the report on what it found.
//!
//! In the order in which a comparison meets them:
//!
//! - [`load`] makes requests and says what came back and when;
//! - [`upstream`] answers them, as fast or as badly as it is told to;
//! - [`compare`] starts proxies between the two and measures what each of them used;
//! - [`results`] is what it found, as it is kept in a file;
//! - [`statistics`] says what follows from it, and what does not;
//! - [`judgement`] says which ratio decides something, of what [`measure`] reads from a sample and
//!   [`numbers`] writes: the same for what `compare` prints at its end and for the report;
//! - [`report`] shows it.
//!
//! Both ends of the load stand on: [`engine`], which drives the sockets, `clock`, `wire` (a socket,
//! in the clear or under TLS, from `certificates`) and `framing` (where a message ends); [`units`]
//! is how people write amounts, `cpu` what a process has
//! cost, `descriptors` how many files it may have open.

pub mod units;
pub mod engine;
mod clock;
mod cpu;
mod descriptors;
mod certificates;
mod wire;
mod framing;
pub mod load;
pub mod upstream;
pub mod compare;
pub mod results;
pub mod statistics;
pub mod numbers;
pub mod measure;
pub mod judgement;
pub mod report;
