//! The compiler, seen from outside: files in; snapshots, or messages, out.
//!
//! `accepted` holds meshes, and the snapshots hold what becomes of them; `refused` holds mistakes, and
//! the snapshots hold the messages as they are printed. After a change to either look at what
//! `INSTA_UPDATE=always cargo test -p lateen-control --test compile` makes of them.

mod harness;
mod evaluate;
mod reference;
mod files;
mod precedence;
mod properties;
mod changes;
