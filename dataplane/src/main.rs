//! Lateen's proxy.
fn main() {}
