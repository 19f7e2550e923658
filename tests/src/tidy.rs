//! Checks on the tree: what CONTRIBUTING.md asks for and a machine can see.
//!
//! Each check is a pure function from the text of a file to a list of complaints, so that the test
//! can prove on made-up input that it is able to fail. Nothing here reads the disk.

pub mod examples;
pub mod manifest;
pub mod markdown;
pub mod rust;
pub mod text;
