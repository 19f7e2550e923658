//! Lateen's I/O engine.
