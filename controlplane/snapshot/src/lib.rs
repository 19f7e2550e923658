//! The only contract between the control plane and a proxy: what a proxy runs on, and how it gets there.
//!
//! 1. [`model`]: the immutable, resolved snapshot. References are indexes into its own lists.
//! 2. [`limits`]: every bound of it, used by both sides.
//! 3. [`validate`]: whether a snapshot is whole, checked by whoever makes one and by whoever gets one.
//!
//! This crate knows neither config files nor sockets' peers, and reads no clock.

pub mod model;
