//! Lateen's data plane.

pub mod codec;
