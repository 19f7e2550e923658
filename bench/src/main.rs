//! The program `lateen-bench`.

fn main() {}
