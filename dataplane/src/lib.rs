//! Lateen's data plane.
