//! The only contract between the control plane and a proxy: what a proxy runs on, and how it gets there.
//!
//! 1. [`model`]: the immutable, resolved snapshot. References are indexes into its own lists.
//! 2. [`limits`]: every bound of it, used by both sides.
//! 3. [`validate`]: whether a snapshot is whole, checked by whoever makes one and by whoever gets one.
//! 4. [`encoding`]: a snapshot as bytes, for the socket and for the disk; `budget`: what decoding may
//!    cost.
//! 5. [`message`]: what the two sides say to each other.
//! 6. [`frame`]: how that goes over a Unix socket; [`sealed`]: how what is large goes beside it.
//!
//! This crate knows neither config files nor who listens where. The clock is read for the deadlines
//! of frames alone.

pub mod model;
pub mod limits;
pub mod validate;
mod budget;
pub mod encoding;
pub mod message;
pub mod frame;
pub mod sealed;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
