//! The mesh's command line.

fn main() {}
