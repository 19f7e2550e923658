//! Makes requests, and says what came back and when.

pub mod summary;
