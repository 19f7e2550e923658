//! The simulation engine: that it keeps the API's promises, that it is unkind where it should be,
//! and that the same seed gives the same run.
#![expect(clippy::print_stderr, reason = "a failed test shows its seed")]

mod support;
mod streams;
mod endings;
mod giving_up;
mod world;
mod worlds;
