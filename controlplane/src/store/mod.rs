//! What was declared, and when: every accepted revision of intent, in one SQLite file.
//!
//! Before: a set of objects that compiled. After: the publisher runs what [`database::Store::live`]
//! names, under an epoch of this store. Objects are a key and a text here; what they mean is the
//! language's business. Endpoints and DNS answers never come in: they only take epochs.
//!
//! - [`revision`]: the values. [`diff`]: how two sets differ, pure.
//! - [`database`]: the store. [`open`]: how one is found, made, refused or set aside.
//! - [`orders`]: what operators ordered of what runs, beside all revisions.
//! - [`thread`]: the one thread that owns a store; everyone else asks it.

pub mod revision;
pub mod diff;
pub mod limits;
pub mod error;
mod schema;
pub mod open;
pub mod database;
pub mod orders;
pub mod retention;
pub mod thread;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod corruption_tests;
#[cfg(test)]
mod model_tests;
